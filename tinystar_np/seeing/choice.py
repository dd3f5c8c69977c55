"""What is chosen of an activation: rows, positions, heads, experts; and what of the choice was never there.

A position is the token's place in its text, from 0, however the text came: position 4 is the fifth token when
the whole text is read at once, when a cache holds the tokens before it, and in every row of a batch. A row is
one of the texts that are generated together; it keeps its number when others have ended.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.seeing.axes import HEADS, with_heads
from tinystar_np.tap import Place

Numbers = int | Sequence[int] | NDArray[np.integer] | range | slice
"""Indices from 0: one, some, or a stretch such as ``slice(5, None)``, from 5 on."""


class Numbered:
    """Chosen indices of one kind.

    kind   what they count, for errors: "positions"
    given  the indices

    Raises InputError where they are none.
    """

    def __init__(self, kind: str, given: Numbers):
        self.kind, self.given = kind, given
        self.listed: NDArray[np.int64] | None = None
        """The indices, sorted; None where a stretch is given."""
        self._start, self._stop, self._step = 0, None, 1
        if isinstance(given, range | slice):
            start, stop, step = given.start or 0, given.stop, given.step or 1
            numbers = [n for n in (start, stop, step) if n is not None]
            if any(not isinstance(n, int | np.integer) or n < 0 for n in numbers):
                raise InputError(f"{kind} = {given}, but they are counted from 0, with steps of 1 or more.")
            self._start, self._stop, self._step = start, stop, step
            self.found = np.zeros(1, dtype=bool)
            return
        try:
            listed = np.unique(np.atleast_1d(np.asarray(given)))
        except ValueError:
            listed = np.zeros(0)
        if listed.size == 0 or listed.dtype.kind not in "iu" or listed[0] < 0:
            raise InputError(f"{kind} = {shown(given)}, but they are one or more ints, counted from 0.")
        self.listed = listed.astype(np.int64)
        self.found = np.zeros(listed.size, dtype=bool)
        """Which of the listed ones were there; of a stretch, whether any was."""

    def among(self, values: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Say which of these values are chosen, and remember which chosen ones were there."""
        if self.listed is None:
            chosen: NDArray[np.bool_] = (values >= self._start) & ((values - self._start) % self._step == 0)
            if self._stop is not None:
                chosen &= values < self._stop
            self.found |= chosen.any()
            return chosen
        self.found |= np.isin(self.listed, values)
        return np.isin(values, self.listed)

    def within(self, count: int, path: str) -> NDArray[np.bool_]:
        """Say which of ``count`` heads or experts are chosen; raises InputError where there are fewer."""
        if self.listed is not None and self.listed[-1] >= count:
            raise InputError(
                f"{self.kind} = {shown(self.given)}, but {path} has {count} of them, 0 to {count - 1}."
            )
        return self.among(np.arange(count))

    def missing(self) -> str:
        """Say in words what was chosen and never there; nothing where all was."""
        if self.found.all():
            return ""
        never = self.given if self.listed is None else self.listed[~self.found].tolist()
        return f"{self.kind} {shown(never)} never came"


class Choice:
    """Rows, positions, heads and experts; None for all of them.

    rows       numbers of texts
    positions  places of tokens in their texts
    heads      of taps with an axis of heads; of keys and values it is their own heads
    experts    of a router's scores, or those of the chosen ones that a weight belongs to
    """

    def __init__(
        self,
        rows: Numbers | None = None,
        positions: Numbers | None = None,
        heads: Numbers | None = None,
        experts: Numbers | None = None,
    ):
        self.rows = None if rows is None else Numbered("rows", rows)
        self.positions = None if positions is None else Numbered("positions", positions)
        self.heads = None if heads is None else Numbered("heads", heads)
        self.experts = None if experts is None else Numbered("experts", experts)
        self.met = False
        """Whether some number of some array has been chosen."""

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return all(each is None for each in (self.rows, self.positions, self.heads, self.experts))

    def mask(
        self,
        path: str,
        shape: tuple[int, ...],
        axes: Sequence[str],
        place: Place | None,
        routed: Mapping[str, NDArray],
    ) -> NDArray[np.bool_]:
        """Mark the chosen numbers of an array.

        path    its tap's
        shape   its shape
        axes    the letters of its axes
        place   where the tokens stand
        routed  "chosen" and "router" of the same layer, as far as they have come

        Returns an array that broadcasts to the shape. Raises InputError where the array has no such axis, or
        too few heads or experts.
        """
        mask = np.ones((1,) * len(shape), dtype=bool)
        if self.rows is not None:
            if "B" not in axes:
                raise InputError(f"rows were chosen, but {path} ({', '.join(axes)}) is of one image alone.")
            rows = np.arange(shape[0]) if place is None else place.rows
            mask = mask & spread(self.rows.among(rows), axes, "B")
        if self.positions is not None:
            if place is None:
                raise InputError(
                    f"{path}: a layer that is called by itself, or reads an image, knows no positions of a "
                    "text; choose none."
                )
            tokens = shape[axes.index("T")]
            mask = mask & spread(self.positions.among(place.positions[:, -tokens:]), axes, "B", "T")
        if self.heads is not None:
            letter = next((axis for axis in axes if axis in HEADS), None)
            if letter is None:
                others = ", ".join(with_heads(path)) or "attention and recurrences"
                raise InputError(
                    f"heads were chosen, but {path} ({', '.join(axes)}) has no axis of heads. Such an axis "
                    f"is in {others}."
                )
            mask = mask & spread(self.heads.within(shape[axes.index(letter)], path), axes, letter)
        if self.experts is not None:
            mask = mask & self._of_experts(self.experts, path, shape, axes, routed)
        self.met |= bool(mask.any()) and all(shape)
        return mask

    def _of_experts(
        self,
        experts: Numbered,
        path: str,
        shape: tuple[int, ...],
        axes: Sequence[str],
        routed: Mapping[str, NDArray],
    ) -> NDArray[np.bool_]:
        if axes[-1] == "E":
            return spread(experts.within(shape[-1], path), axes, "E")
        if axes[-1] != "k" or "chosen" not in routed:
            raise InputError(
                f"experts were chosen, but {path} ({', '.join(axes)}) is not divided by experts. Change "
                "feed_forward.weights to take experts out, or feed_forward.router to choose others."
            )
        if "router" in routed:
            experts.within(routed["router"].shape[-1], path)
        return experts.among(routed["chosen"])

    def missing(self) -> str:
        """Say in words what was chosen and never there; nothing where all was."""
        # An expert that no token has chosen is no mistake.
        kinds = [each for each in (self.rows, self.positions, self.heads) if each is not None]
        words = [words for each in kinds if (words := each.missing())]
        if not words and not self.met and self.experts is None:
            return "the chosen rows and positions never came together"
        return " and ".join(words)


def spread(values: NDArray, axes: Sequence[str], *letters: str) -> NDArray:
    """Give an array whose axes are these letters, in order, a tap's axes; others get length 1."""
    return np.expand_dims(values, tuple(i for i, axis in enumerate(axes) if axis not in letters))
