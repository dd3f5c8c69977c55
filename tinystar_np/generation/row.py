"""A text that is being generated: its ids, how its tokens are chosen, and when it ends."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.sampling import Logits, log_probability, sample
from tinystar_np.generation.scores import likeliest_of
from tinystar_np.generation.stopping import StopFilter
from tinystar_np.kernels.softmax import log_softmax
from tinystar_np.text import TextStream, Tokenizer

FinishReason = Literal["end", "stop", "length", "context"]


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
    top        how many of the likeliest tokens to name with each
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
        top: int = 0,
    ) -> None:
        self._top = top
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
        """Continue the text after these tokens, in a context in which ``fits`` more fit; see the class."""
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
        if not self._top:
            return Piece(text, token_id, log_probability(logits, token_id), reason, index=self.index)
        logprobs = log_softmax(logits)
        own, top = float(logprobs[token_id]), likeliest_of(logprobs, self._top)
        return Piece(text, token_id, own, reason, index=self.index, top=top)

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
