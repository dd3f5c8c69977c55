"""Small matrices as one: the same numbers, one product, and nothing where it brings nothing."""

from pathlib import Path

import numpy as np
import pytest
from parity import check, edit_config, reference_model, save

from tinystar_np.fast import layout
from tinystar_np.fast.layout import LEAST_IN_THREADS, laid_together
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.models.memory import side_by_side

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}


def matrices(*widths: int, inputs: int = 768) -> dict[str, np.ndarray]:
    """Queries, keys and values of one layer, as most files have them: transposed."""
    numbers = np.random.default_rng(0)
    names = [f"blocks.0.attention.{letter}.weight" for letter in "qkv"]
    arrays = [numbers.standard_normal((width, inputs), np.float32).T for width in widths]
    return dict(zip(names, arrays, strict=True))


@pytest.mark.parametrize(
    ("widths", "worth_it"),
    [
        ((300, 150, 150), True),  # small ones, together as many as the threshold
        ((300, 150, 149), False),  # one row fewer
        ((600, 150, 150), False),  # half as much again in a large one
        ((599, 100, 100), True),
        ((700, 350, 350), True),
        ((800, 800, 800), False),
    ],
)
def test_when(widths: tuple[int, ...], worth_it: bool) -> None:
    assert LEAST_IN_THREADS == 600 * 768
    weights = matrices(*widths)
    laid = side_by_side(weights)
    assert [laid[name] is not weights[name] for name in weights] == [worth_it] * 3
    assert (laid_together(list(laid.values())) is not None) == worth_it
    for name, matrix in weights.items():
        np.testing.assert_array_equal(laid[name], matrix)


def test_what_only_looks_alike() -> None:
    """Parts of one array that are not all of it, in another order, or of another matrix."""
    q, k, v = side_by_side(matrices(300, 150, 150)).values()
    assert laid_together([q, k, v]) is not None
    for others in ([q, v, k], [q, k], [k, v], [q, k, k], [q, k, v.copy()], [q, k, v[:]]):
        assert laid_together(others) is None


def test_experts_stay_where_they_are() -> None:
    """In their file, of which a token reads a few; those of one tensor are one product all the same."""
    numbers = np.random.default_rng(0).standard_normal((800, 768), np.float32)
    for gate, up, together in (
        (numbers[:400].T, numbers[400:].T, True),
        (numbers[:400].T, -numbers[400:].T, False),
    ):
        names = [f"blocks.0.feed_forward.experts.3.{name}.weight" for name in ("gate", "up")]
        laid = side_by_side(dict(zip(names, (gate, up), strict=True)))
        assert laid[names[0]] is gate
        assert laid[names[1]] is up
        assert (laid_together([gate, up]) is not None) == together


def test_nothing_is_kept_alive() -> None:
    before = len(layout._laid)
    laid = side_by_side(matrices(300, 150, 150))
    assert len(layout._laid) == before + 1
    del laid
    assert len(layout._laid) == before


def are_together(model: Decoder) -> bool:
    return all(
        laid_together([layer.weight for layer in layers]) is not None
        for block in model.blocks
        for a, f in [(block.attention, block.feed_forward)]
        for layers in ((a.q, a.k, a.v), (f.gate, f.up))
    )


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "olmo2"])
def test_models(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LEAST_IN_THREADS", 3500)
    reference = reference_model(kind, **SMALL)
    model = check(reference, save(reference, tmp_path), length=40)
    assert are_together(model)
    assert model.parameters == sum(p.numel() for p in set(reference.parameters()))


def test_converted_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of another type, whose matrices lie in memory already."""
    monkeypatch.setattr(layout, "LEAST_IN_THREADS", 3500)
    reference = reference_model("llama", **SMALL).half()
    save(reference, tmp_path)
    edit_config(tmp_path, dtype="float16")
    assert are_together(load(tmp_path)[0])
    assert not are_together(load(tmp_path, dtype="int8")[0])
