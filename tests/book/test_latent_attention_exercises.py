"""The exercises of docs/kernels/latent_attention.md, solved."""

import numpy as np

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.latent_attention import (
    absorbed,
    absorbed_latent_attention,
    absorbing_is_cheaper,
    expanded,
    latent_attention,
)


def test_two_scores_in_two_ways() -> None:
    up_k = np.array([[[2.0, 0], [1, 1]]])  # (H, R, K), one head
    c, q = np.array([[[1.0, 1], [0, 2]]]), np.array([[[1.0, 3]]])
    keys, _ = expanded(c, up_k, up_k)
    np.testing.assert_array_equal(keys[0], [[3, 1], [2, 2]])
    np.testing.assert_array_equal(keys[0] @ q[0, 0], [3 * 1 + 1 * 3, 2 * 1 + 2 * 3])
    moved = absorbed(q, up_k)[0, 0]
    np.testing.assert_array_equal(moved, [2 * 1 + 0 * 3, 1 * 1 + 1 * 3])
    np.testing.assert_array_equal(c[0] @ moved, [6, 8])


def test_when_absorbing_pays() -> None:
    def most(earlier: int, R: int) -> int:
        """The largest T for which it does, of the first thousand."""
        up = np.zeros((1, R, 128), dtype=np.float32)
        return max(T for T in range(1, 1000) if absorbing_is_cheaper(T, earlier + T, up, up))

    # The expanded form makes the keys and values of all earlier tokens once more,
    # R (K + K_v) each, and makes up for it with narrower heads: each of the T · S pairs
    # costs 2 R − K − K_v less.
    assert most(10, R=512) == 36  # the largest T with T (10 + T) · 768 ≤ 10 · 131072
    assert most(10, R=512) < most(1000, R=512) < most(100_000, R=512)
    assert most(100_000, R=512) == 170  # the limit is 131072 / 768
    # With 2 R = K + K_v a pair costs the same in both forms: nothing makes up for anything.
    assert most(1000, R=128) == 999


def test_multi_head_attention_as_latent_attention() -> None:
    rng = np.random.default_rng(0)
    H, T, K = 3, 5, 4
    q, k, v = (rng.standard_normal((H, T, K)) for _ in range(3))
    # The latent is all keys and all values side by side: R = 2 · H · K, and K_r = 0.
    latents = np.concatenate([*k, *v], axis=1)[None]  # (1, T, R)
    one = np.eye(2 * H * K)
    # Each head takes its own out of it.
    up_k = np.stack([one[:, h * K : (h + 1) * K] for h in range(H)])
    up_v = np.stack([one[:, (H + h) * K : (H + h + 1) * K] for h in range(H)])
    for form in (latent_attention, absorbed_latent_attention):
        found = form(q, latents, up_k, up_v, None, scale=0.5)
        np.testing.assert_allclose(found, attention(q, k, v, None, scale=0.5))
    # Nothing is saved: a token keeps 2 · H · K numbers, as in multi-head attention.
    assert latents.shape[-1] == 2 * H * K
