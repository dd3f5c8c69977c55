"""The exercises of docs/kernels/attention.md, solved."""

import numpy as np

from tinystar_np.kernels.attention import attention, attention_probabilities, attention_scores
from tinystar_np.kernels.masks import Mask


def test_a_query_of_zeros_takes_the_plain_mean() -> None:
    # All products are 0, so all weights are 1/3: (9 + 0 + 9) / 3 = 6, and the same for the second feature.
    q = np.zeros((1, 1, 2), dtype=np.float32)
    k = np.array([[[1, 0], [0, 1], [1, 1]]], dtype=np.float32)
    v = np.array([[[9, 0], [0, 9], [9, 9]]], dtype=np.float32)
    np.testing.assert_allclose(attention(q, k, v, None, scale=np.log(2)), [[[6, 6]]], rtol=1e-6)


def test_a_vector_added_to_all_keys_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 5, 8))
    c = rng.normal(size=8)
    mask = Mask(np.arange(5), np.arange(5))

    def weights(q: np.ndarray, k: np.ndarray) -> np.ndarray:
        return attention_probabilities(attention_scores(q, k, scale=1.0), mask)

    # q · (k + c) = q · k + q · c: every score of one query rises by the same number, and the softmax of a row
    # does not change when a number is added to the whole row. (So a bias of the keys is of no use.)
    np.testing.assert_allclose(weights(q, k + c), weights(q, k), atol=1e-12)
    # (q + c) · k = q · k + c · k: this number differs from key to key, and all rows with a choice change.
    assert (abs(weights(q + c, k) - weights(q, k)).max(axis=-1)[0, 1:] > 1e-3).all()


def test_a_head_that_copies_the_token_before() -> None:
    T = 8
    v = np.random.default_rng(0).normal(size=(1, T, 3))
    # The key of a token says where it stands, as a one in that place; the query has its one a place earlier.
    k = np.eye(T)[None]
    q = np.eye(T, k=-1)[None]
    result = attention(q, k, v, Mask(np.arange(T), np.arange(T)), scale=30.0)
    np.testing.assert_allclose(result[0, 1:], v[0, :-1], atol=1e-6)  # e^30 to 1: as good as all the weight
    np.testing.assert_allclose(result[0, 0], v[0, 0])  # the first token sees only itself
