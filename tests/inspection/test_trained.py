"""The results of the training run, as they are read, and the share of right answers that guessing gets."""

import json
from itertools import product

import numpy as np
import pytest

from tinystar_np.inspection.trained import SHIPPED, Training, commonest, read_training
from tinystar_np.models.tinystar_config import configuration_names


@pytest.fixture(scope="module")
def training() -> Training:
    return read_training()


def test_all_designs_are_there(training: Training) -> None:
    assert list(training.designs) == configuration_names()
    assert [len(design.runs) for design in training.designs.values()] == [1, 3, 1, 1, 1, 1, 1]
    assert training.repeated.name == "v0.2-modern"
    assert training.kinds == ["tuned", "new"]
    for design in training.designs.values():
        assert design.config.max_positions == training.context == 512


def test_numbers_are_those_of_the_file(training: Training) -> None:
    found = json.loads(SHIPPED.read_text(encoding="utf-8"))
    for name, design in training.designs.items():
        for run in design.runs:
            stored = found["designs"][name]["runs"][str(run.seed)]
            per_byte = [stored["final"][text]["nats_per_byte"] for text in training.texts]
            assert run.mean == pytest.approx(np.mean(per_byte))
            assert [run.loss(text) for text in training.texts] == per_byte
            assert list(run.looks) == stored["held_out"]["steps"]
            looked = [stored["held_out"][text] for text in training.texts]
            np.testing.assert_allclose(list(run.looks.values()), np.mean(looked, axis=0))
            assert run.last_fall == pytest.approx(np.mean(looked, axis=0)[-2] - np.mean(looked, axis=0)[-1])
            nats = stored["recall"]["nats_per_token"]
            for distance in training.distances:
                assert run.saved(distance) == nats["none"] - nats[str(distance)]
        for kind, model in design.associative.items():
            final = found["associative_recall"][kind][name]["final"]
            assert model.right == {int(pairs): every for pairs, (every, _) in final.items()}
    seeds = [
        run["final"]["novels"]["nats_per_byte"] for run in found["designs"]["v0.2-modern"]["runs"].values()
    ]
    assert training.noise("novels") == max(seeds) - min(seeds)


def test_how_far_a_windowed_model_reaches(training: Training) -> None:
    """Through two layers with a window of 64, a token can take from the 126 before it."""
    model = training.designs["v0.7-swa"].associative["new"]
    assert (model.layers, model.window, model.reach) == (2, 64, 126)
    assert training.designs["v0.3-mha"].associative["new"].reach is None


@pytest.mark.parametrize(("drawn", "words"), [(1, 5), (2, 128), (3, 2), (4, 3), (5, 4), (6, 1)])
def test_the_commonest_of_all_draws(drawn: int, words: int) -> None:
    counts = [max(map(row.count, row)) for row in product(range(words), repeat=drawn)]
    assert commonest(drawn, words) == pytest.approx(sum(counts) / len(counts))


def test_guessing_in_rows_drawn_at_random(training: Training) -> None:
    random = np.random.default_rng(0)
    for pairs in (8, 64):
        draws = [np.bincount(random.integers(training.words, size=pairs)).max() / pairs for _ in range(4000)]
        assert training.guessed(pairs) == pytest.approx(np.mean(draws), rel=0.02)
