"""Attention whose keys and values later layers of its kind read as well."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step, new_key_value_state
from tinystar_np.layers.attention import Attention, heads_apart, heads_joined
from tinystar_np.layers.basic import Linear, RMSNorm
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap

NEW, ALL = "new keys and values", "keys and values"
"""With a kind of layers, the keys under which these are handed to later ones."""


def copying_layers(kinds: Sequence[str], own: int, first: int) -> set[int]:
    """Find the layers of a process whose keys and values are those of a layer in another one.

    kinds  of all layers
    own    how many have keys and values of their own, the first ones
    first  of the layers that the process has

    Returns the first of each kind that reads; those after it read its copy.

    >>> copying_layers(["near", "far", "near", "far", "near"], own=2, first=1)
    {2}
    """
    there, found = set(kinds[first:own]), set()
    for i in range(max(first, own), len(kinds)):
        if kinds[i] not in there:
            found.add(i)
            there.add(kinds[i])
    return found


class SharedAttention(Attention):
    """Attention that hands its keys and values to later layers of its kind, or reads those of an earlier one.

    What layers attend to differs less and less towards the end of a model; so the last ones have no keys and
    values of their own, and a cache holds none for them. Brandon et al. 2024, arXiv:2405.12981. Queries, keys
    and values are normed, values without a gain, and scores are not scaled.

    w       as in ``Attention``, without ``k`` and ``v`` where the layer has none of its own, without ``v``
            where keys serve as values; ``q_norm`` and ``k_norm``
    kind    of the layer: the keys and values of the last one before it of the same kind are read
    copies  whether that one is in another process. Then this layer keeps a copy of its keys and values, so
            that only those of new tokens come from there
    eps     of the norms
    others  as in ``Attention``
    """

    def __init__(
        self,
        w: Weights,
        *,
        kind: str,
        heads: int,
        kv_heads: int,
        head_dim: int,
        rope: Rotary,
        window: int | None,
        eps: float,
        copies: bool = False,
    ):
        super().__init__(
            w, heads=heads, kv_heads=kv_heads, head_dim=head_dim, scale=1.0, rope=rope, window=window
        )
        self.kind, self.copies, self.eps = kind, copies, eps
        self.q_norm = RMSNorm(w / "q_norm", eps=eps)
        if self.has_keys:
            self.k_norm = RMSNorm(w / "k_norm", eps=eps)
            self.gives = ((NEW, kind),)
        else:
            self.reads = ((NEW, kind),)
            self.remark = "keys and values of an earlier layer"

    def build_projections(self, w: Weights) -> None:
        """Build what makes queries, and keys and values where the layer has some."""
        self.q = Linear(w / "q")
        self.has_keys = w.get("k.weight") is not None
        self.keys_are_values = self.has_keys and w.get("v.weight") is None
        if self.has_keys:
            self.k = Linear(w / "k")
            self.v = self.k if self.keys_are_values else Linear(w / "v")

    def value_dim(self) -> int:
        """Return the width of a value, that of a key."""
        return self.head_dim

    def new_state(self, batch_size: int, capacity: int) -> KeyValueState:
        """Make room for keys and values; of a layer that reads another's, for none."""
        heads = self.kv_heads if self.has_keys or self.copies else 0
        return new_key_value_state(batch_size, heads, self.head_dim, capacity, self.limits())

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to itself and to what came before: (B, T, D) → (B, T, D), or (B, 1, D)."""
        assert self.rope is not None
        q = tap("attention.q", heads_apart(self.q(step.wanted(x)), self.heads))  # (B, H, T, K)
        q = tap("attention.q_rotated", self.rope(tap("attention.q_norm", self.q_norm(q)), step.queries))
        if self.has_keys:
            step.give((NEW, self.kind), self.keys_and_values(x, step))
        if self.has_keys or self.copies:
            k, v = step.given((NEW, self.kind))
            step.give((ALL, self.kind), step.remember(k, v, state))
        keys, values, positions = step.given((ALL, self.kind))
        y = self.attend(q, keys, values, step.mask(positions, self.limits()), step)
        return tap("attention.out", self.out(heads_joined(tap("attention.mixed", y))))

    def keys_and_values(self, x: NDArray, step: Step) -> tuple[NDArray, NDArray]:
        """Make the keys and values of new tokens: (B, G, T, K) each."""
        assert self.rope is not None
        k = tap("attention.k", heads_apart(self.k(x), self.kv_heads))
        v = k if self.keys_are_values else tap("attention.v", heads_apart(self.v(x), self.kv_heads))
        v = tap("attention.v_norm", fast.rms_norm(v, np.ones(self.head_dim, np.float32), self.eps))
        return tap("attention.k_rotated", self.rope(tap("attention.k_norm", self.k_norm(k)), step)), v
