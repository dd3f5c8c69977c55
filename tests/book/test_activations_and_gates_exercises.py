"""The exercises of docs/kernels/activations_and_gates.md, solved."""

import numpy as np

from tinystar_np.kernels.activations import gated_activation, identity, relu, silu


def test_a_layer_of_two_features_by_hand() -> None:
    tokens = np.array([[2.0, 1], [1, 2], [-1, -2]])
    up = np.array([[1.0, 1], [1, -1]])  # the features: a + b and a − b
    down = np.array([[1.0], [-1]])
    # before the activation (3, 1), (3, −1), (−3, 1); after it (3, 1), (3, 0), (0, 1)
    np.testing.assert_array_equal(relu(tokens @ up) @ down, [[2.0], [3], [-1]])


def test_without_an_activation_nothing_is_folded() -> None:
    rng = np.random.default_rng(0)
    x, up, down = (rng.standard_normal(shape) for shape in ((5, 3), (3, 8), (8, 3)))
    # The identity leaves a product of two matrices, which is one matrix of 3 × 3.
    np.testing.assert_allclose(identity(x @ up) @ down, x @ (up @ down))
    # A gate that does not look at the token is a constant factor: one matrix, times 20.
    open_gate = np.full((5, 8), 20.0)
    y = gated_activation(open_gate, x @ up, silu) @ down
    np.testing.assert_allclose(y, 20 * x @ (up @ down))
    # With ReLU it is no linear map: that would give for −x minus what it gives for x.
    assert np.abs(relu(-x @ up) @ down + relu(x @ up) @ down).max() > 1


def test_two_gated_features_multiply() -> None:
    gate = np.array([[1.0, -1], [0, 0]])  # (D, F): the gates are a and −a
    up = np.array([[0.0, 0], [1, -1]])  # what they let through: b and −b
    down = np.array([[1.0], [1]])
    x = np.random.default_rng(0).standard_normal((100, 2))
    y = gated_activation(x @ gate, x @ up, silu) @ down
    # a σ(a) b + (−a) σ(−a) (−b) = a b (σ(a) + σ(−a)) = a b
    np.testing.assert_allclose(y[:, 0], x[:, 0] * x[:, 1], rtol=1e-12)
