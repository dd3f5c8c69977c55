"""The shapes that are measured: config.json of models of real size, as their makers published them.

A key that is not named has transformers' default. ``tiny`` and ``tiny-llama`` are there to try the benchmarks
themselves. A shape with "of" in its name has fewer layers than its model, so that transformers' float32 copy
fits into an ordinary machine. One with "narrow" has narrower ones: how fast a model of a few hundred million
weights is depends on how its layers are called, that of a larger one on memory alone.
"""

Shape = dict[str, object]


def gpt2(layers: int, width: int, heads: int) -> Shape:
    return {"model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads}


def llama_like(model_type: str, sizes: tuple[int, ...], **others: object) -> Shape:
    """A relative of Llama: layers, width, heads, key/value heads, feed-forward width, vocabulary."""
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads")
    keys += ("intermediate_size", "vocab_size")
    common: Shape = {"model_type": model_type, "max_position_embeddings": 32768}
    common |= {"rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    return common | dict(zip(keys, sizes, strict=True)) | others


def pythia(layers: int, width: int, heads: int) -> Shape:
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    return {"model_type": "gpt_neox", "vocab_size": 50304, "intermediate_size": 4 * width, **sizes}


TIED: Shape = {"tie_word_embeddings": True}
GRANITE_H: Shape = {
    "layer_types": ["attention" if i in (10, 13, 17, 27) else "mamba" for i in range(32)],
    **{"shared_intermediate_size": 2048, "num_local_experts": 0, "num_experts_per_tok": 0},
    **{"mamba_n_heads": 48, "mamba_d_head": 32, "mamba_d_state": 128, "mamba_n_groups": 1},
    **{"embedding_multiplier": 12.0, "attention_multiplier": 0.015625, "residual_multiplier": 0.246},
    **{"logits_scaling": 3.0, "position_embedding_type": "nope", **TIED},
}
OLMOE: Shape = {"num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": False}
DEEPSEEK_V2: Shape = {
    **{"n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1},
    **{"q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
    **{"topk_method": "greedy", "n_group": 1, "topk_group": 1},
    **{"routed_scaling_factor": 1.0, "norm_topk_prob": False},
}
LITE = {**DEEPSEEK_V2, "moe_intermediate_size": 1408, "kv_lora_rank": 512}
NARROW = {**DEEPSEEK_V2, "moe_intermediate_size": 352, "kv_lora_rank": 128}

SHAPES: dict[str, Shape] = {
    "tiny": gpt2(2, 64, 2),
    "tiny-llama": llama_like("llama", (2, 64, 4, 2, 128, 4096)),  # to try serving.py
    "tiny-deep": llama_like("llama", (16, 256, 8, 4, 768, 4096)),  # for delayed_ranks.py: little to compute
    "gpt2": gpt2(12, 768, 12),
    "gpt2-xl": gpt2(48, 1600, 25),
    "smollm2-135m": llama_like("llama", (30, 576, 9, 3, 1536, 49152), **TIED),
    "llama-1.1b": llama_like("llama", (22, 2048, 32, 4, 5632, 32000)),  # TinyLlama
    "granite-h-350m": llama_like("granitemoehybrid", (32, 768, 12, 4, 2048, 100352), **GRANITE_H),
    "falcon-7b": {"model_type": "falcon"},  # the defaults are its own
    "falcon-10-of-7b": {"model_type": "falcon", "num_hidden_layers": 10},
    "mistral-4-of-7b": llama_like("mistral", (4, 4096, 32, 8, 14336, 32000), sliding_window=4096),
    "mistral-narrow-140m": llama_like("mistral", (12, 768, 12, 3, 2688, 32000), sliding_window=4096),
    "gemma2-8-of-2b": llama_like("gemma2", (8, 2304, 8, 4, 9216, 256000), **TIED),
    "gemma2-narrow-270m": llama_like("gemma2", (18, 640, 4, 2, 2048, 256000), **TIED),
    "pythia-160m": pythia(12, 768, 12),
    "pythia-410m": pythia(24, 1024, 16),
    "olmoe-3-of-7b": llama_like("olmoe", (3, 2048, 16, 16, 1024, 50304), **OLMOE),
    "olmoe-narrow-260m": llama_like("olmoe", (8, 512, 8, 8, 256, 50304), **OLMOE),
    "deepseek-v2-lite-3-of-16b": llama_like("deepseek_v2", (3, 2048, 16, 16, 10944, 102400), **LITE),
    "gpt-oss-20b": {"model_type": "gpt_oss", "num_hidden_layers": 24, "num_local_experts": 32},
    "gpt-oss-12-of-20b": {"model_type": "gpt_oss", "num_hidden_layers": 12, "num_local_experts": 32},
    "deepseek-v2-lite-narrow-360m": llama_like("deepseek_v2", (8, 512, 4, 4, 2736, 102400), **NARROW),
}
