"""The sampler's steps for one token: what each did to the distribution, and where the random number fell.

    model → logit_bias → repetition_penalty → frequency_penalty → presence_penalty → no_repeat_ngram_size
          → temperature → top_k → top_p → min_p → typical_p → draw

The functions and the draw are the sampler's own (generation/sampling.py), so the token is the one that it
chooses with the same random generator. For several tokens in a row, the same generator is given on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.sampling import NEVER, Draw, Logits, draw, finite, functions, likeliest
from tinystar_np.kernels.softmax import softmax

SHOWN = 10  # candidates of a step
MODEL = "model"  # the name of the first step: the logits as they came


@dataclass(frozen=True)
class Candidate:
    """A token with its logit and its probability at a step."""

    token_id: int
    logit: float
    probability: float


@dataclass(frozen=True)
class SamplerStep:
    """What one function of the sampler did.

    name         of its option, such as "top_p"; "model" for the logits before any
    setting      the option's value, of logit_bias how many tokens it names; None for the model
    logits       (V,) after it, tokens that must not be chosen at -inf
    left         how many tokens can still be chosen
    fell         how many no longer can because of it
    fallen       the likeliest of these, with logit and probability before it
    mass         the probability that the tokens left had before it; 1 where none fell
    model_mass   the probability that the model itself gave the tokens left
    leading      the likeliest tokens after it
    """

    name: str
    setting: float | None
    logits: Logits
    left: int
    fell: int
    fallen: tuple[Candidate, ...]
    mass: float
    model_mass: float
    leading: tuple[Candidate, ...]


@dataclass(frozen=True)
class Drawn:
    """Where the random number fell: the tokens' probabilities laid end to end in the order of their ids.

    start, end  the chosen token's interval; all intervals together are 0 to 1
    number      the place in it that was drawn
    draw        the two draws that this place stands for: a block of neighbouring tokens, the token within it
    """

    start: float
    end: float
    number: float
    draw: Draw


@dataclass(frozen=True)
class SamplerSteps:
    """How one token was chosen.

    steps     the model's distribution, then one step for each option that is on, in order
    token_id  the chosen token
    drawn     where the random number fell; None at temperature 0, where the largest logit is taken
    """

    steps: tuple[SamplerStep, ...]
    token_id: int
    drawn: Drawn | None


def sampler_steps(
    logits: Logits,
    history: Sequence[int],
    options: SamplingOptions,
    rng: "np.random.Generator | None",
    shown: int = SHOWN,
    generated: Sequence[int] = (),
) -> SamplerSteps:
    """Choose the next token as ``sample`` does, and say how.

    logits     (V,), from the model
    history    ids of the prompt and the tokens generated so far
    options    which functions to apply; temperature 0 takes the largest logit, after the penalties
    rng        the random generator, of which as many numbers are drawn as by ``sample``; may be None at
               temperature 0
    shown      how many candidates a step lists at most
    generated  those of the history that were generated

    Returns the steps.
    Raises TinyStarError where the model gave NaN or infinity, InputError where no token is left.
    """
    logits = finite(logits)
    model = softmax(logits)
    steps = [_step(MODEL, None, logits, logits, model, shown)]
    for name, function in functions(history, options, generated).items():
        after = function(logits)
        setting = len(options.biases) if name == "logit_bias" else float(getattr(options, name))
        steps.append(_step(name, setting, logits, after, model, shown))
        logits = after
    best = likeliest(logits, options)
    if options.temperature == 0:
        return SamplerSteps(tuple(steps), best, None)
    assert rng is not None
    drawn = draw(logits, rng)
    return SamplerSteps(tuple(steps), drawn.token_id, _on_one_line(drawn))


def _step(
    name: str, setting: float | None, before: Logits, after: Logits, model: NDArray, shown: int
) -> SamplerStep:
    """Compare the logits before and after a function; ``model`` (V,) are the model's own probabilities."""
    left = after > NEVER
    fell = (before > NEVER) & ~left
    chances = softmax(before)
    return SamplerStep(
        name=name,
        setting=setting,
        logits=after,
        left=int(np.count_nonzero(left)),
        fell=int(np.count_nonzero(fell)),
        fallen=_likeliest(before, chances, np.flatnonzero(fell), shown),
        mass=1.0 if not fell.any() else float(chances[left].sum(dtype=np.float64)),
        model_mass=float(model[left].sum(dtype=np.float64)),
        leading=_likeliest(after, softmax(after), np.flatnonzero(left), shown),
    )


def _likeliest(
    logits: Logits, probabilities: NDArray, ids: NDArray[np.integer], shown: int
) -> tuple[Candidate, ...]:
    """Return the likeliest of these ids, the lowest id first among equals."""
    if 0 < shown < len(ids):  # sorting the whole vocabulary would take longer than all else
        border = np.partition(logits[ids], len(ids) - shown)[len(ids) - shown]
        ids = ids[logits[ids] >= border]
    order = ids[np.argsort(-logits[ids], kind="stable")][:shown]
    return tuple(Candidate(int(id), float(logits[id]), float(probabilities[id])) for id in order)


def _on_one_line(draw: Draw) -> Drawn:
    """Map the draw within a block into the block's own interval."""
    block, within = draw
    width = block.end - block.start
    start, end, number = (block.start + width * place for place in (within.start, within.end, within.number))
    return Drawn(start, end, number, draw)
