"""The network between ranks that share a model, and how long a token waits for it.

A message arrives after

    seconds = latency + bytes / bandwidth

By layers, the residual stream goes from each of n ranks to the next, and from the last to the first: n
messages of T·D numbers, one after the other. By heads, n ranks add up T·D numbers twice in each of L layers
and once after the embedding, and rank 0 collects the logits. They add up in one of two ways (ranks/mpi.py):

    short arrays   each rank sends its array to all others, at the same time, and adds up all of them
    long arrays    each adds up one n-th of the numbers, and sends its sums to all others: two messages that
                   wait for each other, but 2 (n − 1)/n times the array's bytes instead of n − 1 times

What is computed meanwhile, and what a rank has to do to send and to receive, is not counted here.
"""

from dataclasses import dataclass
from typing import NamedTuple

from tinystar_np.ranks.mpi import MOST_BETWEEN_MACHINES

NUMBER = 4
"""Bytes of a number on the wire: results are float32, whatever type weights have."""


class Wire(NamedTuple):
    """What connects two machines.

    latency    seconds until the first byte of a message is there
    bandwidth  bytes per second
    """

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Traffic:
    """What ranks tell each other, for one call of a model or a part of it.

    waits    messages that wait for one another
    in_turn  bytes that are sent one after another
    sent     bytes that each rank sends
    """

    waits: int
    in_turn: int
    sent: int

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.waits + other.waits, self.in_turn + other.in_turn, self.sent + other.sent)

    def __mul__(self, times: int) -> "Traffic":
        return Traffic(self.waits * times, self.in_turn * times, self.sent * times)

    def seconds(self, wire: Wire) -> float:
        """Return how long these messages take.

        >>> Traffic(waits=2, in_turn=500_000, sent=250_000).seconds(Wire(latency=0.001, bandwidth=1e8))
        0.007
        """
        return self.waits * wire.latency + self.in_turn / wire.bandwidth


def exchanging(numbers: int, ranks: int) -> Traffic:
    """Return what it takes until each of n ranks has the arrays of all.

    numbers  of one rank's array
    ranks    n

    >>> exchanging(1000, ranks=8)
    Traffic(waits=1, in_turn=28000, sent=28000)
    """
    moved = NUMBER * numbers * (ranks - 1)
    return Traffic(1, moved, moved)


def adding(numbers: int, ranks: int) -> Traffic:
    """Return what it takes until each of n ranks has the sum of all their arrays.

    numbers  of the array
    ranks    n

    >>> adding(576, ranks=8), adding(576 * 512, ranks=8)
    (Traffic(waits=1, in_turn=16128, sent=16128), Traffic(waits=2, in_turn=2064384, sent=2064384))
    """
    if numbers * (ranks - 1) <= MOST_BETWEEN_MACHINES:
        return exchanging(numbers, ranks)
    return exchanging(-(-numbers // ranks), ranks) * 2


def collecting(numbers: int, ranks: int) -> Traffic:
    """Return what it takes until rank 0 has the arrays of all n ranks, which come over its wire one by one.

    numbers  of one rank's array
    ranks    n

    >>> collecting(1000, ranks=8)
    Traffic(waits=1, in_turn=28000, sent=4000)
    """
    return Traffic(1, NUMBER * numbers * (ranks - 1), NUMBER * numbers)


def by_layers(ranks: int, width: int, tokens: int = 1) -> Traffic:
    """Return what a call of a model takes whose layers are divided among n ranks.

    ranks   n
    width   D
    tokens  T

    >>> by_layers(ranks=3, width=1024)
    Traffic(waits=3, in_turn=12288, sent=4096)
    """
    stream = NUMBER * tokens * width
    return Traffic(ranks, ranks * stream, stream)


def by_heads(ranks: int, layers: int, width: int, vocabulary: int, tokens: int = 1) -> Traffic:
    """Return what a call of a model takes whose layers are each divided among n ranks.

    ranks       n
    layers      L
    width       D
    vocabulary  V; only the last token's logits are wanted
    tokens      T

    >>> by_heads(ranks=3, layers=16, width=1024, vocabulary=30000)
    Traffic(waits=35, in_turn=350336, sent=310336)
    """
    call = Traffic(1, 0, 0)  # rank 0's message, which says what to compute, is short
    sums = adding(tokens * width, ranks) * (2 * layers + 1)
    return call + sums + collecting(-(-vocabulary // ranks), ranks)
