"""Sparse latent attention: an indexer chooses the keys that each query attends to."""

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step, new_key_value_state
from tinystar_np.errors import InputError
from tinystar_np.kernels.latent_attention import expanded
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.sparse_attention import only_chosen
from tinystar_np.layers.attention import as_array, heads_apart, heads_joined
from tinystar_np.layers.basic import LayerNorm, Linear
from tinystar_np.layers.latent_attention import LatentQueryAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import listening, tap

Choice = NDArray[np.intp]
"""(B, T, k), the indices of the chosen keys among those in reach; −1 for none."""


class Indexer(Module):
    """Scores all keys for each query, and chooses the best (kernels/sparse_attention.py).

    w         linear layers ``q`` (R_q, J·I), of the compressed queries, ``k`` (D, I) and ``weights`` (D, J);
              ``k_norm`` (I,), a LayerNorm
    heads     J
    head_dim  I
    rope_dim  K_r, of the first numbers of each head, which are rotated
    rope      rotates them
    top_k     k
    """

    def __init__(self, w: Weights, *, heads: int, head_dim: int, rope_dim: int, rope: Rotary, top_k: int):
        self.q, self.k, self.weights = Linear(w / "q"), Linear(w / "k"), Linear(w / "weights")
        self.k_norm = LayerNorm(w / "k_norm", eps=1e-6)
        self.heads, self.head_dim, self.rope_dim = heads, head_dim, rope_dim
        self.rope, self.top_k = rope, top_k

    def keys(self, x: NDArray, step: Step) -> NDArray:
        """Make a key for each token: (B, T, D) → (B, 1, T, I)."""
        return self.rotated(self.k_norm(self.k(x))[:, None], step)

    def __call__(self, x: NDArray, compressed: NDArray, keys: NDArray, step: Step) -> NDArray:
        """Score keys (B, 1, S, I) for the queries of x (B, T, D), compressed (B, T, R_q): (B, T, S)."""
        q = self.rotated(heads_apart(self.q(compressed), self.heads), step)
        weights = self.weights(x) * x.dtype.type((self.heads * self.head_dim) ** -0.5)
        return tap("attention.index_scores", fast.index_scores(q, keys, weights.swapaxes(1, 2)))

    def rotated(self, x: NDArray, step: Step) -> NDArray:
        """Rotate the first numbers of queries or keys (B, heads, T, I)."""
        P = self.rope_dim
        return np.concatenate((self.rope(x[..., :P], step), x[..., P:]), axis=-1)


class SparseLatentAttention(LatentQueryAttention):
    """Latent attention to the keys that an indexer chooses, in this layer or in an earlier one.

    The indexer's keys are remembered where other attention has values: latents need no room for these. Where
    ranks share the heads of attention, each has the whole indexer, and rank 0's choice is that of all.

    w        as of ``LatentQueryAttention``
    indexer  of this layer; None where the choice of an earlier one holds
    chooser  the number of the layer whose choice it is
    others   as of ``LatentAttention``
    """

    def __init__(
        self,
        w: Weights,
        *,
        indexer: Indexer | None,
        chooser: int,
        heads: int,
        rank: int,
        head_dim: int,
        rope_dim: int,
        value_dim: int,
        scale: float,
        rope: Rotary,
    ):
        super().__init__(
            w, heads=heads, rank=rank, head_dim=head_dim, rope_dim=rope_dim, value_dim=value_dim, scale=scale,
            rope=rope,
        )  # fmt: skip
        self.indexer, self.chooser, self.division = indexer, chooser, w.division
        self.reads = (("chosen keys", chooser),) if indexer is None else ()
        self.remark = f"to the keys that layer {chooser} chooses"
        if indexer is not None:
            self.remark = f"to the {indexer.top_k} keys that an indexer of {indexer.heads} heads chooses"

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for the latents of ``batch_size`` rows, and for the indexer's keys."""
        width = self.rank + self.rope_dim
        of_index = 0 if self.indexer is None else self.indexer.head_dim
        return new_key_value_state(batch_size, 1, width, capacity, self.limits(), value_dim=of_index)

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to the chosen ones of what came before and itself; as ``LatentAttention``."""
        compressed = self.compressed(step.wanted(x))  # (B, T, R_q)
        q = self.rotated(self.q_up(compressed), step.queries)  # (B, H, T, K + K_r)
        new = self.latents(x, step)  # (B, 1, T, R + K_r)
        index = new[..., :0] if self.indexer is None else self.indexer.keys(x, step)  # (B, 1, T, I)
        latents, keys, positions = step.remember(new, index, state)
        mask = step.mask(positions, self.limits())
        if self.indexer is not None:
            self.choose(self.indexer, step.wanted(x), compressed, as_array(keys), mask, step)
        y = self.attend_to_chosen(q, as_array(latents), mask, self.chosen(step))
        return tap("attention.out", self.out(heads_joined(tap("attention.mixed", y))))

    def choose(
        self, indexer: Indexer, x: NDArray, compressed: NDArray, keys: NDArray, mask: Mask, step: Step
    ) -> None:
        """Choose for this layer and for those that follow it; None where there is nothing to leave out."""
        chosen: Choice | None = None
        if keys.shape[2] > indexer.top_k:
            scores = indexer(x, compressed, keys, step.queries)
            chosen = fast.best_keys(scores, mask, indexer.top_k)
            if self.division is not None:  # other processors may round scores otherwise
                chosen = self.division.agreed(chosen.astype(np.int32)).astype(np.intp)
        step.give(("chosen keys", self.chooser), chosen)

    def chosen(self, step: Step) -> Choice | None:
        """Return the choice for the wanted tokens.

        Raises InputError where a run begins between the layer that chooses and this one.
        """
        try:
            chosen: Choice | None = step.given(("chosen keys", self.chooser))
        except KeyError:
            raise InputError(
                f"This layer attends to the keys that layer {self.chooser} chooses, so that a run must begin "
                "there or before it."
            ) from None
        return None if chosen is None else step.wanted(chosen)

    def attend_to_chosen(self, q: NDArray, latents: NDArray, mask: Mask, chosen: Choice | None) -> NDArray:
        """Apply the kernel: (B, H, T, K + K_r), with S latents (B, 1, S, R + K_r) → (B, H, T, K_v)."""
        if not listening("attention.scores", "attention.probabilities"):
            if chosen is None:
                return fast.latent_attention(q, latents, *self.up, mask, scale=self.scale)
            return fast.sparse_latent_attention(q, latents, *self.up, mask, chosen, scale=self.scale)
        keys, values = expanded(latents, *self.up)
        scores = tap("attention.scores", fast.attention_scores(q, keys, scale=self.scale))
        if chosen is not None:
            scores = scores + only_chosen(chosen, keys.shape[2])
        probabilities = tap("attention.probabilities", fast.attention_probabilities(scores, mask))
        return fast.attention_mean(probabilities, values)
