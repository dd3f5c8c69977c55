"""What was made of the same arguments a moment ago: found again instead of made anew.

A call of a model hands the same mask and the same tables of rotations to each of its layers. What can be
prepared from them is prepared for the first layer and remembered for the others.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

MOST = 8


def remembered(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function remember what it made of its last few arguments.

    Arguments are told apart by identity, not by value: they must not be written to afterwards. They are
    positional.
    """
    made: dict[tuple[int, ...], tuple[object, Result]] = {}

    @wraps(function)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        key = tuple(map(id, arguments))
        found = made.get(key)
        if found is None:
            if len(made) >= MOST:
                made.clear()
            # The arguments are kept with it: as long as they live, nothing else has their identity.
            found = made[key] = arguments, function(*arguments, **named)
        return found[1]

    return call
