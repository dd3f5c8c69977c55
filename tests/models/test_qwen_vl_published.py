"""config.json of Qwen's published models of text and images: read as transformers reads it, key by key."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from transformers import AutoConfig

from tinystar_np.errors import ConfigError
from tinystar_np.models import model_class, vision_class
from tinystar_np.models.text_part import text_config

TOKENS = {"image_token_id": 151655, "video_token_id": 151656, "vision_token_id": 151654}
TOKENS |= {"vision_start_token_id": 151652, "vision_end_token_id": 151653}
OF_7B = {
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "initializer_range": 0.02,
    "intermediate_size": 18944,
    "max_position_embeddings": 128000,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
SECTIONS = {"type": "mrope", "mrope_section": [16, 24, 24]}
EYE_OF_25 = {
    "depth": 32,
    "hidden_act": "silu",
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_chans": 3,
    "out_hidden_size": 3584,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "spatial_patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
    "temporal_patch_size": 2,
}
OF_3_4B = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "dtype": "bfloat16",
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728,
    "max_position_embeddings": 262144,
    "model_type": "qwen3_vl_text",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    "rope_theta": 5000000,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 151936,
}
EYE_OF_3 = {
    "deepstack_visual_indexes": [5, 11, 17],
    "depth": 24,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1024,
    "in_channels": 3,
    "initializer_range": 0.02,
    "intermediate_size": 4096,
    "model_type": "qwen3_vl",
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "out_hidden_size": 2560,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
EXPERTS = {
    **{key: OF_3_4B[key] for key in OF_3_4B if key not in ("model_type", "tie_word_embeddings")},
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "mlp_only_layers": [],
    "model_type": "qwen3_vl_moe_text",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
}
EYE_OF_EXPERTS = {
    **{**EYE_OF_3, "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 2048},
    **{"model_type": "qwen3_vl_moe", "deepstack_visual_indexes": [8, 16, 24]},
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen2-VL-7B": {
        **OF_7B,
        **TOKENS,
        "max_position_embeddings": 32768,
        "model_type": "qwen2_vl",
        "rope_scaling": SECTIONS,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vision_config": {
            "depth": 32,
            "embed_dim": 1280,
            "mlp_ratio": 4,
            "num_heads": 16,
            "in_chans": 3,
            "hidden_size": 3584,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
    },
    "Qwen2.5-VL-7B": {
        **OF_7B,
        **TOKENS,
        "model_type": "qwen2_5_vl",
        "rope_scaling": SECTIONS,
        "tie_word_embeddings": False,
        "vision_config": EYE_OF_25,
    },
    "Qwen2.5-VL-7B, saved by transformers 4.54": {
        **OF_7B,
        **TOKENS,
        "model_type": "qwen2_5_vl",
        "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
        "text_config": {
            **OF_7B,
            "layer_types": ["full_attention"] * 28,
            "model_type": "qwen2_5_vl_text",
            "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
            "sliding_window": None,
        },
        "tie_word_embeddings": False,
        "vision_config": {**EYE_OF_25, "in_channels": 3, "model_type": "qwen2_5_vl"},
    },
    "Qwen3-VL-4B": {
        **TOKENS,
        "model_type": "qwen3_vl",
        "text_config": OF_3_4B,
        "tie_word_embeddings": True,
        "vision_config": EYE_OF_3,
    },
    "Qwen3-VL-30B-A3B": {
        **TOKENS,
        "model_type": "qwen3_vl_moe",
        "text_config": EXPERTS,
        "tie_word_embeddings": False,
        "vision_config": EYE_OF_EXPERTS,
    },
}
INSIDE = ("rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings")
"""Keys that transformers puts into rope_parameters."""


def assert_same_keys(ours: Any, theirs: Any) -> None:
    """Every key that both have a field for has the same value."""
    shared = [f.name for f in fields(ours) if f.name not in INSIDE and hasattr(theirs, f.name)]
    values = {name: getattr(ours, name) for name in shared}
    expected = {name: getattr(theirs, name) for name in shared}
    for layers in ("mlp_only_layers", "layer_types", "sliding_window"):  # null, or what is made of it
        if values.get(layers, ...) is None or layers == "sliding_window":
            values.pop(layers, None)
            expected.pop(layers, None)
    assert len(values) >= 10
    assert values == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_read_as_transformers_reads_it(name: str) -> None:
    raw = PUBLISHED[name]
    theirs = AutoConfig.for_model(**raw)
    text = text_config(raw)
    ours = model_class(text["model_type"]).Config.from_dict(text)
    text_of_theirs = theirs.text_config
    text_of_theirs.tie_word_embeddings = theirs.tie_word_embeddings  # where its models look
    assert_same_keys(ours, text_of_theirs)
    assert ours.rope is not None
    rope = text_of_theirs.rope_parameters
    assert (ours.rope.rope_type, ours.rope.rope_theta) == (rope["rope_type"], rope["rope_theta"])
    assert list(ours.sections) == rope["mrope_section"]
    assert ours.windows == (None,) * ours.num_hidden_layers

    part = vision_class(raw["model_type"])
    assert part is not None
    whole = part.Config.from_dict({**raw, "text_width": ours.sizes["D"]})
    assert whole.image_token_id == theirs.image_token_id
    eye = part.encoder_of(whole)[1]
    assert_same_keys(eye, theirs.vision_config)
    assert eye.theta == theirs.vision_config.rope_parameters["rope_theta"] == 10000.0
    assert part.WEIGHTS == {}


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_an_encoder_of_which_nothing_is_said(kind: str) -> None:
    part = vision_class(kind)
    assert part is not None
    whole = part.Config.from_dict({"text_width": 3584})
    theirs = AutoConfig.for_model(kind)
    assert whole.image_token_id == theirs.image_token_id
    eye = part.encoder_of(whole)[1]
    expected = theirs.vision_config
    for ours, key in (("full_blocks", "fullatt_block_indexes"), ("deep", "deepstack_visual_indexes")):
        if hasattr(expected, key):
            assert list(getattr(eye, ours)) == list(getattr(expected, key))
            object.__setattr__(expected, key, None)  # as ours has it where nothing is said
    assert_same_keys(eye, expected)


JUNK: list[Any] = [None, True, 0, -1, 10**30, 1e39, 0.5, "x", [], [None], [10**30], [-1], ["a"], {}]
JUNK += [{"rope_type": [1]}, {"rope_theta": "x"}, {"mrope_section": [1, 2, 10**40]}, {"mrope_interleaved": 7}]


def read(raw: Mapping[str, Any]) -> None:
    """Read a whole config.json, as loading does."""
    text = text_config(raw)
    width = model_class(text["model_type"]).Config.from_dict(text).sizes["D"]
    part = vision_class(raw["model_type"])
    assert part is not None
    part.encoder_of(part.Config.from_dict({**raw, "text_width": width}))


@pytest.mark.parametrize("name", PUBLISHED)
def test_whatever_a_key_says_is_read_or_refused(name: str) -> None:
    raw = PUBLISHED[name]
    read(raw)
    for part in ("text_config", "vision_config"):
        inside = raw.get(part, {})
        for key in (*inside, "rope_parameters", "rope_scaling", "rope_theta", "head_dim"):
            for value in JUNK:
                with suppress(ConfigError):
                    read({**raw, part: {**inside, key: value}})
