"""Sampling: from logits to the next token, by pure functions in transformers' order and with its semantics.

    logits → logit_bias → repetition_penalty → frequency_penalty → presence_penalty → no_repeat_ngram
           → temperature → top_k → top_p → min_p → typical_p → softmax → draw

The frequency and the presence penalty, which transformers lacks, are OpenAI's and stand where vLLM has them.
The bias comes first in both libraries: penalties and filters take a biased logit for the model's own.

Each takes logits and returns new ones; a token that must not be chosen gets -inf, so that its probability is
0. All are float32, one vector at a time. Only sums over the vocabulary are float64, since the rounding of 100
000 additions would move the threshold of `top_p`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.kernels.softmax import log_softmax, softmax

Logits = NDArray[np.float32]
NEVER = np.float32(-np.inf)
TINY = float(np.finfo(np.float32).tiny)
BLOCK = 256  # about the square root of a vocabulary


def sample(
    logits: Logits,
    history: Sequence[int],
    options: SamplingOptions,
    rng: "np.random.Generator | None",
    generated: Sequence[int] = (),
) -> int:
    """Choose the next token.

    logits     (V,), from the model
    history    ids of the prompt and the tokens generated so far
    options    which functions to apply; temperature 0 takes the largest logit, after the penalties
    rng        the random generator; may be None at temperature 0
    generated  those of the history that were generated: what the frequency and the presence penalty count

    Returns a token id.
    Raises TinyStarError where the model gave NaN or infinity, InputError where no token is left, or where
    ``logit_bias`` names a token that there is not.
    """
    logits = filtered(finite(logits), history, options, generated)
    best = likeliest(logits, options)
    if options.temperature == 0:
        return best
    assert rng is not None
    return draw(logits, rng).token_id


def finite(logits: Logits) -> Logits:
    """Return a model's logits (V,) as float32; raises TinyStarError where they are NaN or infinite."""
    logits = np.asarray(logits, dtype=np.float32)
    if not np.isfinite(logits.max()):  # NaN and +inf both come out as the maximum
        raise TinyStarError(
            "The model's logits are not finite numbers, so no token can be chosen. Its weights are damaged, "
            "or their element type is too small for it: try dtype='float32'."
        )
    return logits


def likeliest(logits: Logits, options: SamplingOptions) -> int:
    """Return the id of the largest of the filtered logits (V,); raises InputError where no token is left."""
    best = int(logits.argmax())
    if logits[best] == NEVER:
        raise InputError(
            f"no_repeat_ngram_size={options.no_repeat_ngram_size} forbids every token of the vocabulary. "
            "Use a larger size, or 0 (off)."
        )
    return best


def filtered(
    logits: Logits, history: Sequence[int], options: SamplingOptions, generated: Sequence[int] = ()
) -> Logits:
    """Apply the functions that the options turn on, in order.

    logits     (V,)
    history    ids of the prompt and the tokens generated so far
    generated  those of them that were generated

    Returns (V,), forbidden tokens at -inf.
    """
    for function in functions(history, options, generated).values():
        logits = function(logits)
    return logits


def functions(
    history: Sequence[int], options: SamplingOptions, generated: Sequence[int] = ()
) -> dict[str, Callable[[Logits], Logits]]:
    """Return the functions that the options turn on, by the option's name, in the order of their application.

    history    ids of the prompt and the tokens generated so far
    generated  those of them that were generated
    """
    on: dict[str, Callable[[Logits], Logits]] = {}
    if biases := options.biases:
        on["logit_bias"] = lambda logits: logit_bias(logits, biases)
    if (penalty := options.repetition_penalty) != 1:
        on["repetition_penalty"] = lambda logits: repetition_penalty(logits, history, penalty)
    if (frequency := options.frequency_penalty) != 0:
        on["frequency_penalty"] = lambda logits: frequency_penalty(logits, generated, frequency)
    if (presence := options.presence_penalty) != 0:
        on["presence_penalty"] = lambda logits: presence_penalty(logits, generated, presence)
    if (size := options.no_repeat_ngram_size) > 0:
        on["no_repeat_ngram_size"] = lambda logits: no_repeat_ngram(logits, history, size)
    if options.temperature == 0:
        return on  # greedy: the functions below never change which is the largest
    if options.temperature != 1:
        on["temperature"] = lambda logits: temperature(logits, options.temperature)
    if options.top_k > 0:
        on["top_k"] = lambda logits: top_k(logits, options.top_k)
    if options.top_p < 1:
        on["top_p"] = lambda logits: top_p(logits, options.top_p)
    if options.min_p > 0:
        on["min_p"] = lambda logits: min_p(logits, options.min_p)
    if options.typical_p < 1:
        on["typical_p"] = lambda logits: typical_p(logits, options.typical_p)
    return on


def logit_bias(logits: Logits, biases: Sequence[tuple[int, float]]) -> Logits:
    """Add a number to the logits of single tokens.

    biases  token ids, each once, and their numbers

    Raises InputError for a token that there is not.
    """
    ids, numbers = zip(*biases, strict=True)
    if max(ids) >= len(logits):
        raise InputError(f"logit_bias names token {max(ids)}; the model has tokens 0 to {len(logits) - 1}.")
    biased = logits.copy()
    biased[list(ids)] += np.array(numbers, dtype=np.float32)
    return biased


def repetition_penalty(logits: Logits, history: Sequence[int], penalty: float) -> Logits:
    """Make tokens that already occurred less likely (Keskar et al. 2019, arXiv:1909.05858).

    A positive logit is divided by the penalty and a negative one multiplied, so that both move down. How
    often a token occurred does not matter.
    """
    ids = np.asarray(history, dtype=np.int64)
    ids = ids[ids < len(logits)]  # an embedding may have more rows than the output head
    scores = logits[ids]
    factor = np.float32(penalty)
    penalised = logits.copy()
    penalised[ids] = np.where(scores < 0, scores * factor, scores / factor)
    return penalised


def frequency_penalty(logits: Logits, generated: Sequence[int], penalty: float) -> Logits:
    """Subtract the penalty from a token's logit as often as the token was generated.

    Unlike ``repetition_penalty`` it does not depend on where the zero of the logits lies, and the prompt's
    tokens do not count: a question's words may stand in the answer.
    """
    ids, counts = _counted(generated, len(logits))
    penalised = logits.copy()
    penalised[ids] -= np.float32(penalty) * counts
    return penalised


def presence_penalty(logits: Logits, generated: Sequence[int], penalty: float) -> Logits:
    """Subtract the penalty once from the logit of each token that was generated, however often it was."""
    ids, _ = _counted(generated, len(logits))
    penalised = logits.copy()
    penalised[ids] -= np.float32(penalty)
    return penalised


def _counted(ids: Sequence[int], vocabulary: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the ids that occur, each once, and how often each does."""
    each, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
    scored = each < vocabulary  # an embedding may have more rows than the output head
    return each[scored], counts[scored].astype(np.float32)


def no_repeat_ngram(logits: Logits, history: Sequence[int], size: int) -> Logits:
    """Forbid the tokens that would complete a sequence of ``size`` tokens that occurred before."""
    ids = np.asarray(history, dtype=np.int64)
    if len(ids) < size:
        return logits
    windows = sliding_window_view(ids, size)  # (T - size + 1, size)
    beginning = ids[len(ids) - size + 1 :]  # (size - 1,): the next token would complete it
    banned = windows[(windows[:, :-1] == beginning).all(axis=1), -1]
    allowed = logits.copy()
    allowed[banned[banned < len(logits)]] = NEVER
    return allowed


def temperature(logits: Logits, value: float) -> Logits:
    """Divide logits by the temperature, shifted so that the largest is 0.

    The shift does not change the softmax. Without it a small temperature overflows to inf, and inf - inf is
    NaN.
    """
    with np.errstate(over="ignore"):
        scaled: Logits = (logits - logits.max()) / np.float32(max(value, TINY))
    return scaled


def top_k(logits: Logits, k: int) -> Logits:
    """Keep the k largest, and all that equal the smallest of them (Fan et al. 2018, arXiv:1805.04833)."""
    if k >= len(logits):
        return logits
    border = len(logits) - k
    smallest = np.partition(logits, border)[border]
    return np.where(logits < smallest, NEVER, logits)


def top_p(logits: Logits, p: float) -> Logits:
    """Keep the likeliest tokens that together have probability p (Holtzman et al. 2019, arXiv:1904.09751).

    From the least likely upwards, tokens are dropped as long as their sum is at most 1 - p. The likeliest one
    always stays.
    """
    weights = softmax(logits)
    # V tokens of at most (1 - p) / V each are dropped in any case: nearly all, and not worth sorting.
    # Half of that bound, so that rounding cannot drop too many.
    candidates = np.flatnonzero(weights > np.float32(0.5 * (1 - p) / len(weights)))
    rising = np.sort(weights[candidates])
    sums = np.cumsum(rising, dtype=np.float64)
    sums += 1.0 - sums[-1]  # the others come before them
    dropped = min(int(np.searchsorted(sums, 1 - p, side="right")), len(rising) - 1)
    border = rising[dropped]
    kept = np.where(weights < border, NEVER, logits)
    # Of tokens equal to the border only as many stay as are needed.
    surplus = np.count_nonzero(weights >= border) - (len(rising) - dropped)
    if surplus > 0:
        kept[np.flatnonzero(weights == border)[:surplus]] = NEVER
    return kept


def min_p(logits: Logits, p: float) -> Logits:
    """Drop tokens whose probability is below p times the largest (Nguyen et al. 2024, arXiv:2407.01082).

    A ratio of probabilities is a difference of logits, so no softmax is needed.
    """
    return np.where(logits < logits.max() + np.float32(np.log(p)), NEVER, logits)


def typical_p(logits: Logits, p: float) -> Logits:
    """Keep the most typical tokens that together have probability p (Meister et al. 2022, arXiv:2202.00666).

    The surprise of a token is -log of its probability, and its mean is the entropy H. Tokens are taken in the
    order of |surprise - H| until their probabilities sum to p; all that equal the last one stay too.
    """
    possible = np.flatnonzero(logits > NEVER)  # the others' terms of the entropy would be 0 · inf
    shifted = logits[possible] - logits.max()
    surprise = np.log(np.exp(shifted).sum()) - shifted
    weights = np.exp(-surprise)
    distance = np.abs(surprise - (weights * surprise).sum())
    order = np.argsort(distance)
    taken = np.searchsorted(np.cumsum(weights[order], dtype=np.float64), p)
    last = order[min(int(taken), len(order) - 1)]
    return only(logits, possible[distance <= distance[last]])


class Landing(NamedTuple):
    """Where a random number came down among weights that are laid end to end from 0 to 1.

    chosen      the index of the chosen weight
    number      the random number
    start, end  the interval of the chosen weight: start ≤ number < end, but for rounding
    """

    chosen: int
    number: float
    start: float
    end: float


class Draw(NamedTuple):
    """A drawn token.

    block   the block of neighbouring tokens, drawn first
    within  the token within it
    """

    block: Landing
    within: Landing

    @property
    def token_id(self) -> int:
        """The drawn token."""
        return BLOCK * self.block.chosen + self.within.chosen


def draw(logits: Logits, rng: "np.random.Generator") -> Draw:
    """Draw a token from the softmax of the logits.

    First a block of neighbours, then a token within it: the same probabilities without a cumulative sum over
    the whole vocabulary, which would take longer than everything else here.
    """
    weights = np.exp(logits - logits.max())
    block = pick(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK)), rng)
    start = BLOCK * block.chosen
    return Draw(block, pick(weights[start : start + BLOCK], rng))


def pick(weights: Logits, rng: "np.random.Generator") -> Landing:
    """Draw an index with probability proportional to its weight."""
    sums = np.cumsum(weights, dtype=np.float64)
    total = float(sums[-1])
    number = rng.random()
    chosen = int(np.searchsorted(sums, number * total, side="right"))
    start = float(sums[chosen - 1]) / total if chosen else 0.0
    return Landing(chosen, number, start, float(sums[chosen]) / total)


def only(logits: Logits, ids: NDArray[np.int64]) -> Logits:
    """Return the logits of these ids, and -inf for all others."""
    kept = np.full_like(logits, NEVER)
    kept[ids] = logits[ids]
    return kept


def log_probability(logits: Logits, token_id: int) -> float:
    """Return the logarithm of a token's probability under (V,) logits."""
    return float(log_softmax(logits)[token_id])
