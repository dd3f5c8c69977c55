"""The exercises of docs/kernels/experts.md, solved."""

import numpy as np

from tinystar_np.kernels.activations import relu
from tinystar_np.kernels.experts import grouped_mixture, softmax_top_k, top_k, top_k_softmax


def test_two_of_four_by_hand() -> None:
    scores = np.log([6.0, 3, 1, 2])
    chosen, weights = top_k_softmax(scores, 2)
    assert chosen.tolist() == [0, 1]
    np.testing.assert_allclose(weights, [6 / 9, 3 / 9])  # of the two alone
    chosen, weights = softmax_top_k(scores, 2)
    assert chosen.tolist() == [0, 1]
    np.testing.assert_allclose(weights, [6 / 12, 3 / 12])  # of all four: the rest is lost


def test_copies_of_one_expert() -> None:
    rng = np.random.default_rng(0)
    shapes = (5, 3), (5, 4), (3, 8), (8, 3)
    x, scores, up, down = (rng.standard_normal(shape) for shape in shapes)
    copies = [lambda rows: relu(rows @ up) @ down] * 4
    one = relu(x @ up) @ down
    # Weights that sum to 1: the router makes no difference.
    np.testing.assert_allclose(grouped_mixture(x, *top_k_softmax(scores, 2), copies), one)
    # Weights of a softmax over all: each token gets less, by how much depends on its scores.
    chosen, weights = softmax_top_k(scores, 2)
    sums = weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(grouped_mixture(x, chosen, weights, copies), sums * one)
    assert sums.max() < 1
    assert np.ptp(sums) > 0.1


def test_a_layer_cut_into_experts() -> None:
    rng = np.random.default_rng(0)
    T, D, F, E = 6, 5, 12, 4
    x, up, down = (rng.standard_normal(shape) for shape in ((T, D), (D, F), (F, D)))
    columns, rows = np.split(up, E, axis=1), np.split(down, E)  # features 0 to 2, 3 to 5, …
    experts = [lambda x, e=e: relu(x @ columns[e]) @ rows[e] for e in range(E)]
    all_of_them = np.tile(np.arange(E), (T, 1))
    y = relu(x @ up) @ down
    np.testing.assert_allclose(grouped_mixture(x, all_of_them, np.ones((T, E)), experts), y)

    added = np.stack([expert(x) for expert in experts], axis=1)  # (T, E, D)
    best = top_k(np.linalg.norm(added, axis=-1), E - 1)  # a router would have to guess these
    without = grouped_mixture(x, best, np.ones((T, E - 1)), experts)
    least = np.linalg.norm(added, axis=-1).min(axis=1)
    np.testing.assert_allclose(np.linalg.norm(y - without, axis=1), least, atol=1e-12)
