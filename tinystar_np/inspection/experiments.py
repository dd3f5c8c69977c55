"""Comparing configurations: the size and cost of each, and its speed on this machine.

Parameters, bytes and FLOPs follow from the config (memory.py, flops.py). Speed is measured, in alternating
rounds (speed.py); it does not depend on training, and so the weights are random.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinystar_np.inspection.engines import TinyStarEngine
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import StateSize, state_sizes, weight_sizes
from tinystar_np.inspection.speed import Rounds, Say, Seconds, Task, by_turns
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig


@dataclass(frozen=True)
class Takes:
    """A configuration's size and cost, on any machine.

    parameters      number of weights
    weight_bytes    of them, in float32
    state           the cache of one text; None for a bidirectional model, which has none
    context_length  the most tokens, or None
    flops           of one token, by how many tokens it attends to: {context: FLOPs}
    """

    parameters: int
    weight_bytes: int
    state: StateSize | None
    context_length: int | None
    flops: dict[int, int]


def takes(config: TinyStarConfig, contexts: Sequence[int]) -> Takes:
    """Compute a configuration's size and cost, without making weights."""
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
    """A configuration's speed on this machine, in tokens per second.

    prefill  of a whole prompt
    decode   of generating token by token after it; None for a bidirectional model
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


class ReadingEngine(TinyStarEngine):
    """A bidirectional model as an engine: it reads texts, and generates nothing."""

    def turn(self, ids: list[list[int]], new: int) -> Seconds:
        """Read prompts (B, T): the seconds of that, and 0."""
        start = time.perf_counter()
        self.model(ids, last_only=True)
        return time.perf_counter() - start, 0.0


def measure(
    configs: Mapping[str, TinyStarConfig],
    tokens: int,
    new: int,
    rounds: int,
    say: Say = lambda words: None,
) -> dict[str, Speed]:
    """Measure configurations in alternating rounds: {name: its speed}.

    configs  {name: config}; all models are in memory together
    tokens   length of the prompt
    new      tokens generated after it
    rounds   how often each is measured
    say      called with progress messages

    Raises ContextFullError where a model has no room for so many tokens.
    """
    say("drawing weights")
    models = {name: TinyStar(config) for name, config in configs.items()}
    continues = {name: bool(state_sizes(model)) for name, model in models.items()}
    engines = [
        (TinyStarEngine if continues[name] else ReadingEngine)(model) for name, model in models.items()
    ]
    say("warming up")
    turns = Task(1, tokens, new).turns(engines, min(model.vocab_size for model in models.values()))
    found = by_turns({f"{len(models)} configurations": turns}, rounds, say)
    speeds = {}
    for name, seconds in zip(models, *found.values(), strict=True):
        prefill = Rounds(tuple(tokens / reading for reading, _ in seconds))
        decode = Rounds(tuple(new / writing for _, writing in seconds)) if continues[name] else None
        speeds[name] = Speed(prefill, decode)
    return speeds
