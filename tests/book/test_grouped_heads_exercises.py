"""The exercises of docs/kernels/grouped_heads.md, solved."""

from dataclasses import replace

import numpy as np

import tinystar_np as ts
from tinystar_np.kernels.attention import attention


def test_the_bytes_of_a_cache() -> None:
    # A key and a value in each layer: 2 · 48 · 4 · 128 numbers of 2 bytes are 98 304 bytes a token, times
    # 16 384 tokens 1.6 GB. With G = 32 it is eight times as much: 12.9 GB.
    def cache_bytes(kv_heads: int) -> int:
        return 2 * 48 * kv_heads * 128 * 2 * 16384

    assert round(cache_bytes(4) / 1e9, 1) == 1.6
    assert round(cache_bytes(32) / 1e9, 1) == 12.9
    # The formula, of a model that is small enough to be built (four bytes a number here):
    config = ts.TinyStarConfig(num_layers=3, num_heads=8, num_kv_heads=2, hidden_size=64)
    cache = ts.TinyStar(config).new_cache(capacity=10)
    assert cache.nbytes == 2 * 3 * 2 * 8 * 4 * 10


def test_keys_of_a_group_concern_its_heads_only() -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(heads, 4, 8)) for heads in (6, 3, 3))
    before = attention(q, k, v, None, scale=1.0)
    k[1] += rng.normal(size=(4, 8))
    changed = (attention(q, k, v, None, scale=1.0) != before).any(axis=(1, 2))
    # H / G = 2 neighbouring heads share a group: group 0 has heads 0 and 1, group 1 has heads 2 and 3.
    assert changed.tolist() == [False, False, True, True, False, False]


def test_a_model_with_groups_as_a_model_without() -> None:
    config = ts.TinyStarConfig(attention="gqa", num_heads=4, num_kv_heads=2, hidden_size=32, num_layers=2)
    grouped = ts.TinyStar(config, seed=1)
    weights = dict(grouped.weights)
    for name, weight in weights.items():
        if name.endswith(("attention.k.weight", "attention.v.weight")):
            # (D, G·K): the columns of each key head, as often as there are queries in its group.
            by_head = np.asarray(weight).reshape(32, 2, 8)
            weights[name] = np.repeat(by_head, 2, axis=1).reshape(32, 4 * 8)
    separate = ts.TinyStar(replace(config, attention="mha", num_kv_heads=4), weights)
    ids = [1, 2, 3, 4, 5]
    np.testing.assert_allclose(separate(ids), grouped(ids), atol=1e-5)
    assert separate.new_cache(capacity=5).nbytes == 2 * grouped.new_cache(capacity=5).nbytes
