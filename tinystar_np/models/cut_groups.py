"""Calls of a model that begin or end within an image whose tokens see one another.

What the first token of such an image is depends on the last. A call that ends within it reads the image to
its end, whose vectors are known, and returns the logits of its own tokens. Nothing of the image stays in the
cache but the count of these tokens: it stands before the image, and the next call reads it from its
beginning. So a prompt may be cut anywhere, but each cut within an image costs reading it once more;
``piece_ends`` says where a cut costs nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Cache, SeenImage, Step, join_caches
from tinystar_np.cache.groups import Group, group_within
from tinystar_np.cache.images import groups_of, is_of_images
from tinystar_np.errors import InputError
from tinystar_np.models.config import AnyConfig
from tinystar_np.tap import numbered, recording, row_numbers

if TYPE_CHECKING:
    from tinystar_np.models.base import Decoder


def read_cut(
    model: "Decoder[AnyConfig]",
    tokens: NDArray[np.integer],
    cache: Cache | None,
    step: Step,
    last_only: bool,
) -> NDArray[np.float32]:
    """Read tokens (B, T) of which some row begins or ends within a group; row by row.

    step  where they stand, with the images of each row

    Returns logits (B, T, V), or (B, 1, V) with ``last_only``.
    Raises InputError where the call must be cut elsewhere; the cache is then as it was.
    """
    rows, texts = [], row_numbers(len(tokens)).tolist()
    logits = []
    for b, images in enumerate(step.images or ()):
        row = model.new_cache(1) if cache is None else cache.row(b)
        with numbered([texts[b]]):
            logits.append(_read_row(model, tokens[b], row, int(step.start[b]), images, last_only))
        rows.append(row)
    if cache is not None:
        cache.become(join_caches(rows))
    return np.stack(logits)


def _read_row(
    model: "Decoder[AnyConfig]",
    tokens: NDArray[np.integer],
    cache: Cache,
    start: int,
    images: Sequence[SeenImage],
    last_only: bool,
) -> NDArray[np.float32]:
    """Read tokens (T,) of one row that stand from ``start`` on: logits (T, V), or (1, V)."""
    groups, end = groups_of(images), start + len(tokens)
    first, last = group_within(groups, start), group_within(groups, end)
    for group in (first, last):
        if group is not None:
            _check_can_be_cut(cache, group, images)
    begin, stop, until = (
        start if first is None else first.first,  # where the cache stands
        end if last is None else last.first,  # where it is to stand
        end if last is None else last.after,
    )
    image = _image_token(model)
    whole = np.concatenate([np.full(start - begin, image), tokens, np.full(until - end, image)])
    cache.lengths = np.array([begin])
    parts = []
    if stop > begin:
        parts.append(model(whole[: stop - begin], cache=cache, images=images))
    if last is not None:
        parts.append(model(whole[stop - begin :], cache=cache.row(0), images=images))
        cache.count(np.array([end]), [tuple(images)])
    logits = np.concatenate(parts)[start - begin : end - begin]
    return logits[-1:] if last_only else logits


def _image_token(model: "Decoder[AnyConfig]") -> int:
    if model.vision is None:
        raise InputError(
            "The cache holds a part of an image, but this model was loaded without what reads images."
        )
    return model.vision.image_token_id


def _check_can_be_cut(cache: Cache, group: Group, images: Sequence[SeenImage]) -> None:
    """Raise InputError where a call may not begin or end within a group."""
    where = f"End the call at token {group.first} or at {group.after}."
    if not is_of_images(images, group):
        raise InputError(
            f"The tokens {group.first} to {group.after - 1} are one prompt with images, whose tokens see one "
            f"another. {where}"
        )
    within = f"A call begins or ends within the image of the tokens {group.first} to {group.after - 1}"
    if cache.text is not None:
        raise InputError(
            f"{within}, which is read anew for each; where rotations depend on the length of a text that is "
            f"another image each time. {where}"
        )
    if recording():
        raise InputError(f"{within}, which is then read more than once: what is to be recorded? {where}")
