"""What the loop draws has the probabilities that transformers' processors and torch's softmax give.

Pearson's chi-square, Σ (seen − expected)² / expected over the tokens, has mean n and variance 2n where the
draws are fair, n being the number of tokens less one; its cube root is nearly normal (Wilson & Hilferty
1931). Seeds are fixed, so that a run that passes always passes: the limit is 4 standard deviations. Each
setting is also held against probabilities that are slightly wrong, which must fail.
"""

from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from tinystar_np.generation import generate_ids

V, DRAWS = 40, 3000
LOGITS = np.random.default_rng(3).normal(0, 1.2, V).astype(np.float32)
LIMIT = 4.0


class Unmoved:
    """A model that answers the same logits to whatever it reads."""

    context_length = None
    end_ids = ()

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> "Unmoved":
        return self

    @property
    def lengths(self) -> np.ndarray:
        return np.zeros(1, dtype=np.int64)

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> np.ndarray:
        return LOGITS[None, None]


PROCESSORS = {
    "repetition_penalty": theirs.RepetitionPenaltyLogitsProcessor,
    "temperature": theirs.TemperatureLogitsWarper,
    "top_k": theirs.TopKLogitsWarper,
    "top_p": theirs.TopPLogitsWarper,
    "min_p": theirs.MinPLogitsWarper,
    "typical_p": theirs.TypicalLogitsWarper,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "temperature below 1": {"temperature": 0.6},
    "temperature above 1": {"temperature": 1.7},
    "top_k": {"top_k": 9},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.06},
    "typical_p": {"typical_p": 0.7},
    "some together": {"temperature": 1.3, "top_k": 30, "top_p": 0.9},
    "all together": {"temperature": 0.9, "top_k": 30, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.9},
}


def probabilities(settings: dict[str, Any], history: list[int]) -> np.ndarray:
    chain = [PROCESSORS[name](settings[name]) for name in PROCESSORS if name in settings]
    logits = theirs.LogitsProcessorList(chain)(torch.tensor([history]), torch.from_numpy(LOGITS)[None])
    return torch.softmax(logits[0].double(), dim=-1).numpy()


def deviations(drawn: np.ndarray, expected: np.ndarray) -> float:
    """How many standard deviations the chi-square of what was drawn stands above its mean."""
    seen, wanted = np.bincount(drawn, minlength=len(expected)), len(drawn) * expected
    assert seen[wanted == 0].sum() == 0
    often = wanted >= 5  # what is rarer counts as one
    seen, wanted = (np.append(x[often], x[~often].sum()) for x in (seen, wanted))
    seen, wanted = seen[wanted > 0], wanted[wanted > 0]
    n = len(wanted) - 1
    assert n >= 3
    statistic = (np.square(seen - wanted) / wanted).sum()
    spread = 2 / (9 * n)
    return float(((statistic / n) ** (1 / 3) - (1 - spread)) / np.sqrt(spread))


def flattened(p: np.ndarray) -> np.ndarray:
    """Return slightly wrong probabilities: those of a temperature a third higher."""
    wrong = p ** (3 / 4)
    return wrong / wrong.sum()


@pytest.mark.parametrize("name", SETTINGS)
def test_one_long_text(name: str) -> None:
    drawn = np.array(generate_ids(Unmoved(), [0], max_new_tokens=DRAWS, seed=1, **SETTINGS[name]))
    expected = probabilities(SETTINGS[name], [0])
    assert deviations(drawn, expected) < LIMIT
    assert deviations(drawn, flattened(expected)) > LIMIT
    # One draw says nothing about the next: behind even ids and behind odd ones the probabilities are these.
    for parity in (0, 1):
        behind = drawn[1:][drawn[:-1] % 2 == parity]
        assert len(behind) > DRAWS / 10
        assert deviations(behind, expected) < LIMIT


@pytest.mark.parametrize("penalty", [0.7, 1.5])
def test_one_token_of_many_seeds(penalty: float) -> None:
    """A history that stays: seeds that count upwards draw as independently as one source does."""
    history = np.argsort(LOGITS)[[-1, -2, -5, 0, 1, -1]].tolist()
    settings = {"repetition_penalty": penalty, "temperature": 0.8}
    seeds = range(DRAWS)
    drawn = [generate_ids(Unmoved(), history, max_new_tokens=1, seed=seed, **settings)[0] for seed in seeds]
    assert deviations(np.array(drawn), probabilities(settings, history)) < LIMIT
    assert deviations(np.array(drawn), probabilities({"temperature": 0.8}, history)) > LIMIT


def test_rows_of_a_batch_draw_apart() -> None:
    """Rows with one seed draw the same from the same logits: what a row draws is its own affair."""
    rows = generate_ids(Unmoved(), [[0]], max_new_tokens=50, seed=3)
    assert rows == [generate_ids(Unmoved(), [0], max_new_tokens=50, seed=3)]
    assert generate_ids(Unmoved(), [0], max_new_tokens=50, seed=4) != rows[0]
