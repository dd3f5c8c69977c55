"""The seven designs, trained alike: what one run measured of each (shipped/seven_designs.json).

Losses are in nats of held-out text, per byte, since a byte is the same to every tokenizer. Differences
between designs mean something only beside those between trainings of one design that differ in their seed
alone: for that, one design was trained several times.

Recall: a span of text stands in the context twice, so many tokens apart; by how much its loss is less for it.

Associative recall (Arora et al. 2023, arXiv:2312.04927): a row of tokens begins with keys, each followed by
its value; every later token is one of the keys and asks for its value.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from importlib.resources import files
from math import factorial
from typing import Any

import numpy as np

from tinystar_np.inspection.speed import Rounds
from tinystar_np.models.tinystar_config import TinyStarConfig

SHIPPED = files("tinystar_np") / "shipped" / "seven_designs.json"
ALONE = "none"  # how the file calls a span without a copy


@dataclass(frozen=True)
class Run:
    """One training of a design.

    seed      of its weights and of the order of the text
    steps     how many
    epochs    how often it saw the text
    looks     {step: nats per byte, a mean over the texts, of a part of them}
    per_byte  {text: nats per byte} at the end
    alone     nats per token of a span without a copy
    repeated  {distance: nats per token of a span with a copy so many tokens before}
    """

    seed: int
    steps: int
    epochs: float
    looks: Mapping[int, float]
    per_byte: Mapping[str, float]
    alone: float
    repeated: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Nats per byte, a mean over the texts."""
        return sum(self.per_byte.values()) / len(self.per_byte)

    def loss(self, text: str | None) -> float:
        """Return the nats per byte of a text, or their mean."""
        return self.mean if text is None else self.per_byte[text]

    def saved(self, distance: int) -> float:
        """Return how many nats per token a copy at this distance saves."""
        return self.alone - self.repeated[distance]

    @property
    def last_fall(self) -> float:
        """How much the loss fell between the last two looks."""
        *_, before, last = self.looks.values()
        return before - last


@dataclass(frozen=True)
class Associative:
    """Associative recall of one model.

    layers  of the model
    window  of its attention, or None
    steps   of training on it
    right   {pairs: share of right answers}
    """

    layers: int
    window: int | None
    steps: int
    right: Mapping[int, float]

    @property
    def reach(self) -> int | None:
        """How many tokens back a token can take from, through all layers; None without a window."""
        return None if self.window is None else self.layers * (self.window - 1)


@dataclass(frozen=True)
class Design:
    """A design, its trainings by language, and associative recall by what it was trained from."""

    name: str
    config: TinyStarConfig
    runs: tuple[Run, ...]
    associative: Mapping[str, Associative]

    def losses(self, text: str | None = None) -> Rounds:
        """Return the nats per byte of a text, or of the mean of all, one for each training."""
        return Rounds(tuple(run.loss(text) for run in self.runs))

    def saved(self, distance: int) -> Rounds:
        """Return how many nats per token a copy at this distance saves, one for each training."""
        return Rounds(tuple(run.saved(distance) for run in self.runs))


@dataclass(frozen=True)
class Training:
    """All designs of one run.

    device      on which it ran
    context     tokens of a window
    row_length  of associative recall
    words       how many values there are in it
    designs     {name: design}
    """

    device: str
    context: int
    row_length: int
    words: int
    designs: Mapping[str, Design]

    @cached_property
    def repeated(self) -> Design:
        """The design that was trained with several seeds."""
        return max(self.designs.values(), key=lambda design: len(design.runs))

    @property
    def texts(self) -> Sequence[str]:
        """The names of the held-out texts."""
        return list(self.repeated.runs[0].per_byte)

    @property
    def distances(self) -> Sequence[int]:
        """The distances of recall, the nearest first."""
        return sorted(self.repeated.runs[0].repeated)

    @property
    def kinds(self) -> Sequence[str]:
        """What associative recall was trained from: "tuned", the trained models; "new", random weights."""
        return list(self.repeated.associative)

    def noise(self, text: str | None = None) -> float:
        """Return the largest difference between seeds of one design in the loss of a text, or in the mean."""
        return spread(self.repeated.losses(text))

    def guessed(self, pairs: int) -> float:
        """Return the share of right answers of who names the commonest value of the row."""
        return commonest(pairs, self.words) / pairs


def spread(values: Rounds) -> float:
    """Return the largest difference between values."""
    return values.highest - values.lowest


def commonest(drawn: int, words: int) -> float:
    """Return how often the commonest of so many words drawn at random is expected to be among them.

    The share of draws in which no word comes more than k times is

        drawn! · [xⁿ] (Σ_{j ≤ k} (x / words)ʲ / j!)^words          n = drawn

    and the expected largest count is the sum over k of the share of the others.
    """
    expected = 0.0
    terms = np.array([words**-j / factorial(j) for j in range(drawn + 1)])
    for most in range(drawn):
        one = np.where(np.arange(drawn + 1) <= most, terms, 0)
        all_words = reduce(
            lambda product, _: np.convolve(product, one)[: drawn + 1], range(words), np.ones(1)
        )
        expected += 1 - float(np.pad(all_words, (0, drawn + 1 - len(all_words)))[drawn]) * factorial(drawn)
    return expected


def read_training() -> Training:
    """Read the shipped results."""
    found = json.loads(SHIPPED.read_text(encoding="utf-8"))
    settings = found["settings"]
    designs = {
        name: Design(
            name,
            TinyStarConfig.from_dict(design["config"]),
            tuple(_run(int(seed), run) for seed, run in design["runs"].items()),
            {kind: _associative(models[name]) for kind, models in found["associative_recall"].items()},
        )
        for name, design in found["designs"].items()
    }
    return Training(
        found["device"], settings["context"], settings["pairs_length"], settings["pairs_words"], designs
    )


def _run(seed: int, found: Mapping[str, Any]) -> Run:
    steps, *losses = found["held_out"].values()
    copies = found["recall"]["nats_per_token"]
    return Run(
        seed,
        found["steps"],
        found["epochs"],
        {step: sum(each) / len(each) for step, each in zip(steps, zip(*losses, strict=True), strict=True)},
        {text: losses["nats_per_byte"] for text, losses in found["final"].items()},
        copies[ALONE],
        {int(distance): nats for distance, nats in copies.items() if distance != ALONE},
    )


def _associative(found: Mapping[str, Any]) -> Associative:
    right = {int(pairs): share for pairs, (share, _) in found["final"].items()}
    return Associative(found["layers"], found["window"], found["steps"], right)
