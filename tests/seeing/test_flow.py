"""The picture of a block is true: a changed tap changes exactly the taps that its arrows lead to."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from parity_case import Case
from parity_cases import CASES
from small_models import DENSE, EXPERTS, build, small_model

from tinystar_np.models import Decoder
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing.flow import STREAM, Node, block_flow
from tinystar_np.seeing.recorder import record
from tinystar_np.tap import listen

IDS = np.array([3, 17, 5, 9, 17, 3, 11])
TINYSTARS = {
    "post-norm": {"norm_placement": "post"},
    "sandwich": {"norm_placement": "sandwich"},
    "parallel": {"parallel": True},
    "parallel, post-norm": {"parallel": True, "norm_placement": "post"},
    "latent": {"attention": "mla"},
}


class Changing:
    """A listener that changes one tap, and keeps all as they then are."""

    def __init__(self, path: str) -> None:
        self.path, self.arrays = path, dict[str, NDArray]()
        self._prefix = ""

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        outer = self._prefix
        self._prefix = f"{outer}{name}."
        yield
        self._prefix = outer

    def catch(self, name: str, x: NDArray) -> NDArray:
        path = self._prefix + name
        if path == self.path:
            noise = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
            x = (x == 0).astype(x.dtype) if x.dtype.kind in "iu" else x + 3 * noise
        self.arrays[path] = x.copy()
        return x


def led_to(nodes: list[Node], name: str) -> set[str]:
    """The taps that arrows lead to from one, by any number of steps."""
    found = {name}
    for node in nodes:
        if found & set(node.reads):
            found.add(node.name)
    return found - {name}


def of_block(arrays: Mapping[str, NDArray], prefix: str) -> dict[str, NDArray]:
    return {path.removeprefix(prefix): x for path, x in arrays.items() if path.startswith(prefix)}


def check(model: Decoder) -> None:
    with record() as before:
        model(IDS)
    for i in range(len(model.blocks)):
        prefix = f"blocks.{i}."
        taps = of_block(before, prefix)
        nodes = block_flow(taps)
        assert [node.name for node in nodes] == list(taps)
        stream = "embedding" if i == 0 else f"blocks.{i - 1}.residual"
        for name in [STREAM, *taps]:
            changing = Changing(stream if name == STREAM else prefix + name)
            with listen(changing), np.errstate(all="ignore"):
                model(IDS)
            after = of_block(changing.arrays, prefix)
            changed = {each for each in taps if not np.array_equal(after[each], taps[each])} - {name}
            drawn = led_to(nodes, name)
            # Which experts are chosen may stay the same; what else the arrows lead to may not.
            assert changed - {"feed_forward.chosen"} == drawn - {"feed_forward.chosen"}, f"{prefix}{name}"
            assert changed <= drawn, f"{prefix}{name}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model_type)
def test_arrows_of_every_architecture(case: Case) -> None:
    check(build(case.model_type, copy.deepcopy(case.config("plain"))))


@pytest.mark.parametrize("name", [*DENSE, *EXPERTS])
def test_arrows_of_every_mixer(name: str) -> None:
    check(small_model(name))


@pytest.mark.parametrize("name", TINYSTARS)
def test_arrows_of_tinystar(name: str) -> None:
    check(
        TinyStar(TinyStarConfig(hidden_size=48, num_layers=2, num_heads=4, init_std=0.3, **TINYSTARS[name]))
    )
