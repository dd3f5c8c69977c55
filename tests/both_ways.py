"""What a test asks of a model that ranks share, by layers and by heads."""

from collections.abc import Callable

import numpy as np
import pytest
from divided_by_heads import alike
from divided_models import runs
from numpy.typing import NDArray
from thread_ranks import divided

from tinystar_np.models import Decoder
from tinystar_np.ranks import Part

Share = Callable[[Callable[[Part], Decoder], int], Decoder]
"""Divides what builds a part of a model of so many layers."""
Same = Callable[[NDArray, NDArray], None]
"""Compares logits with those of one process, as far as they can be the same."""


def by_layers(build: Callable[[Part], Decoder], layers: int) -> Decoder:
    """Give each layer a rank."""
    model: Decoder = divided(build, layers, runs(*range(1, layers + 1)))
    return model


def by_heads(build: Callable[[Part], Decoder], layers: int) -> Decoder:
    """Give each of two ranks a share of every layer."""
    model: Decoder = divided(build, 2)
    return model


def to_the_last_bit(found: NDArray, expected: NDArray) -> None:
    """Compare logits that were computed in the same order."""
    assert np.array_equal(found, expected)


both_ways = pytest.mark.parametrize(
    ("share", "same"), [(by_layers, to_the_last_bit), (by_heads, alike)], ids=["layers", "heads"]
)
