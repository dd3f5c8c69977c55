"""Attention in chunks: against a loop over scores, the form that runs against the mask, and its state."""

from itertools import pairwise

import numpy as np
import pytest
from masks import last_queries

from tinystar_np.cache import ChunkedKeyValueState, Step
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.chunked_attention import pieces
from tinystar_np.kernels.masks import Mask, visible
from tinystar_np.kernels.temperature import temperature
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.weights import Weights
from tinystar_np.models.llama4_text import Llama4Attention, Temperature
from tinystar_np.seeing import record

D, H, G, K = 12, 4, 2, 6
SLOPES = alibi_slopes(H)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def chunked_layer(chunk: int | None, alibi: bool = False) -> Attention:
    layer = llama4(chunk=chunk)
    layer.scale = 0.1  # with 1/√K some probabilities of what is visible would be 0 in float32
    if alibi:
        layer.alibi = Alibi(lambda positions: alibi_bias(SLOPES, positions))
    return layer


def llama4(chunk: int | None = None, temperature: Temperature | None = None) -> Llama4Attention:
    widths = {"q": (D, H * K), "k": (D, G * K), "v": (D, G * K), "out": (H * K, D)}
    arrays = {f"{name}.weight": random(*shape, seed=len(name)) for name, shape in widths.items()}
    return Llama4Attention(
        Weights(arrays),
        heads=H,
        kv_heads=G,
        head_dim=K,
        rope=None,
        chunk=chunk,
        norm_eps=None,
        temperature=temperature,
    )


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """Within float32's rounding of the largest value, in float32, without NaN."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 3e-6 * np.abs(expected).max()


def from_the_start(length: int, rows: int = 2) -> Step:
    return Step(np.zeros(rows, dtype=np.int64), length)


@pytest.mark.parametrize("chunk", [1, 3, 8, 20])
@pytest.mark.parametrize(("first", "t"), [(0, 1), (0, 8), (5, 9), (16, 3), (7, 1)])
def test_the_mask_one_score_at_a_time(first: int, t: int, chunk: int) -> None:
    queries, keys = np.arange(first, first + t), np.arange(-2, first + t)
    mask = visible(Mask(queries, keys, chunk=chunk))
    for i, q in enumerate(queries):
        begin = q // chunk * chunk
        assert [k for k, seen in zip(keys, mask[i], strict=True) if seen] == list(range(begin, q + 1))


@pytest.mark.parametrize("chunk", [1, 3, 8, 20, 100])
@pytest.mark.parametrize("start", [0, 1, 8, 19])
def test_pieces_are_causal_attention_each_in_its_chunk(start: int, chunk: int) -> None:
    stop = 41
    q, k, v = random(H, stop - start, K), random(G, stop, K), random(G, stop, K, seed=1)
    mask = Mask(np.arange(start, stop), np.arange(stop), chunk=chunk)
    expected = attention(q, k, v, mask, scale=0.5)
    found = np.full_like(expected, np.nan)
    for piece in pieces(start, stop, chunk):
        keys = slice(piece.start // chunk * chunk, piece.stop)
        own = slice(piece.start - start, piece.stop - start)
        causal = last_queries(len(piece), keys.stop - keys.start)
        found[:, own] = attention(q[:, own], k[:, keys], v[:, keys], causal, scale=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("chunk", [1, 30, 100, 299, 300])
def test_what_runs_is_what_is_shown(chunk: int, alibi: bool) -> None:
    """Whole, cut where chunks end and elsewhere, and the last token alone; 300 tokens take the block form."""
    layer, x = chunked_layer(chunk, alibi), random(2, 300, D)
    with record() as caught:
        expected = layer(x, from_the_start(300), None)
    hidden = caught["attention.probabilities"] == 0
    places = np.arange(300)
    np.testing.assert_array_equal(hidden[0, 0], ~visible(Mask(places, places, chunk=chunk)))
    assert_near(layer(x, from_the_start(300), None), expected)
    last = layer(x, from_the_start(300).for_last_token(), None)
    assert_near(last, expected[:, -1:])
    for cuts in ([99, 101], [100, 200], [29, 30, 31, 32, 299], [150]):
        state, found = layer.new_state(2, 0), []
        for a, b in pairwise([0, *cuts, 300]):
            found.append(layer(x[:, a:b], Step(np.full(2, a), b - a), state))
            state.commit()
        assert_near(np.concatenate(found, axis=1), expected)
        assert state.capacity <= max(chunk, 1)


@pytest.mark.parametrize("new", [1, 5, 90, 200])
@pytest.mark.parametrize("watched", [False, True])
def test_rows_at_different_places_in_their_chunks(watched: bool, new: int) -> None:
    """Each as if alone, whether or not it crosses a border, in both forms."""
    layer = chunked_layer(chunk=70)
    lengths = [3, 69, 70, 100, 139]
    x = random(len(lengths), 139 + new, D)
    states, expected = [], []
    for row, length in zip(x, lengths, strict=True):
        step, state = from_the_start(length, rows=1), layer.new_state(1, 0)
        layer(row[None, :length], step, state)
        state.commit()
        states.append(state)
        with record():
            expected.append(layer(row[None, : length + new], from_the_start(length + new, rows=1), None))
    joined = ChunkedKeyValueState.join(states)
    step = Step(np.array(lengths), new)
    given = np.stack([row[length : length + new] for row, length in zip(x, lengths, strict=True)])
    if watched:
        with record():
            found = layer(given, step, joined)
    else:
        found = layer(given, step, joined)
    joined.commit()
    after = layer(given[:, :1], Step(np.array(lengths) + new, 1), joined)
    for b, length in enumerate(lengths):
        assert_near(found[b], expected[b][0, length:])
        text = np.concatenate([x[b, : length + new], given[b, :1]])[None]
        alone = layer(text, from_the_start(length + new + 1, rows=1).for_last_token(), None)
        assert_near(after[b], alone[0])


def test_a_call_that_breaks_off_loses_nothing() -> None:
    layer, x = chunked_layer(chunk=10), random(2, 60, D)
    expected = layer(x, from_the_start(60), None)
    for start in (7, 10, 13):
        for broken in (1, 2, 3, 10, 40):
            state = layer.new_state(2, 0)
            layer(x[:, :start], from_the_start(start), state)
            state.commit()
            layer(x[:, -broken:], Step(np.full(2, start), broken), state)  # and no commit
            found = layer(x[:, start : start + 9], Step(np.full(2, start), 9), state)
            assert_near(found, expected[:, start : start + 9])


def test_one_token_reads_its_own_chunk_where_it_lies() -> None:
    state = ChunkedKeyValueState(1, G, K, 8)
    k, v = random(1, G, 30, K), random(1, G, 30, K, seed=1)
    for t in range(30):
        keys, values, positions = state.append(k[:, :, t : t + 1], v[:, :, t : t + 1], Step(np.array([t]), 1))
        own = slice(t // 8 * 8, t + 1)
        np.testing.assert_array_equal(positions, np.arange(own.start, own.stop))
        np.testing.assert_array_equal(keys, k[:, :, own])
        np.testing.assert_array_equal(values, v[:, :, own])
        assert np.shares_memory(keys, state.keys)
    assert state.nbytes == k[:, :, :8].nbytes + v[:, :, :8].nbytes
    assert not state.rewindable


def test_a_chunk_that_is_never_full_changes_nothing() -> None:
    x = random(2, 150, D)
    expected = chunked_layer(None)(x, from_the_start(150), None)
    np.testing.assert_array_equal(chunked_layer(150)(x, from_the_start(150), None), expected)
    assert np.abs(chunked_layer(149)(x, from_the_start(150), None) - expected)[:, -1].max() > 0.01


def test_temperature() -> None:
    positions = np.array([[0, 6, 7, 8190, 8191, 10**7]])
    found = temperature(positions, 8192, 0.1)
    assert found.dtype == np.float32
    steps = [np.floor((p + 1) / 8192) for p in positions[0]]
    np.testing.assert_allclose(found[0], 1 + 0.1 * np.log(1 + np.array(steps)), rtol=1e-6)
    np.testing.assert_array_equal(found[0, :4], 1)
    q = random(2, H, 5, K)
    starts = np.array([3, 11])
    scaled, _ = llama4(temperature=Temperature(4, 0.5)).rotated(q, q[:, :G], Step(starts, 5))
    for b, start in enumerate(starts):
        factors = temperature(np.arange(start, start + 5), 4, 0.5)
        np.testing.assert_allclose(scaled[b], q[b] * factors[:, None], rtol=1e-6)
    assert scaled.dtype == np.float32
