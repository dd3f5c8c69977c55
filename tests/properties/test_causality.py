"""The future changes nothing: logits before a cut are the same, to the last bit, whatever comes after it.

To the last bit it holds wherever each token has a row of its own in every product, since a row of a product
does not depend on the other rows' values. It does depend, in its last bit, on how many rows there are: the
numbers are summed in an order that BLAS chooses by the shape. So two texts are compared at one length.

Experts are the exception. A token shares its expert's product with those that chose the same expert, and how
many these are depends on later tokens. The same sums in another order: equal within rounding. By the
definition, one token at a time, they are equal to the last bit again, which shows that there is no other
reason. (A product that is 0 · inf is NaN: the future must be finite, as ordinary weights make it.)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_inputs import convolution_inputs, delta_inputs, normal, selective_inputs, ssm_inputs
from masks import last_queries
from parity import random_ids
from small_models import DENSE, EXPERTS, FIXED, small_model

from tinystar_np import fast
from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.blockwise_attention import QUERY_BLOCK, blockwise_attention
from tinystar_np.kernels.convolution import causal_convolution
from tinystar_np.kernels.delta_rule import chunked_delta_rule, delta_rule
from tinystar_np.kernels.experts import chosen_outputs, mixture
from tinystar_np.kernels.selective_scan import selective_scan
from tinystar_np.kernels.ssm import chunked_ssm_scan, ssm_scan
from tinystar_np.models import Decoder

Form = Callable[..., Any]


def assert_causal(model: Decoder, length: int, cuts: tuple[int, ...], tolerance: float = 0.0) -> None:
    """Two texts that share their beginning up to a cut share their logits up to there.

    tolerance  of the largest logit; 0 for the same bits
    """
    ids = random_ids(2, length)
    before = model(ids)
    for cut in cuts:
        other = random_ids(2, length, seed=cut + 2)
        other[:, :cut] = ids[:, :cut]
        after = model(other)
        error = np.abs(after[:, :cut] - before[:, :cut]).max() / np.abs(before).max()
        assert error <= tolerance, f"cut at {cut}: {error:.1e} of the largest"  # false for NaN too
        assert (after[:, cut:] != before[:, cut:]).any(axis=-1).all()


# Plain form, blocks of queries and of keys, and from 512 tokens on heads and rows divided among threads.
LENGTHS = {40: (1, 20, 39), QUERY_BLOCK + 9: (64, 130), 540: (65, 539)}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", DENSE)
def test_models(name: str, length: int) -> None:
    assert_causal(small_model(name), length, LENGTHS[length])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_narrow_weights(dtype: str) -> None:
    assert_causal(small_model("rope, groups", dtype), 40, (1, 20, 39))


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_within_rounding(name: str) -> None:
    assert_causal(small_model(name), 150, (2, 64, 149), tolerance=1e-5)


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_to_the_last_bit_one_token_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "mixture", mixture)
    monkeypatch.setattr(fast, "chosen_outputs", chosen_outputs)
    assert_causal(small_model(name), 40, (2, 20, 39))


@FIXED
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(2, 2 * QUERY_BLOCK + 40),
    earlier=st.sampled_from([0, 1, 500]),
    window=st.sampled_from([None, 1, 30, 200]),
    extras=st.booleans(),
    size=st.sampled_from([1.0, 1e18, 3e38]),
    data=st.data(),
)
def test_attention(
    seed: int, length: int, earlier: int, window: int | None, extras: bool, size: float, data: st.DataObject
) -> None:
    """The definition and the blocks, with a bias, a cap and sinks; a future up to 3e38."""
    cut = data.draw(st.integers(1, length - 1))
    q, (k, v) = normal(seed, 2, length, 8), normal(seed + 1, 2, 2, earlier + length, 8)
    settings: dict[str, Any] = {"scale": 0.4}
    if extras:
        bias, sinks = normal(seed, 2, earlier + length), normal(seed, 2)
        settings |= {"bias": bias, "soft_cap": 3.0, "sinks": sinks}
    mask = last_queries(length, earlier + length, window)
    forms = [
        partial(attention, mask=mask, **settings),
        partial(blockwise_attention, window=window, **settings),
        lambda *qkv: fast.attention(*(x[None] for x in qkv), mask, **settings)[0],
    ]
    before = [form(q, k, v) for form in forms]
    q[:, cut:], k[:, earlier + cut :] = -q[:, cut:], np.float32(size)
    v[:, earlier + cut :] = np.float32(-size)
    with np.errstate(over="ignore", invalid="ignore"):  # of the future's own scores
        after = [form(q, k, v) for form in forms]
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(second[:, :cut], first[:, :cut])
        assert (second[:, cut:] != first[:, cut:]).any()


def test_attention_with_vectors_for_distances() -> None:
    (q, k, v), tables = normal(0, 3, 1, 2, 150, 8), normal(1, 2, 11, 8)
    mask = last_queries(150, 150)
    before = fast.relative_attention(q, k, v, mask, *tables, scale=0.4)
    k[:, :, 70:], v[:, :, 70:] = 7, -5
    after = fast.relative_attention(q, k, v, mask, *tables, scale=0.4)
    np.testing.assert_array_equal(after[:, :, :70], before[:, :, :70])


SCANS: dict[str, tuple[list[Form], Callable[[int, int], list[np.ndarray]], tuple[int, ...]]] = {
    "ssm": ([ssm_scan, chunked_ssm_scan], ssm_inputs, (0, 1, 3, 4)),
    "selective": ([selective_scan, fast.selective_scan], selective_inputs, (0, 1, 3, 4)),
    "delta": ([delta_rule, chunked_delta_rule], delta_inputs, (0, 1, 2, 3, 4)),
    "convolution": ([causal_convolution, fast.causal_convolution], convolution_inputs, (0,)),
}
"""Both forms, what they are given, and which of it are rows of tokens."""


@pytest.mark.parametrize("kind", SCANS)
@pytest.mark.parametrize("cut", [1, 63, 64, 65, 130])
def test_scans(kind: str, cut: int) -> None:
    forms, make, by_token = SCANS[kind]
    inputs, other = make(0, 150), make(10, 150)
    for i in by_token:
        other[i][:, :cut] = inputs[i][:, :cut]
    other = [other[i] if i in by_token else inputs[i] for i in range(len(inputs))]
    for form in forms:
        before, after = form(*inputs)[0], form(*other)[0]
        np.testing.assert_array_equal(after[:, :cut], before[:, :cut])
        assert (after[:, cut:] != before[:, cut:]).any()
