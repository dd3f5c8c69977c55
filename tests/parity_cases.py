"""One row for each architecture: its small model, and the variants of it that are held against transformers.

``small`` is also what the walk over all keys (switches.py) starts from. Variants that a config class has the
keys for are made by themselves (``AUTOMATIC``); a row adds those that only its architecture has. A new
architecture needs ``Case("its_model_type")`` here, and no more unless it has keys that no other has.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 211
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
CHUNKED = "chunked_attention"
Keys = dict[str, Any]


def rope(rope_type: str = "default", **numbers: Any) -> Keys:
    """Parameters of rotations that turn fast enough to be felt in a short text."""
    return {"rope_type": rope_type, "rope_theta": 100.0, **numbers}


def spread(table: Keys) -> Keys:
    """Write out what several keys have in common."""
    return {key: value for keys, value in table.items() for key in keys.split()}


SMALL: Keys = spread(
    {
        "vocab_size": VOCABULARY,
        "hidden_size n_embd d_model": 32,
        "intermediate_size shared_intermediate_size": 20,
        "moe_intermediate_size shared_expert_intermediate_size": 12,
        "num_hidden_layers n_layer n_layers num_layers": 2,
        "num_attention_heads n_head n_heads num_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings n_positions max_seq_len": 64,
        "num_local_experts num_experts n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": rope(),
    }
)
"""What the small models say about these keys, where their class has them."""

ORIGINAL = {"original_max_position_embeddings": 16}
FACTORS = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **ORIGINAL}
LLAMA3 = rope("llama3", **FACTORS)
YARN = rope("yarn", factor=4.0, **ORIGINAL)
AUTOMATIC: dict[str, tuple[str, Any]] = {  # variant: keys of which a class has one, and its value
    "multi_head": ("num_key_value_heads", 4),
    "multi_query": ("num_key_value_heads", 1),
    "wide_heads": ("head_dim", 12),
    "attention_bias": ("attention_bias", True),
    "mlp_bias": ("mlp_bias", True),
    "tied": ("tie_word_embeddings", True),
    "untied": ("tie_word_embeddings", False),
    "epsilon": ("rms_norm_eps layer_norm_eps layer_norm_epsilon norm_epsilon", 0.1),
    "gelu": ("hidden_act hidden_activation activation activation_function", "gelu"),
    "linear": ("rope_parameters", {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}),
    "yarn": ("rope_parameters", YARN),
}
"""Variants of every architecture whose config class has such a key and another default."""


def class_fields(config_class: type[PreTrainedConfig], inherited: bool = True) -> Keys:
    """The keys of one of transformers' config classes and their defaults."""
    above = {f.name for f in fields(PreTrainedConfig)}
    return {
        f.name: None if f.default is MISSING else f.default
        for f in fields(config_class)
        if inherited or f.name not in above
    }


@dataclass(frozen=True)
class Case:
    """An architecture.

    small      what its small model says beside ``SMALL``
    more       what the models of test_parity.py say besides
    variants   {name: keys}: beside those that are made by themselves; None takes one of these away
    old        keys of old files on the hub, beside the small model's; None: left out there
    renamed    {today's key: its name in old files}
    buffers    tensors of old files that no layer here has, with {i} for the layer
    of_today   variants that old files could not say
    must_say   keys that a file cannot leave out
    tolerance  {variant: share of the largest logit} where it is not parity.TOLERANCE
    """

    model_type: str
    small: Keys = field(default_factory=dict)
    more: Keys = field(default_factory=dict)
    variants: Mapping[str, Keys | None] = field(default_factory=dict)
    old: Keys = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    of_today: tuple[str, ...] = ()
    must_say: tuple[str, ...] = ()
    tolerance: Mapping[str, float] = field(default_factory=dict)

    @property
    def defaults(self) -> Keys:
        """The keys of transformers' class, and their defaults."""
        return class_fields(CONFIG_MAPPING[self.model_type])

    @property
    def smallest(self) -> Keys:
        """The config.json of the small model."""
        return {key: value for key, value in SMALL.items() if key in self.defaults} | self.small

    @property
    def all_variants(self) -> dict[str, Keys]:
        """All variants by name, and what each says beside ``smallest`` and ``more``."""
        found: dict[str, Keys] = {"plain": {}}
        says = self.defaults | self.smallest | self.more
        for name, (keys, value) in AUTOMATIC.items():
            for key in keys.split():
                if key in says and says[key] != value:
                    found[name] = {key: {**says[key], **value} if isinstance(value, dict) else value}
        found |= {name: keys for name, keys in self.variants.items() if keys is not None}
        return {name: keys for name, keys in found.items() if self.variants.get(name, keys) is not None}

    def config(self, variant: str) -> Keys:
        """The config.json of a variant."""
        return {**self.smallest, **self.more, **self.all_variants[variant]}


def part(share: float, rope_type: str = "default", **numbers: Any) -> Keys:
    """Rotate a part of each head."""
    return {"rope_parameters": rope(rope_type, partial_rotary_factor=share, **numbers)}


def windows(key: str, *sizes: int | None) -> dict[str, Keys]:
    """A variant for each size of a window or chunk."""
    return {f"{key}_{size}": {key: size} for size in sizes}


def near_and_far(near: Keys, far: Keys) -> Keys:
    """Rotations of both kinds of layers."""
    return {"rope_parameters": {SLIDING: dict(near), FULL: dict(far)}}


NO_ROPE: dict[str, None] = {"linear": None, "yarn": None}
ONE_OF_4, ALL_OF_4 = {"num_experts_per_tok": 1}, {"num_experts_per_tok": 4}
ONE_OF_1 = {"num_local_experts": 1, "num_experts_per_tok": 1}
NORMED = {"norm_topk_prob": True}
WINDOW = {"use_sliding_window": True, "sliding_window": 17}
TYPES = {"layer_types": [SLIDING, FULL, SLIDING]}
QWEN = {
    "from_a_layer_on": {**WINDOW, "max_window_layers": 1},
    "window_in_all": {**WINDOW, "max_window_layers": 0},
    "window_in_none": {**WINDOW, "max_window_layers": 28},
    "window_named": {**WINDOW, **TYPES, "max_window_layers": 1},
    "window_not_used": {"sliding_window": 17, "max_window_layers": 1},
    "window_null": {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 1},
}
DEEPSEEK = {
    "first_k_dense_replace": 1,
    "kv_lora_rank": 12,
    "q_lora_rank": 10,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "n_shared_experts": 1,
    "num_key_value_heads": 4,
}
DEEPSEEKS = {
    **dict.fromkeys(("multi_head", "multi_query", "wide_heads")),  # it has none of these
    "mscale": {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.4}},
    "linear_mscale": {"rope_parameters": rope("linear", factor=3.0, mscale_all_dim=0.5)},
    "mscale_alike": {"rope_parameters": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707}},
    "plain_queries": {"q_lora_rank": None},
    "all_experts": {"first_k_dense_replace": 0, "n_shared_experts": 2, "routed_scaling_factor": 2.5},
    "all_dense": {"first_k_dense_replace": 3},
}
GROUPS = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
MULTIPLIERS: Keys = {  # none like another, so that none can stand in another's place
    "embedding_multiplier": 5.5,
    "attention_in_multiplier": 0.9,
    "attention_out_multiplier": 0.7,
    "key_multiplier": 0.4,
    "ssm_in_multiplier": 1.25,
    "ssm_out_multiplier": 0.6,
    "ssm_multipliers": [0.35, 0.55, 1.3, 0.8, 1.7],
    "mlp_multipliers": [0.85, 0.45],
    "lm_head_multiplier": 0.04,
}
GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
}
NO_MULTIPLIERS = dict.fromkeys(("embedding_multiplier", "residual_multiplier", "logits_scaling"), 1)
MAMBA_BIASES = {"attention_bias": True, "mlp_bias": True, "mamba_proj_bias": True, "projectors_bias": True}
EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}
WITH_ROPE = {"position_embedding_type": "rope"}
RW = {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False}
GROUPED = {"new_decoder_architecture": True, "num_kv_heads": 2}
OF_11B = {**GROUPED, "num_ln_in_parallel_attn": 1}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [1.0, 2.0]}
LIMITS = {"limited_step": {"time_step_limit": [0.2, 0.8]}}


def layers(*kinds: str) -> Keys:
    """As many layers, of these kinds."""
    return {"layer_types": list(kinds), "num_hidden_layers": len(kinds)}


def dbrx(attention: Keys | None = None, experts: Keys | None = None) -> Keys:
    """Both objects of DBRX; transformers wants a base in the first, and goes by another one."""
    ours = {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 100.0}
    theirs = {"ffn_hidden_size": 12, "moe_num_experts": 4, "moe_top_k": 2}
    return {"attn_config": {**ours, **(attention or {})}, "ffn_config": {**theirs, **(experts or {})}}


CASES = [
    Case(
        "bloom",
        variants={
            "one_head": {"n_head": 1},
            "six_heads": {"hidden_size": 48, "n_head": 6},
            "seven_heads": {"hidden_size": 56, "n_head": 7},
            "eight_heads": {"n_head": 8},
            "twelve_heads": {"hidden_size": 48, "n_head": 12},
        },
        old={"n_inner": None, "offset_alibi": 100, "pretraining_tp": 4, "masked_softmax_fusion": True},
        renamed={"hidden_size": "n_embed", "n_head": "num_attention_heads"},
    ),
    Case(
        "cohere",
        variants={
            "command_r_plus": {"num_key_value_heads": 2, "use_qk_norm": True, "logit_scale": 0.83},
            "wide_normed_heads": {"head_dim": 12, "use_qk_norm": True, "layer_norm_eps": 0.1},
        },
    ),
    Case(
        "dbrx",
        small=dbrx(),
        variants={
            "tied": None,
            "clipped": dbrx({"clip_qkv": 0.7}),
            "multi_head": dbrx({"kv_n_heads": 4}),
            "multi_query": dbrx({"kv_n_heads": 1}),
            "one": dbrx({}, {"moe_top_k": 1}),
            "all": dbrx({}, {"moe_top_k": 4}),
            "norm_of_2": dbrx({}, {"moe_normalize_expert_weights": 2.0}),
            "not_normed": dbrx({}, {"moe_normalize_expert_weights": None}),
            "gelu": dbrx({}, {"ffn_act_fn": {"name": "gelu"}}),
        },
    ),
    Case(
        "deepseek_v2",
        small=DEEPSEEK,
        more={"num_hidden_layers": 3, "n_routed_experts": 12, "num_experts_per_tok": 3},
        variants={
            **DEEPSEEKS,
            "groups": {**GROUPS, "rope_parameters": YARN, "routed_scaling_factor": 16.0},
            "one_group": {**GROUPS, "topk_group": 1, "routed_scaling_factor": 2.5},
            "biases": {"attention_bias": True, "mlp_bias": True},
            "biases_of_plain_queries": {"attention_bias": True, "q_lora_rank": None},
        },
        old={"scoring_func": "softmax", "moe_layer_freq": 1, "ep_size": 1, "seq_aux": True, "head_dim": None},
    ),
    Case(
        "deepseek_v3",
        small={**DEEPSEEK, "n_routed_experts": 8, "n_group": 4, "topk_group": 2},
        more={"num_hidden_layers": 3},
        variants={
            **DEEPSEEKS,
            "one_group": {"topk_group": 1},
            "no_groups": {"n_group": 1, "topk_group": 1, "n_shared_experts": 2},
            "not_normed": {"norm_topk_prob": False},
            "halves": {"rope_interleave": False, "rope_parameters": YARN},
        },
        old={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1, "ep_size": 1}
        | {"head_dim": None},
        buffers=tuple(f"model.layers.61.{name}.weight" for name in ("eh_proj", "shared_head.norm")),
    ),
    Case(
        "falcon",
        variants={
            "rw": RW,
            "rw_of_eight_heads": {**RW, "num_attention_heads": 8},
            "rw_of_seven_heads": {**RW, "hidden_size": 56, "num_attention_heads": 7},
            "40b": GROUPED,
            "11b": {**OF_11B, "tie_word_embeddings": False},
            # What no published model is, but a config can say:
            "multi_query_sequential": {"parallel_attn": False},
            "multi_query_alibi": {"alibi": True},
            "multi_head_parallel": {"multi_query": False},
            "grouped_alibi_biases": {**GROUPED, "alibi": True, "bias": True},
            "grouped_by_ones": {"new_decoder_architecture": True, "num_kv_heads": 4},
            "grouped_multi_query": {**OF_11B, "num_kv_heads": 1, "bias": True},
            "inner_width": {"ffn_hidden_size": 100, "activation": "relu"},
            "grouped_yarn": {**GROUPED, "rope_parameters": YARN},
        },
        old={"apply_residual_connection_post_layernorm": False, "ff_factor": 4},
        renamed={
            "num_attention_heads": "n_head",
            "num_hidden_layers": "n_layer",
            "num_kv_heads": "n_head_kv",
        },
    ),
    Case(
        "falcon_h1",
        small={"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_state": 4},
        more={"mamba_d_ssm": 32, "mamba_d_state": 8, "mamba_chunk_size": 16, **MULTIPLIERS},
        variants={
            "no_multipliers": dict.fromkeys(MULTIPLIERS, 1.0)
            | {"ssm_multipliers": None, "mlp_multipliers": None},
            "norm_after_the_gate": {"mamba_rms_norm": True, "mamba_norm_before_gate": False},
            "norm_before_the_gate": {"mamba_rms_norm": True, "mamba_norm_before_gate": True},
            "norms_of_two_groups": {"mamba_rms_norm": True, "mamba_n_groups": 2},
            "two_groups": {"mamba_n_groups": 2},
            **{key: {key: True} for key in ("mamba_proj_bias", "projectors_bias")},
            "all_biases": {**MAMBA_BIASES, "mamba_rms_norm": True},
            "no_convolution_bias": {"mamba_conv_bias": False},
            "width_by_expansion": {"mamba_d_ssm": None, "mamba_expand": 3, "mamba_n_heads": 6},
            "wide_mamba_heads": {"mamba_n_heads": 2, "mamba_d_head": 16},
            "convolution_of_2": {"mamba_d_conv": 2, "mamba_chunk_size": 256},
            "convolution_of_1": {"mamba_d_conv": 1},
            "wide_heads": {"num_key_value_heads": None, "head_dim": 12},
            "llama3": {"rope_parameters": LLAMA3},
            **LIMITS,
        },
    ),
    Case(
        "gemma", small={"head_dim": 8}, variants={"narrow_heads": {"head_dim": 4}}, old={"hidden_act": "gelu"}
    ),
    Case(
        "gemma2",
        small={"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}
        # Low enough to bound what such a small model computes.
        | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
        variants={
            "published_caps": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
            "no_caps": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
            "scores_capped": {"final_logit_softcapping": None},
            "logits_capped": {"attn_logit_softcapping": None},
            "scale": {"query_pre_attn_scalar": 100},
            "full_first": layers(FULL, SLIDING, SLIDING),
            "all_full": layers(FULL, FULL),
            "all_sliding": layers(SLIDING, SLIDING),
            **windows("sliding_window", 1, 2, 17, 64, 69, 70, 71),
        },
        old={"hidden_act": "relu", "cache_implementation": "hybrid"},  # which mean nothing any more
    ),
    Case(
        "gemma3_text",
        small={"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}
        | {"sliding_window_pattern": 2, **near_and_far(rope(rope_theta=20.0), rope())},
        variants={
            **NO_ROPE,
            "five_to_one": {"num_hidden_layers": 7, "sliding_window_pattern": 6},
            "all_full": {"sliding_window_pattern": 1},
            "all_sliding": layers(SLIDING, SLIDING),
            "full_first": layers(FULL, SLIDING, SLIDING, FULL),
            "scaled_far": near_and_far(rope(rope_theta=20.0), rope("linear", factor=8.0)),
            "scaled_near": near_and_far(rope("linear", rope_theta=20.0, factor=8.0), rope()),
            "logits_capped": {"final_logit_softcapping": 5.0},
            "scale": {"query_pre_attn_scalar": 100},
            **windows("sliding_window", 1, 2, 17, 64, 70, 71),
        },
    ),
    Case(
        "gpt2",
        more={"n_positions": 96},
        variants={
            "no_scale": {"scale_attn_weights": False},
            "inverse_layer": {"scale_attn_by_inverse_layer_idx": True},
            "no_scale_inverse_layer": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
            "upcast": {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
            "narrow": {"n_inner": 40},
            "one_head": {"n_head": 1},
            "wide_heads": {"n_head": 2, "n_embd": 64},
        },
        old={"n_ctx": 96, "summary_type": "cls_index"},
        buffers=("transformer.h.{i}.attn.bias", "transformer.h.{i}.attn.masked_bias"),
        # Unscaled scores are large, and softmax magnifies their rounding: held against float64, transformers'
        # own logits are off by 8e-6 there, ours by 6e-6.
        tolerance={"no_scale": 2e-5, "no_scale_inverse_layer": 2e-5},
    ),
    Case(
        "gpt_neo",
        small={"attention_types": [[["global", "local"], 1]], "window_size": 5},
        more={"max_position_embeddings": 128},
        variants={
            "three": {"num_layers": 3, "attention_types": [[["global", "local"], 1], [["local"], 1]]},
            "global": {"attention_types": [[["global"], 2]]},
            "local": {"attention_types": [[["local"], 2]]},
            **windows("window_size", 1, 2, 20, 69, 70),
            "inner_width": {"intermediate_size": 80, "activation_function": "relu"},
        },
        old={"attention_layers": None},
        renamed={"num_heads": "num_attention_heads", "num_layers": "num_hidden_layers"},
        buffers=("transformer.h.{i}.attn.attention.bias", "transformer.h.{i}.attn.attention.masked_bias"),
    ),
    Case(
        "gpt_neox",
        small=part(0.5),
        variants={
            "sequential": {"use_parallel_residual": False},
            "attention_bias": {"attention_bias": False},
            "whole_heads": part(1.0, rope_theta=25000.0),
            "one_number_too_many_for_pairs": {"hidden_size": 64, **part(0.2)},  # 3 of 16, rounded up to 4
        },
        renamed={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
        buffers=(
            "gpt_neox.layers.{i}.attention.bias",
            "gpt_neox.layers.{i}.attention.masked_bias",
            "gpt_neox.layers.{i}.attention.rotary_emb.inv_freq",
        ),
    ),
    Case(
        "gpt_oss",
        small={"head_dim": 8, "sliding_window": 5, "swiglu_limit": 0.8},  # many activations are beyond it
        more={"rope_parameters": YARN},
        variants={
            "gelu": None,  # the class reads no activation
            "no_yarn": {"rope_parameters": rope()},
            "one": ONE_OF_4,
            "all": ALL_OF_4,
            "limit": {"swiglu_limit": 7.0},
            "alpha": {"swiglu_alpha": 1.0},
            "attention_bias": {"attention_bias": False},
            "three": layers(FULL, FULL, SLIDING),
            "window_17": {"sliding_window": 17},
            "truncated": {"rope_parameters": rope("yarn", factor=8.0, truncate=True, **ORIGINAL)},
        },
        of_today=("no_yarn",),  # without a word of rotations they meant yarn
    ),
    Case(
        "gptj",
        small={"rotary_dim": 4},
        more={"n_positions": 128},
        variants={
            "whole_heads": {"rotary_dim": 8},
            "one_pair": {"rotary_dim": 2},
            "inner_width": {"n_inner": 80, "activation_function": "relu"},
        },
        old={"rotary": True, "scale_attn_weights": True, "gradient_checkpointing": False},
        renamed={"n_embd": "hidden_size", "n_layer": "num_hidden_layers"},
        buffers=("transformer.h.{i}.attn.bias", "transformer.h.{i}.attn.masked_bias"),
    ),
    Case(
        "granite",
        more=GRANITE,
        variants={"no_multipliers": NO_MULTIPLIERS, "wide_heads": {"head_dim": 12}},
    ),
    Case(
        "granitemoe",
        more=GRANITE,
        variants={
            "one": ONE_OF_4,
            "all": ALL_OF_4,
            "one_of_one": ONE_OF_1,
            "many": {"num_local_experts": 40, "num_experts_per_tok": 8, "intermediate_size": 8},
        },
    ),
    Case(
        "granitemoehybrid",
        small={"layer_types": [LINEAR, FULL], "mamba_n_heads": 4, "mamba_d_state": 4},
        more={**GRANITE, "mamba_chunk_size": 16},
        variants={
            **NO_ROPE,
            # Without rotations, a bias on the keys moves all scores of a query alike and changes nothing.
            "attention_bias": {"attention_bias": True, **WITH_ROPE},
            "all_biases": {"attention_bias": True, "mamba_proj_bias": True, **WITH_ROPE},
            "no_experts": {"num_local_experts": 0, "num_experts_per_tok": 0},  # H-350M, H-1B, H-Micro
            "no_mamba": {"layer_types": [FULL, FULL], **WITH_ROPE},  # 350M, 1B, Micro
            "four": layers(LINEAR, FULL, LINEAR, LINEAR),
            "attention_first": layers(FULL, LINEAR, LINEAR),
            "attention_last": layers(LINEAR, LINEAR, FULL),
            "only_attention": layers(FULL, FULL),
            "only_mamba": layers(LINEAR, LINEAR),
            "rope": {**WITH_ROPE, "head_dim": 12},
            "rope_yarn": {**WITH_ROPE, "rope_parameters": YARN},
            "two_groups": {"mamba_n_groups": 2},
            "a_group_per_head": {"mamba_n_groups": 4},
            "wide_mamba_heads": {"mamba_n_heads": 2, "mamba_d_head": 32},
            "three_times_as_wide": {"mamba_expand": 3, "mamba_n_heads": 6, "mamba_n_groups": 3},
            "convolution_of_2": {"mamba_d_conv": 2, "mamba_chunk_size": 256},
            "convolution_of_1": {"mamba_d_conv": 1},
            "no_convolution_bias": {"mamba_conv_bias": False},
            "no_multipliers": NO_MULTIPLIERS,
            **LIMITS,
        },
    ),
    Case(
        "llama",
        variants={
            "llama3": {"rope_parameters": LLAMA3},
            "yarn_mscale": {
                "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.5, "truncate": False}
            },
        },
        buffers=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
    ),
    Case(
        "llama4_text",
        small={"head_dim": 8, "no_rope_layer_interval": 2, "attention_chunk_size": 5}
        # Of thousands: otherwise nothing grows within a test.
        | {"intermediate_size_mlp": 24, "floor_scale": 3, "attn_scale": 0.6},
        more={"attention_chunk_size": 16, "num_experts_per_tok": 1},
        variants={
            "linear": None,
            "five": {"num_hidden_layers": 5, "no_rope_layer_interval": 4, "interleave_moe_layer_step": 2},
            "no_norms": {"use_qk_norm": False},
            # As published: between 1 and 1 nothing is blended.
            "scout": {"rope_parameters": {**LLAMA3, "high_freq_factor": 1.0}},
            "llama3": {"rope_parameters": LLAMA3},
            "no_temperature": {"attn_temperature_tuning": False},
            "all_rotate": {"no_rope_layers": [1, 1]},
            "none_rotates": {"no_rope_layer_interval": 1, "floor_scale": 1},
            "listed": {"num_hidden_layers": 3, "no_rope_layers": [0, 0, 1]},
            "rotated_and_full": {"layer_types": [FULL, CHUNKED]},
            "tempered_in_chunks": {"no_rope_layers": [0, 0], "layer_types": [CHUNKED, CHUNKED]},
            "no_experts": {"moe_layers": []},
            "two_of_the_experts": {"moe_layers": [0], "num_experts_per_tok": 2},
            "every_expert": ALL_OF_4,
            "yarn_without_norms": {"rope_parameters": YARN, "use_qk_norm": False},
            **windows("attention_chunk_size", 1, 2, 69, 70, 1000),
        },
    ),
    Case(
        "mamba",
        small={"state_size": 4},
        variants={
            "biases": {"use_bias": True},
            "no_convolution_bias": {"use_conv_bias": False},
            "rank": {"time_step_rank": 7},
            "expand": {"expand": 3},
            "inner_width": {"intermediate_size": 40},  # goes before expand
            "wide_convolution": {"conv_kernel": 9},
            "no_convolution": {"conv_kernel": 1},
            "one_number_per_channel": {"state_size": 1},
            "other_ways_to_compute": {"use_mambapy": True, "use_associative_scan": False}
            | {"residual_in_fp32": False},
        },
    ),
    Case(
        "mamba2",
        small={"head_dim": 16, "n_groups": 2, "state_size": 4},
        more={"chunk_size": 16},
        variants={
            "wide_heads": {"num_heads": 2, "head_dim": 32},
            "one_group": {"n_groups": 1},
            "a_group_per_head": {"n_groups": 4},
            "one_head": {"num_heads": 1, "head_dim": 64, "n_groups": 1},
            "biases": {"use_bias": True},
            "no_convolution_bias": {"use_conv_bias": False},
            "expand": {"expand": 3, "num_heads": 6, "n_groups": 3},
            "chunk_longer_than_the_prompt": {"chunk_size": 256},
            "wide_convolution": {"conv_kernel": 9},
            "no_convolution": {"conv_kernel": 1},
            "one_number_per_channel": {"state_size": 1},
            "limited_step": {"time_step_limit": [0.01, 0.1]},
            "limited_above": {"time_step_limit": [0.0, 0.05]},
            "limited_below": {"time_step_limit": [0.02, float("inf")]},
        },
    ),
    Case(
        "ministral3",
        # From 8 of thousands on: otherwise nothing grows within a test.
        small={
            "rope_parameters": rope(
                "yarn", factor=4.0, llama_4_scaling_beta=0.7, original_max_position_embeddings=8
            )
        },
        variants={
            "published": {"rope_parameters": None},
            "not_scaled": {
                "rope_parameters": rope(llama_4_scaling_beta=0.5, original_max_position_embeddings=3)
            },
            "no_growth": {"rope_parameters": {**YARN, "llama_4_scaling_beta": 0.0}},
            **windows("sliding_window", 5, 17),
        },
        of_today=("not_scaled",),  # old files said nothing of growth without scaling
    ),
    Case(
        "mistral",
        small={"sliding_window": 5},
        variants=windows("sliding_window", 1, 2, 17, 64, 69, 70, 71, None),
    ),
    Case(
        "mixtral",
        small={"head_dim": 8, "sliding_window": 5},
        variants={
            "one": ONE_OF_4,
            "all": ALL_OF_4,
            "one_of_one": ONE_OF_1,
            "many": {"num_local_experts": 24, "num_experts_per_tok": 6, "intermediate_size": 8},
            **windows("sliding_window", 17, None),
        },
        renamed={"num_local_experts": "num_experts"},
    ),
    Case(
        "mpt",
        more={"max_seq_len": 1000},
        variants={
            "three_heads": {"d_model": 48, "n_heads": 3},
            "six_heads": {"d_model": 48, "n_heads": 6},
            "seven_heads": {"d_model": 56, "n_heads": 7},
            "eight_heads": {"n_heads": 8},
            "twelve_heads": {"d_model": 48, "n_heads": 12},
            "clipped": {"attn_config": {"clip_qkv": 0.4}},
            "clipped_at_0": {"attn_config": {"clip_qkv": 0.0}},
            "scaled": {"attn_config": {"softmax_scale": 0.7}},
        },
        old={"norm_type": "low_precision_layernorm", "verbose": 0},
    ),
    Case(
        "olmo",
        variants={
            "clipped": {"clip_qkv": 0.5},
            "clipped_far_out": {"clip_qkv": 8.0},
            "clipped_biases": {"attention_bias": True, "clip_qkv": 0.5},
        },
    ),
    Case("olmo2"),
    Case(
        "olmoe",
        variants={"normed": NORMED, "all": ALL_OF_4, "clipped": {"clip_qkv": 0.7}},
    ),
    Case(
        "phi",
        small=part(0.5),
        variants={
            "phi_2": {"hidden_size": 80, **part(0.4)},
            "normed": {"qk_layernorm": True, "num_key_value_heads": 1, "layer_norm_eps": 0.01},
            "llama3": part(0.5, "llama3", **FACTORS),
        },
        buffers=("model.layers.{i}.self_attn.rotary_emb.inv_freq",),
    ),
    Case(
        "phi3",
        small={"sliding_window": 5, **part(0.5), "original_max_position_embeddings": 16},
        more={"max_position_embeddings": 256, "original_max_position_embeddings": 128},
        variants={
            **NO_ROPE,  # it knows another rule
            "every_query_has_its_key": {"num_key_value_heads": None},
            **windows("sliding_window", 17, 69, None),
            "whole_heads": part(1.0),
            # Texts here are shorter than the original length; test_rotations_by_length.py has longer ones.
            "longrope": part(0.5, **LONGROPE),
            "longrope_given_factors": part(0.5, **LONGROPE, factor=8.0, attention_factor=1.3),
            "phi_4_mini": part(0.75, "longrope", short_factor=[1, 1.1, 1.2], long_factor=[1, 2, 3])
            | {"tie_word_embeddings": True},
        },
    ),
    Case("qwen2", more={"num_hidden_layers": 3}, variants={"wide_heads": {"head_dim": 12}, **QWEN}),
    Case(
        "qwen2_moe",
        small={"num_hidden_layers": 3},
        variants={
            "normed": NORMED,
            "one": ONE_OF_4,
            "one_normed": {**ONE_OF_4, **NORMED},
            "all": ALL_OF_4,
            "every_second_layer": {"decoder_sparse_step": 2},
            "some_dense": {"mlp_only_layers": [0, 2]},
            "every_second_but_dense": {"num_hidden_layers": 5, "decoder_sparse_step": 2}
            | {"mlp_only_layers": [3]},
            "no_bias": {"qkv_bias": False},
            "window": WINDOW,
            "window_in_the_first": {**WINDOW, "max_window_layers": 2},
            "window_unused": {**WINDOW, "use_sliding_window": False},
            "window_named": {**WINDOW, **TYPES},
        },
    ),
    Case(
        "qwen2_vl_text",
        small={"rope_parameters": rope(mrope_section=[1, 2, 1])},
        more={"num_hidden_layers": 3},
        variants={**QWEN, "wide": {"hidden_size": 48, "rope_parameters": rope(mrope_section=[2, 2, 2])}},
        must_say=("rope_parameters",),  # by default, sections are those of heads of 128
    ),
    Case(
        "qwen3",
        small={"head_dim": 8},
        more={"num_hidden_layers": 3},
        variants={"from_a_layer_on": QWEN["from_a_layer_on"]},
    ),
    Case(
        "qwen3_moe",
        variants={
            "normed": NORMED,
            "wide_heads": {"head_dim": 12, **NORMED},
            "every_second_layer": {"num_hidden_layers": 3, "decoder_sparse_step": 2},
            "some_dense": {"mlp_only_layers": [0]},
            "window": WINDOW,
            "window_unused": {**WINDOW, "use_sliding_window": False},
        },
        renamed={"num_local_experts": "num_experts"},
    ),
    Case(
        "qwen3_next",
        small={"head_dim": 8, **part(0.5), "full_attention_interval": 2}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
        # After the delta rule each head's result is normed. Where a query hardly meets a key there is little
        # to norm, and the usual 1e-6 makes rounding large: transformers' own two forms then differ by 3e-5.
        | {"linear_num_value_heads": 4, "rms_norm_eps": 0.01},
        more={"linear_value_head_dim": 12},
        buffers=("mtp.fc.weight",),
        variants={
            "heads_alike": {"linear_num_value_heads": 2, "linear_value_head_dim": 8},
            "one_key_head": {"linear_num_key_heads": 1, "linear_conv_kernel_dim": 2},
            "four": {**layers(FULL, LINEAR, FULL, LINEAR), "rms_norm_eps": 0.1},
            "no_delta_net": layers(FULL, FULL),
            "no_attention": {**layers(LINEAR, LINEAR), "linear_conv_kernel_dim": 1},
            "dense_layers": {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
            "not_normed": {"norm_topk_prob": False},
            "usual_epsilon": {"rms_norm_eps": 1e-6},
            "whole_heads": part(1.0, rope_theta=500.0),
        },
        tolerance={"usual_epsilon": 1e-4},
    ),
    Case(
        "qwen3_vl_moe_text",
        small={"rope_parameters": rope(mrope_section=[1, 2, 1])},
        variants={
            "every_second_layer": {"num_hidden_layers": 3, "decoder_sparse_step": 2},
            "some_dense": {"mlp_only_layers": [0]},
            "one": ONE_OF_4,
            "all": ALL_OF_4,
        },
    ),
    Case("qwen3_vl_text", small={"head_dim": 8, "rope_parameters": rope(mrope_section=[1, 2, 1])}),
    Case(
        "smollm3",
        small={"no_rope_layer_interval": 2},
        more={"num_hidden_layers": 4},
        variants={
            "every_fourth": {"no_rope_layer_interval": 4},
            "every_first": {"no_rope_layer_interval": 1},
            "listed": {"no_rope_layers": [0, 1, 1, 1, 0, 0]},
            "windows": WINDOW,
            "window_null": {**WINDOW, "sliding_window": None},
            "windows_named": {**WINDOW, "layer_types": [FULL, SLIDING, FULL, FULL]},
            "named_without_the_switch": {"sliding_window": 17, "layer_types": [FULL, SLIDING, FULL, FULL]},
            "window_not_used": {**WINDOW, "use_sliding_window": False},
        },
    ),
    Case(
        "stablelm",
        small=part(0.5),
        variants={
            "qkv_bias": {"use_qkv_bias": True},
            "parallel": {"use_parallel_residual": True},
            "norms_of_heads": {"qk_layernorm": True},
            "all_of_it": {"use_qkv_bias": True, "use_parallel_residual": True, "qk_layernorm": True}
            | {"layer_norm_eps": 0.1},
            "whole_heads": part(1.0),
        },
    ),
    Case(
        "starcoder2",
        small={"sliding_window": 5},
        variants={
            **windows("sliding_window", 17, None),
            "unbiased": {"use_bias": False},
            "wide_heads": {"head_dim": 12},
        },
        old={"activation_function": "gelu", "mlp_type": "default", "norm_type": "layer_norm"},
    ),
]
ROWS = {case.model_type: case for case in CASES}
