"""Scores: how likely a model finds each token of a given text, and which tokens it finds likeliest there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.kernels.softmax import log_softmax

Likeliest = tuple[tuple[int, float], ...]
"""The likeliest tokens in a place, and their log-probabilities."""


class TokenScore(NamedTuple):
    """How likely a token was, after the tokens before it.

    token_id  the token
    logprob   the logarithm of its probability; None for the first token of a text, before which nothing is
    top       the likeliest tokens in its place and their log-probabilities, the likeliest first
    """

    token_id: int
    logprob: float | None
    top: Likeliest = ()


def scored(logits: NDArray, ids: Sequence[int], top: int = 0) -> list[TokenScore]:
    """Score the tokens that follow.

    logits  (T, V), each before one of the tokens
    ids     (T,)
    top     how many of the likeliest tokens to name for each
    """
    logprobs = log_softmax(np.asarray(logits, dtype=np.float32))
    own = logprobs[np.arange(len(ids)), ids].tolist()
    best = [likeliest_of(row, top) for row in logprobs]
    return [TokenScore(*each) for each in zip(ids, own, best, strict=True)]


def for_other_ranks(scores: Sequence[TokenScore]) -> tuple[NDArray[np.float32], list[Likeliest] | None]:
    """Return what another rank needs of scores whose tokens it has: short, so that it is sent at once."""
    top = [score.top for score in scores]
    return np.array([score.logprob for score in scores], dtype=np.float32), top if any(top) else None


def of_other_rank(
    sent: tuple[NDArray[np.float32], list[Likeliest] | None], ids: Sequence[int]
) -> list[TokenScore]:
    """Return the scores of tokens from what ``for_other_ranks`` has returned."""
    logprobs, top = sent
    best = [()] * len(ids) if top is None else top
    return [TokenScore(*each) for each in zip(ids, logprobs.tolist(), best, strict=True)]


def likeliest_of(logprobs: NDArray, count: int) -> Likeliest:
    """Return the likeliest tokens (id, log-probability), the likeliest first; equal ones by their ids.

    logprobs  (V,)
    """
    if count <= 0:
        return ()
    count = min(count, len(logprobs))
    border = np.partition(logprobs, -count)[-count]
    candidates = np.flatnonzero(logprobs >= border)
    order = candidates[np.argsort(-logprobs[candidates], kind="stable")][:count]
    return tuple((int(id), float(logprobs[id])) for id in order)
