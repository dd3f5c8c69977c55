"""Configurations side by side: what each takes, and how fast each runs on this machine.

What it takes follows from the config: parameters, bytes, FLOPs (memory.py, flops.py). How fast it runs must
be measured, and the machine does other things meanwhile. So the models take turns: in every round each reads
the same prompt and then generates token by token, and what slows the machine for a minute slows all of them.
The median of the rounds is told, and their range. Speeds do not depend on what a model has learned: the
weights are random.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinystar_np.errors import InputError
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import StateSize, state_sizes, weight_sizes
from tinystar_np.inspection.speed import WARM_UP, Rounds, TinyStarEngine
from tinystar_np.models.base import Decoder
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig


@dataclass(frozen=True)
class Takes:
    """What a configuration takes, whatever machine it runs on.

    parameters      how many numbers were learned
    weight_bytes    of them, in float32
    state           what is kept of one text; None where nothing can be, the model sees both ways
    context_length  how many tokens fit, or None
    flops           of one token that sees so many: {context: FLOPs}
    """

    parameters: int
    weight_bytes: int
    state: StateSize | None
    context_length: int | None
    flops: dict[int, int]


def takes(config: TinyStarConfig, contexts: Sequence[int]) -> Takes:
    """Count what a configuration takes; no weight is made."""
    model = hollow_model(config.to_dict())
    weights, states = weight_sizes(model), state_sizes(model)
    return Takes(
        parameters=weights.parameters,
        weight_bytes=weights.nbytes["float32"],
        state=states[0] if states else None,
        context_length=config.context_length,
        flops={context: flops_per_token(model, context) for context in contexts},
    )


@dataclass(frozen=True)
class Speed:
    """How fast a configuration runs here.

    prefill  a prompt at once
    decode   token by token after it; None where no text can be continued
    """

    prefill: Rounds
    decode: Rounds | None


@dataclass(frozen=True)
class Experiment:
    """One configuration among others; ``speed`` is None where it was not measured."""

    name: str
    config: TinyStarConfig
    takes: Takes
    speed: Speed | None


def measure(
    configs: Mapping[str, TinyStarConfig],
    tokens: int,
    new: int,
    rounds: int,
    say: Callable[[str], None] = lambda words: None,
) -> dict[str, Speed]:
    """Measure configurations in turn: {name: how fast it runs}.

    configs  {name: config}; all models are in memory together
    tokens   length of the prompt
    new      tokens generated after it
    rounds   how often each takes its turn
    say      is told what is going on

    Raises ContextFullError where a model has no room for so many tokens.
    """
    models = {}
    for name, config in configs.items():
        say(f"{name}: drawing weights")
        models[name] = TinyStar(config)
    prefill: dict[str, list[float]] = {name: [] for name in models}
    decode: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            say(f"{name}: {f'round {turn} of {rounds}' if turn else 'warming up'}")
            reading, writing = _turn(model, tokens, new if turn else min(new, WARM_UP))
            if turn:
                prefill[name].append(tokens / reading)
                if writing is not None:
                    decode[name].append(new / writing)
    return {
        name: Speed(Rounds(tuple(prefill[name])), Rounds(tuple(decode[name])) if decode[name] else None)
        for name in models
    }


def _turn(model: Decoder, tokens: int, new: int) -> tuple[float, float | None]:
    """Read a prompt, then go on with the likeliest token: seconds of both, None where it cannot go on."""
    ids = np.random.default_rng(0).integers(model.vocab_size, size=(1, tokens)).tolist()
    if _continues(model):
        return TinyStarEngine(model).turn(ids, new)
    start = time.perf_counter()
    model(ids, last_only=True)
    return time.perf_counter() - start, None


def _continues(model: Decoder) -> bool:
    """Ask whether a model can continue a text."""
    try:
        model.new_cache()
    except InputError:
        return False
    return True
