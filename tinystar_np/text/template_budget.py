"""What a chat template may use up: so many steps, so many bytes.

jinja2's sandbox keeps a template from Python's own objects, and from changing what it is given. It does not
keep it from working: two nested loops over range(100000), 'x' * 10**9, a list of two lists of two lists … A
clock could stop only what looks at it, and not a single operation that fills the memory. So every rendering
has a budget of two numbers instead, which holds on any machine and in any thread, the same each time:

    steps  1 for each turn of a loop, operation, filter, test and call
    size   1 for each byte that an operation makes, 1/16 for each that it only reads

An operation that can make much of little (repeating, padding, replacing, joining, formatting) pays before it
runs, every other one when it has, since its result is no larger than what it was given. Values that hold
others are weighed with all that is in them, for to print or compare a list costs what its content costs.
"""

import sys
from collections.abc import Callable, ItemsView, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from typing import Any

from jinja2.utils import Namespace

STEPS, SIZE = 200_000, 64_000_000
"""The budget of a rendering, to which each item of the conversation adds, and each character."""
STEPS_AN_ITEM, SIZE_A_CHARACTER = 1000, 64
ITEM = 128  # bytes that a value takes at least, with its place in a list
READING = 16  # bytes that are read as fast as one is made


class TooMuchError(Exception):
    """A template has used up its budget."""


class Budget:
    """What a template may still do.

    conversation  what it is given: the more that is, the more may be done with it
    """

    def __init__(self, conversation: Any = None) -> None:
        items, characters = _extent(conversation)
        self.steps = STEPS + STEPS_AN_ITEM * items
        self.size = self.most = SIZE + SIZE_A_CHARACTER * characters

    def step(self) -> None:
        """Pay for one thing done."""
        self.steps -= 1
        if self.steps < 0:
            raise TooMuchError("it takes too many steps, as one that never ends would")

    def make(self, size: float) -> None:
        """Pay for so many bytes that are made."""
        self.size -= int(size)
        if self.size < 0:
            raise TooMuchError(f"it builds more than {self.most // 1_000_000} MB")

    def made(self, value: Any) -> None:
        """Pay for a value that an operation has made of others, without what it only refers to."""
        self.step()
        if isinstance(value, list | tuple | dict):
            self.make(ITEM * len(value))
        else:
            self.make(sys.getsizeof(value) if isinstance(value, str | int) else ITEM)

    def weigh(self, value: Any, text: float = 1 / READING) -> None:
        """Pay for a value with all that is in it; a value that is there twice is paid for twice.

        text  the price of a character: 1 where all of it will be made anew
        """
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                self.make(text * len(one))
            elif isinstance(one, Namespace):
                waiting += object.__getattribute__(one, "_Namespace__attrs").values()
                self.make(ITEM)
            elif isinstance(one, Mapping):
                self.make(2 * ITEM * len(one))
                waiting += one.keys()
                waiting += one.values()
            elif isinstance(one, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
                self.make(ITEM * len(one))
                waiting += one
            else:
                self.make(ITEM * len(one) if isinstance(one, range) else ITEM)


def _extent(value: Any) -> tuple[int, int]:
    """Count the values and the characters of plain data."""
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if not isinstance(value, list):
        return 1, len(value) if isinstance(value, str) else 0
    parts = [_extent(part) for part in value]
    return 1 + sum(items for items, _ in parts), sum(characters for _, characters in parts)


_budget: ContextVar[Budget] = ContextVar("budget")
current = _budget.get
"""Returns the budget of the rendering that runs in this thread."""


def spending(budget: Budget, function: Callable[[], str]) -> str:
    """Call a function that pays from this budget."""
    token = _budget.set(budget)
    try:
        return function()
    finally:
        _budget.reset(token)
