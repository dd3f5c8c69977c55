"""The listener that changes activations: what every intervention of interventions.py is made of."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.seeing.axes import axes_of, check_pattern, name_of, never_reached
from tinystar_np.seeing.choice import Choice
from tinystar_np.tap import Place, listen, place, unheard

ROUTED = {f"feed_forward.{name}": name for name in ("router", "chosen")}


@dataclass(frozen=True)
class Activation:
    """What a change is given.

    path   of the tap
    x      a copy of its array
    axes   the letters of the array's axes
    place  where the tokens stand; None for a layer that is called by itself
    """

    path: str
    x: NDArray
    axes: tuple[str, ...]
    place: Place | None


Change = Callable[[Activation], object]
"""Returns the array to put in the place of an activation; only the chosen part of it is used."""


class Intervention:
    """A listener that changes what it hears.

    changes  {pattern of paths: change}
    choice   which part of each array is changed
    """

    def __init__(self, changes: Mapping[str, Change], choice: Choice):
        self.changes, self.choice = changes, choice
        self.offered: Mapping[str, bool] = {}
        """The paths of all taps that came while it listened."""
        self._reached: set[str] = set()
        self._routed: dict[str, dict[str, NDArray]] = {}

    def catch(self, path: str, x: NDArray) -> NDArray:
        """Return ``x``, changed where it is to be."""
        for pattern, change in self.changes.items():
            if fnmatchcase(path, pattern):
                self._reached.add(pattern)
                x = self._changed(path, x, change)
        prefix, name = name_of(path)
        if name in ROUTED:
            self._routed.setdefault(prefix, {})[ROUTED[name]] = x
        return x

    def _changed(self, path: str, x: NDArray, change: Change) -> NDArray:
        axes, where = axes_of(path, x.ndim, self.offered), place()
        routed = self._routed.get(name_of(path)[0], {})
        chosen = self.choice.mask(path, x.shape, axes, where, routed)
        if not chosen.any():
            return x
        with unheard():  # a function may call a model
            y = _checked(path, change(Activation(path, x.copy(), axes, where)), x)
        y = np.where(chosen, y, x)
        # An array in another order of memory might be summed in another order: no change, the same array.
        return x if np.array_equal(x, y, equal_nan=True) else y

    def listened(self) -> tuple[str, ...]:
        """Return the patterns of what it must hear."""
        routing = [f"*.{name}" for name in ROUTED] if self.choice.experts is not None else []
        return *self.changes, *routing

    def check_reached(self) -> None:
        """Raise InputError for what was to be changed and never came."""
        for pattern in self.changes:
            if pattern not in self._reached:
                raise never_reached(pattern, self.offered)
        missing = self.choice.missing()
        if missing:
            raise InputError(f"{', '.join(self.changes)}: {missing} while the block was open.")


def changing(changes: Mapping[str, Change], choice: Choice) -> AbstractContextManager[None]:
    """Let changes take place inside a ``with`` block; what they never reached is an error at its end."""
    for pattern in changes:
        check_pattern(pattern)
    return _open(Intervention(changes, choice))


@contextmanager
def _open(intervention: Intervention) -> Iterator[None]:
    with listen(intervention, *intervention.listened(), rereads=True) as listening:
        intervention.offered = listening.paths
        yield
    intervention.check_reached()  # another exception goes its own way


def _checked(path: str, y: object, x: NDArray) -> NDArray:
    """Return what a change made of ``x`` in x's type; raises InputError where it does not fit."""
    wanted = f"an array of shape {x.shape} and type {x.dtype} is wanted"
    if not isinstance(y, np.ndarray | np.generic):
        got = "nothing" if y is None else shown(y)
        raise InputError(f"{path}: the function returned {got}, but {wanted}.")
    if y.shape != x.shape:
        raise InputError(f"{path}: the function returned shape {y.shape}, but {wanted}.")
    if not np.can_cast(y.dtype, x.dtype, "same_kind"):
        raise InputError(f"{path}: the function returned type {y.dtype}, but {wanted}.")
    return np.asarray(y, dtype=x.dtype)
