"""What else each key of transformers' config classes can be, beside what the small models say.

See switches.py; the small models are in parity_rows/. A field that transformers adds to one of its
classes is missing here, and the walk says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parity_case import FULL, SLIDING, VOCABULARY, rope, spread

WITHOUT_MATHEMATICS: dict[str, str] = {
    "training: how weights begin, what is dropped, what losses are added": """
        attention_dropout attn_pdrop classifier_dropout embd_pdrop embed_dropout emb_pdrop embedding_dropout
        hidden_dropout resid_dropout resid_pdrop residual_dropout router_jitter_noise moe_jitter_eps
        initializer_range init_device rescale_prenorm_residual time_step_floor time_step_init_scheme
        time_step_max time_step_min time_step_scale moe_loss_weight router_aux_loss_coef
    """,
    "what a call returns and what files say about themselves": """
        architectures dtype num_logits_to_keep output_hidden_states output_router_logits return_dict
        transformers_version use_cache
    """,
    "tasks other than to continue a text": """
        id2label is_decoder is_encoder_decoder label2id problem_type summary_activation summary_first_dropout
        summary_proj_to_labels summary_type summary_use_proj num_mtp_layers
    """,
    "tokens with a meaning: to generation, not to the logits": "bos_token_id eos_token_id pad_token_id",
    "how the same numbers are computed: in pieces, on several machines, in other code": """
        attn_impl chunk_size chunk_size_feed_forward mamba_chunk_size pretraining_tp reorder_and_upcast_attn
        residual_in_fp32 use_associative_scan use_mambapy
    """,
    "in the class, and read by nothing": """
        attn_uses_sequence_id embedding_fraction learned_pos_emb mamba2.time_step_rank deepseek_v2.head_dim
        dbrx.ffn_config.hidden_size gpt_oss.hidden_act
    """,
}
INERT = {key for keys in WITHOUT_MATHEMATICS.values() for key in keys.split()}


@dataclass(frozen=True)
class Other:
    """Another value of a key.

    value  the value
    given  what else the config says, so that the key counts
    also   what must change with it, because the one is bound to the other
    same   whether it is another word for what the small model has
    """

    value: Any
    given: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, Any] = field(default_factory=dict)
    same: bool = False


ROPES = [rope(rope_theta=50.0), rope("yarn", factor=4.0)]
HALF = {"partial_rotary_factor": 0.5}  # heads are turned in part
HALVES = [{**HALF, **numbers} for numbers in ROPES] + [rope(partial_rotary_factor=0.25)]
LONGROPE_OF_HALF = rope("longrope", short_factor=[1.0, 1.1], long_factor=[1.0, 2.0], **HALF)

OTHERS: dict[str, list[Any]] = spread(
    {
        "vocab_size": [VOCABULARY + 1],
        "hidden_size n_embd d_model": [48],
        "intermediate_size n_inner ffn_hidden_size shared_intermediate_size": [28],
        "moe_intermediate_size shared_expert_intermediate_size": [16],
        "num_hidden_layers n_layer n_layers num_layers": [3],
        "num_attention_heads n_head n_heads num_heads": [2],
        "num_key_value_heads": [1],
        "head_dim": [12],
        "num_local_experts num_experts n_routed_experts": [3],
        "num_experts_per_tok": [1],
        "hidden_act hidden_activation activation activation_function": ["relu"],
        "rms_norm_eps layer_norm_eps layer_norm_epsilon norm_epsilon": [0.1],
        # Without a word of its own, yarn takes it for the length that was trained.
        "max_position_embeddings max_seq_len": [
            Other(1024, given={"rope_parameters": rope("yarn", factor=4.0)})
        ],
        "n_positions": [32],
        "rope_parameters": [*ROPES, rope(partial_rotary_factor=0.5)],
        "sliding_window": [3, None],
        "layer_types": [[FULL, SLIDING]],
        "embedding_multiplier": [12.0],
        "attention_multiplier": [0.2],
        "residual_multiplier": [0.22],
        "logits_scaling": [8.0],
        "logit_scale": [0.5],
        "clip_qkv": [0.4],
        "attention_in_multiplier attention_out_multiplier key_multiplier lm_head_multiplier": [0.7],
        "ssm_in_multiplier ssm_out_multiplier": [0.7],
        "use_bidirectional_attention": [True],
        "query_pre_attn_scalar": [16],
        "final_logit_softcapping": [3.0, None],
        "attn_logit_softcapping": [1.0, None],
        "routed_scaling_factor": [1.5],
        "state_size mamba_d_state": [6],
        "conv_kernel mamba_d_conv linear_conv_kernel_dim": [3],
        "mamba_n_heads": [8],
        "mamba_n_groups": [2],
        "mamba_d_head": [Other(16, same=True), Other(8, also={"mamba_n_heads": 8})],
        "mamba_expand": [1],
        "time_step_limit": [[0.5, 0.8]],
        "decoder_sparse_step": [2],
        "mlp_only_layers": [[0]],
        "per_layer_config": [{"1": {"num_attention_heads": 2}}],
        "quantization_config": [{"quant_method": "gptq"}],
    }
)
"""Other values; true and false become each other by themselves."""

SIZES = (
    *("vocab_size", "hidden_size", "n_embd", "d_model", "num_hidden_layers", "n_layer", "n_layers"),
    *("num_layers", "intermediate_size", "moe_intermediate_size"),
    *("shared_intermediate_size", "shared_expert_intermediate_size"),
)
"""Keys that are changed all together where nothing else is bound to them: a weight's shape tells of each."""

OLD = {"rope_parameters": None, "rope_theta": 100.0}
SPELLINGS: dict[str, list[Any]] = {
    "activation": ["relu"],
    "alibi": [Other(None, same=True)],
    "attention_layers": [["local", "local"]],
    "attn_layer_indices": [[0]],
    "full_attention_interval": [1],
    "hidden_activation": ["relu"],
    "intermediate_size": [40],
    "max_window_layers": [0],
    "moe_layer_freq": [Other(None, same=True)],  # of DeepSeek's own code; transformers does not read it
    "normalization_function": ["layernorm"],
    "num_ln_in_parallel_attn": [1],
    "original_max_position_embeddings": [Other(32, given={"rope_parameters": rope("yarn", factor=4.0)})],
    "partial_rotary_factor": [Other(0.25, given={**OLD, "partial_rotary_factor": 0.5})],
    "rope_local_base_freq": [Other(50.0, given=OLD)],
    "rope_parameters": [rope()],
    "rope_scaling": [Other({"type": "linear", "factor": 4.0}, given=OLD)],
    "rope_theta": [Other(50.0, given=OLD)],
    "rotary_emb_base": [Other(50.0, given={"rope_parameters": None, "rotary_pct": 0.5})],
    "rotary_pct": [Other(0.5, given={"rope_parameters": None})],
    "scoring_func": ["tanh"],
    "seq_length": [Other(99, same=True)],  # how long the texts were that it learned from
    "shared_expert_intermediate_size": [16],
    "sliding_window": [3],
    "sliding_window_pattern": [1],
    "topk_method": ["greedy"],
}
"""Other values of keys that transformers' class has not: old spellings, and what our classes inherit."""

SMALL_WINDOW = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
QWEN2 = {
    "use_sliding_window": [Other(True, given={"sliding_window": 5, "max_window_layers": 1})],
    "sliding_window": [Other(3, given=SMALL_WINDOW)],
    "max_window_layers": [Other(0, given=SMALL_WINDOW)],
    "layer_types": [Other([SLIDING, FULL], given=SMALL_WINDOW)],
}
ROUTES = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 1}
ROUTES |= {"n_routed_experts": 12, "num_experts_per_tok": 3}
DEEPSEEK_OTHERS = {
    "first_k_dense_replace": [0],
    "kv_lora_rank": [14],
    "q_lora_rank": [14, None],
    "qk_nope_head_dim": [6],
    "qk_rope_head_dim": [8],
    "v_head_dim": [8],
    "n_shared_experts": [2],
    "num_attention_heads": [Other(2, also={"num_key_value_heads": 2})],
    "num_key_value_heads": [2],
}
OF_HALVES = {
    "rope_parameters": HALVES,
    "max_position_embeddings": [Other(1024, given={"rope_parameters": rope("yarn", factor=4.0, **HALF)})],
    "original_max_position_embeddings": [
        Other(32, given={"rope_parameters": rope("yarn", factor=4.0, **HALF)})
    ],
    "rope_theta": [Other(50.0, given={**OLD, **HALF})],
}
SECTIONS = {"mrope_section": [1, 2, 1]}
YARN_IN_SECTIONS = {"rope_parameters": rope("yarn", factor=4.0, **SECTIONS)}
OLD_SECTIONS = {**OLD, "rope_scaling": {"rope_type": "default", **SECTIONS}}
OLD_MROPE = {**OLD, "rope_scaling": {"type": "mrope", **SECTIONS}}
OF_SECTIONS: dict[str, list[Any]] = {
    "rope_parameters": [
        rope(rope_theta=50.0, **SECTIONS),
        *YARN_IN_SECTIONS.values(),
        rope(partial_rotary_factor=0.5, **SECTIONS),
        rope("dynamic", factor=4.0, **SECTIONS),
    ],
    "rope_scaling": [Other({"type": "linear", "factor": 4.0, **SECTIONS}, given=OLD_SECTIONS)],
    "rope_theta": [Other(50.0, given=OLD_SECTIONS)],
    "max_position_embeddings": [Other(1024, given=YARN_IN_SECTIONS)],
    "original_max_position_embeddings": [Other(32, given=YARN_IN_SECTIONS)],
}
OF_GROUPS = {"new_decoder_architecture": True}
YARN_IN_ROPE = {"position_embedding_type": "rope", "rope_parameters": rope("yarn", factor=4.0)}

GROWING = rope("yarn", factor=4.0, llama_4_scaling_beta=0.7, original_max_position_embeddings=8)
NAMES: dict[str, Any] = {
    "architectures": ["SomethingForCausalLM"],
    "attn_impl": "triton",
    "dtype": "bfloat16",
    "embedding_initializer_range": 0.37,
    "hidden_act": "relu",
    "id2label": {"0": "good", "1": "bad"},
    "init_device": "meta",
    "initializer_range": 0.37,
    "label2id": {"good": 0, "bad": 1},
    "mamba_ssm_cache_dtype": "bfloat16",
    "mtp_layers_block_type": ["moe"],
    "problem_type": "regression",
    "return_dict": True,
    "summary_activation": "tanh",
    "summary_type": "last",
    "time_step_init_scheme": "constant",
    "time_step_rank": 3,
    "transformers_version": "4.31.0",
}
"""Other values of keys without mathematics that are no numbers, or have none by default."""
