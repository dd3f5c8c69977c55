"""The logit lens: what the model would say after each block, if that were the last one.

Every block adds to the same residual stream, and the output layer reads the stream through the final norm. So
the stream can be read before it is finished: after the embedding, and after each block.

    lens[l] = head(final_norm(x_l))        x_0 the embedding, x_l the stream after block l; lens[L] = logits

Norm and output layer are the model's own, factors and soft caps of logits included, and nothing is trained to
help them. Earlier layers were never asked to be read so: where their numbers look like nonsense, that says
nothing about what later layers make of them. nostalgebraist 2020, "interpreting GPT: the logit lens".

with ts.record("embedding", "blocks.*.residual", "logits") as recording:
    model(ids)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.models.base import Decoder, in_silence
from tinystar_np.seeing.recorded import length_of_one_text
from tinystar_np.seeing.recorder import Recording
from tinystar_np.tap import unheard

AT_ONCE = 1 << 24
"""How many logits are computed at once, in numbers: 64 MB, whatever the vocabulary and the text."""


def logit_lens(
    model: Decoder, recording: Recording, positions: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Compute the logits after the embedding and after each block.

    model      the model that was recorded
    recording  of one call with one text: ``embedding`` and ``blocks.*.residual``
    positions  n of them, counted from the end where negative; None for all

    Returns (L + 1, n, V); with a large vocabulary ``read_lens`` needs less memory.
    Raises InputError for a recording that lacks these, and for positions outside it.
    """
    return np.stack(list(lens_by_layer(model, recording, positions)))


def lens_by_layer(
    model: Decoder, recording: Recording, positions: Sequence[int] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Compute the same one layer at a time: L + 1 arrays (n, V)."""
    for x in _streams(model, recording, positions):
        yield scores(model, x)


@dataclass(frozen=True)
class Lens:
    """What the model would say at each layer, in short: one token followed, and the likeliest ones.

    positions          (n,) where the lens was held
    tokens             (n,) the token that is followed at each of them
    logits             (L + 1, n) its logit
    probabilities      (L + 1, n) its probability
    ranks              (L + 1, n) how many tokens score higher, plus 1: the likeliest has rank 1
    top_ids            (L + 1, n, k) the likeliest tokens, the first the best
    top_logits         (L + 1, n, k) their logits
    top_probabilities  (L + 1, n, k) their probabilities
    """

    positions: NDArray[np.int64]
    tokens: NDArray[np.int64]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    ranks: NDArray[np.int64]
    top_ids: NDArray[np.int64]
    top_logits: NDArray[np.float32]
    top_probabilities: NDArray[np.float32]


def read_lens(
    model: Decoder,
    recording: Recording,
    positions: Sequence[int] | None = None,
    *,
    tokens: ArrayLike | None = None,
    top: int = 5,
) -> Lens:
    """Follow a token through the layers, and find the likeliest tokens at each.

    model, recording, positions  as of ``logit_lens``; the logits of a few positions are held at a time
    tokens                       the id to follow, one or (n,); None for the likeliest after the last block
    top                          k, how many of the likeliest

    Raises InputError for a recording that lacks what is needed, and for positions or ids outside.
    """
    places = _places(recording, positions)
    if not isinstance(top, int | np.integer) or not 1 <= top <= model.vocab_size:
        raise InputError(
            f"top = {shown(top)}, but it must be from 1 to {model.vocab_size}, the vocabulary's size."
        )
    streams = list(_streams(model, recording, positions))
    if tokens is None:
        followed = np.concatenate([y.argmax(axis=-1) for y in _in_pieces(model, streams[-1])])
    else:
        followed = _ids(model, tokens, len(places))
    found = [_summary(model, x, followed, top) for x in streams]
    return Lens(places, followed, *(np.stack(arrays) for arrays in zip(*found, strict=True)))


@in_silence
def scores(model: Decoder, x: NDArray) -> NDArray[np.float32]:
    """Score every token by the stream: the final norm and the output layer, (n, D) → (n, V)."""
    with unheard():
        logits: NDArray[np.float32] = model.logits(model.final_norm(x[None]))[0]
    return logits


@in_silence
def _summary(model: Decoder, x: NDArray, tokens: NDArray[np.int64], top: int) -> list[NDArray]:
    """Sum up what the stream (n, D) of one layer says: the arrays of a ``Lens`` from ``logits`` on."""
    pieces, done = [], 0
    for y in _in_pieces(model, x):  # (m, V)
        those = tokens[done : done + len(y)]
        done += len(y)
        highest = y.max(axis=-1, keepdims=True)
        log_sum = highest + np.log(np.exp(y - highest).sum(axis=-1, keepdims=True))  # (m, 1)
        own = np.take_along_axis(y, those[:, None], axis=-1)  # (m, 1)
        best = np.argpartition(y, -top, axis=-1)[:, -top:]  # (m, k), in no order
        order = np.argsort(-np.take_along_axis(y, best, axis=-1), axis=-1, kind="stable")
        best = np.take_along_axis(best, order, axis=-1)
        of_best = np.take_along_axis(y, best, axis=-1)
        pieces.append(
            (
                own[:, 0],
                np.exp(own - log_sum)[:, 0],
                1 + (y > own).sum(axis=-1),
                best,
                of_best,
                np.exp(of_best - log_sum),
            )
        )
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _in_pieces(model: Decoder, x: NDArray) -> Iterator[NDArray[np.float32]]:
    """Score the stream (n, D) a few positions at a time: (m, V) each."""
    rows = max(1, AT_ONCE // model.vocab_size)
    for start in range(0, len(x), rows):
        yield scores(model, x[start : start + rows])


def _streams(
    model: Decoder, recording: Recording, positions: Sequence[int] | None
) -> Iterator[NDArray[np.float32]]:
    """Return the stream at some positions, before the first block and after each: L + 1 arrays (n, D)."""
    places = _places(recording, positions)
    names = ["embedding", *(f"blocks.{i}.residual" for i in range(len(model.blocks)))]
    missing = [name for name in names if name not in recording]
    if missing:
        raise InputError(
            f"The recording lacks {missing[0]}: record the call with no patterns, or with 'embedding' and "
            "'blocks.*.residual'."
        )
    return (recording[name][0, places] for name in names)


def _places(recording: Recording, positions: Sequence[int] | None) -> NDArray[np.int64]:
    """Return the positions, none of them negative: (n,)."""
    T = length_of_one_text(recording, ["embedding"], "it")
    if isinstance(positions, int | np.integer):
        raise InputError(f"positions is a list, such as [{positions}], or None for all; found {positions}")
    if positions is not None and len(positions) == 0:
        raise InputError("positions is empty; give at least one, or None for all.")
    return np.arange(T) if positions is None else np.array([checked_position(p, T) for p in positions], int)


def checked_position(position: int, T: int) -> int:
    """Return a position of T that counts from the beginning; raises InputError for one outside."""
    if not isinstance(position, int | np.integer) or not -T <= position < T:
        raise InputError(f"position {shown(position)} is outside the recorded text, 0 to {T - 1}.")
    return position % T


def _ids(model: Decoder, tokens: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return n token ids that were given as one or as n; raises InputError for others."""
    given = np.asarray(tokens)
    if given.shape not in ((), (n,)) or given.dtype.kind not in "iu":
        raise InputError(f"tokens must be one id, or {n}: one for each position.")
    return np.array([checked_token(model, int(token)) for token in np.broadcast_to(given, n)], int)


def checked_token(model: Decoder, token: int) -> int:
    """Return a token id; raises InputError for one that the model has not."""
    if not isinstance(token, int | np.integer):
        raise InputError(f"A token is given by its id, an int; found {shown(token)}")
    if not 0 <= token < model.vocab_size:
        raise InputError(f"token id {token} is outside the vocabulary, 0 to {model.vocab_size - 1}.")
    return token
