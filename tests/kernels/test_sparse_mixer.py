"""SparseMixer against transformers' function, and what its formula promises."""

import numpy as np
import pytest
import torch
from transformers.models.phimoe.modeling_phimoe import sparsemixer

from tinystar_np.kernels.sparse_mixer import sparse_mixer_top_k


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.3, 2.0])
def test_against_transformers(tolerance: float) -> None:
    logits = np.random.default_rng(0).standard_normal((3, 40, 7), dtype=np.float32)
    logits[0, 0] = 0.0  # all alike, and shares of nothing
    logits[0, 1] = -1.0
    flat = torch.from_numpy(logits.reshape(-1, 7))
    weights, chosen = sparsemixer(flat, jitter_eps=tolerance, training=False)
    ours, ours_weights = sparse_mixer_top_k(logits, 2, tolerance=tolerance)
    assert ours_weights.dtype == np.float32
    np.testing.assert_array_equal(ours.reshape(-1, 2), chosen.numpy())
    np.testing.assert_allclose(ours_weights.reshape(-1, 2), weights.numpy(), rtol=1e-6)


def test_without_tolerance_only_equals_compete() -> None:
    chosen, weights = sparse_mixer_top_k(np.array([[1.0, 1.0, 0.5, 0.5]]), 3, tolerance=0.0)
    assert chosen.tolist() == [[0, 1, 2]]
    assert weights.tolist() == [[0.5, 1.0, 0.5]]  # the second round's competitor was chosen in the first


def test_the_scores_are_left_as_they_are() -> None:
    logits = np.array([3.0, 1.0, 2.0])
    sparse_mixer_top_k(logits, 2, tolerance=0.1)
    assert logits.tolist() == [3.0, 1.0, 2.0]
