"""Caches that hold an image, or a part of one, and what can follow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, save
from test_llava import small_config
from vision_parity import IMAGE, random_pixels, row_of, whole_model

from tinystar_np.cache import join_caches
from tinystar_np.errors import InputError
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.models.vision.pixels import ImageInput


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Decoder[Any]:
    directory: Path = tmp_path_factory.mktemp("llava")
    return load(save(whole_model(small_config()), directory), dtype="float32")[0]


def test_going_on_from_within_an_image(small: Decoder[Any]) -> None:
    """Its rest can be read, and nothing else: it ends where its places do."""
    (one, other), count = (random_pixels(1, 3, 28, 28, seed=seed) for seed in range(2)), 16
    ids, images = row_of(2, (one, count), 3)
    cache = small.new_cache()
    expected = small(ids, cache=cache, images=images)
    cache.truncate(6)
    held = cache.copy()
    for following, places, message in (
        (
            [7, 8],
            None,
            "holds a part of an image. Its next place is at token 6, which is 7 .* truncate .* 2 tok",
        ),
        (
            [IMAGE] * count,
            range(6, 6 + count),
            r"ends at token 6, within an image, and the one given for token 6",
        ),
        (
            [IMAGE] * (count - 4),
            range(2, 2 + count),
            r"ends at token 6, within an image, and the one given for token 2",
        ),
    ):
        given = [] if places is None else [ImageInput(other, np.array(places))]
        with pytest.raises(InputError, match=message):
            small(following, cache=cache, images=given)
        assert cache.lengths.tolist() == [6]
    found = small(ids[6:], cache=cache, images=images)
    assert_close(found, expected[6:])
    held.truncate(2)
    again = small([*[IMAGE] * count, 5], cache=held, images=[ImageInput(other, np.arange(2, 2 + count))])
    alone = small([*ids[:2], *[IMAGE] * count, 5], images=[ImageInput(other, np.arange(2, 2 + count))])
    assert_close(again, alone[2:])


def test_an_image_after_its_tokens_were_read(small: Decoder[Any]) -> None:
    ids, images = row_of(2, (random_pixels(1, 3, 28, 28), 16), 3)
    cache = small.new_cache()
    small(ids, cache=cache)
    with pytest.raises(InputError, match="the cache holds 21 tokens, which were read without it"):
        small([5], cache=cache, images=images)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_is_left_of_an_image_that_a_cache_forgets(bad: float, small: Decoder[Any]) -> None:
    """Its vectors are NaN, and a batch with a longer row reads the places where it stood with weight 0."""
    pixels = random_pixels(1, 3, 28, 28)
    pixels.tiles[0, 0, 5, 5] = bad
    ids, images = row_of(2, (pixels, 16), 3)
    long = row_of(40)[0]
    caches = [small.new_cache() for _ in range(2)]
    small(ids[:2], cache=caches[0])
    assert not np.isfinite(small(ids[2:], cache=caches[0], images=images)).any()
    caches[0].truncate(2)
    small(long, cache=caches[1])
    following = np.array([[5, 6, 7], [8, 9, 10]])
    expected = [small([*ids[:2], *following[0]])[2:], small([*long, *following[1]])[40:]]
    assert_close(small(following, cache=join_caches(caches)), np.stack(expected))
