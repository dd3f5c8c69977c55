"""Kernels and arrays that are not as usual: no tokens, one key, odd memory orders, other types, denormals.

What a kernel is given stays as it was: it may be read-only, such as the pages of a mapped file. How it lies
in memory changes no more than rounding, since BLAS may take another way through it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from kernel_inputs import convolution_inputs, delta_inputs, normal, selective_inputs, ssm_inputs
from masks import last_queries

from tinystar_np import fast
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.bfloat16 import to_bfloat16
from tinystar_np.kernels.blockwise_attention import blockwise_attention
from tinystar_np.kernels.convolution import causal_convolution
from tinystar_np.kernels.delta_rule import chunked_delta_rule, delta_rule, unit_vectors
from tinystar_np.kernels.experts import grouped_mixture, mixture
from tinystar_np.kernels.int8 import quantise
from tinystar_np.kernels.linear import matmul
from tinystar_np.kernels.norms import gated_rms_norm, layer_norm, rms_norm
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix
from tinystar_np.kernels.rope import rotary_embedding
from tinystar_np.kernels.selective_scan import selective_scan
from tinystar_np.kernels.softmax import log_softmax, softmax
from tinystar_np.kernels.ssm import chunked_ssm_scan, ssm_scan

Kernel = Callable[..., Any]


def plain_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return attention(q, k, v, last_queries(q.shape[-2], k.shape[-2]), scale=0.4)


def rotating(form: Kernel, x: np.ndarray, interleaved: bool = False) -> np.ndarray:
    angles = np.linspace(0, 9, x.shape[-2] * 3, dtype=x.dtype).reshape(-1, 3)
    return form(x, np.cos(angles), np.sin(angles), interleaved)


def quick_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    return fast.attention(q, k, v, last_queries(q.shape[-2], k.shape[-2]), scale=0.4)


def quick_selective_scan(*inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, state = fast.selective_scan(*inputs)
    return y, np.asarray(state)


def vectors(tokens: int) -> list[np.ndarray]:
    return [normal(0, 2, tokens, 8)]


def heads(tokens: int) -> list[np.ndarray]:
    return [*normal(0, 3, 2, 4, tokens, 8)]


KERNELS: dict[str, tuple[Kernel, Callable[[int], list[np.ndarray]]]] = {
    "softmax": (softmax, vectors),
    "log_softmax": (log_softmax, vectors),
    "attention": (plain_attention, heads),
    "blockwise_attention": (partial(blockwise_attention, scale=0.4), heads),
    "windowed": (partial(blockwise_attention, scale=0.4, window=3, soft_cap=2.0), heads),
    "quick attention": (quick_attention, heads),
    "rotary_embedding": (partial(rotating, rotary_embedding), vectors),
    "quick rotary_embedding": (partial(rotating, fast.rotary_embedding), vectors),
    "quick rotary_embedding, interleaved": (
        partial(rotating, fast.rotary_embedding, interleaved=True),
        vectors,
    ),
    "layer_norm": (lambda x: layer_norm(x, None, None, 1e-5), vectors),
    "rms_norm": (lambda x: rms_norm(x, np.ones(8, x.dtype), 1e-5), vectors),
    "gated_rms_norm": (lambda x: gated_rms_norm(x, x, np.ones(8, x.dtype), 1e-5, 2), vectors),
    "unit_vectors": (unit_vectors, vectors),
    "quick softmax": (fast.softmax, vectors),
    "quick layer_norm": (lambda x: fast.layer_norm(x, None, None, 1e-5), vectors),
    "quick rms_norm": (lambda x: fast.rms_norm(x, np.ones(8, x.dtype), 1e-5), vectors),
    "quick unit_vectors": (fast.unit_vectors, vectors),
    "matmul": (matmul, lambda tokens: [*vectors(tokens), normal(1, 8, 5)]),
    "quick matmul": (fast.matmul, lambda tokens: [*vectors(tokens), normal(1, 8, 5)]),
    "ssm_scan": (ssm_scan, partial(ssm_inputs, 0)),
    "chunked_ssm_scan": (chunked_ssm_scan, partial(ssm_inputs, 0)),
    "quick selective_scan": (quick_selective_scan, partial(selective_inputs, 0)),
    "selective_scan": (selective_scan, partial(selective_inputs, 0)),
    "delta_rule": (delta_rule, partial(delta_inputs, 0)),
    "chunked_delta_rule": (chunked_delta_rule, partial(delta_inputs, 0)),
    "causal_convolution": (causal_convolution, partial(convolution_inputs, 0)),
    "quick causal_convolution": (fast.causal_convolution, partial(convolution_inputs, 0)),
    **{f"activation {name}": (function, vectors) for name, function in ACTIVATIONS.items()},
}


def results(kernel: Kernel, inputs: list[np.ndarray]) -> list[np.ndarray]:
    found = kernel(*inputs)
    return list(found) if isinstance(found, tuple) else [found]


def laid_out(x: np.ndarray) -> Iterator[np.ndarray]:
    """The same numbers in memory orders that no projection leaves, read-only."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    backwards = np.ascontiguousarray(x[::-1])
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    for odd in (np.asfortranarray(x), wide[..., ::2], backwards[::-1], unaligned):
        odd.flags.writeable = False
        yield odd


@pytest.mark.parametrize("name", KERNELS)
def test_any_memory_order_and_nothing_is_written_to(name: str) -> None:
    kernel, make = KERNELS[name]
    inputs = make(70)
    expected = results(kernel, inputs)
    for given in zip(*(laid_out(x) for x in inputs), strict=True):
        for found, wanted in zip(results(kernel, list(given)), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    for x, before in zip(inputs, make(70), strict=True):
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", KERNELS)
def test_float64_stays_and_is_more_exact(name: str) -> None:
    kernel, make = KERNELS[name]
    inputs = make(70)
    narrow_results = results(kernel, inputs)
    wide_results = results(kernel, [x.astype(np.float64) for x in inputs])
    for found, wide in zip(narrow_results, wide_results, strict=True):
        assert found.dtype == np.float32
        assert wide.dtype == np.float64
        np.testing.assert_allclose(found, wide, rtol=0, atol=2e-5 * np.abs(wide).max())


FLOAT32_LIMITS = ("chunked_ssm_scan",)  # exp(41) and a step of 1e-30 are no float16 numbers


@pytest.mark.parametrize("name", [name for name in KERNELS if name not in FLOAT32_LIMITS])
def test_float16_stays_or_is_refused(name: str) -> None:
    """No kernel is called with it: files in float16 are widened as they are loaded."""
    kernel, make = KERNELS[name]
    inputs = make(5)
    try:
        with np.errstate(all="ignore"):
            found = results(kernel, [x.astype(np.float16) for x in inputs])
    except (TypeError, ValueError):
        assert name in ("chunked_delta_rule", "quick rotary_embedding, interleaved")
        return
    for half, wanted in zip(found, results(kernel, inputs), strict=True):
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, wanted, rtol=0, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("size", [1e-38, 1e-40, 1e-44, 0.0])
@pytest.mark.parametrize("name", KERNELS)
def test_denormals(name: str, size: float) -> None:
    """Numbers below 1.2e-38, which have fewer digits the smaller they are: as exact as they can be."""
    kernel, make = KERNELS[name]
    inputs = [np.float32(size) * x for x in make(70)]
    with np.errstate(under="ignore"):
        found = results(kernel, inputs)
    for narrow_result, wide in zip(
        found, results(kernel, [x.astype(np.float64) for x in inputs]), strict=True
    ):
        np.testing.assert_allclose(narrow_result, wide, rtol=1e-4, atol=1e-37)


@pytest.mark.parametrize("name", KERNELS)
def test_no_tokens(name: str) -> None:
    """Nothing in, nothing out, and a state as it was at the beginning. (A model refuses an empty text.)"""
    kernel, make = KERNELS[name]
    inputs = make(0)
    whole = results(kernel, make(3))
    tokens = results(kernel, inputs)
    shape = [n if n != 3 else 0 for n in whole[0].shape] if "matmul" not in name else [2, 0, 5]
    assert tokens[0].size == 0
    assert tokens[0].ndim == len(shape)
    for state in tokens[1:]:
        assert (state == 0).all()


def test_no_tokens_for_int8() -> None:
    matrix = Int8Matrix(*quantise(normal(0, 4, 6)))
    assert fast.matmul(np.zeros((0, 6), dtype=np.float32), matrix).shape == (0, 4)


@pytest.mark.parametrize("transposed", [False, True])
def test_no_tokens_for_bfloat16(transposed: bool) -> None:
    x = np.zeros((0, 4 if transposed else 6), dtype=np.float32)
    found = fast.matmul(x, Bfloat16Matrix(to_bfloat16(normal(0, 6, 4)), transposed))
    assert found.shape == (0, 6 if transposed else 4)


@pytest.mark.parametrize("form", [mixture, grouped_mixture])
def test_no_tokens_for_experts(form: Kernel) -> None:
    nothing = np.zeros((0, 2), dtype=np.float32)
    assert form(np.zeros((0, 4), "f4"), nothing.astype(int), nothing, [lambda x: x]).shape == (0, 4)


@pytest.mark.parametrize("name", ["attention", "blockwise_attention", "windowed", "quick attention"])
def test_one_key_is_the_whole_result(name: str) -> None:
    """A first token has nothing but itself to look at."""
    kernel, make = KERNELS[name]
    q, k, v = make(1)
    np.testing.assert_array_equal(kernel(q, k, v), v)
    np.testing.assert_array_equal(kernel(*make(5))[..., 0, :], make(5)[2][..., 0, :])
