"""The exercises of docs/porting/noise.md, solved."""

from itertools import permutations

import numpy as np


def test_a_sum_depends_on_its_order() -> None:
    # Neighbours of 10⁸ are 8 apart in float32, so that 10⁸ + 1 is 10⁸ again: the 1 survives only where the
    # two large numbers meet first.
    numbers = [np.float32(1), np.float32(1e8), np.float32(-1e8)]
    sums = [(a + b) + c for a, b, c in permutations(numbers)]
    assert {float(each) for each in sums} == {0.0, 1.0}
    assert sums.count(1) == 2


def test_pairs_of_pairs_lose_less() -> None:
    # The rounding errors are random, so they add up as a random walk does. One after another, each addition
    # rounds a sum that itself grows as √n, and the error grows about as n. NumPy adds in pairs, pairs of
    # pairs, …, and a number takes part in log n additions only: its error hardly grows faster than the sum.
    random = np.random.default_rng(0)
    worse, errors = [], []
    for n in (10, 1000, 100_000):
        one_by_one, in_pairs = [], []
        for _ in range(10):
            x = random.standard_normal(n).astype(np.float32)
            exact = float(x.astype(np.float64).sum())
            one_by_one.append(abs(float(np.add.accumulate(x)[-1]) - exact))
            in_pairs.append(abs(float(x.sum()) - exact))
        worse.append(np.mean(one_by_one) / max(np.mean(in_pairs), 1e-12))
        errors.append((np.mean(one_by_one), np.mean(in_pairs)))
    assert worse[-1] > 5
    # From 1000 to 100 000 numbers the first grows about a hundredfold, the second about as √100 = 10.
    one, pairs = np.divide(errors[2], errors[1])
    assert 30 < one < 300
    assert 3 < pairs < 30


def test_the_form_of_a_difference() -> None:
    def form(right: np.ndarray, wrong: np.ndarray) -> str:
        # A factor for each token: wrong = right · f. A vector for all: wrong = right + v. Take the best f and
        # v, and see how much of the difference they leave.
        difference = wrong - right
        factors = (right * difference).sum(-1, keepdims=True) / (right * right).sum(-1, keepdims=True)
        left = {
            "one factor for each token": difference - right * factors,
            "one vector for all tokens": difference - difference.mean(0),
        }
        best = min(left, key=lambda name: np.linalg.norm(left[name]))
        return best if np.linalg.norm(left[best]) < 0.1 * np.linalg.norm(difference) else "neither"

    random = np.random.default_rng(0)
    x = random.standard_normal((8, 32))
    assert form(x, x * random.uniform(0.9, 1, (8, 1))) == "one factor for each token"
    assert form(x, x + random.standard_normal(32)) == "one vector for all tokens"
    assert form(x, x + 1e-6 * random.standard_normal((8, 32))) == "neither"
