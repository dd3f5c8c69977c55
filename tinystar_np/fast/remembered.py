"""What was made of the same arrays before: found again instead of made anew.

A call of a model hands the same positions and the same tables of rotations to each of its layers. What can be
prepared from them is prepared for the first layer and found by the others, for as long as the arrays live.
"""

import weakref
from collections.abc import Callable, Hashable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import numpy as np

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def remembered(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function of arrays and plain values (positional) remember its results.

    Arrays are told apart by identity, and must not be written to afterwards; nor may a result hold them.
    """
    made: dict[tuple[Hashable, ...], tuple[Result, list[object]]] = {}

    @wraps(function)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        key = tuple(id(a) if isinstance(a, np.ndarray) else a for a in arguments)
        found = made.get(key)
        if found is None:
            # A method of C's: Ctrl-C in a function of ours would be lost there, and the entry kept.
            forget = partial(made.pop, key)
            arrays: list[object] = [weakref.ref(a, forget) for a in arguments if isinstance(a, np.ndarray)]
            found = made[key] = function(*arguments, **named), arrays
        return found[0]

    return call
