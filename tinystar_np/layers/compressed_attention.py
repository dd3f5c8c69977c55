"""Compressed attention: a window of tokens, and before it one entry for each few tokens."""

import math

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import EntriesState, Held, HybridState, LayerState, Limits, Step, new_key_value_state
from tinystar_np.kernels.linear import Matrix, unpacked
from tinystar_np.kernels.masks import Mask, visible
from tinystar_np.kernels.paged_attention import Paged
from tinystar_np.kernels.rope import rotary_angles
from tinystar_np.kernels.sparse_attention import only_chosen
from tinystar_np.kernels.window_compression import Sums, means, merged, no_sums, sums_of
from tinystar_np.layers.attention import heads_apart
from tinystar_np.layers.basic import Linear, RMSNorm, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import listening, tap


class LastRotary(Module):
    """Rotates the last numbers of each vector, neighbours being pairs.

    rope  whose frequencies do not depend on the length of a text
    """

    def __init__(self, rope: Rotary):
        frequencies = rope.frequencies
        assert isinstance(frequencies, np.ndarray)
        self.rule, self.factor = rope.rule, np.float32(rope.attention_factor)
        self.width = 2 * len(frequencies)
        self._frequencies = frequencies

    def __call__(self, x: NDArray, step: Step) -> NDArray:
        """Rotate vectors (B, H, T, K) of the step's tokens: a new array."""
        return self._rotated(x, *self._of(step))

    def back(self, x: NDArray, step: Step) -> NDArray:
        """Rotate them the other way."""
        cos, sin = self._of(step)
        return self._rotated(x, cos, -sin)

    def _of(self, step: Step) -> tuple[NDArray, NDArray]:
        return step.once(("last", self.rule), lambda: self._rotations(step.row_positions))

    def at(self, x: NDArray, positions: NDArray[np.integer]) -> NDArray:
        """Rotate vectors (B, 1, n, K) by positions (n,), or (B, n)."""
        return self._rotated(x, *self._rotations(positions))

    def _rotated(self, x: NDArray, cos: NDArray, sin: NDArray) -> NDArray:
        y = x.copy()
        y[..., -self.width :] = fast.rotary_embedding(x[..., -self.width :], cos, sin, interleaved=True)
        return y

    def _rotations(self, positions: NDArray[np.integer]) -> tuple[NDArray, NDArray]:
        """Make cosines and sines: (T, J), or (B, 1, T, J)."""
        angles = rotary_angles(positions if positions.ndim == 1 else positions[:, None], self._frequencies)
        return np.cos(angles) * self.factor, np.sin(angles) * self.factor


class Compressor(Module):
    """Makes an entry of each window of a text (kernels/window_compression.py), normed and rotated.

    w         linear layers ``values`` and ``gates`` (D, K), or (D, 2K) where windows overlap; ``bias``
              (m, K) or (m, 2K); ``norm`` (K,)
    rope      rotates entries, by the position at which their window begins
    eps       of the norm
    has_taps  whether taps have its vectors and gates
    """

    def __init__(self, w: Weights, *, rope: LastRotary, eps: float, has_taps: bool = True):
        self.values, self.gates = Linear(w / "values"), Linear(w / "gates")
        self.bias: NDArray = w["bias"]
        self.norm = RMSNorm(w / "norm", eps=eps)
        self.rope, self.has_taps = rope, has_taps
        self.every, self.head_dim = len(self.bias), len(self.norm.gain)
        self.overlaps = self.bias.shape[1] > self.head_dim

    def new_state(self, batch_size: int, capacity: int) -> EntriesState:
        """Make room for the entries of ``batch_size`` rows."""
        open_ = no_sums(batch_size, self.bias.shape[1])._asdict()
        before = no_sums(batch_size, self.head_dim)._asdict() if self.overlaps else {}
        named = open_ | {f"{name}_before": array for name, array in before.items()}
        return EntriesState(batch_size, self.head_dim, self.every, capacity, **named)

    def __call__(self, x: NDArray, step: Step, state: EntriesState | None) -> NDArray:
        """Make the entries of the windows that new tokens fill, and return all there are.

        x      (B, T, D)
        state  extended by them; None where nothing came before

        Returns (B, n, K); those beyond ⌊tokens / m⌋ of a row mean nothing.
        """
        state = self.new_state(len(x), 0) if state is None else state
        first, within = step.start // self.every, step.start % self.every  # (B,) each
        ends = (within + step.length) // self.every  # (B,): windows that are full now, from the first on
        sums = self.sums_by_window(x, step, within)  # (B, n, K or 2K)
        before = Sums(*(state[name] for name in Sums._fields))
        opened = merged(before, Sums(*(part[:, 0] for part in sums)))
        sums = Sums(
            *(np.concatenate((a[:, None], b[:, 1:]), axis=1) for a, b in zip(opened, sums, strict=True))
        )
        of_entries, named = sums, _taken(sums, ends, no_sums(len(x), 1, self.bias.shape[1]))
        if self.overlaps:
            K = self.head_dim
            earlier = Sums(*(state[f"{name}_before"][:, None] for name in Sums._fields))
            earlier = Sums(
                *(np.concatenate((a, b[..., :K]), axis=1) for a, b in zip(earlier, sums, strict=True))
            )
            of_entries = merged(
                Sums(*(part[:, :-1] for part in earlier)), Sums(*(part[..., K:] for part in sums))
            )
            named |= {f"{name}_before": part for name, part in _taken(earlier, ends).items()}
        state.replace(**named)
        new = self.entries(of_entries, first, int(ends.max()))
        return state.append(new, first, int((first + ends).max()))

    def sums_by_window(self, x: NDArray, step: Step, within: NDArray[np.integer]) -> Sums:
        """Add up new tokens by the windows that they are in: (B, T, D) → (B, n, K or 2K).

        within  (B,) at which place of its window the first token stands
        """
        values, gates = linear_each((self.values, self.gates), x)
        if self.has_taps:
            values, gates = tap("attention.entry_values", values), tap("attention.entry_gates", gates)
        gates = gates + self.bias[step.positions % self.every]
        n = (int(within.max()) + step.length - 1) // self.every + 1
        shape = len(x), n * self.every, values.shape[-1]
        placed, weighed = np.zeros(shape, np.float32), np.full(shape, -np.inf, np.float32)
        for b, place in enumerate(within.tolist()):
            placed[b, place : place + step.length] = values[b]
            weighed[b, place : place + step.length] = gates[b]
        by_window = len(x), n, self.every, -1
        return sums_of(placed.reshape(by_window), weighed.reshape(by_window))

    def entries(self, sums: Sums, first: NDArray[np.integer], count: int) -> NDArray:
        """Make the first so many windows' entries of their sums: (B, n, K) → (B, count, K)."""
        if not count:
            return np.zeros((len(first), 0, self.head_dim), np.float32)
        entries = self.norm(means(Sums(*(part[:, :count] for part in sums))))
        begins = (first[:, None] + np.arange(count)) * self.every  # (B, count)
        return self.rope.at(entries[:, None], begins)[:, 0]


def _taken(sums: Sums, index: NDArray[np.integer], more: Sums | None = None) -> dict[str, NDArray]:
    """Take each row's sums of the window with this number: {the sums' name: (B, K)}; after all stand more."""
    parts = sums if more is None else [np.concatenate(both, axis=1) for both in zip(sums, more, strict=True)]
    rows = np.arange(len(index))
    return {name: part[rows, index] for name, part in zip(Sums._fields, parts, strict=True)}


class EntryIndexer(Module):
    """Chooses the entries that each query attends to (kernels/sparse_attention.py), by smaller ones.

    w      linear layers ``q`` (R, J·I), of the compressed queries, and ``weights`` (D, J); ``compressor``
    heads  J
    rope   rotates queries
    eps    of the norm of entries
    top_k  k
    """

    def __init__(self, w: Weights, *, heads: int, rope: LastRotary, eps: float, top_k: int):
        self.q, self.weights = Linear(w / "q"), Linear(w / "weights")
        self.compressor = Compressor(w / "compressor", rope=rope, eps=eps, has_taps=False)
        self.heads, self.rope, self.top_k = heads, rope, top_k
        self.head_dim = self.compressor.head_dim

    def __call__(
        self, x: NDArray, queries: NDArray, step: Step, state: EntriesState | None
    ) -> NDArray[np.intp] | None:
        """Choose for the wanted tokens; None where there are no more than k entries.

        x        (B, T, D), of all tokens
        queries  (B, T, R), compressed, of the wanted ones
        state    entries to choose by, extended by new ones

        Returns (B, T, k), the places of the chosen entries, −1 where a query sees fewer.
        """
        entries = self.compressor(x, step, state)
        if entries.shape[1] <= self.top_k:
            return None
        q = self.rope(heads_apart(self.q(queries), self.heads), step.queries)  # (B, J, T, I)
        weights = self.weights(step.wanted(x)) * x.dtype.type((self.heads * self.head_dim) ** -0.5)
        scores = fast.index_scores(q, entries[:, None], weights.swapaxes(1, 2))
        scores = tap("attention.index_scores", scores)
        return fast.best_keys(scores, entry_mask(step, entries.shape[1], self.compressor.every), self.top_k)


def entry_mask(step: Step, entries: int, every: int) -> Mask:
    """Let the wanted tokens see the entries of windows that end with them or before: a mask (T, entries)."""
    return Mask(step.queries.row_positions, np.arange(1, entries + 1) * every - 1)


class CompressedAttention(Module):
    """Attention with one vector for each token as its key and value, to a window and to entries before.

        c       = norm(x W_down);  q = heads of c W_up, each scaled to unit mean square
        k = v   = norm(x W_k), the same for all heads
        y       = softmax(q kᵀ / √K, with a sink) k               of the window, and of entries
        result  = (groups of y, each times its W_g, side by side) W_out

    Queries and keys are rotated, and since keys are values, so is what is gathered: y is rotated back, by the
    query's position. The parts of y then depend on distances.

    w           linear layers ``q_down`` (D, R), ``q_up`` (R, H·K), ``k`` (D, K), ``out_up`` (O·P, D); norms
                ``q_norm`` (R,), ``k_norm`` (K,); ``sinks`` (H,); ``out_down.weight`` (O·P, H·K/O), a
                matrix for each of O groups of numbers of y, one below the other
    heads       H
    groups      O
    rope        rotates the last numbers of queries and keys
    window      W
    eps         of the norms
    compressor  makes entries; None where nothing but the window is attended to
    indexer     chooses among them; None for all
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        groups: int,
        rope: LastRotary,
        window: int,
        eps: float,
        compressor: Compressor | None = None,
        indexer: EntryIndexer | None = None,
    ):
        self.q_down, self.q_up, self.k = (Linear(w / name) for name in ("q_down", "q_up", "k"))
        self.q_norm, self.k_norm = RMSNorm(w / "q_norm", eps=eps), RMSNorm(w / "k_norm", eps=eps)
        self.out_down: Matrix = w["out_down.weight"]
        self.out_up = Linear(w / "out_up")
        self.sinks: NDArray = w["sinks"]
        units = math.gcd(heads, groups)  # some heads, and the groups of their numbers
        own = w.whole_groups(heads, units)
        self.heads, self.groups = len(own.heads), len(own.groups) * groups // units
        self.window, self.eps = window, eps
        self.head_dim = len(self.k_norm.gain)
        self.scale = self.head_dim**-0.5
        self.rope, self.compressor, self.indexer = rope, compressor, indexer

    def limits(self) -> Limits:
        """Say how far a token sees other tokens, one by one."""
        return Limits(self.window)

    def new_state(self, batch_size: int, capacity: int) -> HybridState:
        """Make room for the keys of the window, and for entries of attention and of the indexer."""
        K = self.head_dim
        states: list[LayerState] = [
            new_key_value_state(batch_size, 1, K, capacity, self.limits(), value_dim=0)
        ]
        compressors = [self.compressor, None if self.indexer is None else self.indexer.compressor]
        return HybridState(
            *states, *(each.new_state(batch_size, capacity) for each in compressors if each is not None)
        )

    def __call__(self, x: NDArray, step: Step, state: HybridState | None) -> NDArray:
        """Let each token attend to a window up to itself, and to entries before; as ``Attention``."""
        window, entries, chosen_by = (*(() if state is None else state.states), None, None, None)[:3]
        compressed = tap(
            "attention.q_norm", self.q_norm(tap("attention.q_down", self.q_down(step.wanted(x))))
        )
        q = heads_apart(self.q_up(compressed), self.heads)  # (B, H, T, K)
        q = fast.rms_norm(tap("attention.q", q), np.ones(self.head_dim, np.float32), self.eps)
        q = tap("attention.q_rotated", self.rope(q, step.queries))
        k = tap("attention.k", self.k(x)[:, None])
        k = tap("attention.k_norm", self.k_norm(k))
        k = tap("attention.k_rotated", self.rope(k, step))  # (B, 1, T, K)
        keys, bias = self.near(k, step, window)  # (B, 1, S, K), (1 or B, 1, T, S)
        if self.compressor is not None:
            far, far_bias = self.far(x, compressed, step, entries, chosen_by)
            keys, bias = np.concatenate((keys, far), axis=2), joined(bias, far_bias)
        y = tap("attention.mixed", self.attend(q, keys, bias))  # (B, H, T, K)
        return tap("attention.out", self.projected(self.rope.back(y, step.queries)))

    def near(self, k: NDArray, step: Step, state: LayerState | None) -> tuple[NDArray, NDArray]:
        """Remember new keys (B, 1, T, K), and return those in reach and what is added to their scores."""
        held, _, positions = step.remember(k, k[..., :0], state)  # type: ignore[arg-type]
        keys, reached = self.in_reach(held, positions, step)
        mask = Mask(step.queries.row_positions, reached, self.window)
        return keys, step.once(("window", step.only_last), lambda: bias_of(mask))

    def in_reach(
        self, held: Held, positions: NDArray[np.integer], step: Step
    ) -> tuple[NDArray, NDArray[np.integer]]:
        """Return keys as an array: of those in a pool, the ones that some query sees, and their positions."""
        if not isinstance(held, Paged):
            return held, positions
        first = max(0, int(step.queries.start.min()) - self.window + 1)
        return fast.gathered(held, first), positions[first:]

    def far(
        self,
        x: NDArray,
        compressed: NDArray,
        step: Step,
        state: LayerState | None,
        index: LayerState | None,
    ) -> tuple[NDArray, NDArray]:
        """Make entries of new tokens, and return all that are attended to: (B, 1, n, K), and their bias."""
        assert self.compressor is not None
        entries = self.compressor(x, step, state)  # type: ignore[arg-type]
        n, every = entries.shape[1], self.compressor.every
        chosen = None
        if self.indexer is not None:
            chosen = self.indexer(x, compressed, step, index)  # type: ignore[arg-type]
        if chosen is None:
            bias = step.once(("entries", every, step.only_last), lambda: bias_of(entry_mask(step, n, every)))
        elif chosen.shape[1] == 1 and not listening("attention.scores", "attention.probabilities"):
            picked = entries[np.arange(len(x))[:, None], chosen[:, 0]]  # (B, k, K); those of −1 are hidden
            shown = (chosen >= 0)[:, None]  # (B, 1, 1, k)
            return picked[:, None], np.where(shown, np.float32(0), np.float32(-np.inf))
        else:
            bias = only_chosen(chosen, n)
        return entries[:, None], bias

    def attend(self, q: NDArray, k: NDArray, bias: NDArray) -> NDArray:
        """Apply the kernel: (B, H, T, K), with keys (B, 1, S, K) → (B, H, T, K)."""
        bias = np.broadcast_to(bias, (len(q), self.heads, *bias.shape[2:]))
        if not listening("attention.scores", "attention.probabilities"):
            return fast.attention(q, k, k, None, scale=self.scale, bias=bias, sinks=self.sinks)
        scores = tap("attention.scores", fast.attention_scores(q, k, scale=self.scale))
        probabilities = fast.attention_probabilities(scores + bias, None, self.sinks)
        return fast.attention_mean(tap("attention.probabilities", probabilities), k)

    def projected(self, y: NDArray) -> NDArray:
        """Map each group of numbers of all heads by its own matrix, and these side by side: (B, T, D)."""
        B, T = len(y), y.shape[2]
        by_group = y.transpose(2, 0, 1, 3).reshape(T * B, self.groups, -1).swapaxes(0, 1)  # (O, T·B, H·K/O)
        matrices = unpacked(self.out_down).reshape(self.groups, -1, by_group.shape[-1])  # (O, P, H·K/O)
        small = by_group @ matrices.swapaxes(1, 2)  # (O, T·B, P)
        small = small.transpose(1, 0, 2).reshape(T, B, self.groups, -1).swapaxes(0, 1)
        small = tap("attention.out_down", small)  # (B, T, O, P)
        return self.out_up(small.reshape(B, T, -1))


def bias_of(mask: Mask) -> NDArray[np.float32]:
    """Write a mask as what is added to scores, 0 or −∞: (1 or B, 1, T, S)."""
    shown = visible(mask)
    bias: NDArray[np.float32] = np.where(shown, np.float32(0), np.float32(-np.inf))
    return bias if bias.ndim == 4 else bias[None, None]


def joined(near: NDArray, far: NDArray) -> NDArray:
    """Put two biases side by side, (1 or B, 1, T, S) each."""
    rows = max(len(near), len(far))
    return np.concatenate([np.broadcast_to(each, (rows, *each.shape[1:])) for each in (near, far)], axis=-1)
