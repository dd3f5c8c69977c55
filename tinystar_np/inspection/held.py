"""What each process has of a model that several share: weights, and the memory that it takes."""

from typing import NamedTuple

from tinystar_np.inspection.memory import peak_memory
from tinystar_np.inspection.speed import bytes_per_token, numbers_held, weight_bytes
from tinystar_np.models.base import Decoder


class Held(NamedTuple):
    """What one process has.

    weights  the bytes of its weights
    numbers  how many weights that is: those that several processes have count in each
    read     bytes of its weights that a token is multiplied by
    peak     its peak memory in bytes, mapped weights included
    """

    weights: int
    numbers: int
    read: float
    peak: int

    def facts(self) -> dict[str, int]:
        """Return the same for programs."""
        read = round(self.read)
        return {"weight_bytes": self.weights, "weight_bytes_per_token": read, "peak_bytes": self.peak}


def held_by(model: Decoder) -> Held:
    """Return what this process has of a model."""
    return Held(weight_bytes(model), numbers_held(model), bytes_per_token(model), peak_memory())


def held_by_each(model: Decoder) -> list[Held]:
    """Return what each process has, in the order of the ranks; on rank 0. One process alone has all."""
    team = None if model.part is None else model.part.team
    return [held_by(model), *([] if team is None else team.ask("held"))]
