"""The generation loop: logits → token → logits, for one prompt or many, until each text has ended.

A single prompt is a batch of one; a stream yields the tokens as they come, and ``generate`` joins them.
Prompts of different lengths are read one by one and need no padding: a cache keeps the length of each of its
rows. After that all rows are read by the model together, so that the weights are read once for all of them,
and a row that has ended leaves the batch.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.cache import PREFILL, Cache, SeenImage, join_caches
from tinystar_np.cache.images import piece_ends
from tinystar_np.errors import ContextFullError, InputError
from tinystar_np.fast.threads import beside_others
from tinystar_np.generation.lookup import look_up
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.sampling import Logits, log_probability, sample
from tinystar_np.generation.stopping import StopFilter
from tinystar_np.tap import numbered
from tinystar_np.text import TextStream, Tokenizer

ROOM = 4096  # the most new tokens that a cache is allocated for in advance; it grows when there are more

FinishReason = Literal["end", "stop", "length", "context"]
Progress = Callable[[int, int], None]
"""Called with how many tokens of a prompt have been read, and how many there are."""


class LanguageModel(Protocol):
    """The attributes and methods of a model that generation uses."""

    context_length: int | None
    end_ids: tuple[int, ...]

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Cache:
        """Make an empty cache with room for ``capacity`` tokens."""

    def __call__(
        self, ids: ArrayLike, cache: Cache | None = None, last_only: bool = False
    ) -> NDArray[np.float32]:
        """Continue after what the cache holds: ids (B, T) → logits (B, T, V), or (B, 1, V)."""


Read = Callable[..., NDArray[np.float32]]
"""A language model as it is called."""


@dataclass(frozen=True)
class Piece:
    """One generated token.

    text           the text that is final with it: often the token's own, sometimes none or that of several
    token_id       the token
    logprob        the logarithm of its probability under the model itself, before temperature and filters
    finish_reason  None where more follows; else why this is the last: "end" an end-of-text token, "stop" a
                   stop string, "length" max_new_tokens, "context" the model has no position left
    guessed        whether it was a guess (prompt_lookup_num_tokens), which needed no pass of its own
    index          the index of its prompt among several
    top            the likeliest tokens in its place and their log-probabilities, where they were asked for
    """

    text: str
    token_id: int
    logprob: float
    finish_reason: FinishReason | None
    guessed: bool = False
    index: int = 0
    top: tuple[tuple[int, float], ...] = ()


class Row:
    """One text that is being generated: its ids, and the rules for choosing tokens and for ending.

    index      its index in the list of prompts
    prompt     (T,) ids
    tokenizer  None where only ids are wanted
    end_ids    the tokens that end the text
    fits       how many tokens may follow; None for any number
    begun      the tokens at the prompt's end that begin the text itself, as those of an answer do, which is
               decoded as a text of its own; None where the new text continues that of the prompt
    rng        the random generator; None for one of its own, which begins at the options' seed
    pauses     whether the text goes on, in another context, after this one is full
    """

    def __init__(
        self,
        index: int,
        prompt: Sequence[int],
        tokenizer: Tokenizer | None,
        options: SamplingOptions,
        end_ids: Collection[int],
        fits: int | None,
        begun: Sequence[int] | None = None,
        rng: "np.random.Generator | None" = None,
        pauses: bool = False,
    ) -> None:
        self._wanted = options.max_new_tokens
        self._new: list[int] = []  # all that were chosen, in an earlier context too
        self.go_on(prompt, fits, pauses)
        self.index, self._options, self._end_ids = index, options, end_ids
        # A generator of its own, so that a row's tokens do not depend on the other rows. None where nothing
        # is drawn, because NumPy loads its random module, 7 MB, at its first use.
        self._rng = rng
        if rng is None and options.temperature != 0:
            self._rng = np.random.default_rng(options.seed)
        self._tokenizer = tokenizer
        self._text = TextStream(tokenizer, self.ids if begun is None else ()) if tokenizer else None
        self._stops = StopFilter(options.stops)
        self.begun = "".join(self._text.push(id) for id in begun or ()) if self._text else ""
        """The text of ``begun``, but for an incomplete character at its end."""

    def go_on(self, ids: Sequence[int], fits: int | None, pauses: bool) -> None:
        """Let these tokens stand before what follows, of which so many fit."""
        self.ids = list(ids)
        self.left = self._wanted if fits is None else min(self._wanted, fits)
        """How many tokens may still follow."""
        self._last_reason: FinishReason = "length" if self.left == self._wanted else "context"
        self.pauses = pauses and self._last_reason == "context"

    def step(self, logits: Logits) -> Piece:
        """Choose the next token from its logits (V,)."""
        token_id = sample(logits, self.ids, self._options, self._rng, self._new)
        self.ids.append(token_id)
        self._new.append(token_id)
        self.left, self._wanted = self.left - 1, self._wanted - 1
        reason: FinishReason | None = self._last_reason if self.left <= 0 else None
        if token_id in self._end_ids:
            reason = "end"
        text = self._text_of(token_id, last=reason == "end" or (reason is not None and not self.pauses))
        if self._stops.stopped and reason != "end":
            reason = "stop"
        return Piece(text, token_id, log_probability(logits, token_id), reason, index=self.index)

    def check(self, guess: Sequence[int], logits: Logits) -> list[Piece]:
        """Choose tokens as long as they are the guessed ones, and the one after these.

        guess   G ids, or none
        logits  (1 + G, V), after the last token and each guessed one
        """
        pieces = []
        for guessed, scores in zip([*guess, None], logits, strict=True):
            piece = self.step(scores)
            more = piece.token_id == guessed and piece.finish_reason is None
            pieces.append(replace(piece, guessed=True) if more else piece)
            if not more:
                break
        return pieces

    def _text_of(self, token_id: int, last: bool) -> str:
        """Return the text that is final with this token; with the last one, all that was kept back."""
        if self._tokenizer is None or self._text is None:
            return ""
        # An end-of-text token has no text, even where the tokenizer does not list it as special.
        if token_id in self._tokenizer.special_ids or token_id in self._end_ids:
            text = self._hide(token_id, self._tokenizer, self._text)
        else:
            text = self._stops.push(self._text.push(token_id))
        if last:
            text += self._stops.push(self._text.flush()) + self._stops.flush()
        return text

    def _hide(self, token_id: int, tokenizer: Tokenizer, stream: TextStream) -> str:
        """Let stop strings match a token that has no text, and return the text that is final with it."""
        special = token_id in tokenizer.special_ids
        hidden = tokenizer.token(token_id) if special else tokenizer.decode([token_id])
        unfinished, text = stream.unfinished, ""
        if token_id in self._end_ids or self._stops.would_stop(unfinished + hidden):
            text = self._stops.push(stream.flush())  # nothing follows
        else:
            hidden = unfinished + hidden  # an incomplete character may be completed by later tokens
        return text + self._stops.push(hidden, hidden=True)


def run(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokenizer: Tokenizer | None,
    options: SamplingOptions,
    cache: Cache | None = None,
    progress: Progress | None = None,
    images: Sequence[Sequence[SeenImage]] | None = None,
) -> Generator[Piece, None, None]:
    """Generate a continuation of each prompt, all at the same time.

    prompts    token ids, each at least one
    tokenizer  for the text of the pieces; None for ids alone
    cache      holds the tokens before a single prompt, and is extended; None for none
    progress   see ``Progress``
    images     those of each prompt; None for none

    Returns a generator that yields one piece for each prompt that has not ended, in rounds.
    """
    rows = [
        Row(index, prompt, tokenizer, options, model.end_ids, room_after(model, prompt, cache))
        for index, prompt in enumerate(prompts)
    ]
    return generated(model, rows, prompts, [cache] * len(rows), options, progress, images)


def generated(
    model: LanguageModel,
    rows: Sequence[Row],
    unread: Sequence[Sequence[int]],
    caches: Sequence[Cache | None],
    options: SamplingOptions,
    progress: Progress | None = None,
    images: Sequence[Sequence[SeenImage]] | None = None,
) -> Generator[Piece, None, None]:
    """Read the unread rest of the prompts, then choose and read tokens until every row has ended.

    rows      B texts
    unread    for each, the ids that its cache does not hold, at least one
    caches    for each, extended by all tokens but the last one, which is never read; None for a new cache
    progress  see ``Progress``
    images    of each text, those that its cache holds or not; None for none

    Where the options say so, each pass also checks a guess (lookup.py); wrong tokens are removed from the
    cache. Raises InputError where the cache cannot be truncated.
    """
    if options.max_new_tokens == 0 or not rows:
        return
    read = reading(model, options)
    held = [
        roomy_cache(model, len(ids), options) if cache is None else cache
        for ids, cache in zip(unread, caches, strict=True)
    ]
    most = options.prompt_lookup_num_tokens
    first = []
    seen = [()] * len(rows) if images is None else images
    for row, ids, cache, its_images in zip(rows, unread, held, seen, strict=True):
        with numbered([row.index]):
            first.append(prefill(read, ids, cache, progress, its_images))
    logits = np.concatenate(first)[:, None]  # (B, 1, V)
    cache = held[0] if len(held) == 1 else join_caches(held)
    del held  # the joined cache is a copy
    if most and len(rows) > 1:
        raise InputError("prompt_lookup_num_tokens works on one prompt at a time.")
    if most and not cache.rewindable:
        raise InputError(
            "prompt_lookup_num_tokens cannot be used with this model: what it remembers of a wrong guess "
            "cannot be taken back. Leave it out."
        )
    guess: list[int] = []
    while True:
        going = []
        for i, row in enumerate(rows):
            pieces = row.check(guess, logits[i])
            if guess:  # before yielding: a caller that stops iterating must find a correct cache
                cache.truncate(int(cache.lengths[0]) - len(guess) - 1 + len(pieces))
            yield from pieces
            if pieces[-1].finish_reason is None:
                going.append(i)
        if not going:
            return
        if len(going) < len(rows):
            rows = [rows[i] for i in going]
            cache = cache.select(going)
        if most:
            # No guess beyond a length at which rotations change: its tokens would be rotated by other angles.
            guess = look_up(rows[0].ids, min(most, rows[0].left - 1, cache.alike(1 + most) - 1))
        newest = np.array([[row.ids[-1], *guess] for row in rows])  # (B, 1 + G)
        with numbered([row.index for row in rows]):
            logits = read(newest, cache=cache, last_only=not guess)  # (B, 1 + G, V)


def reading(model: LanguageModel, options: SamplingOptions) -> Read:
    """Return the model with its threads limited to the cores that other processes leave free.

    With a seed the number of threads does not change: another number may sum in another order, and the text
    must be the same every time.
    """
    return model if options.seed is not None else beside_others(model)


def prefill(
    read: Read,
    ids: Sequence[int],
    cache: Cache,
    progress: Progress | None = None,
    images: Sequence[SeenImage] = (),
) -> Logits:
    """Read a prompt, or the rest of one, in pieces; none ends where tokens see later ones.

    ids       (T,) at least one, which follow the tokens in the cache
    progress  see ``Progress``; called where there is more than one piece
    images    of the whole text

    Returns the logits (1, V) after it.
    """
    rows = np.asarray(ids)[None]  # (1, T)
    if images:
        read = partial(read, images=[images])
    if len(ids) <= PREFILL:
        return read(rows, cache=cache, last_only=True)[:, -1]
    tell = progress or (lambda read, of: None)
    held = int(cache.lengths[0])
    ends = [end - held for end in piece_ends(images, held, held + len(ids), PREFILL)]
    with cache.reading(len(ids)):
        for start, end in pairwise([0, *ends]):
            tell(start, len(ids))
            logits = read(rows[:, start:end], cache=cache, last_only=True)  # (1, 1, V)
    tell(len(ids), len(ids))
    return logits[:, -1]


def roomy_cache(model: LanguageModel, prompt_length: int, options: SamplingOptions) -> Cache:
    """Make an empty cache with room for a prompt and the new tokens."""
    capacity = prompt_length + min(options.max_new_tokens, ROOM)
    if model.context_length is not None:
        capacity = min(capacity, model.context_length)
    return model.new_cache(1, capacity=capacity)


def room_after(model: LanguageModel, prompt: Sequence[int], cache: Cache | None = None) -> int | None:
    """Return how many tokens may follow a prompt and the cached ones before it; None for any number.

    The last token is never read by the model, so it needs no position.
    """
    if model.context_length is None:
        return None
    return model.context_length - (0 if cache is None else int(cache.lengths[0])) - len(prompt) + 1


def number_of_tokens(tokens: int, of_images: int) -> str:
    """Say how many tokens there are, and how many of them are those of images."""
    return f"{tokens} tokens" + (f" ({of_images} of images)" if of_images else "")


def check_prompt(
    model: LanguageModel,
    prompt: Sequence[int],
    name: str = "The prompt",
    held: int = 0,
    of_images: int = 0,
) -> None:
    """Raise InputError for an empty prompt, ContextFullError for one too long.

    held       how many tokens the cache holds before it
    of_images  how many of its tokens are those of images
    """
    if not prompt:
        raise InputError(f"{name} is empty. The model needs at least one token to continue.")
    if model.context_length is not None and held + len(prompt) > model.context_length:
        tokens = number_of_tokens(len(prompt), of_images)
        before = f", {held} are in the cache" if held else ""
        raise ContextFullError(
            f"{name} has {tokens}{before}, but the model holds {model.context_length}. Shorten it."
        )
