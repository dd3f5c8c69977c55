"""Perplexity: how well a model predicts a text, which may be longer than the model's context.

    surprise of the text  = − Σ log p(token | the tokens before it in its window)       in nats
    perplexity per token  = exp(nats / tokens)
    bits per byte         = nats / ln 2 / bytes

Perplexity per token is the number of tokens among which the model hesitates on average. Tokens of two
vocabularies are of different sizes, and only what is counted per byte, or per word, can be compared between
their models. Bits per byte are the size to which the model could compress the text.

The text is read in windows, as by the rolling log-likelihood of EleutherAI's evaluation harness: each is
read anew, and its tokens are scored where no earlier window has scored them.

    window 4, stride 4:    b t t t              b: a token that begins a text, before the first
                                 t t t t        each token of a window scores the next one
                                     t t t t    the last window begins earlier, so that it is full as well
    window 4, stride 2:    b t t t
                               t t t t          the first two are context, seen before
                                   t t t t

With a stride as long as the window (the harness's default) the first token of a window is predicted from one
token. Shorter strides give each token more context, and cost more: the text is read window / stride times.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import PREFILL
from tinystar_np.errors import InputError
from tinystar_np.generation.sampling import finite
from tinystar_np.generation.scores import TokenScore, for_other_ranks, of_other_rank, scored
from tinystar_np.models import Decoder
from tinystar_np.ranks import Ranks, Results, dealt
from tinystar_np.text import Tokenizer

USUAL_WINDOW = 2048  # tokens, where a config names no length; the harness's too
MOST_LOGITS = 1 << 23  # held at once: 34 MB, and as much again for each of a few intermediate results


class Window(NamedTuple):
    """A stretch of a text that is read at once, without what comes before.

    start  its first token
    first  the first token that it scores; those before it are its context
    end    the last token that it scores, which it need not read
    """

    start: int
    first: int
    end: int


@dataclass(frozen=True)
class Perplexity:
    """A text's surprise, and how long it is.

    nats    the surprise of all tokens
    tokens  how many were scored
    words   how many there are between white space
    bytes   of the text in UTF-8
    """

    nats: float
    tokens: int
    words: int
    bytes: int

    @property
    def nats_per_token(self) -> float:
        """The mean surprise of a token, which is the loss that training minimises."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """The mean surprise of a byte."""
        return self.nats / math.log(2) / self.bytes

    @property
    def per_token(self) -> float:
        """The perplexity per token."""
        return _exp(self.nats_per_token)

    @property
    def per_word(self) -> float:
        """The perplexity per word; infinite where there is none, or where it is beyond 1e308."""
        return _exp(self.nats / self.words) if self.words else math.inf

    def as_json(self) -> dict[str, float | None]:
        """Return all figures by their names; None for one that is infinite."""
        figures = {
            "bits_per_byte": self.bits_per_byte,
            "nats_per_token": self.nats_per_token,
            "perplexity_per_token": self.per_token,
            "perplexity_per_word": self.per_word,
            "nats": self.nats,
            "tokens": self.tokens,
            "words": self.words,
            "bytes": self.bytes,
        }
        return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def to_score(model: Decoder, tokenizer: Tokenizer, text: str) -> list[int]:
    """Return a text's tokens after one that begins a text, or else ends one: the first has one before it too.

    Raises InputError where there is no text, or no such token.
    """
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not ids:
        raise InputError("The text is empty, so there is no token to predict.")
    for id in (tokenizer.begin_id, tokenizer.end_id, *model.end_ids):
        if id is not None:
            return [id, *ids]
    raise InputError("The model has no token that begins or ends a text: nothing can stand before the first.")


def usual_window(model: Decoder) -> int:
    """Return how many tokens to read at once: as many as the model was trained on, if that is known."""
    length = model.trained_length or USUAL_WINDOW
    return length if model.context_length is None else min(length, model.context_length)


def windows(tokens: int, window: int, stride: int) -> Iterator[Window]:
    """Cut a text of so many tokens, and one before them, into windows that score each of them once.

    window  the most tokens that are read at once
    stride  the most that a window scores, but for the first, which scores all of its own
    """
    end = min(tokens, window)
    if end:
        yield Window(0, 1, end)
    while end < tokens:
        first, end = end + 1, min(tokens, end + stride)
        yield Window(end - window, first, end)


def check_windows(model: Decoder, window: int, stride: int) -> None:
    """Raise InputError where windows cannot be so long, or leave tokens out."""
    if window < 1 or (model.context_length is not None and window > model.context_length):
        most = "" if model.context_length is None else f" to {model.context_length}, the model's context"
        raise InputError(f"The window is {window} tokens; it must be from 1{most}.")
    if not 1 <= stride <= window:
        raise InputError(f"The stride is {stride} tokens; it must be from 1 to the window, {window}.")


def text_scores(
    model: Decoder, ids: Sequence[int], window: int, stride: int, top: int = 0
) -> Iterator[list[TokenScore]]:
    """Score a text piece by piece, in order: all tokens but the first.

    ids     (1 + T,), as from ``to_score``
    window  the most tokens that are read at once
    stride  the most that a window after the first scores
    top     how many of the likeliest tokens to name for each

    Raises TinyStarError where the model gives NaN or infinity.
    """
    for _, scores in scores_of_texts(model, [ids], window, stride, top):
        yield scores


def scores_of_texts(
    model: Decoder, texts: Sequence[Sequence[int]], window: int, stride: int, top: int = 0
) -> Iterator[tuple[int, list[TokenScore]]]:
    """Score several texts, one after the other; see ``text_scores``.

    Where ranks have copies of the model, each reads some of the windows, of all texts, and about as many
    tokens as the others. The pieces are those of one process, and come in the same order: what is summed up
    over them is equal to the last bit, as long as each product is computed by as many threads.

    Returns pairs (the index of a text, scores of its next tokens).
    """
    pairs = [(i, each) for i, ids in enumerate(texts) for each in windows(len(ids) - 1, window, stride)]
    if model.copies is None:
        for i, each in pairs:
            for scores in scores_in(model, texts[i], each, top):
                yield i, scores
        return
    # A window's last token is not read.
    shares = dealt([each.end - each.start for _, each in pairs], model.copies.ranks.size)
    arrived = [deque[list[TokenScore]]() for _ in pairs]
    own = (
        (n, scores) for n in shares[0] for scores in scores_in(model, texts[pairs[n][0]], pairs[n][1], top)
    )
    rank_of = {n: rank for rank, share in enumerate(shares) for n in share}
    given = [np.asarray(ids, dtype=np.int32) for ids in texts]
    with Results(model.copies, "scores", given, pairs, shares, top) as results:
        for n, (i, each) in enumerate(pairs):
            first = each.first
            while first <= each.end:
                if not arrived[n]:
                    mine = next(own, None)
                    if mine is not None:
                        arrived[mine[0]].append(mine[1])
                    found = results.come() if mine is not None else results.awaited(rank_of[n])
                    for number, start, sent in found:
                        its = texts[pairs[number][0]][start : start + len(sent[0])]
                        arrived[number].append(of_other_rank(sent, its))
                    continue
                scores = arrived[n].popleft()
                first += len(scores)
                yield i, scores


def scores_of_rank(
    model: Decoder,
    ranks: Ranks,
    texts: Sequence[NDArray[np.int32]],
    pairs: Sequence[tuple[int, Window]],
    shares: Sequence[Sequence[int]],
    top: int,
) -> Iterator[tuple[int, int, Any]]:
    """Score a follower's share of windows.

    texts   tokens of each
    pairs   (the index of a text, a window) of each window
    shares  the indices of each rank's windows

    Returns (the index of a window, the first token scored, what ``of_other_rank`` takes), piece by piece.
    """
    for n in shares[ranks.rank]:
        i, each = pairs[n]
        first = each.first
        for scores in scores_in(model, texts[i].tolist(), each, top):
            yield n, first, for_other_ranks(scores)
            first += len(scores)


def scores_in(model: Decoder, ids: Sequence[int], each: Window, top: int) -> Iterator[list[TokenScore]]:
    """Read a window in pieces: the context without its logits, then so many tokens as logits may be held."""
    rows = np.asarray(ids[each.start : each.end])[None]  # (1, T)
    cache = model.new_cache(1, capacity=rows.shape[1])
    scoring = each.first - 1 - each.start  # from this token on the next one is scored
    piece = max(1, min(PREFILL, MOST_LOGITS // model.vocab_size))
    with cache.reading(rows.shape[1]):
        for start in range(0, scoring, PREFILL):
            model(rows[:, start : min(start + PREFILL, scoring)], cache=cache, last_only=True)
        for start in range(scoring, rows.shape[1], piece):
            end = min(start + piece, rows.shape[1])
            logits = finite(model(rows[:, start:end], cache=cache)[0])  # (P, V)
            following = ids[each.start + start + 1 : each.start + end + 1]
            yield scored(logits, following, top)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
