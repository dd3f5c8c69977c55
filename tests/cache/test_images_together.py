"""Images of a text: which can stand together, and which a cache goes on with."""

from collections.abc import Sequence

import numpy as np
import pytest

from tinystar_np.cache import SeenImage
from tinystar_np.cache.images import merged
from tinystar_np.errors import InputError


def image(first: int, after: int, value: float = 1.0) -> SeenImage:
    return SeenImage(np.arange(first, after), np.full((after - first, 2), value, dtype=np.float32))


def put_together(held: Sequence[SeenImage], given: Sequence[SeenImage], start: int) -> list[SeenImage]:
    return [*merged([tuple(held)], [given], np.array([start]))[0]]


def test_images_in_the_order_of_their_places() -> None:
    a, b, c = image(2, 5), image(5, 6), image(9, 12)
    assert put_together([], [c, a, b, a], 0) == [a, b, c]
    assert put_together([a], [c, b], 5) == [a, b, c]
    assert put_together([a, c], [b, image(2, 5), image(9, 12)], 5) == [a, b, c]  # those held stay


def test_an_image_may_have_been_read_again_in_another_form() -> None:
    held = image(2, 5)
    assert put_together([held], [image(2, 5, 1.0 + 1e-5)], 4) == [held]
    assert put_together([held], [image(2, 5, 7.0)], 5) == [held]  # nothing of it is left to read
    lost = image(2, 5, np.nan)
    assert put_together([lost], [image(2, 5, np.nan)], 4) == [lost]


@pytest.mark.parametrize(
    ("held", "given", "start", "message"),
    [
        (
            [],
            [image(2, 5), image(4, 7)],
            0,
            "begins at token 4, among the places of another, the tokens 2 to 4",
        ),
        (
            [],
            [image(2, 5), image(2, 7)],
            0,
            "begins at token 2, among the places of another, the tokens 2 to 4",
        ),
        ([], [image(2, 5), image(2, 5, 7.0)], 0, "begins at token 2, among the places of another"),
        ([image(2, 5)], [image(3, 6)], 3, r"ends at token 3, within an image.* token 3 .*truncate\(2\)"),
        ([image(2, 5)], [image(2, 5, 7.0)], 4, r"ends at token 4, within an image.*truncate\(2\)"),
        (
            [],
            [image(2, 5)],
            3,
            "first place at token 2, but the cache holds 3 tokens, which were read without",
        ),
        ([image(2, 5)], [image(6, 9)], 20, "first place at token 6, but the cache holds 20 tokens"),
    ],
)
def test_images_that_cannot_stand_together(
    held: list[SeenImage], given: list[SeenImage], start: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        put_together(held, given, start)
