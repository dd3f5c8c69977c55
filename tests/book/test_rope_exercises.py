"""The exercises of docs/kernels/rope.md, solved."""

import numpy as np

from tinystar_np.kernels.attention import attention_probabilities, attention_scores
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.rope import default_frequencies, rotary_angles, rotary_embedding


def rotated(x: np.ndarray, positions: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    angles = rotary_angles(positions, frequencies)
    return rotary_embedding(x, np.cos(angles), np.sin(angles))


def test_a_query_at_5_and_a_key_at_4() -> None:
    # Five quarter turns are one: (1, 0) becomes (0, 1). Four are none: (0, 1) stays. Their product is 1.
    # Or by the distance alone: a quarter turn of the query towards the key, which is a quarter ahead of it.
    quarter = np.array([np.pi / 2], dtype=np.float32)
    q = rotated(np.array([[1.0, 0]]), np.array([5]), quarter)
    k = rotated(np.array([[0.0, 1]]), np.array([4]), quarter)
    np.testing.assert_allclose(q @ k.T, [[1]], atol=1e-5)


def test_exchanged_positions() -> None:
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 64))
    f = default_frequencies(64, 10000.0)

    def score(q: np.ndarray, k: np.ndarray, t: int, s: int) -> float:
        return (rotated(q, np.array([t]), f) @ rotated(k, np.array([s]), f).T).item()

    # No: the angle between the two arrows of a pair was changed by (t − s) f, and now by minus that. Rotary
    # embedding knows before from after.
    assert abs(score(q, k, 9, 2) - score(q, k, 2, 9)) > 0.1
    # Only where both are the same vector the angle was 0, and a cosine is the same for both signs.
    np.testing.assert_allclose(score(q, q, 9, 2), score(q, q, 2, 9), rtol=1e-4)


def test_a_head_that_looks_three_tokens_back() -> None:
    T, K, back = 20, 64, 3
    f = default_frequencies(K, 10000.0)
    t = np.arange(T)
    # Keys and queries do not depend on the tokens: each is one vector (the bias of a projection could be it).
    key = np.repeat([1.0, 0.0], K // 2)  # all pairs point to the right
    query = rotated(key[None], np.array([-back]), f)[0]  # turned back by the angles of three tokens
    q, k = rotated(np.tile(query, (T, 1)), t, f), rotated(np.tile(key, (T, 1)), t, f)
    scores = attention_scores(q[None], k[None], scale=8.0)
    weights = attention_probabilities(scores, Mask(t, t))[0]
    assert (weights[back:].argmax(axis=1) == t[back:] - back).all()
    assert weights[t[back:], t[back:] - back].min() > 0.99
