"""What else each key of transformers' config classes can be, beside what the small models say.

See switches.py; the small models are in parity_cases.py. A field that transformers adds to one of its
classes is missing here, and the walk says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parity_cases import CHUNKED, FULL, LINEAR, LLAMA3, SLIDING, VOCABULARY, rope, spread

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
LONGROPE = rope("longrope", short_factor=[1.0, 1.1], long_factor=[1.0, 2.0], **HALF)

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

WINDOW = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
QWEN2 = {
    "use_sliding_window": [Other(True, given={"sliding_window": 5, "max_window_layers": 1})],
    "sliding_window": [Other(3, given=WINDOW)],
    "max_window_layers": [Other(0, given=WINDOW)],
    "layer_types": [Other([SLIDING, FULL], given=WINDOW)],
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
OTHERS_OF: dict[str, dict[str, list[Any]]] = {
    "bloom": {"original_max_position_embeddings": [32]},  # it does not turn, whatever the rule
    "dbrx": {
        "attn_config.kv_n_heads": [1, 4],
        "ffn_config.ffn_act_fn": [{"name": "relu"}],
        "ffn_config.moe_num_experts": [3],
        "ffn_config.moe_top_k": [1],
        "ffn_config.moe_normalize_expert_weights": [2.0, None],
    },
    "deepseek_v2": DEEPSEEK_OTHERS
    | {
        "topk_method": [Other("group_limited_greedy", given={**ROUTES, "topk_method": "greedy"})],
        "n_group": [Other(2, given=ROUTES)],
        "topk_group": [Other(2, given=ROUTES)],
    },
    "deepseek_v3": DEEPSEEK_OTHERS
    | {"head_dim": [Other(4, same=True), 6], "n_routed_experts": [12], "n_group": [2], "topk_group": [1]},
    "falcon": {
        "num_kv_heads": [Other(2, given=OF_GROUPS)],
        "num_ln_in_parallel_attn": [Other(1, given=OF_GROUPS)],
    },
    "falcon_h1": {
        "mamba_d_ssm": [32],
        "mamba_expand": [Other(1, given={"mamba_d_ssm": None})],
        "mamba_norm_before_gate": [Other(False, given={"mamba_rms_norm": True})],
        "mlp_multipliers": [[0.7, 1.4]],
        "ssm_multipliers": [[0.7, 1.4, 0.6, 1.3, 0.8]],
    },
    "gemma3_text": {
        "rope_parameters": [
            {FULL: rope(rope_theta=50.0), SLIDING: rope(rope_theta=20.0)},
            {FULL: rope("yarn", factor=4.0), SLIDING: rope("linear", rope_theta=20.0, factor=4.0)},
        ],
        "max_position_embeddings": [
            Other(1024, given={"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}})
        ],
        "final_logit_softcapping": [3.0],
        "attn_logit_softcapping": [1.0],
        # transformers does not understand "type" here, and looks for nothing outside of the two.
        "rope_scaling": [Other({"rope_type": "linear", "factor": 4.0}, given=OLD)],
        "original_max_position_embeddings": [
            Other(32, given={"rope_parameters": {FULL: rope("yarn", factor=4.0), SLIDING: rope()}}, same=True)
        ],
    },
    "gpt_neo": {
        "num_layers": [Other(4, also={"attention_types": [[["global", "local"], 2]]})],
        "attention_types": [[[["local"], 2]], [[["global"], 1], [["global"], 1]]],
        "max_position_embeddings": [32],
        "intermediate_size": [28],
        "window_size": [3],
    },
    "gpt_neox": OF_HALVES | {"head_dim": [Other(8, same=True), 6]},
    "gpt_oss": {"swiglu_alpha": [1.0], "swiglu_limit": [0.4]},
    "gptj": {"rotary_dim": [8], "n_positions": [Other(32, same=True)]},
    "granitemoehybrid": {
        "num_hidden_layers": [Other(3, also={"layer_types": [LINEAR, FULL, LINEAR]})],
        "layer_types": [[FULL, LINEAR], [LINEAR, LINEAR], [FULL, FULL]],
        "num_local_experts": [3, Other(0, also={"num_experts_per_tok": 0})],
        "rope_theta": [Other(50.0, given={**OLD, "position_embedding_type": "rope"})],
        "rope_scaling": [
            Other({"type": "linear", "factor": 4.0}, given={**OLD, "position_embedding_type": "rope"})
        ],
        "position_embedding_type": [Other("nope", same=True), "rope"],
        "rope_parameters": [Other(numbers, given={"position_embedding_type": "rope"}) for numbers in ROPES],
        "max_position_embeddings": [Other(1024, given=YARN_IN_ROPE)],
        "original_max_position_embeddings": [Other(32, given=YARN_IN_ROPE)],
    },
    # The other rules here only: one and the same code reads them for all.
    "llama": {"rope_parameters": [*ROPES, rope("linear", factor=4.0), LLAMA3]},
    "llama4_text": {
        "intermediate_size_mlp": [Other(28, given={"interleave_moe_layer_step": 2})],
        "moe_layers": [[0]],
        "interleave_moe_layer_step": [2],
        "no_rope_layers": [[0, 1]],
        "no_rope_layer_interval": [1],
        "attention_chunk_size": [3],
        "layer_types": [[CHUNKED, CHUNKED], [FULL, FULL]],
        "floor_scale": [2],
        "attn_scale": [0.1],
    },
    "mamba": {"expand": [3], "time_step_rank": [3]},
    "mamba2": {
        "hidden_size": [Other(48, also={"head_dim": 24})],
        "num_heads": [Other(8, also={"head_dim": 8})],
        "head_dim": [Other(32, also={"num_heads": 2})],
        "expand": [Other(1, also={"head_dim": 8})],
        "n_groups": [1],
    },
    "ministral3": {
        "rope_parameters": [
            {**GROWING, "rope_theta": 50.0},
            {**GROWING, "llama_4_scaling_beta": 0.2},
            {**GROWING, "original_max_position_embeddings": 6},
            {**GROWING, "factor": 2.0},
            rope(llama_4_scaling_beta=0.7, original_max_position_embeddings=8),
            rope("yarn", factor=4.0, original_max_position_embeddings=8),
        ],
        "rope_scaling": [Other({**GROWING, "factor": 2.0}, given={"rope_parameters": None})],
        "rope_theta": [
            Other(50.0, given={"rope_parameters": {k: v for k, v in GROWING.items() if k != "rope_theta"}})
        ],
        "max_position_embeddings": [
            Other(10, given={"rope_parameters": {k: v for k, v in GROWING.items() if k[:8] != "original"}})
        ],
        "original_max_position_embeddings": [7],
        "sliding_window": [3],
    },
    "mpt": {
        "max_seq_len": [Other(32, same=True)],
        "expansion_ratio": [2],
        "logit_scale": ["inv_sqrt_d_model"],
        "norm_type": ["rmsnorm"],
        "attn_config.attn_type": ["multiquery_attention"],
        "attn_config.alibi_bias_max": [16],
        "attn_config.clip_qkv": [0.4],
        "attn_config.softmax_scale": [0.7],
    },
    "phi": OF_HALVES,
    "phi3": {
        "rope_parameters": [*HALVES, LONGROPE, {**LONGROPE, "short_factor": [1.0, 1.5]}],
        "original_max_position_embeddings": [Other(32, given={"rope_parameters": LONGROPE})],
        "max_position_embeddings": [Other(128, given={"rope_parameters": LONGROPE})],
    },
    "qwen2": QWEN2,
    "qwen2_moe": QWEN2
    | {
        "num_hidden_layers": [2],
        "intermediate_size": [Other(28, given={"mlp_only_layers": [0]})],
        "max_window_layers": [Other(3, given=WINDOW)],
        "layer_types": [Other([FULL, SLIDING, SLIDING], given=WINDOW)],
    },
    "qwen2_vl_text": QWEN2
    | OF_SECTIONS
    | {
        "rope_theta": [Other(50.0, given=OLD_MROPE)],
        "head_dim": [Other(8, same=True), 12],
        "hidden_size": [Other(48, also={"rope_parameters": rope(mrope_section=[2, 2, 2])})],
        "num_attention_heads": [Other(2, also={"rope_parameters": rope(mrope_section=[3, 3, 2])})],
    },
    "qwen3": QWEN2,
    "qwen3_moe": QWEN2 | {"intermediate_size": [Other(28, given={"mlp_only_layers": [0]})]},
    "qwen3_next": {
        **OF_HALVES,
        "intermediate_size": [Other(28, given={"mlp_only_layers": [0]})],
        "layer_types": [[FULL, LINEAR], [FULL, FULL], [LINEAR, LINEAR]],
        "linear_key_head_dim": [4],
        "linear_value_head_dim": [4],
        "linear_num_key_heads": [1],
        "linear_num_value_heads": [2],
        "rms_norm_eps": [0.1],
    },
    "qwen3_vl_moe_text": OF_SECTIONS
    | {
        "intermediate_size": [Other(28, given={"mlp_only_layers": [0]})],
        "norm_topk_prob": [Other(True, same=True), False],
        "use_sliding_window": [Other(False, same=True), True],
    },
    "qwen3_vl_text": OF_SECTIONS,
    "smollm3": {
        "no_rope_layers": [[0, 1], [1, 1]],
        "no_rope_layer_interval": [1],
        "use_sliding_window": [Other(True, given={"sliding_window": 5})],
        "sliding_window": [Other(3, given={"sliding_window": 5, "use_sliding_window": True})],
        "layer_types": [Other([SLIDING, FULL], given={"sliding_window": 5, "use_sliding_window": True})],
    },
    "stablelm": OF_HALVES,
}
"""Other values where ``OTHERS`` has none or does not fit; parts of an object as "object.part"."""

NAMES: dict[str, Any] = {
    "architectures": ["SomethingForCausalLM"],
    "attn_impl": "triton",
    "dtype": "bfloat16",
    "hidden_act": "relu",
    "id2label": {"0": "good", "1": "bad"},
    "init_device": "meta",
    "label2id": {"good": 0, "bad": 1},
    "problem_type": "regression",
    "return_dict": True,
    "summary_activation": "tanh",
    "summary_type": "last",
    "time_step_init_scheme": "constant",
    "time_step_rank": 3,
    "transformers_version": "4.31.0",
}
"""Other values of keys without mathematics that are no numbers."""
