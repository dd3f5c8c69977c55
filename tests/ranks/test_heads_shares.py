"""How much of a model of a published size each rank has, where ranks share its layers by heads."""

import sys
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import pytest
from numpy.typing import NDArray

from tinystar_np.checkpoints.weight_table import rows
from tinystar_np.models import ARCHITECTURES, model_class
from tinystar_np.ranks import Division

MOST = 0.55
"""Share of the weights that the fuller of two ranks has."""
FULLER = {
    "flex_olmo": 0.57,  # seven experts: four on one rank, three on the other
}
TYPES = [name for name in ARCHITECTURES if name != "tinystar" and not model_class(name).DIVIDES.why_not]


@dataclass
class NoRanks:
    """Says which rank this would be; no weight is asked of others."""

    rank: int
    size: int
    hosts: tuple[str, ...] = ()

    def send(self, message: object, to: int) -> NoReturn:
        raise AssertionError

    def receive(self, source: int) -> NoReturn:
        raise AssertionError

    def sum(self, x: NDArray) -> NoReturn:
        raise AssertionError

    def gather(self, x: NDArray) -> NoReturn:
        raise AssertionError

    def abort(self, code: int) -> NoReturn:
        raise AssertionError


def fullest_share(model_type: str, size: int) -> float:
    """Return the share of the weights that rank 0 has: where things cannot be divided evenly, it has more."""
    architecture = model_class(model_type)
    keys: dict[str, Any] = {"model_type": model_type, **sys.modules[architecture.__module__].FACTS.keys}
    if model_type == "vaultgemma":  # its keys name one layer of many alike
        keys["num_hidden_layers"] = 1
    config = architecture.Config.from_dict(keys)
    division = Division(NoRanks(0, size), architecture.DIVIDES)
    whole = sum(prod(row.shape) for row in rows(architecture.WEIGHTS, config))
    own = sum(prod(row.shape) for row in rows(architecture.WEIGHTS, config, division) if not row.elsewhere)
    return own / whole


@pytest.mark.parametrize("model_type", TYPES)
def test_half_each(model_type: str) -> None:
    """Nothing large is left out of the division: each of two ranks has about half."""
    fullest = fullest_share(model_type, 2)
    assert 0.5 <= fullest <= FULLER.get(model_type, MOST)
    assert model_type not in FULLER or fullest > MOST
