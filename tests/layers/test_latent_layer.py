"""Latent attention as a layer against transformers' DeepSeek modules, and its states."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, randomise
from transformers import DeepseekV2Config, DeepseekV3Config
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

from tinystar_np import record
from tinystar_np.cache import Cache, KeyValueState, SlidingKeyValueState, Step, join_caches, read_states
from tinystar_np.fast import attention_variants
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16
from tinystar_np.kernels.latent_attention import absorbing_is_cheaper
from tinystar_np.kernels.packed import Bfloat16Matrix
from tinystar_np.kernels.rope import default_frequencies, yarn_attention_factor, yarn_frequencies
from tinystar_np.layers.alibi import Alibi
from tinystar_np.layers.latent_attention import LatentAttention, LatentQueryAttention
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.tinystar_block import AlibiBothWays, TinyLatentAttention

D, H, R, K, K_R, K_V = 48, 3, 32, 8, 6, 10  # absorbing is cheaper up to 12 tokens far behind the beginning
SIZES = {"heads": H, "rank": R, "head_dim": K, "rope_dim": K_R, "value_dim": K_V}
SMALL = {
    "hidden_size": D,
    "num_attention_heads": H,
    "kv_lora_rank": R,
    "qk_nope_head_dim": K,
    "qk_rope_head_dim": K_R,
    "v_head_dim": K_V,
    "max_position_embeddings": 64,
}
NAMES = {
    "q_proj": "q",
    "q_a_proj": "q_down",
    "q_a_layernorm": "q_norm",
    "q_b_proj": "q_up",
    "kv_a_proj_with_mqa": "kv_down",
    "kv_a_layernorm": "kv_norm",
    "kv_b_proj": "kv_up",
    "o_proj": "out",
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "mscale": 1.0, "mscale_all_dim": 0.7}


def weights_of(module: torch.nn.Module) -> dict[str, Any]:
    """A module's parameters under our names."""
    weights = {}
    for name, parameter in module.named_parameters():
        theirs, _, kind = name.partition(".")
        array = parameter.detach().numpy()
        kind = "gain" if array.ndim == 1 and kind == "weight" else kind
        weights[f"{NAMES[theirs]}.{kind}"] = array.T if array.ndim == 2 else array
    return weights


def reference(family: Any = v2, **config: Any) -> tuple[Any, Any]:
    """An attention module of transformers with every parameter random, and the turns that it wants."""
    kind = DeepseekV2Config if family is v2 else DeepseekV3Config
    settings = kind(**{**SMALL, "q_lora_rank": 20, "num_key_value_heads": H, **config})
    settings._attn_implementation = "eager"
    prefix = "DeepseekV2" if family is v2 else "DeepseekV3"
    module = getattr(family, f"{prefix}Attention")(settings, 0).eval()
    randomise(module)
    return module, getattr(family, f"{prefix}RotaryEmbedding")(settings)


def run_reference(module: Any, rotary: Any, x: np.ndarray, window: int | None = None) -> tuple[Any, Any]:
    """Its result and its probabilities; causal, and where there is a window under a written-out mask."""
    T = x.shape[1]
    distance = np.arange(T)[:, None] - np.arange(T)
    hidden = (distance < 0) | (distance >= (window or T))
    mask = torch.from_numpy(np.where(hidden, -np.inf, 0).astype(np.float32))[None, None]
    with torch.no_grad():
        turns = rotary(torch.from_numpy(x), torch.arange(T)[None])
        out, probabilities = module(
            torch.from_numpy(x), attention_mask=mask, position_embeddings=turns, past_key_values=None
        )
    return out.numpy(), probabilities.numpy()


def layer_of(module: Any, **changes: Any) -> LatentAttention:
    rope = Rotary(default_frequencies(K_R, 10000.0), interleaved=True)
    settings = {**SIZES, "scale": (K + K_R) ** -0.5, "rope": rope, **changes}
    weights = weights_of(module)
    kind = LatentQueryAttention if "q_down.weight" in weights else LatentAttention
    return kind(Weights(weights), **settings)


def random_x(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, D), dtype=np.float32)


def whole(layer: LatentAttention, x: np.ndarray, last_only: bool = False) -> np.ndarray:
    step = Step(np.zeros(len(x), dtype=np.int64), x.shape[1])
    return layer(x, step.for_last_token() if last_only else step, None)


def new_cache(layer: LatentAttention, rows: int = 1, capacity: int = 0) -> Cache:
    return Cache([layer.new_state(rows, capacity)], np.zeros(rows, dtype=np.int64), lambda: "of a test")


def run(layer: LatentAttention, x: np.ndarray, cache: Cache, last_only: bool = False) -> np.ndarray:
    """Continue a cache as a model of one layer does."""
    step = cache.span(x.shape[1])
    y = layer(x, step.for_last_token() if last_only else step, cache.states[0])
    cache.advance(x.shape[1])
    return y


def check(layer: LatentAttention, x: np.ndarray, expected: np.ndarray) -> None:
    """Whole, the last token alone, one row, and in pieces: single tokens, some, and long ones."""
    assert_close(whole(layer, x), expected, what="whole")
    assert_close(whole(layer, x, last_only=True), expected[:, -1:], what="last_only")
    assert_close(whole(layer, x[1:2]), expected[1:2], what="one row")
    T = x.shape[1]
    for pieces in ([1] * T, [T - 20, 20], [2, 1, T - 30, 1, 26], [T // 2, T - T // 2]):
        cache = new_cache(layer, len(x))
        starts = np.cumsum([0, *pieces])
        found = np.concatenate([run(layer, x[:, a:b], cache) for a, b in pairwise(starts)], axis=1)
        assert_close(found, expected, what=f"in pieces of {pieces!s:.20}")
        last = run(layer, random_x(len(x), 20), cache.copy(), last_only=True)
        assert_close(last, run(layer, random_x(len(x), 20), cache)[:, -1:], what="the last of a piece")


@pytest.fixture(params=["absorbed", "expanded", "cheaper"])
def form(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each form everywhere, and each where it is cheaper."""
    if request.param != "cheaper":
        absorbing = request.param == "absorbed"
        monkeypatch.setattr(attention_variants, "absorbing_is_cheaper", lambda *_: absorbing)
    return request.param


@pytest.mark.parametrize("family", [v2, v3])
@pytest.mark.parametrize("q_rank", [20, None])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("form")
def test_deepseek(family: Any, q_rank: int | None, bias: bool) -> None:
    module, rotary = reference(family, q_lora_rank=q_rank, attention_bias=bias)
    x = random_x(3, 90)
    check(layer_of(module), x, run_reference(module, rotary, x)[0])


def test_halves_of_deepseek_v3() -> None:
    """The other layout of the pairs."""
    module, rotary = reference(v3, rope_interleave=False)
    x = random_x(3, 90)
    layer = layer_of(module, rope=Rotary(default_frequencies(K_R, 10000.0)))
    check(layer, x, run_reference(module, rotary, x)[0])


@pytest.mark.parametrize("family", [v2, v3])
def test_yarn(family: Any) -> None:
    """Stretched rotations; what sharpens them is in the turns and, for all of q·k, in the scale."""
    module, rotary = reference(family, rope_parameters={**YARN, "original_max_position_embeddings": 64})
    rope = Rotary(
        yarn_frequencies(K_R, 10000.0, 8.0, 64),
        attention_factor=yarn_attention_factor(8.0, 1.0, 0.7),
        interleaved=True,
    )
    sharper = 0.1 * 0.7 * np.log(8.0) + 1
    assert module.scaling == pytest.approx((K + K_R) ** -0.5 * sharper**2)
    x = random_x(3, 90)
    check(layer_of(module, rope=rope, scale=module.scaling), x, run_reference(module, rotary, x)[0])


def test_taps() -> None:
    """The steps by name, as whoever listens finds them, from the definition."""
    module, rotary = reference()
    x = random_x(2, 30)
    layer, caught = layer_of(module), {}
    for theirs, ours in NAMES.items():
        if hasattr(module, theirs) and getattr(module, theirs) is not None:
            keep = lambda _, __, y, ours=ours: caught.update({ours: y.detach().numpy()})  # noqa: E731
            getattr(module, theirs).register_forward_hook(keep)
    _, probabilities = run_reference(module, rotary, x)
    with record() as heard:
        whole(layer, x)
    names = "q_down, q_norm, q, q_rotated, kv_down, kv_norm, k_rotated, scores, probabilities, mixed, out"
    assert ", ".join(heard).replace("attention.", "") == names
    for name in ("q_down", "q_norm", "kv_down", "kv_norm", "out"):
        assert_close(heard[f"attention.{name}"], caught[name], what=name)
    q = caught["q_up"].reshape(2, 30, H, K + K_R).transpose(0, 2, 1, 3)
    assert_close(heard["attention.q"], q)
    assert_close(heard["attention.probabilities"], probabilities)
    shapes = {name.removeprefix("attention."): array.shape for name, array in heard.items()}
    assert shapes["q_rotated"] == (2, H, 30, K_R)
    assert shapes["k_rotated"] == (2, 1, 30, K_R)
    assert shapes["scores"] == (2, H, 30, 30)
    assert shapes["mixed"] == (2, H, 30, K_V)
    cache = new_cache(layer, 2)
    run(layer, x[:, :29], cache)
    with record("*.probabilities") as heard:
        run(layer, x[:, 29:], cache)
    assert_close(heard["attention.probabilities"], probabilities[:, :, 29:])


@pytest.mark.parametrize("window", [1, 2, 17, 64, 89, 90, 91])
@pytest.mark.usefixtures("form")
def test_window(window: int) -> None:
    module, rotary = reference()
    x = random_x(3, 90)
    expected, _ = run_reference(module, rotary, x, window)
    layer = layer_of(module, window=window)
    check(layer, x, expected)
    cache = new_cache(layer, 3)
    edges = sorted({0, window - 1, window, window + 1, 90} & set(range(91)))
    found = np.concatenate([run(layer, x[:, a:b], cache) for a, b in pairwise(edges)], axis=1)
    assert_close(found, expected)


@pytest.mark.parametrize("window", [None, 100, 700])
@pytest.mark.usefixtures("form")
def test_a_long_prompt_in_blocks(window: int | None) -> None:
    module, rotary = reference()
    x = random_x(2, 1300)
    expected, _ = run_reference(module, rotary, x, window)
    layer = layer_of(module, window=window)
    assert_close(whole(layer, x), expected)
    cache = new_cache(layer, 2)
    pieces = [run(layer, x[:, a:b], cache) for a, b in ((0, 600), (600, 601), (601, 900), (900, 1300))]
    assert_close(np.concatenate(pieces, axis=1), expected)


def test_which_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = reference()
    layer, ran = layer_of(module), []

    def spy(*sizes: Any) -> bool:
        ran.append(absorbing_is_cheaper(*sizes))
        return ran[-1]

    monkeypatch.setattr(attention_variants, "absorbing_is_cheaper", spy)
    cache = new_cache(layer)
    for tokens in (100, 1, 5, 40):
        run(layer, random_x(1, tokens), cache)
    with record() as caught:
        run(layer, random_x(1, 1), cache)
    assert caught["attention.scores"].shape[-1] == 147  # the expanded form, whose scores are shown
    assert ran == [False, True, True, False]
    assert not absorbing_is_cheaper(100, 100, *layer.up)


@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("form")
def test_rows_of_different_lengths(window: int | None, bias: bool) -> None:
    """Each as if alone: by single tokens and by pieces, plainly and in blocks, before and beyond a window."""
    module, _ = reference()
    layer = layer_of(module, window=window, alibi=Alibi(uneven_bias) if bias else None)
    caches = []
    for length in (3, 69, 70, 71, 200):
        caches.append(new_cache(layer))
        run(layer, random_x(1, length, seed=length), caches[-1])
    joined = join_caches(caches)
    for new in (1, 9, 1, 150, 2, 1):
        x = random_x(5, new, seed=new)
        alone = [run(layer, row[None], cache) for row, cache in zip(x, caches, strict=True)]
        last = run(layer, x, joined.copy(), last_only=True)
        together = run(layer, x, joined)
        assert_close(together, np.concatenate(alone))
        assert_close(last, together[:, -1:])
    chosen = joined.select([4, 0])
    x = random_x(2, 3)
    alone = [run(layer, x[:1], caches[4]), run(layer, x[1:], caches[0])]
    assert_close(run(layer, x, chosen), np.concatenate(alone))


def uneven_bias(positions: np.ndarray) -> np.ndarray:
    """No line, of which softmax would not notice that it is another row's: (S,) → (H, S)."""
    return np.sin(np.arange(1, H + 1, dtype=np.float32)[:, None] * positions.astype(np.float32))


def random_weights(rope_dim: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {
        "q.weight": (D, H * (K + rope_dim)),
        "kv_down.weight": (D, R + rope_dim),
        "kv_up.weight": (R, H * (K + K_V)),
        "out.weight": (H * K_V, D),
    }
    weights = {name: 0.2 * rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    return weights | {"kv_norm.gain": 1 + 0.3 * rng.standard_normal(R, dtype=np.float32)}


def by_definition(
    weights: dict[str, Any],
    x: np.ndarray,
    rope_dim: int,
    window: int,
    slopes: np.ndarray,
    causal: bool = True,
) -> np.ndarray:
    """One row without rotations, head by head and score by score, in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    x = x.astype(np.float64)
    both = x @ w["kv_down.weight"]
    latents, shared = both[:, :R], both[:, R:]
    latents = latents / np.sqrt(np.mean(latents**2, axis=1, keepdims=True) + 1e-5) * w["kv_norm.gain"]
    queries = (x @ w["q.weight"]).reshape(len(x), H, K + rope_dim)
    made = (latents @ w["kv_up.weight"]).reshape(len(x), H, K + K_V)
    mixed = np.zeros((len(x), H, K_V))
    for h in range(H):
        keys = np.concatenate([made[:, h, :K], shared], axis=1)
        for t in range(len(x)):
            seen = range(max(0, t - window + 1), t + 1 if causal else min(len(x), t + window))
            scores = [0.3 * queries[t, h] @ keys[s] - slopes[h] * abs(t - s) for s in seen]
            p = np.exp(np.array(scores) - max(scores))
            mixed[t, h] = sum(p[i] * made[s, h, K:] for i, s in enumerate(seen)) / p.sum()
    return mixed.reshape(len(x), -1) @ w["out.weight"]


@pytest.mark.parametrize("alibi", [False, True])
@pytest.mark.parametrize("rope_dim", [0, 4])
@pytest.mark.parametrize("window", [None, 13])
@pytest.mark.usefixtures("form")
def test_without_rotations(alibi: bool, rope_dim: int, window: int | None) -> None:
    """No second part, or one that is not turned; nothing else, or ALiBi."""
    weights = random_weights(rope_dim)
    slopes = alibi_slopes(H) if alibi else np.zeros(H)
    x = random_x(2, 50)
    expected = np.stack([by_definition(weights, row, rope_dim, window or 50, slopes) for row in x])
    layer = LatentAttention(
        Weights(weights),
        **{**SIZES, "rope_dim": rope_dim},
        scale=0.3,
        eps=1e-5,
        alibi=Alibi(partial(alibi_bias, slopes)) if alibi else None,
        window=window,
    )
    check(layer, x, expected)


@pytest.mark.parametrize("window", [None, 13])
@pytest.mark.parametrize("tokens", [50, 150])
@pytest.mark.usefixtures("form")
def test_both_ways(window: int | None, tokens: int) -> None:
    """No future is hidden; plainly and in blocks, with biases by distance."""
    weights, slopes = random_weights(0), alibi_slopes(H)
    x = random_x(2, tokens)
    expected = np.stack([by_definition(weights, row, 0, window or tokens, slopes, causal=False) for row in x])
    layer = TinyLatentAttention(
        Weights(weights),
        **{**SIZES, "rope_dim": 0},
        scale=0.3,
        eps=1e-5,
        rope=None,
        window=window,
        causal=False,
        alibi=AlibiBothWays(lambda distances: -slopes[:, None] * np.abs(distances).astype(np.float32)),
    )
    assert_close(whole(layer, x), expected)
    assert_close(whole(layer, x, last_only=True), expected[:, -1:])
    with record():
        assert_close(whole(layer, x), expected)


def test_a_rotation_of_nothing_is_none() -> None:
    """Whoever builds a layer need not ask whether there is a part to turn."""
    rope = Rotary(default_frequencies(4, 10000.0))
    weights, settings = Weights(random_weights(0)), {**SIZES, "rope_dim": 0, "scale": 0.3}
    x = random_x(1, 9)
    expected = whole(LatentAttention(weights, **settings), x)
    np.testing.assert_array_equal(whole(LatentAttention(weights, **settings, rope=rope), x), expected)


@pytest.mark.usefixtures("form")
def test_narrow_weights() -> None:
    """Matrices in bfloat16, stored transposed as in files, give what their numbers give in float32."""
    exact = {
        name: from_bfloat16(to_bfloat16(array)) if name.endswith(".weight") else array
        for name, array in random_weights(K_R).items()
    }
    narrowed = {
        name: Bfloat16Matrix(np.ascontiguousarray(to_bfloat16(array).T), transposed=True)
        if name.endswith(".weight")
        else array
        for name, array in exact.items()
    }
    x = random_x(2, 40)
    expected = whole(LatentAttention(Weights(exact), **SIZES, scale=0.3), x)
    check(LatentAttention(Weights(narrowed), **SIZES, scale=0.3), x, expected)


def test_a_float32_matrix_is_not_copied() -> None:
    layer = layer_of(reference()[0])
    assert all(np.shares_memory(part, layer.kv_up) for part in layer.up)


def test_bytes_of_the_latents() -> None:
    """(R + K_r) · 4 for each token, whatever the heads: a fifth of what their keys and values take here."""
    layer = layer_of(reference()[0])
    for rows, capacity in ((1, 0), (1, 1), (4, 1000)):
        state = layer.new_state(rows, capacity)
        assert type(state) is KeyValueState
        assert state.nbytes == rows * capacity * (R + K_R) * 4
    cache = new_cache(layer, 2, capacity=100)
    run(layer, random_x(2, 100), cache)
    assert cache.nbytes == 2 * 100 * (R + K_R) * 4
    assert cache.nbytes < 2 * 100 * H * (K + K_R + K_V) * 4
    run(layer, random_x(2, 1), cache)  # half as much room again
    assert cache.nbytes == 2 * 150 * (R + K_R) * 4
    arrays = cache.states[0].arrays(101)
    assert sum(array.nbytes for array in arrays.values()) == 2 * 101 * (R + K_R) * 4


def test_the_window_holds_no_more_latents_than_it_sees() -> None:
    layer = layer_of(reference()[0], window=16)
    most = 2 * 16 * (R + K_R) * 4
    cache = new_cache(layer, 2, capacity=1000)
    assert isinstance(cache.states[0], SlidingKeyValueState)
    for new in (3, 100, 1, 1, 15, 16, 17, 1):
        run(layer, random_x(2, new), cache)
        assert cache.nbytes <= most
    assert cache.nbytes == most


def test_rewinding() -> None:
    layer = layer_of(reference()[0])
    x = random_x(1, 60)
    cache = new_cache(layer)
    run(layer, x, cache)
    cache.truncate(25)
    other = random_x(1, 20, seed=3)
    expected = whole(layer, np.concatenate([x[:, :25], other], axis=1))[:, 25:]
    assert_close(run(layer, other, cache), expected)
    assert not new_cache(layer_of(reference()[0], window=9)).rewindable


@pytest.mark.parametrize("window", [None, 20])
def test_an_interrupted_call_leaves_the_state_as_it_was(window: int | None) -> None:
    layer = layer_of(reference()[0], window=window)
    x = random_x(2, 60)
    cache = new_cache(layer, 2)
    run(layer, x[:, :30], cache)
    for new in (40, 1, 2):
        layer(random_x(2, new, seed=7), cache.span(new), cache.states[0])  # and no cache.advance
    assert_close(run(layer, x[:, 30:], cache), whole(layer, x)[:, 30:])


@pytest.mark.parametrize("window", [None, 20])
def test_saved_and_loaded(window: int | None, tmp_path: Path) -> None:
    layer = layer_of(reference()[0], window=window)
    cache = new_cache(layer, 2)
    run(layer, random_x(2, 50), cache)
    cache.save(tmp_path / "cache")
    lengths, arrays, *_ = read_states(tmp_path / "cache", "of a test")
    loaded = new_cache(layer, 2)
    loaded.states[0].restore(arrays[0], 50)
    loaded.lengths = lengths
    for new in (1, 30, 1):
        x = random_x(2, new, seed=new)
        np.testing.assert_array_equal(run(layer, x, loaded), run(layer, x, cache))
    with pytest.raises(ValueError, match="not"):
        new_cache(layer, 3).states[0].restore(arrays[0], 50)
    with pytest.raises(ValueError, match="not"):
        KeyValueState(2, 1, R + K_R + 1, value_dim=0).restore(arrays[0], 50)
