"""Groups of tokens that see one another: where a text may be cut, and what a saved cache says of them."""

from collections.abc import Sequence

import numpy as np
import pytest

from tinystar_np.cache import SeenImage
from tinystar_np.cache.groups import Group, group_within, groups_of_runs, numbers_by_row
from tinystar_np.cache.images import arrays_of, begun, grouped, is_of_images, piece_ends, restored


def image(*places: int, prefix: bool = False) -> SeenImage:
    return SeenImage(np.array(places), np.ones((len(places), 2), dtype=np.float32), prefix=prefix)


def test_runs_without_a_token_between_are_one_group() -> None:
    assert groups_of_runs([(9, 12), (3, 5), (5, 7)]) == [Group(3, 7, True), Group(9, 12, True)]
    first, second, third = grouped([image(3, 4, 8, 9), image(5, 6), image(20)])
    assert first.groups == (Group(3, 7, True), Group(8, 10, True))
    assert second.groups == (Group(3, 7, True),)
    assert third.groups == (Group(20, 21, True),)
    moved = first.moved(5)
    assert moved.groups == (Group(8, 12, True), Group(13, 15, True))
    assert moved.vectors is first.vectors
    assert moved.places.tolist() == [8, 9, 13, 14]


@pytest.mark.parametrize(
    ("place", "found"), [(2, None), (3, None), (4, 0), (6, 0), (7, None), (8, 1), (9, None)]
)
def test_the_group_that_a_text_ends_within(place: int, found: int | None) -> None:
    groups = [Group(3, 7), Group(7, 9)]
    assert group_within(groups, place) == (None if found is None else groups[found])


def test_numbers_of_positions() -> None:
    rows = [[Group(3, 5), Group(7, 9)], [Group(0, 8)]]
    positions = np.array([-1, 0, 3, 4, 5, 8])
    assert numbers_by_row(rows[:1], positions).tolist() == [-1, -1, 0, 0, -1, 1]
    assert numbers_by_row(rows[:1] * 2, positions).ndim == 1
    found = numbers_by_row(rows, positions)
    assert found.tolist() == [[-1, -1, 0, 0, -1, 1], [-1, 0, 0, 0, 0, -1]]
    apart = np.array([positions, positions + 2])
    assert numbers_by_row(rows, apart).tolist() == [
        [-1, -1, 0, 0, -1, 1],
        [-1 if p >= 8 else 0 for p in apart[1]],
    ]


@pytest.mark.parametrize(
    ("images", "start", "end", "expected"),
    [
        ((), 0, 11, [4, 8, 11]),
        ([(2, 6)], 0, 11, [2, 6, 10, 11]),
        ([(0, 9)], 0, 11, [9, 11]),  # longer than a piece
        ([(4, 8)], 0, 11, [4, 8, 11]),
        ([(3, 5), (5, 9)], 0, 12, [3, 9, 12]),  # neighbours
        ([(3, 5), (6, 9)], 0, 12, [3, 6, 10, 12]),
        ([(1, 3)], 3, 9, [7, 9]),  # read already
        ([(8, 20)], 0, 11, [4, 8, 11]),  # what is asked for ends within: the model reads it to its end
        ([(2, 6)], 4, 11, [8, 11]),  # and begins within
    ],
)
def test_pieces_of_a_prompt(
    images: Sequence[tuple[int, int]], start: int, end: int, expected: list[int]
) -> None:
    seen = grouped([image(*range(*run)) for run in images])
    assert piece_ends(seen, start, end, most=4) == expected


def test_a_prompt_that_is_read_at_once() -> None:
    assert piece_ends([image(5, 6, prefix=True)], 0, 99, most=4) == [99]
    assert piece_ends([image(5, 6, prefix=True)], 7, 16, most=4) == [11, 15, 16]  # read already


def test_an_image_belongs_to_a_text_in_whose_group_it_is() -> None:
    one, two, three = grouped([image(3, 4), image(5, 6), image(8)])
    kept = begun([(one, two, three)], np.array([4]))
    assert kept == [(one, two)]
    assert begun([(one, two, three)], np.array([3])) is None
    assert is_of_images([one, two], Group(3, 7, True))
    assert not is_of_images([one, three], Group(3, 7, True))


def test_groups_are_saved() -> None:
    rows = [grouped([image(3, 4, 8, 9), image(5, 6)]), (), grouped([image(0, 1)])]
    arrays = arrays_of(rows)
    found = restored(arrays, np.array([4, 5, 2]), width=2)
    assert [[i.groups for i in row] for row in found] == [[i.groups for i in row] for row in rows]
    with pytest.raises(ValueError, match="begins at 3 of 3 tokens"):
        restored(arrays, np.array([3, 5, 2]), width=2)


@pytest.mark.parametrize(
    "groups",
    [
        np.zeros((1, 2), dtype=np.int64),
        np.zeros((3,), dtype=np.int64),
        np.array([[0, 2, 1]], dtype=np.int32),
        np.array([[2, 0, 1]]),
        np.array([[0, 0, 1]]),
        np.array([[-1, 2, 1]]),
        np.array([[0, 3, 1], [2, 4, 1]]),
    ],
)
def test_damaged_groups(groups: np.ndarray) -> None:
    arrays = arrays_of([grouped([image(0, 1)])]) | {"images.0.0.groups": groups}
    with pytest.raises(ValueError, match=r"images.0.0.groups are no runs of tokens"):
        restored(arrays, np.array([4]), width=2)
