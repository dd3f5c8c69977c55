"""The Gemmas' own: scaled embeddings, caps, and the rotations of two kinds of layers."""

from pathlib import Path

import numpy as np
from parity import (
    assert_close,
    logits_of,
    random_ids,
    reference_model,
    save,
)

from tinystar_np.inspection.describe import describe_model
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.loading import load
from tinystar_np.seeing import record
from tinystar_np.seeing.comparison.with_transformers import compare_with_transformers

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
}


def test_every_activation_is_that_of_transformers(tmp_path: Path) -> None:
    """Scaled embeddings and gains less 1 included, which transformers has in the layers, and so have we."""
    model, _ = load(save(reference_model("gemma", **SMALL), tmp_path))
    rows = compare_with_transformers(model, random_ids(20).tolist(), tmp_path)
    assert not [row for row in rows if row.exceeds(1e-5)]
    assert {"embedding.tokens", "blocks.0.attention_norm", "final_norm"} <= {row.name for row in rows}


def test_embeddings_are_multiplied_by_the_root_of_the_width(tmp_path: Path) -> None:
    """By that of 7B in float32, not by 55.5, to which bfloat16 rounds it."""
    wide = {**SMALL, "hidden_size": 3072, "num_hidden_layers": 1}
    model, _ = load(save(reference_model("gemma", **wide), tmp_path))
    with record() as found:
        model([5])
    token = model.weights["embedding.tokens.weight"][5]
    np.testing.assert_array_equal(found["embedding.tokens"][0, 0], token * np.float32(55.425625842204074))


GEMMA2 = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
    "sliding_window": 17,
    # Low enough to bend what such a small model computes.
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 5.0,
}


def test_caps_bound(tmp_path: Path) -> None:
    """No logit beyond the cap, and one near it: the cap is at work; that of the scores is told."""
    reference = reference_model("gemma2", **GEMMA2)
    model, _ = load(save(reference, tmp_path))
    highest = np.abs(model(random_ids(2, 20))).max()
    assert 4.5 < highest <= 5.0
    told = [layer["mixer"].words.partition("heads of 12, ")[2] for layer in describe_model(model).layers]
    assert told == ["window of 17, scores below 2", "scores below 2", "window of 17, scores below 2"]


GEMMA3 = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
    "sliding_window": 17,
    "sliding_window_pattern": 3,
}


SLIDING, FULL = "sliding_attention", "full_attention"


FAST = {"rope_type": "default", "rope_theta": 100.0}


SLOW = {"rope_type": "default", "rope_theta": 5000.0}


def test_where_the_file_says_nothing(tmp_path: Path) -> None:
    """A kind that is missing among the parameters has the default base of its kind, 10⁴ or 10⁶."""
    ids = random_ids(2, 50)
    for given in ({}, {FULL: SLOW}, {SLIDING: FAST}, {SLIDING: {"rope_type": "default"}}):
        reference = reference_model("gemma3_text", **{**GEMMA3, "rope_parameters": dict(given)})
        save(reference, tmp_path, rope_parameters=given)
        assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_described_kind_by_kind() -> None:
    """What ``tinystar inspect`` reads off the layers: 5 near, 1 far, each at its base."""
    description = describe_model(hollow_model({"model_type": "gemma3_text", "num_hidden_layers": 12}))
    positions = {part.words: where for part, where in description.kinds("positions")}
    far = [5, 11]
    near = [i for i in range(12) if i not in far]
    assert positions == {"RoPE, base 10000": near, "RoPE, base 1000000": far}
    windows = [layer["mixer"].facts["window"] for layer in description.layers]
    assert [i for i, window in enumerate(windows) if window is None] == far
