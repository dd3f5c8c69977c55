"""The parts that a logit is the sum of, by name, and the recorded place that they are read at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError

SHOWN = 10
"""How many parts are written out in text."""
Kind = Literal["whole", "head", "expert", "shared", "bias"]


@dataclass(frozen=True)
class Part:
    """One term of a logit.

    path   the layer: "embedding.tokens", "blocks.3.attention", "blocks.3.mixer", "blocks.3.feed_forward",
           "final_norm", "head" (the output layer)
    kind   which part of it: "whole", a "head", an "expert", the "shared" expert, the "bias"
    index  of the head or expert; None for the others
    value  what it adds to the logit
    """

    path: str
    kind: Kind
    index: int | None
    value: float

    @property
    def name(self) -> str:
        """Path, kind and index in words: "blocks.3.attention head 2"."""
        index = "" if self.index is None else f" {self.index}"
        return self.path if self.kind == "whole" else f"{self.path} {self.kind}{index}"


@dataclass(frozen=True)
class Term:
    """The same part of several logits at once: ``values`` (n,), one for each."""

    path: str
    kind: Kind
    index: int | None
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Attribution:
    """A logit, or the difference of two, as a sum of parts.

    position    whose next token it is about
    token       the id whose logit it is
    other       the id whose logit is subtracted; None for nothing
    logit       what the model computed
    before_cap  whether ``logit`` is the one before the model's soft cap, which is not a sum
    parts       in the order of the computation; their values sum to ``logit``, up to rounding
    """

    position: int
    token: int
    other: int | None
    logit: float
    before_cap: bool
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        """Return the ten parts with the largest effect, and the rest, as lines of text."""
        compared = "" if self.other is None else f" less that of {self.other}"
        cap = ", before the soft cap" if self.before_cap else ""
        shown, rest = self.by_size()[:SHOWN], self.by_size()[SHOWN:]
        lines = [
            f"logit of token {self.token}{compared} after position {self.position}{cap}: {self.logit:.4f}"
        ]
        lines += [f"{part.value:+10.4f}  {part.name}" for part in shown]
        if rest:
            lines.append(f"{sum(part.value for part in rest):+10.4f}  {len(rest)} other parts together")
        return "\n".join(lines)

    @property
    def values(self) -> NDArray[np.float64]:
        """The parts' values, in their order."""
        return np.array([part.value for part in self.parts])

    @property
    def rounding(self) -> float:
        """What the sum of the parts lacks of the logit."""
        return self.logit - float(self.values.sum())

    def by_size(self) -> list[Part]:
        """Sort the parts: those with the largest effect, whatever its sign, first."""
        return sorted(self.parts, key=lambda part: -abs(part.value))

    def by_layer(self) -> dict[str, float]:
        """Add up the parts of each layer, biases included: {"blocks.3.attention": 1.25, …}."""
        sums: dict[str, float] = {}
        for part in self.parts:
            sums[part.path] = sums.get(part.path, 0.0) + part.value
        return sums

    def heads(self) -> dict[str, NDArray[np.float64]]:
        """Return the heads of each layer that has heads: {"blocks.3.attention": (H,), …}."""
        found: dict[str, list[float]] = {}
        for part in self.parts:
            if part.kind == "head":
                found.setdefault(part.path, []).append(part.value)
        return {path: np.array(values) for path, values in found.items()}


@dataclass(frozen=True)
class RecordedPlace:
    """Recorded arrays at one position of one text.

    arrays    by full path, with the batch axis of one row: a recording
    position  counted from the beginning
    """

    arrays: Mapping[str, NDArray]
    position: int

    def __contains__(self, path: str) -> bool:
        return path in self.arrays

    def __getitem__(self, path: str) -> NDArray:
        """Return an array (1, T, ...) at the position: (...)."""
        return self._found(path)[0, self.position]

    def vector(self, path: str) -> NDArray[np.float64]:
        """Return the same in float64: sums of many parts then round no more than the model did."""
        return self[path].astype(np.float64)

    def of_heads(self, path: str) -> NDArray[np.float64]:
        """Return an array (1, H, T, K) at the position: (H, K), in float64."""
        return self._found(path)[0, :, self.position].astype(np.float64)

    def _found(self, path: str) -> NDArray:
        if path not in self.arrays:
            raise InputError(
                f"The recording lacks {path}, which the parts of a logit are read from: record the call with "
                "no patterns, or with those of tinystar_np.seeing.attribution.NEEDED."
            )
        return self.arrays[path]
