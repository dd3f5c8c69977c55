"""Memory that was freed and is still counted: C's allocator keeps it for the next who asks."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Hand what lies free back to the system, where the C library can (glibc).

    Reading a tokenizer of 50 000 tokens leaves 25 MB behind, 5 % of GPT-2's weights, which nobody asks for
    again: weights are mapped. It takes 3 ms.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
