"""inspection/wire.py: what is counted on paper is what ranks tell each other."""

import doctest
from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
import thread_ranks
from numpy.typing import NDArray

import tinystar_np as ts
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.inspection import wire
from tinystar_np.inspection.wire import Traffic, Wire, adding, by_heads, by_layers, exchanging
from tinystar_np.loading import model_config


def test_examples_print_what_they_say() -> None:
    found = doctest.testmod(wire)
    assert found.attempted == 6
    assert not found.failed


def test_the_shorter_sum_has_fewer_waits_and_the_longer_fewer_bytes() -> None:
    n, most = 8, wire.MOST_BETWEEN_MACHINES
    short, long = adding(most // (n - 1), n), adding(most // (n - 1) + 1, n)
    assert (short.waits, long.waits) == (1, 2)
    assert long.in_turn < short.in_turn / 3


class Counting(thread_ranks.ThreadRanks):
    """Ranks that count what they tell each other."""

    told: ClassVar[Counter[str]] = Counter()

    def send(self, message: object, to: int) -> None:
        for each in message if isinstance(message, tuple) else [message]:
            if isinstance(each, np.ndarray):
                self.told[f"sent by {self.rank}"] += each.nbytes
                self.told["messages"] += 1
        super().send(message, to)

    def sum(self, x: NDArray) -> NDArray:
        self.told[f"sums by {self.rank}"] += 1
        self.told[f"added by {self.rank}"] += x.size
        return super().sum(x)

    def gather(self, x: NDArray) -> NDArray:
        self.told["gathered"] += x.size
        return super().gather(x)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    monkeypatch.setattr(thread_ranks, "ThreadRanks", Counting)
    Counting.told.clear()
    return Counting.told


@pytest.mark.parametrize("tokens", [1, 5])
def test_by_layers_the_stream_goes_from_rank_to_rank(told: Counter[str], tokens: int) -> None:
    model: Any = ts.load("stories")[0]
    runs = [range(0, 2), range(2, 3), range(3, 6)]
    divided = thread_ranks.divided(lambda part: type(model)(model.config, model.weights, part=part), 3, runs)
    divided([5] * tokens)
    expected = by_layers(3, width=192, tokens=tokens)
    assert told["messages"] == expected.waits
    assert {told[f"sent by {rank}"] for rank in range(3)} == {expected.sent}
    assert sum(told[f"sent by {rank}"] for rank in range(3)) == expected.in_turn
    assert not told["sums by 0"]


def test_by_heads_there_are_two_sums_in_a_layer_and_one_before(told: Counter[str]) -> None:
    source = open_source(find_model("stories"))
    architecture, config = model_config(source, source.config)
    checkpoint = source.checkpoint(source.config)
    divided = thread_ranks.divided(
        lambda part: architecture.from_checkpoint(config, checkpoint, part=part), 3
    )
    divided([5] * 4, last_only=True)
    expected = by_heads(3, layers=6, width=192, vocabulary=2048, tokens=4)
    sums = {told[f"sums by {rank}"] for rank in range(3)}
    assert sums == {2 * 6 + 1}
    assert expected.waits == 1 + (2 * 6 + 1) + 1  # rank 0's message, and the logits
    # The last block computes the last token alone, so its two sums are smaller: expected is an upper bound.
    assert {told[f"added by {rank}"] for rank in range(3)} == {192 * (4 * 11 + 2)}
    assert told["gathered"] == 2048


def test_what_a_wire_adds() -> None:
    traffic = exchanging(1000, 3) + Traffic(1, 0, 0) * 2
    assert traffic.seconds(Wire(1e-3, 1e6)) == pytest.approx(3e-3 + 8e-3)
