"""Mamba 2's scan: chunks against the recurrence, and both against a loop over single numbers."""

import tracemalloc
from math import exp
from typing import Any

import numpy as np
import pytest

from tinystar_np import fast
from tinystar_np.fast.deferred_state import MOST
from tinystar_np.kernels.ssm import CHUNK, LIMIT, chunked_ssm_scan, ssm_scan

HEADS = 4
Arguments = tuple[np.ndarray, ...]


def steps(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
    """Take one token after the other, as a layer does."""
    x, dt, A, B, C, D, *states = arguments
    state = states[0] if states else np.zeros((len(x), *x.shape[2:], B.shape[-1]), np.float32)
    y = np.empty_like(x)
    for t in range(x.shape[1]):
        at = np.s_[:, t : t + 1]
        y[at], state = fast.ssm_scan(x[at], dt[at], A, B[at], C[at], D, state)
    return y, np.asarray(state)


FORMS = (ssm_scan, chunked_ssm_scan, steps)


def random_arguments(
    length: int, rows: int = 2, heads: int = HEADS, groups: int = 2, p: int = 3, n: int = 5
) -> Arguments:
    """x, dt, A, B, C, D and a state, in sizes as in trained models."""
    rng = np.random.default_rng(length)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    # A view into wider rows, as the layer has it.
    x = normal(rows, length, heads * p + 2)[..., 1:-1].reshape(rows, length, heads, p)
    steps, rates = np.exp(1.5 * normal(rows, length, heads) - 2), -np.exp(normal(heads) + 1)
    B, C = normal(2, rows, length, groups, n)
    return x, steps, rates, B, C, normal(heads), normal(rows, heads, p, n)


def scan_by_loops(arguments: Arguments) -> tuple[np.ndarray, np.ndarray]:
    x, dt, A, B, C, D, state = arguments
    h, y = state.astype(np.float64), np.zeros(x.shape)
    heads_per_group = len(A) // B.shape[2]
    for b, t, head in np.ndindex(dt.shape):
        step, group = float(dt[b, t, head]), head // heads_per_group
        h[b, head] *= exp(step * float(A[head]))
        for p in range(x.shape[-1]):
            h[b, head, p] += step * float(x[b, t, head, p]) * B[b, t, group].astype(np.float64)
            y[b, t, head, p] = h[b, head, p] @ C[b, t, group] + float(D[head]) * float(x[b, t, head, p])
    return y, h


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-6) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("groups", [1, 2, HEADS])
@pytest.mark.parametrize("length", [1, 2, 13, CHUNK + 9])
def test_definition(length: int, groups: int, form: object) -> None:
    arguments = random_arguments(length, groups=groups)
    kept = arguments[-1].copy()
    y, state = form(*arguments)  # type: ignore[operator]
    expected_y, expected_state = scan_by_loops(arguments)
    assert_close(y, expected_y)
    assert_close(state, expected_state)
    np.testing.assert_array_equal(arguments[-1], kept)


def test_a_step_leaves_the_state_before_it_as_it_was() -> None:
    """So that an interrupted call loses nothing: also where what is recent is summed up, twice."""
    x, dt, A, B, C, D, given = random_arguments(2 * MOST + 5)
    expected_y, expected_state = scan_by_loops((x, dt, A, B, C, D, given))
    kept = given.copy()
    state: Any = given
    for t in range(2 * MOST + 5):
        at = np.s_[:, t : t + 1]
        before = np.array(state)
        for _ in range(2):  # the first one is interrupted
            y, after = fast.ssm_scan(x[at], dt[at], A, B[at], C[at], D, state)
            assert_close(y, expected_y[at])
            np.testing.assert_array_equal(np.asarray(state), before)
        copy = after[np.array([1, 0])]
        np.testing.assert_array_equal(np.asarray(copy), np.asarray(after)[::-1])
        state = after
    assert_close(np.asarray(state), expected_state)
    assert state.nbytes < 3 * given.nbytes + 20_000
    np.testing.assert_array_equal(given, kept)


@pytest.mark.parametrize("length", [*range(1, 41), 4096])
def test_chunks_give_the_recurrence(length: int) -> None:
    arguments = random_arguments(length, rows=1)
    expected_y, expected_state = ssm_scan(*arguments)
    for chunk_size in (1, 2, 7, 16, 17, CHUNK, 256) if length < 4096 else (CHUNK,):
        y, state = chunked_ssm_scan(*arguments, chunk_size)
        assert_close(y, expected_y)
        assert_close(state, expected_state)


@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1])
@pytest.mark.parametrize("chunk_size", [CHUNK - 1, CHUNK, CHUNK + 1])
def test_lengths_around_the_chunk(chunk_size: int, length: int) -> None:
    arguments = random_arguments(length)
    expected_y, expected_state = ssm_scan(*arguments)
    y, state = chunked_ssm_scan(*arguments, chunk_size)
    assert_close(y, expected_y)
    assert_close(state, expected_state)


@pytest.mark.parametrize("form", FORMS)
def test_no_state_is_a_state_of_zeros(form: object) -> None:
    *arguments, state = random_arguments(CHUNK + 3)
    for found, expected in zip(form(*arguments), form(*arguments, 0 * state), strict=True):  # type: ignore[operator]
        np.testing.assert_array_equal(found, expected)


def test_pieces_continue_each_other() -> None:
    x, dt, A, B, C, D, state = random_arguments(3 * CHUNK)
    whole, after_all = ssm_scan(x, dt, A, B, C, D, state)
    pieces, start = [], 0
    for length in (1, CHUNK - 1, CHUNK + 1, 5, CHUNK - 6):
        at = np.s_[:, start : start + length]
        y, state = chunked_ssm_scan(x[at], dt[at], A, B[at], C[at], D, state)
        pieces.append(y)
        start += length
    assert_close(np.concatenate(pieces, axis=1), whole)
    assert_close(state, after_all)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("longest", [30.0, 3e3, 1e6])
def test_steps_so_long_that_all_is_forgotten(longest: float, form: object) -> None:
    """Nothing overflows or turns into NaN, and what comes after is as exact as ever.

    Some tokens forget everything while others, in the same chunk, forget next to nothing: the running sums
    of the decay are large there and their differences small.
    """
    x, dt, A, B, C, D, state = random_arguments(2 * CHUNK)
    dt *= 0.01
    dt[:, 5::16] = longest
    dt[:, 20] = 0
    with np.errstate(all="raise", under="ignore"):
        found = form(x, dt, A, B, C, D, state)  # type: ignore[operator]
    expected = scan_by_loops((x, dt, A, B, C, D, state))
    assert_close(found[1], expected[1])
    quiet = (dt < 0.1 * longest)[
        ..., None
    ]  # a long step writes a large value; the others are small beside it
    assert_close(np.where(quiet, found[0], np.float32(0)), np.where(quiet, expected[0], 0))


def test_the_limit_keeps_products_ordinary() -> None:
    """Two decays at the lower limit, multiplied, are no denormal number: those are a hundred times slower."""
    least = np.exp(np.float32(-LIMIT))
    assert least * least > np.finfo(np.float32).tiny
    assert np.isfinite(np.exp(np.float32(LIMIT)) * np.float32(1e18))


def test_a_long_prompt_keeps_one_chunk() -> None:
    heads = 8
    arguments = random_arguments(4096, rows=1, heads=heads, p=16, n=32)
    tracemalloc.start()
    y, state = chunked_ssm_scan(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The weights of all chunks would be 8 MB, of the whole prompt 537 MB.
    assert peak < y.nbytes + 8 * state.nbytes + 4 * heads * CHUNK * CHUNK * 4
