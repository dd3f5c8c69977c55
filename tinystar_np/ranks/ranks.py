"""What a model asks of the processes that share it: a communicator, as MPI has one."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

AUTO = "auto"
PROMPTS = "prompts"
DIVIDED = ("layers", "heads")
"""How a model is divided: by its layers, or within each of them."""
PARALLEL = (*DIVIDED, PROMPTS)
"""How ranks share work: they divide the model, or the texts, of which each has the whole model."""


class RanksEndedError(Exception):
    """Rank 0 has ended: raised on a rank that waits for anything."""


class Ranks(Protocol):
    """The processes that share a model, as one of them sees them.

    rank   this one's number, from 0; rank 0 leads
    size   how many there are, at least 2
    hosts  the name of each rank's machine
    fault  why they can no longer work together: a sentence for errors; "" while they can
    turn   a lock that rank 0 holds while the ranks do what it told them, in one of its threads at a time; the
           thread that holds it may take it again
    """

    rank: int
    size: int
    hosts: tuple[str, ...]
    fault: str
    turn: AbstractContextManager[object]

    def send(self, message: object, to: int) -> None:
        """Send anything to another rank; returns when the message may be changed."""

    def receive(self, source: int) -> Any:
        """Wait for the next message of another rank; those of one rank come in the order of sending."""

    def ready(self, source: int) -> bool:
        """Say whether a message of another rank has come; raises as ``receive`` does where one has failed."""

    def sum(self, x: NDArray) -> NDArray:
        """Add up arrays of the same shape, one of each rank: the same sum, to the last bit, on all of them.

        All ranks call it, in the same order as other sums and gatherings.
        """

    def gather(self, x: NDArray) -> NDArray:
        """Put arrays (..., n) side by side, one of each rank, in their order: (..., Σ n) on rank 0.

        The ranks may have different n. The others get their own back.
        """
