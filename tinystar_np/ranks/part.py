"""The part of a model that a rank has."""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from tinystar_np.ranks.division import Divides, Division
from tinystar_np.ranks.ranks import Ranks
from tinystar_np.ranks.team import Team

LAYER = re.compile(r"blocks\.(\d+)\.")
"""What the names of a layer's weights begin with; others stand before or after all layers."""


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
    division: Division | None = field(init=False, default=None)
    """How layers are divided, where each rank has a share of every one."""
    read_later: frozenset[Hashable] = field(init=False, default=frozenset())
    """What the layers of later ranks read of what earlier layers give (``Step.give``)."""
    team: Team | None = field(init=False)
    """The followers, on rank 0."""

    def __post_init__(self) -> None:
        self.team = None if self.ranks.rank else Team(self.ranks, self.number)

    @property
    def own_layers(self) -> range:
        """The layers that this rank has, where ranks divide them."""
        assert self.layers is not None
        return self.layers[self.ranks.rank]

    def divide(self, divides: Divides) -> Division | None:
        """Say by which letters of shapes layers are divided, where each rank has a share of every one."""
        self.division = Division(self.ranks, divides) if self.layers is None else None
        return self.division

    def has(self, name: str, home: Mapping[int, int]) -> bool:
        """Say whether this rank has any of the weights of this name.

        home  {a layer that runs with an earlier one's weights: that one}
        """
        if self.layers is None:
            return True
        found = LAYER.match(name)
        if found is None:
            return self.ranks.rank == 0
        layer = int(found[1])
        return layer in self.own_layers or any(home.get(own) == layer for own in self.own_layers)

    def fingerprint(self, own: str) -> str:
        """Tell this model, and how it is divided, from others; on rank 0.

        own  the fingerprint of its part
        """
        assert self.team is not None
        of_all = sha256(" ".join([own, *self.team.ask("fingerprint")]).encode()).hexdigest()
        return f"{of_all} {self.words}"

    @property
    def words(self) -> str:
        """How the model is divided, in words."""
        shared = "a share of every layer in each" if self.layers is None else f"with layers {self._runs()}"
        return f"{self.ranks.size} processes, {shared}"

    def described(self) -> str:
        """Say in a sentence how the model is divided, and where the parts are."""
        shared = "each has a share of every layer" if self.layers is None else f"layers {self._runs(True)}"
        return f"{self.ranks.size} processes share the model: {shared}."

    def _runs(self, with_hosts: bool = False) -> str:
        assert self.layers is not None
        runs = [f"{run.start}–{run.stop - 1}" if len(run) > 1 else str(run.start) for run in self.layers]
        if with_hosts and len(set(self.ranks.hosts)) > 1:
            runs = [f"{run} on {host}" for run, host in zip(runs, self.ranks.hosts, strict=True)]
        return ", ".join(runs)

    def __repr__(self) -> str:
        return f"rank {self.ranks.rank} of {self.words}"
