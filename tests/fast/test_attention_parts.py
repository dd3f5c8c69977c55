"""The parts into which a mask is cut: together they show the keys that it shows, and are as few as needed."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import last_queries, with_groups

from tinystar_np import fast
from tinystar_np.fast.attention_parts import Part, parts_of
from tinystar_np.kernels.masks import Mask, visible


def cut(mask: Mask, rows: int = 1) -> list[Part] | None:
    """Parts of a call with enough scores that it is cut at all."""
    T, S = mask.query_positions.shape[-1], mask.key_positions.shape[-1]
    q, k = (np.broadcast_to(np.float32(0), (rows, 1, n, 1)) for n in (T, S))
    return parts_of(q, k, mask)


def shown_by(parts: list[Part], shape: tuple[int, ...]) -> np.ndarray:
    """Which keys the parts show: (B, T, S); none of their queries is in two parts."""
    shown = np.zeros(shape, bool)
    taken = np.zeros(shape[:-1], int)
    for row, queries, keys, reach in parts:
        rows = slice(None) if row is None else row
        query = np.arange(queries.stop - queries.start)[:, None] + reach.offset
        key = np.arange(keys.stop - keys.start)
        shown[rows, queries, keys] = (key >= query - reach.before) & (key <= query + reach.after)
        taken[rows, queries] += 1
    assert (taken == 1).all()
    return shown


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Texts of about 100 tokens with images in them; the last ones are new, the first may be forgotten."""
    S = draw(st.integers(75, 110))
    first_key = draw(st.sampled_from([0, 0, 5, -4]))
    T = draw(st.integers(65, S - max(first_key, 0)))
    edges = sorted(draw(st.lists(st.integers(0, S), max_size=8)))
    runs = [(a, b - a) for a, b in zip(edges[::2], edges[1::2], strict=False) if b > a]
    rules = Mask(
        np.arange(S - T, S),
        np.arange(first_key, S),
        draw(st.none() | st.integers(1, 70)),
        draw(st.none() | st.integers(1, 70)),
        draw(st.booleans()),
    )
    return with_groups(rules, runs, draw(st.booleans()))


@settings(max_examples=400, deadline=None)
@given(masks())
def test_parts_show_what_the_mask_shows(mask: Mask) -> None:
    parts, expected = cut(mask), visible(mask)
    assert parts is not None
    np.testing.assert_array_equal(shown_by(parts, (1, *expected.shape))[0], expected)


def test_rows_have_parts_of_their_own() -> None:
    start = np.array([3, 20])
    mask = Mask(start[:, None] + np.arange(90), np.arange(110))
    for some in (mask, with_groups(mask, [(25, 40), (70, 9)])):
        parts = cut(some, rows=2)
        assert parts is not None
        np.testing.assert_array_equal(shown_by(parts, (2, 90, 110)), visible(some)[:, 0])


def test_groups_that_are_no_runs_are_left_to_the_definition() -> None:
    whole = last_queries(90, 90)
    for place, group in ((20, -1), (60, 0)):  # with a hole, and in two places
        torn = with_groups(whole, [(10, 30)])
        assert torn.key_groups is not None
        torn.key_groups[place] = group
        assert cut(torn) is None


def test_text_and_images_are_parts_in_turns() -> None:
    """Text before, between and after two images: five parts; an image's part reaches to its end alone."""
    parts = cut(with_groups(last_queries(1000, 1000), [(100, 256), (500, 256)]))
    assert parts is not None
    ends = [(part.queries.start, part.queries.stop, part.keys.stop) for part in parts]
    assert ends == [(0, 100, 100), (100, 356, 356), (356, 500, 500), (500, 756, 756), (756, 1000, 1000)]


@pytest.mark.parametrize("window", [None, 1024])
def test_a_long_prompt_with_images_builds_no_square_of_scores(window: int | None) -> None:
    q, k, v = (np.ones((1, 4, 4096, 8), np.float32) for _ in range(3))
    mask = with_groups(last_queries(4096, 4096, window), [(100, 256), (500, 1500), (3000, 729)])
    tracemalloc.start()
    fast.attention(q, k, v, mask, scale=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        peak < q.nbytes + 4_000_000
    )  # a few blocks of scores of four heads; one head's scores would be 64 MB


@pytest.mark.parametrize("keys", [577, 3000])
def test_an_encoder_is_one_part_without_a_mask(keys: int) -> None:
    """As if no mask were given: all queries, all keys, and no limit."""
    assert cut(last_queries(keys, keys, causal=False)) == parts_of(
        *(np.broadcast_to(np.float32(0), (1, 1, keys, 1)) for _ in range(2)), None
    )
