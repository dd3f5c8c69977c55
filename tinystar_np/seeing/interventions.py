"""Interventions: what if an activation were another? A model runs on with what is put in its place.

with ts.ablate("blocks.5.attention.mixed", heads=[2, 7]):  # these heads say nothing
    model(ids)

``intervene`` puts in what a function returns, ``ablate`` zeros or a mean, ``patch`` what another run had
there, and ``steer`` adds a direction. They hold for all that is computed inside the ``with`` block: calls
with and without a cache, batches, ``generate``, ``stream``, conversations. What a cache holds stays as it was
computed; tokens that are read again inside the block are computed under the interventions open there.

They nest, with each other and with ``record``. At one tap the outermost comes first and each goes on with
what the one before it returned: a recording inside sees the changed array, one around sees it unchanged, and
both see what follows from it.

A mistake is an error, never silence: a tap that no model has, one that was not reached before the block's
end, positions that never came, a wrong shape. NaN and infinity are let through; they may be what is asked.
The names of taps and their shapes are in docs/taps.md.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.seeing.axes import OF_IMAGES, check_pattern
from tinystar_np.seeing.changing import Activation, Change, changing
from tinystar_np.seeing.choice import Choice, Numbers
from tinystar_np.seeing.recorded import check_recorded, mean, positions_of, with_recorded
from tinystar_np.seeing.recorder import Recording


def intervene(
    changes: Mapping[str, Callable[[NDArray], NDArray]],
    *,
    rows: Numbers | None = None,
    positions: Numbers | None = None,
    heads: Numbers | None = None,
    experts: Numbers | None = None,
) -> AbstractContextManager[None]:
    """Let functions change activations inside the ``with`` block.

    changes    {tap, or shell-style pattern of taps: function}. The function is given the whole array, with
               its batch axis, as a copy that it may write into, and returns the array to go on with
    rows       whose texts' numbers; with this and the next three, only the chosen part of what the function
               returns takes the place of what was there. None for all
    positions  of tokens in their texts, whatever pieces these come in; see seeing/choice.py
    heads      of taps with an axis of heads
    experts    of ``feed_forward.weights``: the weights of these experts; of ``feed_forward.router``: scores

    Raises InputError at the call for a tap that no model has; at a tap, where the function returns another
    shape or no array, or where heads, experts or positions cannot be chosen; and at the end of the block,
    unless it ends by another exception, for a tap, row or position that was never reached.
    """
    if not isinstance(changes, Mapping) or not changes:
        raise InputError(f"intervene needs {{tap: function}}; found {shown(changes)}")
    wrong = [pattern for pattern, change in changes.items() if not callable(change)]
    if wrong:
        raise InputError(
            f"intervene needs a function for {shown(wrong[0])}; found {shown(changes[wrong[0]])}"
        )

    def calling(function: Callable[[NDArray], NDArray]) -> Change:
        return lambda activation: function(activation.x)

    return changing(
        {pattern: calling(change) for pattern, change in changes.items()},
        Choice(rows, positions, heads, experts),
    )


def ablate(
    pattern: str | Sequence[str],
    *,
    mean_of: Recording | Sequence[Recording] | None = None,
    rows: Numbers | None = None,
    positions: Numbers | None = None,
    heads: Numbers | None = None,
    experts: Numbers | None = None,
) -> AbstractContextManager[None]:
    """Take activations out: put zeros in their place inside the ``with`` block, or their mean.

    pattern    a tap, or a shell-style pattern of taps, or several
    mean_of    recordings of these taps, whose mean over all tokens and rows is put in: what a part says of
               any text is then kept, and what it says of this one is lost. None for zeros
    rows, positions, heads, experts  what to take out, as in ``intervene``

    The experts of a mixture are taken out by their weights: ``ablate("blocks.2.feed_forward.weights",
    experts=[3])``.

    Raises InputError as ``intervene`` does, and where a recording lacks a tap.
    """
    recordings = [mean_of] if isinstance(mean_of, Mapping) else [] if mean_of is None else mean_of
    if not isinstance(recordings, list | tuple):
        raise InputError(
            f"mean_of takes a recording, such as ts.record gives, or a list; found {shown(mean_of)}"
        )
    patterns = _patterns(pattern)
    for recording in recordings:
        for each in patterns:
            check_recorded(recording, each)
    if mean_of is not None and not recordings:
        raise InputError("mean_of has no recording.")
    if mean_of is not None and experts is not None:
        raise InputError("A mean of experts' weights would be over other experts: ablate them to zero.")
    means: dict[str, NDArray] = {}

    def change(activation: Activation) -> NDArray:
        path, x = activation.path, activation.x
        if x.dtype.kind in "iu":
            raise InputError(f"{path} holds numbers of experts, which have no zero and no mean.")
        if not recordings:
            return np.zeros_like(x)
        if path not in means:
            means[path] = mean(recordings, activation)
        return np.broadcast_to(means[path], x.shape)

    return changing(dict.fromkeys(patterns, change), Choice(rows, positions, heads, experts))


def patch(
    clean: Mapping[str, NDArray],
    pattern: str | Sequence[str],
    *,
    rows: Numbers | None = None,
    positions: Numbers | None = None,
    heads: Numbers | None = None,
    experts: Numbers | None = None,
) -> AbstractContextManager[None]:
    """Put activations of another run in place of this one's, inside the ``with`` block.

    clean      a recording of the other run: an array of it takes the place of the same tap's, each token's at
               its own position. One row is for all rows; several are for the rows of their numbers
    pattern    a tap, or a shell-style pattern of taps, or several
    rows, positions, heads, experts  what to put in, as in ``intervene``. Without positions all that were
               recorded are put in, and later tokens of a longer text are left as they are

    What changes by it tells what these activations carry. Vig et al. 2020, arXiv:2004.12265; Meng et al. 2022
    (causal tracing), arXiv:2202.05262.

    Raises InputError as ``intervene`` does, and where the recording lacks a tap or position.
    """
    patterns = _patterns(pattern)
    recorded = [path for each in patterns for path in check_recorded(clean, each)]
    held = every_row = None
    if not recorded[0].startswith(OF_IMAGES):  # those are read before a text, and have no places in it
        held, texts = np.unique(positions_of(clean, recorded[0])), len(clean[recorded[0]])
        every_row = None if texts == 1 else np.arange(texts)
    choice = Choice(
        every_row if rows is None else rows, held if positions is None else positions, heads, experts
    )
    for chosen, there in ((choice.positions, held), (choice.rows, every_row)):
        if chosen is None or there is None or chosen.listed is None:
            continue
        lacking = np.setdiff1d(chosen.listed, there).tolist()
        if lacking:
            raise InputError(
                f"{chosen.kind} {shown(lacking)} are to be patched, but the recording of {recorded[0]} has "
                f"{there[0]} to {there[-1]}."
            )

    def change(activation: Activation) -> NDArray:
        if activation.path not in clean:
            raise InputError(f"The recording has no {activation.path}, which {shown(pattern)} stands for.")
        return with_recorded(activation, clean, some_rows=rows is not None)

    return changing(dict.fromkeys(patterns, change), choice)


def steer(
    pattern: str | Sequence[str],
    vector: ArrayLike,
    *,
    scale: float = 1.0,
    rows: Numbers | None = None,
    positions: Numbers | None = None,
    heads: Numbers | None = None,
) -> AbstractContextManager[None]:
    """Add a direction to activations inside the ``with`` block.

    pattern  a tap, mostly the residual stream of one block, or a shell-style pattern of taps, or several
    vector   as long as the tap's last axis, such as the mean difference of two kinds of texts
    scale    what the vector is multiplied by
    rows, positions, heads  where to add it, as in ``intervene``; ``slice(5, None)`` for position 5 and all
             after it

    Turner et al. 2023 (activation addition), arXiv:2308.10248.

    Raises InputError as ``intervene`` does, and where the vector has another length than the tap.
    """
    try:
        given, factor = np.asarray(vector), np.asarray(scale)
    except ValueError as error:  # a list of lists of several lengths
        raise InputError(f"steer needs a vector, an array with one axis; found {shown(vector)}") from error
    if given.ndim != 1 or given.dtype.kind not in "iuf":
        raise InputError(f"steer needs a vector of numbers, an array with one axis; found {shown(vector)}")
    if factor.ndim != 0 or factor.dtype.kind not in "iuf":
        raise InputError(f"scale is a number that the vector is multiplied by; found {shown(scale)}")
    direction = given.astype(np.float32) * np.float32(factor)

    def change(activation: Activation) -> NDArray:
        path, x = activation.path, activation.x
        if x.dtype.kind in "iu":
            raise InputError(f"{path} holds numbers of experts, to which no direction can be added.")
        if x.shape[-1] != direction.size:
            raise InputError(
                f"{path} has vectors of {x.shape[-1]} numbers, but the direction to add has {direction.size}."
            )
        return x + direction

    return changing(dict.fromkeys(_patterns(pattern), change), Choice(rows, positions, heads))


def _patterns(pattern: str | Sequence[str]) -> list[str]:
    """Return a list of patterns; raises InputError for none, or for a tap that no model has."""
    patterns = list(pattern) if isinstance(pattern, list | tuple) else [pattern]
    if not patterns:
        raise InputError("A tap must be named, such as 'blocks.3.residual'.")
    return [check_pattern(each) for each in patterns]
