"""A cache of results by the identity of the arrays that they were computed from.

A call of a model passes the same positions and the same tables of rotary embedding to each of its layers.
What the first layer computes from them, the others find, as long as the arrays exist.
"""

import weakref
from collections.abc import Callable, Hashable
from functools import partial, wraps
from typing import TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

Others = TypeVarTuple("Others")
Result = TypeVar("Result")


def remembered(
    function: Callable[[NDArray, NDArray, *Others], Result],
) -> Callable[[NDArray, NDArray, *Others], Result]:
    """Cache the results of a function of two arrays, and plain values or more arrays after them.

    Arrays are compared by identity, and must not be written to afterwards; nor may a result refer to them.
    """
    made: dict[tuple[Hashable, ...], tuple[Result, list[weakref.ref[NDArray]]]] = {}

    @wraps(function)
    def call(first: NDArray, second: NDArray, *others: *Others) -> Result:
        key = (id(first), id(second), *[id(o) if isinstance(o, np.ndarray) else o for o in others])
        found = made.get(key)
        if found is None:
            # A C function: Ctrl-C within a Python callback would be lost, and the entry kept.
            forget = partial(made.pop, key)
            arrays = [a for a in (first, second, *others) if isinstance(a, np.ndarray)]
            dying = [weakref.ref(array, forget) for array in arrays]
            found = made[key] = function(first, second, *others), dying
        return found[0]

    return call
