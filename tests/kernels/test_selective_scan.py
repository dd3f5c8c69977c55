"""The two forms of Mamba 1's scan against each other and against a loop over single numbers."""

import tracemalloc
from math import exp

import numpy as np
import pytest

from tinystar_np import fast
from tinystar_np.kernels.selective_scan import selective_scan


def quick(*arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, state = fast.selective_scan(*arguments)
    return y, np.asarray(state)


FORMS = (selective_scan, quick)
Arguments = tuple[np.ndarray, ...]


def random_arguments(length: int, rows: int = 2, channels: int = 6, n: int = 3) -> Arguments:
    """x, dt, A, B, C, D and a state, in sizes as in trained models."""
    rng = np.random.default_rng(length)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    steps, rates = np.exp(normal(rows, length, channels) - 2), -np.exp(normal(n, channels) + 1)
    B, C = normal(2, rows, length, n)
    return normal(rows, length, channels), steps, rates, B, C, normal(channels), normal(rows, n, channels)


def scan_by_loops(arguments: Arguments) -> tuple[np.ndarray, np.ndarray]:
    x, dt, A, B, C, D, state = arguments
    h, y = state.astype(np.float64), np.zeros(x.shape)
    for b, t, f in np.ndindex(x.shape):
        y[b, t, f] = float(D[f]) * float(x[b, t, f])
        for n in range(len(A)):
            step = float(dt[b, t, f])
            h[b, n, f] = exp(step * float(A[n, f])) * h[b, n, f] + step * float(x[b, t, f]) * float(
                B[b, t, n]
            )
            y[b, t, f] += float(C[b, t, n]) * h[b, n, f]
    return y, h


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 3, 17, 60])
def test_definition(length: int, form: object) -> None:
    arguments = random_arguments(length)
    kept = arguments[-1].copy()
    y, state = form(*arguments)  # type: ignore[operator]
    expected_y, expected_state = scan_by_loops(arguments)
    assert_close(y, expected_y)
    assert_close(state, expected_state)
    np.testing.assert_array_equal(arguments[-1], kept)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 17])
def test_groups_of_channels_are_scans_of_their_own(length: int, form: object) -> None:
    x, dt, A, *_, D, state = random_arguments(length, channels=6)
    B, C = np.random.default_rng(1).standard_normal((2, 2, length, 3, 3), dtype=np.float32)  # three groups
    y, after = form(x, dt, A, B, C, D, state)  # type: ignore[operator]
    for group in range(3):
        own = np.s_[..., 2 * group : 2 * group + 2]
        arguments = x[own], dt[own], A[own], B[:, :, group], C[:, :, group], D[own], state[own]
        expected_y, expected_state = scan_by_loops(arguments)
        assert_close(y[own], expected_y)
        assert_close(after[own], expected_state)


@pytest.mark.parametrize("form", FORMS)
def test_no_state_is_a_state_of_zeros(form: object) -> None:
    *arguments, state = random_arguments(9)
    for found, expected in zip(form(*arguments), form(*arguments, 0 * state), strict=True):  # type: ignore[operator]
        np.testing.assert_array_equal(found, expected)


def test_pieces_continue_each_other() -> None:
    x, dt, A, B, C, D, state = random_arguments(30)
    whole, after_all = selective_scan(x, dt, A, B, C, D, state)
    pieces, start = [], 0
    for length in (1, 2, 20, 1, 6):
        at = np.s_[:, start : start + length]
        y, state = fast.selective_scan(x[at], dt[at], A, B[at], C[at], D, state)
        pieces.append(y)
        start += length
    assert_close(np.concatenate(pieces, axis=1), whole)
    assert_close(np.asarray(state), after_all)


@pytest.mark.parametrize("form", FORMS)
def test_steps_so_long_that_all_is_forgotten(form: object) -> None:
    x, dt, A, B, C, D, state = random_arguments(8)
    dt[:, 4] = 1e6
    dt[:, 6] = 0
    with np.errstate(all="raise", under="ignore"):
        found = form(x, dt, A, B, C, D, state)  # type: ignore[operator]
    expected = scan_by_loops((x, dt, A, B, C, D, state))
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])


def test_a_long_prompt_keeps_one_state() -> None:
    arguments = random_arguments(4096, rows=1, channels=32, n=16)
    tracemalloc.start()
    y, state = fast.selective_scan(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * y.nbytes + 8 * state.nbytes  # result and inputs; all states would be 16 results
