"""What happens when a conversation fills the context: the answer ends, or the oldest turns are left out.

A model's context is the number of positions that it has, or was trained on. Others shift the keys in the
cache to earlier positions and go on; but these keys were computed from the tokens that are dropped, so that
the result is that of no text at all. Here the rest of the conversation is read again: the answer goes on
exactly as the model continues the shorter conversation. That costs reading it, so it should not be needed at
each further token: turns are left out until a part of the context is free.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinystar_np.generation.messages import Message

FREE = 4  # a quarter of the context is free after turns were left out, if there are so many


@dataclass(frozen=True)
class Shift:
    """What was left out of a conversation that filled the context.

    messages  how many more of the oldest messages the model does not have before it any longer
    tokens    how many tokens these were
    again     how many tokens of the others are read again
    context   the size of the context
    """

    messages: int
    tokens: int
    again: int
    context: int

    def __str__(self) -> str:
        which = "oldest message is" if self.messages == 1 else f"{self.messages} oldest messages are"
        return (
            f"The context of {self.context} tokens is full. From here on the {which} left out "
            f"({self.tokens} tokens), and {self.again} tokens are read again."
        )


def turn_starts(messages: Sequence[Message]) -> list[int]:
    """Return the indices of the messages that begin a turn: those of the user."""
    return [i for i, message in enumerate(messages) if message["role"] == "user"]


def system_length(messages: Sequence[Message]) -> int:
    """Return how many messages there are before the first turn: 1 with a system message, which stays."""
    starts = turn_starts(messages)
    return starts[0] if starts else len(messages)


def without_oldest(messages: Sequence[Message], left_out: int) -> list[Message]:
    """Return the messages without the ``left_out`` first ones after the system message."""
    first = system_length(messages)
    return [*messages[:first], *messages[first + left_out :]]


def to_leave_out(
    messages: Sequence[Message], left_out: int, context: int, count: Callable[[int], int]
) -> int | None:
    """Say how many of the oldest messages to leave out in all, after the system message.

    messages  the conversation, up to the one that is being answered
    left_out  how many are left out already
    context   the most tokens
    count     returns the tokens of the conversation without so many of its messages

    Only whole turns are left out, never the last one. Returns the fewest with which a part of the context is
    free; if there is no such number, the most; None where no turn remains that could be left out.
    """
    starts = turn_starts(messages)
    choices = [start - starts[0] for start in starts if start - starts[0] > left_out]
    if not choices:
        return None
    goal = context - context // FREE
    place = bisect_left(choices, True, key=lambda choice: count(choice) <= goal)
    return choices[min(place, len(choices) - 1)]
