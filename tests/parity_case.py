"""What the row of an architecture is made of (parity_rows/): a small model, and variants of it.

Variants that a config class has the keys for are made by themselves (``AUTOMATIC``); a row adds those that
only its architecture has. A new architecture needs a file with ``CASE = Case("its_model_type")``, and no more
unless it has keys that no other has.

Beside ``CASE`` the file may have four names, which the walk over all keys of config.json reads (switches.py):

    OTHERS   {key: values}, values of keys other than the small model's, where those of switch_values.py do
             not fit; a part of an object is "object.part". Of an inert key: the one that changes nothing.
    INERT    keys that transformers' class has and nothing there reads
    READ     keys without mathematics in all other architectures (switch_values.py), but not in this one
    MISREAD  keys that transformers reads and the makers do not, or the other way round. Ours does as the
             makers; the walk leaves them out, and a test in tests/models/test_MODEL_TYPE.py has them.

The last three are strings, "one_key another_key".
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 211
LONG_TEXT = 700
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
    long       (keys beside ``smallest``, length): texts long enough for the blockwise form or several chunks
    learned_positions  whether there are no more positions than were trained
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
    long: tuple[tuple[Keys, int], ...] = ()
    learned_positions: bool = False

    @cached_property
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
