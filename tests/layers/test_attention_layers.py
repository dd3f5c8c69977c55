"""TinyStar's attention: both ways, with relative positions, with complex numbers; and norms in other places.

Every layer is held against one definition, a score at a time in float64, in every way a layer is called; and
against torch's own operators where there are some.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from masks import last_queries

from tinystar_np.cache import Step
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.kernels.attention import attention, bias_by_distance
from tinystar_np.kernels.blockwise_attention import KEY_BLOCK, QUERY_BLOCK, blockwise_attention
from tinystar_np.kernels.rope import default_frequencies
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.basic import LayerNorm
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_block import AlibiBothWays, Block, Positions, TinyAttention
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing import record

Q, S = QUERY_BLOCK, KEY_BLOCK


# --- both ways: the kernels -------------------------------------------------------------------------------


def random_qkv(heads: int, groups: int, t: int, s: int, width: int = 8) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(heads * 1000 + t + s)
    shapes = [(2, heads, t, width), (2, groups, s, width), (2, groups, s, width)]
    return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in shapes)


def torch_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: np.ndarray, scale: float
) -> np.ndarray:
    """torch's operator in float64; −inf in the bias hides a key."""
    tensors = [torch.from_numpy(np.asarray(a, dtype=np.float64)) for a in (q, k, v)]
    mask = torch.from_numpy(np.broadcast_to(bias, (*q.shape[:-1], k.shape[-2])).astype(np.float64))
    return torch.nn.functional.scaled_dot_product_attention(
        *tensors, attn_mask=mask, scale=scale, enable_gqa=True
    ).numpy()


@pytest.mark.parametrize("window", [None, 1, 7, Q, S + 3])
@pytest.mark.parametrize(("t", "before"), [(1, 0), (1, 9), (Q + 2, 0), (3, S), (S + Q + 5, 0), (Q + 9, S)])
@pytest.mark.parametrize("alibi", [False, True])
def test_both_ways_as_torch(window: int | None, t: int, before: int, alibi: bool) -> None:
    """Also where keys that nobody asks about stand before the queries, as for the last token alone."""
    s = before + t
    q, k, v = random_qkv(6, 2, t, s)
    distances = np.arange(s) - np.arange(before, s)[:, None]
    slopes = alibi_slopes(6) if alibi else np.zeros(6, dtype=np.float32)
    hidden = np.where(np.abs(distances) < (window or 10**9), 0, -np.inf)
    expected = torch_attention(q, k, v, -slopes[:, None, None] * np.abs(distances) + hidden, 0.4)
    bias = None
    if alibi:
        table = alibi_bias(slopes, -np.abs(np.arange(1 - s, t)))
        bias = bias_by_distance(table, t)
        assert np.shares_memory(bias, table)
        np.testing.assert_array_equal(bias, -slopes[:, None, None] * np.abs(distances).astype(np.float32))
    mask = last_queries(t, s, window, causal=False)
    plain = attention(q, k, v, mask, scale=0.4, bias=None if bias is None else bias[None])
    blocks = blockwise_attention(q, k, v, scale=0.4, bias=bias, window=window, causal=False)
    for found in (plain, blocks):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)


# --- layers: one definition for all -----------------------------------------------------------------------

D, H, G, K, FURTHEST, THETA = 12, 4, 2, 4, 5, 30.0
KINDS = ("real", "relative", "complex", "complex relative")
LAYERS = [*((kind, False) for kind in KINDS), ("real", True), ("complex", True)]
"""Kind, and whether ALiBi; with vectors for distances there is nothing else that tells positions."""


class Case:
    """A layer with random weights, and its definition."""

    def __init__(self, kind: str, causal: bool = True, window: int | None = None, alibi: bool = False):
        rng = np.random.default_rng(5)
        self.complex, self.relative = "complex" in kind, "relative" in kind
        self.causal, self.window, self.alibi = causal, window, alibi
        width = 2 * K if self.complex else K
        shapes = {
            "q.weight": (D, H * width),
            "k.weight": (D, G * width),
            "v.weight": (D, G * K),
            "out.weight": (H * K, D),
            "q.bias": (H * width,),
            "k.bias": (G * width,),
            "v.bias": (G * K,),
        }
        if self.relative:
            shapes |= {
                "relative_keys": (2 * FURTHEST + 1, width),
                "relative_values": (2 * FURTHEST + 1, K),
            }
        self.w = {name: 0.5 * rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
        self.scale = width**-0.5
        # With relative vectors there is no turning, so that either can be told from the other.
        rope = Rotary(default_frequencies(2 * K, THETA), interleaved=True)
        slopes = alibi_slopes(H)
        one_way = Alibi(partial(alibi_bias, slopes))
        both_ways = AlibiBothWays(lambda distances: alibi_bias(slopes, -np.abs(distances)))
        self.layer = TinyAttention(
            Weights(self.w),
            heads=H,
            kv_heads=G,
            head_dim=width,
            rope=rope if self.complex and not self.relative else None,
            window=window,
            alibi=None if not alibi else one_way if causal else both_ways,
            causal=causal,
        )

    def definition(self, x: np.ndarray) -> np.ndarray:
        """One score at a time, in float64: (T, D) → (T, D)."""
        w = {name: array.astype(np.float64) for name, array in self.w.items()}
        T = len(x)
        q, k, v = (
            (x.astype(np.float64) @ w[f"{name}.weight"] + w[f"{name}.bias"]).reshape(T, heads, -1)
            for name, heads in (("q", H), ("k", G), ("v", G))
        )
        a, b = w.get("relative_keys"), w.get("relative_values")
        if self.complex:
            q, k = q[..., 0::2] + 1j * q[..., 1::2], k[..., 0::2] + 1j * k[..., 1::2]
            if self.relative:
                a = a[:, 0::2] + 1j * a[:, 1::2]
            else:
                turns = np.exp(1j * np.outer(np.arange(T), THETA ** (-np.arange(K) / K)))[:, None]
                q, k = q * turns, k * turns
        out = np.zeros((T, H, K))
        for t in range(T):
            first = 0 if self.window is None else max(0, t - self.window + 1)
            last = t if self.causal else T - 1 if self.window is None else min(T - 1, t + self.window - 1)
            for h in range(H):
                g, total = h // (H // G), 0.0
                for s in range(first, last + 1):
                    key, value = k[s, g], v[s, g]
                    if self.relative:
                        c = max(-FURTHEST, min(FURTHEST, s - t)) + FURTHEST
                        key, value = key + a[c], value + b[c]
                    score = self.scale * (q[t, h] * key.conj()).sum().real
                    if self.alibi:
                        score -= 2.0 ** (-8 * (h + 1) / H) * abs(t - s)
                    weight = np.exp(score)
                    out[t, h] += weight * value
                    total += weight
                out[t, h] /= total
        return out.reshape(T, H * K) @ w["out.weight"]

    def whole(self, x: np.ndarray, last_only: bool = False) -> np.ndarray:
        """The layer on (B, T, D), without a state."""
        step = Step(np.zeros(len(x), dtype=np.int64), x.shape[1])
        return self.layer(x, step.for_last_token() if last_only else step, None)


def random_stream(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, D), dtype=np.float32)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


both_ways = [(True, None), (True, 9), (False, None), (False, 9)]


@pytest.mark.parametrize(("causal", "window"), both_ways)
@pytest.mark.parametrize(("kind", "alibi"), LAYERS)
def test_definition(kind: str, causal: bool, window: int | None, alibi: bool) -> None:
    """A text at once: in blocks, in the plain form, shown to a listener, the last token alone, in a batch."""
    case = Case(kind, causal, window, alibi)
    x = random_stream(2, 72)  # 72² scores: more than the plain form is for
    before = x.copy()
    expected = case.definition(x[0])
    found = case.whole(x)
    close(found[0], expected)
    close(case.whole(x[:1])[0], expected)
    close(case.whole(x[:1], last_only=True)[0], expected[-1:])
    with record() as caught:
        close(case.whole(x)[0], expected)
    assert caught["attention.scores"].shape == caught["attention.probabilities"].shape == (2, H, 72, 72)
    assert caught["attention.mixed"].shape == (2, H, 72, K)
    if causal:
        close(case.whole(x[:, :20])[0], expected[:20])
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_switched_on_changes_something(kind: str) -> None:
    """The definition would agree with a layer that ignores a setting if the setting changed nothing."""
    x = random_stream(1, 40)
    alibis = [alibi for one, alibi in LAYERS if one == kind]
    results = [Case(kind, c, w, a).whole(x) for c in (True, False) for w in (None, 9) for a in alibis]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert np.abs(one - other).max() > 1e-2


@pytest.mark.parametrize("window", [None, 1, 9])
@pytest.mark.parametrize(("kind", "alibi"), LAYERS)
def test_in_pieces_and_rows_of_different_lengths(kind: str, window: int | None, alibi: bool) -> None:
    """Each row continues at its own length, in caches that grow and in windows that wrap."""
    case = Case(kind, True, window, alibi)
    x = random_stream(3, 100)
    expected = [case.definition(row) for row in x]
    states = []
    starts = (20, 3, 9)
    for b, start in enumerate(starts):
        state = case.layer.new_state(1, 0)
        for first, last in pairwise((0, 1, 3, start) if start > 3 else (0, 1, 3)):
            y = case.layer(x[b : b + 1, first:last], Step(np.array([first]), last - first), state)
            state.commit()
            close(y[0], expected[b][first:last])
        states.append(state)
    rows = type(states[0]).join(states).select(np.array([2, 0, 1]))
    lengths = np.array([starts[2], starts[0], starts[1]])
    order = (2, 0, 1)
    for new in (1, 1, 70, 1, 4):  # 70: enough for blocks, where rows are of different lengths one by one
        piece = np.stack([x[b, n : n + new] for b, n in zip(order, lengths, strict=True)])
        wanted = np.stack([expected[b][n : n + new] for b, n in zip(order, lengths, strict=True)])
        last = case.layer(piece, Step(lengths, new).for_last_token(), rows.select(np.arange(3)))
        close(last, wanted[:, -1:])
        close(case.layer(piece, Step(lengths, new), rows), wanted)
        rows.commit()
        lengths = lengths + new


@pytest.mark.parametrize("window", [None, 9])
def test_a_key_bias_of_each_row_at_its_own_positions(window: int | None) -> None:
    """One that is no straight line: of ALiBi's, softmax would forgive another row's."""
    layer = Case("real", window=window).layer
    waves = np.arange(1, H + 1, dtype=np.float32)[:, None]
    layer.alibi = Alibi(lambda positions: 2 * np.sin(waves * positions.astype(np.float32)))
    x = random_stream(2, 100)
    expected = layer(x, Step(np.zeros(2, dtype=np.int64), 100), None)
    states = [layer.new_state(1, 0) for _ in x]
    for state, row, start in zip(states, x, (20, 3), strict=True):
        layer(row[None, :start], Step(np.array([0]), start), state)
        state.commit()
    rows, lengths = type(states[0]).join(states), np.array([20, 3])
    for new in (1, 70, 5):
        piece, wanted = (np.stack([y[b, n : n + new] for b, n in enumerate(lengths)]) for y in (x, expected))
        close(layer(piece, Step(lengths, new), rows), wanted)
        rows.commit()
        lengths = lengths + new


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("kind", ["complex", "complex relative"])
def test_a_cache_holds_two_numbers_of_a_complex_key_and_one_of_a_value(kind: str, window: int | None) -> None:
    layer = Case(kind, window=window).layer
    state = layer.new_state(3, 20)
    tokens = 20 if window is None else window
    assert state.nbytes == 3 * G * tokens * (2 * K + K) * 4
    x = random_stream(3, 30)
    y = layer(x, Step(np.zeros(3, dtype=np.int64), 30), state)
    state.commit()
    saved = {name: array.copy() for name, array in state.arrays(30).items()}
    assert saved["keys"].shape[3] == 2 * saved["values"].shape[3] == 2 * K
    again = layer.new_state(3, 0)
    again.restore(saved, 30)
    more = [layer(x[:, :1], Step(np.full(3, 30), 1), one) for one in (state, again)]
    np.testing.assert_array_equal(*more)
    assert np.abs(more[0] - y[:, :1]).max() > 1e-3
    for wrong in ({"keys": saved["values"]}, {"values": saved["keys"]}, {"keys": saved["keys"][:2]}):
        with pytest.raises(ValueError, match=r"not .*float32 \(3, 2"):
            layer.new_state(3, 0).restore({**saved, **wrong}, 30)


def test_a_key_bias_serves_layers_with_different_windows_in_one_call() -> None:
    """What is kept for a call must not be handed to a layer that sees other keys."""
    wide, narrow = Case("real", alibi=True), Case("real", window=5, alibi=True)
    narrow.layer.alibi = wide.layer.alibi
    x = random_stream(1, 40)
    expected = [case.definition(x[0]) for case in (wide, narrow)]
    states = [case.layer.new_state(1, 0) for case in (wide, narrow)]
    for first, last in ((0, 30), (30, 31), (31, 40)):
        step = Step(np.array([first]), last - first)
        for case, state, wanted in zip((wide, narrow), states, expected, strict=True):
            close(case.layer(x[:, first:last], step, state)[0], wanted[first:last])
            state.commit()


# --- norms in other places --------------------------------------------------------------------------------


class Echo:
    """A mixer that lets every token hear the ones before it, in a way that needs no explaining."""

    def __init__(self, matrix: np.ndarray):
        self.matrix = matrix

    def __call__(self, x: np.ndarray, step: Step, state: Any) -> np.ndarray:
        return step.wanted(np.cumsum(x, axis=1) @ self.matrix)


def named_norms(*names: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """A layer norm for each name, all different."""
    rng = np.random.default_rng(3)
    arrays = {
        f"{n}.{part}": rng.standard_normal(D, dtype=np.float32) for n in names for part in ("gain", "bias")
    }
    return {name: LayerNorm(Weights(arrays) / name, eps=1e-5) for name in names}


BEFORE = ("attention_norm", "feed_forward_norm")
AFTER = ("attention_post_norm", "feed_forward_post_norm")
PLACEMENTS: dict[str, tuple[str, ...]] = {
    "pre": BEFORE,
    "sandwich": BEFORE + AFTER,
    "post": AFTER,
    "parallel pre": BEFORE[:1],
    "parallel sandwich": BEFORE[:1] + AFTER,
    "parallel post": ("post_norm",),
}


def block_by_formula(placement: str, x: np.ndarray, n: Any, a: Any, f: Any) -> list[np.ndarray]:
    """The formulas of the docstrings: what is between attention and feed-forward, and what comes out."""
    match placement:
        case "pre":
            x = x + a(n["attention_norm"](x))
            return [x, x + f(n["feed_forward_norm"](x))]
        case "sandwich":
            x = x + n["attention_post_norm"](a(n["attention_norm"](x)))
            return [x, x + n["feed_forward_post_norm"](f(n["feed_forward_norm"](x)))]
        case "post":
            x = n["attention_post_norm"](x + a(x))
            return [x, n["feed_forward_post_norm"](x + f(x))]
        case "parallel pre":
            normed = n["attention_norm"](x)
            return [x + a(normed) + f(normed)]
        case "parallel sandwich":
            normed = n["attention_norm"](x)
            return [x + n["attention_post_norm"](a(normed)) + n["feed_forward_post_norm"](f(normed))]
        case _:
            return [n["post_norm"](x + a(x) + f(x))]


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_placements(placement: str, normed: bool) -> None:
    """Also the last token alone, and without norms."""
    names = PLACEMENTS[placement]
    parallel, _, where = placement.rpartition(" ")
    config = TinyStarConfig(
        hidden_size=D,
        num_heads=H,
        positions="none",
        norm="layernorm" if normed else "none",
        norm_placement=where,
        parallel=bool(parallel),
    )
    assert config.norms == names
    block = TinyStar(config).blocks[0]
    norms = named_norms(*names) if normed else dict.fromkeys(names, lambda x: x)
    matrices = np.random.default_rng(1).standard_normal((2, D, D), dtype=np.float32)
    echo, feed = Echo(matrices[0]), lambda x: np.tanh(x) @ matrices[1]
    block.attention, block.feed_forward, block.norms = echo, feed, norms
    x = random_stream(2, 6)
    before = x.copy()
    step = Step(np.zeros(2, dtype=np.int64), 6)
    expected = block_by_formula(placement, x, norms, lambda y: echo(y, step, None), feed)
    close(block(x, step, None), expected[-1])
    close(block(x, step.for_last_token(), None), expected[-1][:, -1:])
    np.testing.assert_array_equal(x, before)
    with record() as caught:
        block(x, step, None)
    assert set(caught) == {*names, "residual"} | ({"residual_middle"} if len(expected) == 2 else set())
    if len(expected) == 2:
        close(caught["residual_middle"], expected[0])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("length", [5, 80])
def test_torchs_encoder_layer(norm_first: bool, causal: bool, length: int) -> None:
    """The layer of Vaswani et al., norms after the additions, and its pre-norm variant."""
    theirs = torch.nn.TransformerEncoderLayer(
        D, H, dim_feedforward=20, batch_first=True, norm_first=norm_first, dtype=torch.float64
    ).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.5 * noise.float())
    state = {name: tensor.numpy().astype(np.float32).T for name, tensor in theirs.state_dict().items()}
    first, second = BEFORE if norm_first else AFTER
    theirs_to_ours = {
        "self_attn.out_proj": "attention.out",
        "linear1": "feed_forward.up",
        "linear2": "feed_forward.down",
        "norm1": first,
        "norm2": second,
    }
    weights = {}
    for kind in ("weight", "bias"):
        parts = np.split(state.pop(f"self_attn.in_proj_{kind}"), 3, axis=-1)
        weights |= {f"attention.{name}.{kind}": part for name, part in zip("qkv", parts, strict=True)}
        for name, ours in theirs_to_ours.items():
            own_kind = "gain" if name.startswith("norm") and kind == "weight" else kind
            weights[f"{ours}.{own_kind}"] = state.pop(f"{name}.{kind}")
    assert not state
    config = TinyStarConfig(
        hidden_size=D,
        num_heads=H,
        attention="mha",
        attention_bias=True,
        mask="causal" if causal else "bidirectional",
        positions="none",
        feed_forward="mlp",
        feed_forward_bias=True,
        activation="relu",
        norm="layernorm",
        norm_placement="pre" if norm_first else "post",
    )
    block = Block(Weights(weights), config, Positions(rope=None, alibi=None))
    x = random_stream(2, length)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x).double(), src_mask=mask if causal else None).numpy()
    step = Step(np.zeros(2, dtype=np.int64), length)
    close(block(x, step, None), expected)
    close(block(x, step.for_last_token(), None), expected[:, -1:])
