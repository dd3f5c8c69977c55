"""What was made of the same arrays before: found again instead of made anew.

A call of a model hands the same positions and the same tables of rotations to each of its layers. What can be
prepared from them is prepared for the first layer and found by the others, for as long as the arrays live.
"""

import weakref
from collections.abc import Callable, Hashable
from functools import partial, wraps
from typing import TypeVar, TypeVarTuple

from numpy.typing import NDArray

Others = TypeVarTuple("Others")
Result = TypeVar("Result")


def remembered(
    function: Callable[[NDArray, NDArray, *Others], Result],
) -> Callable[[NDArray, NDArray, *Others], Result]:
    """Let a function of two arrays, and plain values after them, remember its results.

    Arrays are told apart by identity, and must not be written to afterwards; nor may a result hold them.
    """
    made: dict[tuple[Hashable, ...], tuple[Result, list["weakref.ref[NDArray]"]]] = {}

    @wraps(function)
    def call(first: NDArray, second: NDArray, *others: *Others) -> Result:
        key = (id(first), id(second), *others)
        found = made.get(key)
        if found is None:
            # A method of C's: Ctrl-C in a function of ours would be lost there, and the entry kept.
            forget = partial(made.pop, key)
            arrays = [weakref.ref(array, forget) for array in (first, second)]
            found = made[key] = function(first, second, *others), arrays
        return found[0]

    return call
