"""The part of a model that a rank has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from tinystar_np.ranks.division import Division
from tinystar_np.ranks.ranks import Ranks
from tinystar_np.ranks.team import Team

LAYER = re.compile(r"blocks\.(\d+)\.")
"""What the names of a layer's weights begin with."""
OF_LEADER = ("embedding.", "head.", "final_norm.")
"""What the names of weights begin with that stand before and after the blocks."""


@dataclass
class Part:
    """The part of a model that a rank has.

    ranks   all of them
    layers  the run of layers of each rank; None where each rank has a share of every layer
    number  of the model, of which ranks may share several
    """

    ranks: Ranks
    layers: Sequence[range] | None = None
    number: int = 0
    team: Team | None = field(init=False)
    """The followers, on rank 0."""

    def __post_init__(self) -> None:
        self.team = None if self.ranks.rank else Team(self.ranks, self.number)

    @property
    def own_layers(self) -> range:
        """The layers that this rank has, where ranks divide them."""
        assert self.layers is not None
        return self.layers[self.ranks.rank]

    @property
    def division(self) -> Division | None:
        """How layers are divided, where each rank has a share of every one."""
        return Division(self.ranks) if self.layers is None else None

    def has(self, name: str) -> bool:
        """Say whether this rank has any of the weights of this name."""
        if self.layers is None:
            return True
        found = LAYER.match(name)
        if found is None:  # also what several layers share, which all ranks have
            return self.ranks.rank == 0 or not name.startswith(OF_LEADER)
        return int(found[1]) in self.own_layers

    def described(self) -> str:
        """Say in a sentence which rank has what."""
        size, hosts = self.ranks.size, self.ranks.hosts
        if self.layers is None:
            return f"{size} ranks share every layer: its heads, features and experts."
        runs = [f"{run.start}–{run.stop - 1}" if len(run) > 1 else str(run.start) for run in self.layers]
        if len(set(hosts)) > 1:
            runs = [f"{run} on {host}" for run, host in zip(runs, hosts, strict=True)]
        return f"{size} ranks share the layers: {', '.join(runs)}."

    def __repr__(self) -> str:
        if self.layers is None:
            return f"rank {self.ranks.rank} of {self.ranks.size}, a share of every layer"
        runs = ", ".join(f"{run.start}–{run.stop - 1}" for run in self.layers)
        return f"rank {self.ranks.rank} of {self.ranks.size}, layers {runs}"
