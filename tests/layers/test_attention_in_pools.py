"""Attention layers with keys and values in the blocks of a pool, against the same layers without a cache."""

from typing import Any

import numpy as np
import pytest
from parity import assert_close

from tinystar_np import fast, record
from tinystar_np.cache import Held, Step
from tinystar_np.cache.step import Positions
from tinystar_np.kernels.paged_attention import Paged
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig

SIZE, D = 4, 48
LENGTHS = (5, 22, 13, 21)  # once the last token is in
TABLES = np.array(
    [[11, 3, 0, 0, 0, 0], [4, 5, 6, 7, 8, 9], [4, 5, 6, 2, 0, 0], [4, 5, 1, 14, 12, 13]]
)  # three rows begin alike

KINDS: dict[str, dict[str, Any]] = {
    "all heads": {"attention": "mha"},
    "grouped": {"attention": "gqa", "num_kv_heads": 2},
    "window": {"mask": "sliding_window", "window_size": 6},
    "ALiBi": {"positions": "alibi"},
    "ALiBi and a window": {"positions": "alibi", "mask": "sliding_window", "window_size": 6},
    "relative": {"positions": "relative", "max_positions": 40},
    "complex": {"attention": "complex"},
    "latents": {"attention": "mla"},
    "latents, ALiBi and a window": {
        "attention": "mla", "positions": "alibi", "mask": "sliding_window", "window_size": 6,
    },
}  # fmt: skip


class InPools:
    """Keys and values of some rows, in pools that may be shared with other rows."""

    def __init__(self, k: np.ndarray, v: np.ndarray, tables: np.ndarray):
        self.pools, self.tables = (k, v), tables

    def append(self, k: np.ndarray, v: np.ndarray, step: Step) -> tuple[Held, Held, Positions]:
        lengths = step.start + step.length
        for pool, new in zip(self.pools, (k, v), strict=True):
            for table, positions, vectors in zip(self.tables, step.positions, new, strict=True):
                pool[:, table[positions // SIZE] * SIZE + positions % SIZE] = vectors
        keys, values = (Paged(pool, self.tables, lengths, SIZE) for pool in self.pools)
        if step.length > 1:
            return fast.gathered(keys), fast.gathered(values), np.arange(step.end)
        return keys, values, np.arange(step.end)


def layer_and_texts(kind: str) -> tuple[Attention | LatentAttention, list[np.ndarray]]:
    """Build a layer, and residual streams (1, T, D) that agree as far as the rows share blocks."""
    config = TinyStarConfig(hidden_size=D, num_layers=1, num_heads=4, init_std=0.3, **KINDS[kind])
    draw = np.random.default_rng(0)
    texts = [draw.standard_normal((1, length, D), dtype=np.float32) for length in LENGTHS]
    for row, blocks in ((2, 3), (3, 2)):
        texts[row][:, : blocks * SIZE] = texts[1][:, : blocks * SIZE]
    return TinyStar(config).blocks[0].attention, texts


def read_all_but_last(layer: Attention | LatentAttention, texts: list[np.ndarray]) -> InPools:
    """Read the texts one after another into the same pools."""
    one = layer.new_state(1, 1)
    pools = [
        np.full((held.shape[1], 15 * SIZE, held.shape[3]), np.nan, np.float32)
        for held in (one.keys, one.values)
    ]
    for row, x in enumerate(texts):
        step = Step(np.array([0]), x.shape[1] - 1)
        layer(x[:, :-1], step, InPools(pools[0], pools[1], TABLES[row : row + 1]))
    return InPools(pools[0], pools[1], TABLES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("definitions", [False, True])
def test_each_row_as_if_alone(kind: str, definitions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, texts = layer_and_texts(kind)
    expected = [layer(x, Step(np.array([0]), x.shape[1]), None)[0, -1] for x in texts]
    if definitions:
        for name, kernel in fast.KERNELS.items():
            monkeypatch.setattr(fast, name, kernel)
    state = read_all_but_last(layer, texts)
    last = np.concatenate([x[:, -1:] for x in texts])
    starts = np.array(LENGTHS) - 1
    found = layer(last, Step(starts, 1), state)
    assert found.dtype == np.float32
    assert_close(found[:, 0], np.stack(expected))
    for row in range(len(texts)):  # and one row alone
        alone = InPools(*state.pools, TABLES[row : row + 1])
        assert_close(layer(last[row : row + 1], Step(starts[row : row + 1], 1), alone)[0, 0], expected[row])


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_can_be_read(kind: str) -> None:
    layer, texts = layer_and_texts(kind)
    state = read_all_but_last(layer, texts)
    last = np.concatenate([x[:, -1:] for x in texts])
    with record() as heard:
        found = layer(last, Step(np.array(LENGTHS) - 1, 1), state)
    for row, x in enumerate(texts):
        with record() as alone:
            expected = layer(x, Step(np.array([0]), x.shape[1]), None)
        assert list(heard) == list(alone)
        assert_close(found[row, 0], expected[0, -1])
        for name in ("attention.scores", "attention.probabilities"):
            assert_close(heard[name][row, :, 0, : LENGTHS[row]], alone[name][0, :, -1])
            if name == "attention.probabilities":
                assert not heard[name][row, :, 0, LENGTHS[row] :].any()
