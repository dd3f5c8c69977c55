"""The loop: logits → token → logits, for one prompt or many, until each text has ended.

There is one loop. A single prompt is a batch of one; streaming is looking at the tokens as they come, and a
finished text is all of them put together. Prompts of different lengths are read one by one and need no
padding: a cache keeps the length of each of its rows. From then on all rows go through the model together,
which reads the weights once for all of them, and a row that has ended leaves the batch.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import ContextFullError, InputError
from tinystar_np.fast.threads import beside_others
from tinystar_np.generation.lookup import look_up
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.sampling import Logits, log_probability, sample
from tinystar_np.generation.stopping import StopFilter
from tinystar_np.state import PREFILL, join_caches
from tinystar_np.text import TextStream, Tokenizer

ROOM = 4096  # new tokens that a cache makes room for in advance; it grows beyond that by itself

FinishReason = Literal["end", "stop", "length", "context"]


class LanguageModel(Protocol):
    """What generation asks of a model."""

    context_length: int | None
    end_ids: tuple[int, ...]

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Any:
        """Make an empty cache with room for ``capacity`` tokens; it is used as state/cache.py's is."""

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> NDArray[np.float32]:
        """Continue after what the cache holds: ids (B, T) → logits (B, T, V), or (B, 1, V)."""


Read = Callable[..., NDArray[np.float32]]
"""A language model as it is called."""


@dataclass(frozen=True)
class Piece:
    """One generated token.

    text           what became final with it: often the token's own text, sometimes none or that of several
    token_id       the token
    logprob        the logarithm of its probability under the model itself, before temperature and filters
    finish_reason  None where more follows; else why this is the last: "end" an end-of-text token, "stop" a
                   stop string, "length" max_new_tokens, "context" the model has no position left
    guessed        whether it was guessed (prompt_lookup_num_tokens), and cost no pass of its own
    """

    text: str
    token_id: int
    logprob: float
    finish_reason: FinishReason | None
    guessed: bool = False


class Row:
    """One text while it is generated: the rules for choosing its tokens and for ending it.

    index      its place in the list of prompts
    prompt     (T,) ids
    tokenizer  None where only ids are wanted
    end_ids    what ends the text; None is what the model says
    apart      whether the new text is one of its own, as an answer is, and not the rest of the prompt's
    held       tokens that the cache holds before the prompt
    """

    def __init__(
        self,
        index: int,
        prompt: Sequence[int],
        model: LanguageModel,
        tokenizer: Tokenizer | None,
        options: SamplingOptions,
        end_ids: Collection[int] | None = None,
        apart: bool = False,
        held: int = 0,
    ) -> None:
        self.index = index
        self.options = options
        self.ids = list(prompt)
        self._end_ids = model.end_ids if end_ids is None else end_ids
        # A generator of its own: what a row draws does not depend on the company it is in. None where nothing
        # is drawn, because NumPy loads its random module, 7 MB, only when it is first asked for.
        self._rng = None if options.temperature == 0 else np.random.default_rng(options.seed)
        self._tokenizer = tokenizer
        self._text = TextStream(tokenizer, after=() if apart else self.ids) if tokenizer else None
        self._stops = StopFilter(options.stop)
        # The last token is never read by the model, so it needs no position.
        fits = np.inf if model.context_length is None else model.context_length - held - len(self.ids) + 1
        self.left = min(options.max_new_tokens, fits)
        """How many tokens there is room for."""
        self._last_reason: FinishReason = "length" if options.max_new_tokens <= fits else "context"

    def step(self, logits: Logits) -> Piece:
        """Choose the next token from its logits (V,)."""
        token_id = sample(logits, self.ids, self.options, self._rng)
        self.ids.append(token_id)
        self.left -= 1
        reason: FinishReason | None = None
        if token_id in self._end_ids:
            reason = "end"
        elif self.left <= 0:
            reason = self._last_reason
        text = self._text_of(token_id, last=reason is not None)
        if self._stops.stopped and reason != "end":
            reason = "stop"
        return Piece(text, token_id, log_probability(logits, token_id), reason)

    def _text_of(self, token_id: int, last: bool) -> str:
        """Return the text that is final with this token; with the last one, all that was kept back."""
        if self._tokenizer is None or self._text is None:
            return ""
        # The end of a text is no part of it, even where the tokenizer does not call its token a special one.
        if token_id in self._tokenizer.special_ids or token_id in self._end_ids:
            text = self._hide(token_id, self._tokenizer, self._text)
        else:
            text = self._stops.push(self._text.push(token_id))
        if last:
            text += self._stops.push(self._text.flush()) + self._stops.flush()
        return text

    def _hide(self, token_id: int, tokenizer: Tokenizer, stream: TextStream) -> str:
        """Show a token to the stop strings alone, and return the text that is final with it."""
        special = token_id in tokenizer.special_ids
        hidden = tokenizer.token(token_id) if special else tokenizer.decode([token_id])
        unfinished, text = stream.unfinished, ""
        if token_id in self._end_ids or self._stops.would_stop(unfinished + hidden):
            text = self._stops.push(stream.flush())  # nothing follows
        else:
            hidden = unfinished + hidden  # what begins a character here may be completed after it
        return text + self._stops.push(hidden, hidden=True)


def run(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokenizer: Tokenizer | None,
    options: SamplingOptions,
    cache: Any = None,
) -> Iterator[tuple[int, Piece]]:
    """Generate a continuation of each prompt, all at the same time.

    prompts    token ids, each at least one
    tokenizer  to give the pieces their text; None for ids alone
    cache      what comes before the one prompt that there then is, extended; None for nothing

    Yields (index of the prompt, piece): one piece for each prompt that has not ended, again and again.
    """
    if options.max_new_tokens == 0 or not prompts:
        return
    held = 0 if cache is None else int(cache.lengths[0])
    rows = [Row(index, prompt, model, tokenizer, options, held=held) for index, prompt in enumerate(prompts)]
    caches = [roomy_cache(model, len(p), options) if cache is None else cache for p in prompts]
    read = reading(model, options)
    logits = [prefill(read, prompt, cache) for prompt, cache in zip(prompts, caches, strict=True)]
    cache = caches[0] if len(caches) == 1 else join_caches(caches)
    del caches  # the joined cache is a copy
    if options.prompt_lookup_num_tokens:
        if len(rows) > 1:
            raise InputError("prompt_lookup_num_tokens works on one prompt at a time.")
        yield from decode_with_lookup(read, rows[0], logits[0], cache, options.prompt_lookup_num_tokens)
        return
    yield from decode(read, rows, np.concatenate(logits), cache)


def reading(model: LanguageModel, options: SamplingOptions) -> Read:
    """Let a model use no more threads than other processes leave cores for.

    For a text with a seed it uses the same number from the first token to the last: another one may sum in
    another order, and the text is to be the same every time.
    """
    return model if options.seed is not None else beside_others(model)


def decode(read: Read, rows: list[Row], logits: Logits, cache: Any) -> Iterator[tuple[int, Piece]]:
    """Choose and read tokens until every row has ended.

    rows    B texts
    logits  (B, V) what follows the last token of each
    cache   what the model has read of them: all but what is chosen from now on. The last token that a row
            gets is never read.

    Yields (index of the row, piece): one piece for each row that has not ended, again and again.
    """
    while True:
        going = []
        for i, row in enumerate(rows):
            piece = row.step(logits[i])
            yield row.index, piece
            if piece.finish_reason is None:
                going.append(i)
        if not going:
            return
        if len(going) < len(rows):
            rows = [rows[i] for i in going]
            cache = cache.select(going)
        newest = np.array([row.ids[-1:] for row in rows])  # (B, 1)
        logits = read(newest, cache=cache, last_only=True)[:, -1]  # (B, V)


def decode_with_lookup(
    read: Read, row: Row, logits: Logits, cache: Any, most: int
) -> Iterator[tuple[int, Piece]]:
    """Choose and read tokens until the row has ended, several at a time where guesses are right.

    Each guess (lookup.py) is checked in one pass; what is wrong of it is taken out of the cache.

    row     one text, chosen greedily
    logits  (1, V) what follows its last token
    cache   what the model has read of it
    most    tokens to guess at once

    Yields (index of the row, piece), as ``decode`` does.
    Raises InputError where the cache cannot go back.
    """
    if not cache.rewindable:
        raise InputError(
            "prompt_lookup_num_tokens cannot be used with this model: what it remembers of a wrong guess "
            "cannot be taken back. Leave it out."
        )
    pieces = [row.step(logits[0])]
    while True:
        for piece in pieces:
            yield row.index, piece
        if pieces[-1].finish_reason is not None:
            return
        held = int(cache.lengths[0])
        # A guess may not lie beyond where rotations change: its tokens would turn otherwise than one by one.
        guess = look_up(row.ids, int(min(most, row.left - 1, cache.alike(1 + most) - 1)))
        following = read(np.array([[row.ids[-1], *guess]]), cache=cache)[0]  # (1 + guessed, V)
        pieces = []
        for guessed, scores in zip([*guess, None], following, strict=True):
            piece = row.step(scores)
            more = piece.token_id == guessed and piece.finish_reason is None
            pieces.append(replace(piece, guessed=more))
            if not more:
                break
        # Before anything is handed out: whoever stops listening finds the cache as long as the text.
        cache.truncate(held + len(pieces))


def roomy_cache(model: LanguageModel, prompt_length: int, options: SamplingOptions) -> Any:
    """Make an empty cache with room for a prompt and what will follow it."""
    capacity = prompt_length + min(options.max_new_tokens, ROOM)
    if model.context_length is not None:
        capacity = min(capacity, model.context_length)
    return model.new_cache(1, capacity=capacity)


def prefill(read: Read, ids: Sequence[int], cache: Any) -> Logits:
    """Read a prompt, or what is new of it, in pieces.

    ids    (T,) at least one, which follow what the cache holds

    Returns the logits (1, V) that follow it.
    """
    rows = np.asarray(ids)[None]  # (1, T)
    if len(ids) <= PREFILL:
        return read(rows, cache=cache, last_only=True)[:, -1]
    with cache.reading(len(ids)):
        for start in range(0, len(ids), PREFILL):
            logits = read(rows[:, start : start + PREFILL], cache=cache, last_only=True)  # (1, 1, V)
    return logits[:, -1]


def check_prompt(
    model: LanguageModel, prompt: Sequence[int], name: str = "The prompt", held: int = 0
) -> None:
    """Raise what is wrong with a prompt before anything is read.

    held  tokens that the cache holds before it
    """
    if not prompt:
        raise InputError(f"{name} is empty. The model needs at least one token to continue.")
    if model.context_length is not None and held + len(prompt) > model.context_length:
        before = f", {held} are in the cache" if held else ""
        raise ContextFullError(
            f"{name} has {len(prompt)} tokens{before}, but the model holds {model.context_length}. "
            "Shorten it."
        )
