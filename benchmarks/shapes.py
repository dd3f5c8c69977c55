"""The shapes that are measured: config.json of models of real size, as their makers published them.

``tiny`` and ``tiny-llama`` are there to try the benchmark itself. A shape with "of" in its name has fewer
layers than its model, so that transformers' float32 copy fits into an ordinary machine. One with "narrow" has
narrower ones: how fast a model of a few hundred million weights is depends on how its layers are called, that
of a larger one on memory alone.
"""

from typing import Any

Shape = dict[str, Any]


def gpt2(layers: int, width: int, heads: int) -> Shape:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_embd": width,
        "n_head": heads,
        "n_layer": layers,
        "n_positions": 1024,
        "vocab_size": 50257,
        "tie_word_embeddings": True,
    }


def llama_like(model_type: str, name: str, sizes: tuple[int, ...], **others: Any) -> Shape:
    """A relative of Llama: layers, width, heads, key/value heads, feed-forward width, vocabulary."""
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads")
    keys += ("intermediate_size", "vocab_size")
    common = {"model_type": model_type, "architectures": [name], "max_position_embeddings": 32768}
    common |= {"rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    return common | dict(zip(keys, sizes, strict=True)) | others


def gemma2(sizes: tuple[int, ...]) -> Shape:
    return llama_like(
        "gemma2",
        "Gemma2ForCausalLM",
        sizes,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True,
    )


def pythia(layers: int, width: int, heads: int) -> Shape:
    return {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "vocab_size": 50304,
        "tie_word_embeddings": False,
    }


def olmoe(sizes: tuple[int, ...]) -> Shape:
    experts = {"num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": False}
    return llama_like("olmoe", "OlmoeForCausalLM", sizes, **experts)


def deepseek_v2_lite(sizes: tuple[int, ...], **widths: int) -> Shape:
    return llama_like(
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        sizes,
        n_routed_experts=64,
        n_shared_experts=2,
        num_experts_per_tok=6,
        first_k_dense_replace=1,
        q_lora_rank=None,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        topk_method="greedy",
        n_group=1,
        topk_group=1,
        routed_scaling_factor=1.0,
        norm_topk_prob=False,
        **widths,
    )


SHAPES: dict[str, Shape] = {
    "tiny": gpt2(2, 64, 2),
    "gpt2": gpt2(12, 768, 12),
    "gpt2-medium": gpt2(24, 1024, 16),
    "gpt2-large": gpt2(36, 1280, 20),
    "gpt2-xl": gpt2(48, 1600, 25),
    "tiny-llama": llama_like("llama", "LlamaForCausalLM", (2, 64, 4, 2, 160, 32000)),
    "smollm2-135m": llama_like(
        "llama", "LlamaForCausalLM", (30, 576, 9, 3, 1536, 49152), tie_word_embeddings=True
    ),
    # TinyLlama 1.1B
    "llama-1.1b": llama_like("llama", "LlamaForCausalLM", (22, 2048, 32, 4, 5632, 32000)),
    "granite-h-350m": llama_like(
        "granitemoehybrid",
        "GraniteMoeHybridForCausalLM",
        (32, 768, 12, 4, 2048, 100352),
        layer_types=["attention" if i in (10, 13, 17, 27) else "mamba" for i in range(32)],
        shared_intermediate_size=2048,
        num_local_experts=0,
        num_experts_per_tok=0,
        mamba_n_heads=48,
        mamba_d_head=32,
        mamba_d_state=128,
        mamba_n_groups=1,
        embedding_multiplier=12.0,
        attention_multiplier=0.015625,
        residual_multiplier=0.246,
        logits_scaling=3.0,
        position_embedding_type="nope",
        tie_word_embeddings=True,
    ),
    "falcon-7b": {
        "model_type": "falcon",
        "architectures": ["FalconForCausalLM"],
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "multi_query": True,
        "new_decoder_architecture": False,
        "parallel_attn": True,
        "alibi": False,
        "bias": False,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": 65024,
        "tie_word_embeddings": True,
    },
    "mistral-4-of-7b": llama_like(
        "mistral", "MistralForCausalLM", (4, 4096, 32, 8, 14336, 32000), sliding_window=4096
    ),
    "mistral-narrow-140m": llama_like(
        "mistral", "MistralForCausalLM", (12, 768, 12, 3, 2688, 32000), sliding_window=4096
    ),
    "gemma2-8-of-2b": gemma2((8, 2304, 8, 4, 9216, 256000)),
    "gemma2-narrow-270m": gemma2((18, 640, 4, 2, 2048, 256000)),
    "pythia-160m": pythia(12, 768, 12),
    "pythia-410m": pythia(24, 1024, 16),
    "olmoe-3-of-7b": olmoe((3, 2048, 16, 16, 1024, 50304)),
    "olmoe-narrow-260m": olmoe((8, 512, 8, 8, 256, 50304)),
    "deepseek-v2-lite-3-of-16b": deepseek_v2_lite(
        (3, 2048, 16, 16, 10944, 102400), moe_intermediate_size=1408, kv_lora_rank=512
    ),
    "deepseek-v2-lite-narrow-360m": deepseek_v2_lite(
        (8, 512, 4, 4, 2736, 102400), moe_intermediate_size=352, kv_lora_rank=128
    ),
}
