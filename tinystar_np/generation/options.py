"""The settings of generation, with transformers' names; the defaults are the model's own distribution."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypedDict

from tinystar_np.errors import InputError


class Sampling(TypedDict, total=False):
    """The same options as keyword arguments of ``generate`` and similar functions."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float] | Iterable[tuple[int, float]]
    no_repeat_ngram_size: int
    prompt_lookup_num_tokens: int
    stop: str | Iterable[str]
    seed: int | None


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose tokens, and when to stop.

    max_new_tokens        at most so many tokens
    temperature           below 1 the likely get likelier, above 1 less so; 0 takes the likeliest (greedy)
    top_k                 choose among the k likeliest tokens; 0 is off
    top_p                 choose among the likeliest tokens that together have this probability; 1 is off
    min_p                 drop tokens with less than this part of the likeliest one's probability; 0 is off
    typical_p             choose among the most typical tokens that together have this probability; 1 is off
    repetition_penalty    above 1 makes tokens less likely that the text holds already; 1 is off
    frequency_penalty     subtracted from a token's logit for each time it was generated; below 0 it is added,
                          0 is off
    presence_penalty      subtracted once from the logit of each token that was generated; 0 is off
    logit_bias            {token id: number} to add to the logits of these tokens: 100 nearly forces one, -100
                          nearly forbids it. Pairs of both are taken too, and stored
    no_repeat_ngram_size  no sequence of so many tokens occurs twice; 0 is off
    prompt_lookup_num_tokens
                          guess so many tokens at once from the text so far, and check them in one pass: the
                          same greedy text, faster where it repeats itself; 0 is off
    stop                  texts at which to end; they are not part of the result. The text of a special token
                          (`<|im_end|>`) counts, though the result never has it
    seed                  the same seed, prompt and settings give the same text; None is different every time.
                          With a seed, even at temperature 0, the number of threads does not change; without,
                          fewer are used while other processes are busy, and logits may differ in their last
                          bits from run to run.

    Raises InputError where a value is out of its range.
    """

    max_new_tokens: int = 100
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] | Iterable[tuple[int, float]] = ()
    no_repeat_ngram_size: int = 0
    prompt_lookup_num_tokens: int = 0
    stop: str | Iterable[str] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "top_k", "no_repeat_ngram_size", "prompt_lookup_num_tokens", "seed"):
            value = getattr(self, name)
            whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
            if not whole and (name, value) != ("seed", None):
                raise InputError(f"{name} is {value!r}; it must be a whole number, 0 or more.")
        for name, (lowest, highest, allowed) in RANGES.items():
            value = getattr(self, name)
            # Written so that NaN, for which every comparison is false, fails too.
            if not isinstance(value, Real) or not lowest <= float(value) <= highest:
                raise InputError(f"{name} is {value!r}; it must be {allowed}.")
        object.__setattr__(self, "logit_bias", _pairs(self.logit_bias))
        if self.prompt_lookup_num_tokens and self.temperature != 0:
            raise InputError(
                f"prompt_lookup_num_tokens is {self.prompt_lookup_num_tokens}, but guesses can only be "
                f"checked where nothing is drawn: temperature is {self.temperature}, and must be 0."
            )
        # One text or any collection of texts is accepted, and stored as a tuple.
        one = isinstance(self.stop, str) or not isinstance(self.stop, Iterable)
        stop = (self.stop,) if one else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        if not all(isinstance(text, str) and text for text in stop):
            raise InputError(f"stop is {stop!r}; it must be texts, none of them empty.")

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts at which to end."""
        return tuple(self.stop)

    @property
    def biases(self) -> tuple[tuple[int, float], ...]:
        """The token ids of ``logit_bias`` and their numbers."""
        pairs = self.logit_bias.items() if isinstance(self.logit_bias, Mapping) else self.logit_bias
        return tuple(pairs)


def _pairs(given: Mapping[int, float] | Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Check token ids and the numbers to add to their logits; of two for one token the last counts."""
    wanted = f"token ids with a number from {-BIGGEST_BIAS} to {BIGGEST_BIAS} for each, as {{50: -5.0}}"
    try:
        biases = dict(given)
    except (TypeError, ValueError):
        raise InputError(f"logit_bias is {given!r}; it must be {wanted}.") from None
    for id, bias in biases.items():
        whole = isinstance(id, Integral) and not isinstance(id, bool) and int(id) >= 0
        # Written so that NaN, for which every comparison is false, fails too.
        if not whole or not isinstance(bias, Real) or not abs(float(bias)) <= BIGGEST_BIAS:
            raise InputError(f"logit_bias is {bias!r} for token {id!r}; it must be {wanted}.")
    return tuple((int(id), float(bias)) for id, bias in biases.items())


BIGGEST_BIAS = 100  # as in OpenAI's interface

# name: lowest, highest, in words. Values beyond 1e±30 are of no use, and near the limits of float32.
RANGES = {
    "temperature": (0, 1e30, "0 (greedy) or a number above it, up to 1e30"),
    "top_p": (0, 1, "a number from 0 to 1 (off)"),
    "min_p": (0, 1, "a number from 0 (off) to 1"),
    "typical_p": (1e-30, 1, "a number above 0, up to 1 (off)"),
    "repetition_penalty": (1e-30, 1e30, "a number from 1e-30 to 1e30; 1 is off"),
    # As in OpenAI's interface.
    "frequency_penalty": (-2, 2, "a number from -2 to 2; 0 is off"),
    "presence_penalty": (-2, 2, "a number from -2 to 2; 0 is off"),
}
