"""The parts of the Byte Latent Transformer: keys of its four stacks, their layers, what makes patches.

models/blt.py has the model, and says what the parts are for.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import HybridState, KeyValueState, LayerState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.byte_hashes import PRIMES, byte_hashes
from tinystar_np.kernels.byte_patches import (
    ends_of_patches,
    largest_of_patches,
    next_byte_entropy,
    patches_attend_to_bytes,
)
from tinystar_np.layers.attention import Attention, as_array
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm, linear_each
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap, unheard

ROTATIONS = ("default", "linear", "yarn", "llama3")
"""Rules that do not depend on the length of a text, which is one number in bytes and another in patches."""


DEFAULTS: dict[str, JsonObject] = {
    "encoder_config": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 1},
    "decoder_config": {
        **{"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 9},
        **{"intermediate_size": 2816, "cross_attn_all_layers": True},
    },
    "global_config": {
        **{"hidden_size": 2048, "num_attention_heads": 16, "num_hidden_layers": 25},
        **{"intermediate_size": 5632, "max_position_embeddings": 4096},
    },
    "patcher_config": {
        **{"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 14},
        **{"intermediate_size": 2048, "max_position_embeddings": 8192, "rope_theta": 10000.0},
    },
}
"""What differs among the defaults of the four objects, as in transformers."""


@dataclass(frozen=True)
class StackConfig(Config):
    """The keys of ``encoder_config`` and the three like it; each object has some of them."""

    vocab_size: int = key(260, letter="V")
    hidden_size: int = key(1024, letter="D")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    num_hidden_layers: int = key(1, letter="L")
    intermediate_size: int | None = key(None, least=0)
    rms_norm_eps: float = key(1e-5, above=0)
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(24576, is_trained_length=True)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    # of the encoder and the decoder
    cross_attn_all_layers: bool = False
    cross_attn_k: int = key(2, least=1)
    # of the decoder
    hidden_size_global: int = 2048
    # of the patcher
    sliding_window: int | None = key(512, least=1)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; without a width of its own, a feed-forward layer is 8/3 as wide as the stream."""
        wide = self.intermediate_size or int(8 * self.hidden_size / 3)
        return {**super().sizes, "F": wide}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse rotations that depend on a length."""
        super().check()
        rule, known = self.rope.rope_type, ", ".join(ROTATIONS)
        implemented = rule in ROTATIONS
        require(implemented, f"rope_type = {shown(rule)} is not implemented for this architecture: {known}.")


def stack_config(name: str, given: JsonObject | None) -> StackConfig:
    """Read one of the four objects; null, or a key that it lacks, is as in transformers' class for it."""
    said = {key: value for key, value in (given or {}).items() if key != "rope_theta" or value is not None}
    return StackConfig.from_dict({**DEFAULTS[name], **said})


class Layer(Module):
    """A layer of any of the stacks: attention, then feed-forward, each on a normed copy of the stream.

    w           as in the weight table of models/blt.py
    c           the stack's keys
    window      W: a byte sees the W bytes up to its own; None for no limit
    activation  of the feed-forward layer, by name
    """

    def __init__(self, w: Weights, c: StackConfig, window: int | None, activation: str):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(interleaved=True),
            window=window,
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[activation])
        self.key_sizes = G, K
        self.new_state: Callable[[int, int], LayerState] = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class CrossAttention(Module):
    """Attention between bytes and patches; who attends to whom is the kernel's business.

        q, k, v = norm_q(x) W_q, norm_k(y) W_k, norm_k(y) W_v        y: what is attended to
        result  = x + heads side by side, times W_out

    Those who call it add the result to x, so that x counts twice.

    w  linear layers ``q``, ``k``, ``v``, ``out``; ``q_norm`` and ``k_norm``
    c  the stack's keys
    """

    def __init__(self, w: Weights, c: StackConfig):
        self.heads, self.kv_heads, self.head_dim = (c.sizes[letter] for letter in "HGK")
        self.q, self.k, self.v, self.out = (Linear(w / name) for name in ("q", "k", "v", "out"))
        self.q_norm = RMSNorm(w / "q_norm", eps=c.rms_norm_eps)
        self.k_norm = RMSNorm(w / "k_norm", eps=c.rms_norm_eps)

    def __call__(self, x: NDArray, y: NDArray, attend: Callable[..., NDArray]) -> NDArray:
        """Let x attend to y: (..., D), (..., D) → (..., D) as x.

        attend  a kernel with the borders of the patches: (q (..., H, K), k (..., G, K), v (..., G, K), scale)
                → (..., H, K)
        """
        q = self.q(self.q_norm(x)).reshape(*x.shape[:-1], self.heads, self.head_dim)
        shape = *y.shape[:-1], self.kv_heads, self.head_dim
        k, v = (each.reshape(shape) for each in linear_each((self.k, self.v), self.k_norm(y)))
        mixed = attend(q, k, v, scale=self.head_dim**-0.5)
        return x + tap("cross_attention.out", self.out(mixed.reshape(*x.shape[:-1], -1)))


class KeysOfPatches(KeyValueState):
    """Keys and values of patches: of the n-th patch, not of the n-th byte, at the n-th place."""

    by_token: ClassVar[bool] = False


class Latents(NamedTuple):
    """What bytes attend to.

    vectors  (B, N, k, D): k vectors for each patch, the one that had ended before the call first
    patch    (B, T), the number among these of the patch that each new byte attends to
    """

    vectors: NDArray
    patch: NDArray[np.int64]


class Patcher(Module):
    """A small model of bytes that says where patches end: a decoder of its own, of which only doubt is used.

    w          ``embedding.patcher``, and in ``patcher`` ``layers``, ``final_norm`` and ``head``
    c          its keys
    threshold  θ, in nats
    """

    def __init__(self, w: Weights, c: StackConfig, threshold: float):
        self.embedding = Embedding(w / "embedding.patcher")
        self.layers = [
            Layer(w / f"patcher.layers.{j}", c, c.sliding_window, "silu") for j in range(c.num_hidden_layers)
        ]
        self.final_norm = RMSNorm(w / "patcher.final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "patcher.head")
        self.threshold = threshold

    def __call__(self, ids: NDArray, step: Step, states: Sequence[KeyValueState]) -> NDArray[np.bool_]:
        """Say which of the bytes (B, T) end their patch: (B, T)."""
        x = run(self.layers, self.embedding(ids), step, states)
        entropy = next_byte_entropy(self.head(self.final_norm(x)))
        return ends_of_patches(entropy, step.positions, self.threshold)


class Hashes(Module):
    """Adds to each byte the vectors of the groups of bytes that end at it, see kernels/byte_hashes.py.

    w          the table (rows of all functions and lengths, D)
    lengths    n of each group
    functions  how many hash functions there are
    rows       M, of each length and function
    """

    def __init__(self, w: Weights, lengths: Sequence[int], functions: int, rows: int):
        self.table = Embedding(w)
        self.lengths, self.functions, self.rows = list(lengths), functions, rows
        self.before = max(lengths) - 1

    def __call__(self, ids: NDArray[np.int64], x: NDArray) -> NDArray:
        """Map x (B, T, D) to (B, T, D), a new array.

        ids  (B, n − 1 + T), the bytes, after as many as the longest group reaches back
        """
        T, part = x.shape[1], 0
        for function in range(self.functions):
            prime = PRIMES[function % len(PRIMES)]
            for n in self.lengths:
                hashes = byte_hashes(ids[:, ids.shape[1] - T - n + 1 :], n, prime, self.rows)
                x = x + self.table(hashes + part * self.rows)
                part += 1
        return x


def run(layers: Sequence[Layer], x: NDArray, step: Step, states: Sequence[KeyValueState]) -> NDArray:
    """Run a stack of layers: (B, T, D) → (B, T, D). Their steps have no taps."""
    with unheard():
        for layer, state in zip(layers, states, strict=True):
            x = layer(x, step, state)
    return x


class BytesToLatents(Module):
    """All that stands before the decoder: bytes are encoded, cut into patches, and patches think.

    w          ``hashes``, ``patcher``, ``encoder``, ``global`` and ``latents``
    hashes     adds vectors of groups of bytes
    patcher    says where patches end; None where each byte is a patch
    encoder    layers of bytes
    pooling    from the largest values of a patch to its k queries, (D, k·D)
    cross      lets these attend to the patch's bytes
    widen      from k·D to the width of the global layers; None where they are as wide
    layers     of patches: the global transformer
    latents    from the global layers to k vectors that bytes attend to, (D_global, k·D)
    """

    def __init__(
        self,
        w: Weights,
        *,
        hashes: Hashes,
        patcher: Patcher | None,
        encoder: Sequence[Layer],
        cross: CrossAttention,
        layers: Sequence[Layer],
    ):
        self.hashes, self.patcher, self.encoder, self.cross = hashes, patcher, list(encoder), cross
        self.pooling, self.latents = Linear(w / "encoder.pooling"), Linear(w / "latents")
        self.widen = Linear(w / "global.in") if "global.in.weight" in w else None
        self.layers = list(layers)

    def new_state(self, batch_size: int, capacity: int) -> HybridState:
        """Make room for bytes in the patcher and the encoder, and for patches in the global layers.

        The first part has what is of one size: the last bytes, for hashes; how many patches have ended;
        where the open patch begins; and what the global layers made of the last patch. Then come keys and
        values of the patcher's and the encoder's layers, the encoder's results, and keys and values of
        patches, of which there are fewer.
        """
        B = batch_size
        fixed = RecurrentState(
            bytes=np.zeros((B, self.hashes.before), dtype=np.int64),
            patches=np.zeros(B, dtype=np.int64),
            begins=np.zeros(B, dtype=np.int64),
            latent=np.zeros((B, self.latents.weight.shape[0]), dtype=np.float32),
        )
        of_bytes = [*([] if self.patcher is None else self.patcher.layers), *self.encoder]
        encoded = KeyValueState(B, 1, self.pooling.weight.shape[0], capacity, value_dim=0)
        return HybridState(
            fixed,
            *(layer.new_state(B, capacity) for layer in of_bytes),
            encoded,
            *(KeysOfPatches(B, *layer.key_sizes, capacity) for layer in self.layers),
        )

    def __call__(
        self, ids: NDArray[np.integer], x: NDArray, step: Step, state: HybridState | None
    ) -> tuple[NDArray, Latents]:
        """Encode new bytes, and think about the patches that end with them.

        ids    (B, T)
        x      (B, T, D), the bytes' rows of the embedding table
        step   where they stand
        state  of what came before; None where nothing did

        Returns the encoded bytes (B, T, D), and what they attend to.
        """
        if step.only_last:  # of the decoder's layer; here all bytes count
            step = copy(step)
            step.only_last = False
        parts: Sequence[Any] = (self.new_state(len(ids), 0) if state is None else state).states
        fixed, *states = parts
        P, E = 0 if self.patcher is None else len(self.patcher.layers), len(self.encoder)
        of_patcher, of_encoder, encoded = states[:P], states[P : P + E], states[P + E]

        known = np.concatenate([fixed["bytes"], ids.astype(np.int64)], axis=1)
        x = tap("residual_encoded", run(self.encoder, self.hashes(known, x), step, of_encoder))
        held = as_array(encoded.append(x[:, None], x[:, None, :, :0], step)[0])[:, 0]  # (B, S, D)
        if self.patcher is None:
            ends = np.ones(ids.shape, dtype=np.int64)
        else:
            ends = self.patcher(ids, step, of_patcher).astype(np.int64)
        ends = tap("patches.ends", ends) != 0

        patch = np.cumsum(ends, axis=1)  # (B, T): 0 is the patch that had ended before
        vectors, begins = self.patches(held, ends, step, fixed["begins"])  # (B, N, k·D)
        thought = self.think(vectors, fixed["patches"], states[P + E + 1 :])  # (B, N, D_global)
        vectors = np.concatenate([fixed["latent"][:, None], thought], axis=1)
        fixed.replace(
            bytes=known[:, known.shape[1] - self.hashes.before :],
            patches=fixed["patches"] + patch[:, -1],
            begins=begins,
            latent=vectors[np.arange(len(ids)), patch[:, -1]],
        )
        B, _, D = x.shape
        return x, Latents(self.latents(vectors).reshape(B, vectors.shape[1], -1, D), patch)

    def patches(
        self, held: NDArray, ends: NDArray[np.bool_], step: Step, begins: NDArray[np.int64]
    ) -> tuple[NDArray, NDArray[np.int64]]:
        """Make a vector of each patch that ends with the new bytes.

        held    (B, S, D), all encoded bytes
        ends    (B, T), which of the new ones end their patch
        begins  (B,), where the patch begins that was open before

        Returns vectors (B, N, k·D), zeros where a row has fewer than N; and where its open patch then begins.
        """
        B, D = len(held), held.shape[2]
        rows, columns = np.nonzero(ends)  # row by row, one for each patch
        last = step.positions[rows, columns]
        first = np.empty_like(last)
        first[1:] = last[:-1] + 1
        new_row = np.diff(rows, prepend=-1) != 0
        first[new_row] = begins[rows[new_row]]
        after = begins.copy()
        after[rows] = last + 1  # of several, the last of the row stays
        most = int(ends.sum(axis=1).max())
        vectors = np.zeros((B, most, self.pooling.weight.shape[1]), dtype=np.float32)
        if not rows.size:
            return vectors, after

        lengths = last - first + 1
        starts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) - np.repeat(starts - first, lengths)
        x = held[np.repeat(rows, lengths), places]  # (M, D): the bytes of all patches in a row
        pooled = self.pooling(largest_of_patches(x, starts)).reshape(len(rows), -1, D)  # (patches, k, D)
        with unheard():
            pooled = pooled + self.cross(pooled, x, partial(patches_attend_to_bytes, starts=starts))
        number = np.cumsum(ends, axis=1)[rows, columns] - 1
        vectors[rows, number] = pooled.reshape(len(rows), -1)
        return vectors, after

    def think(self, x: NDArray, before: NDArray[np.int64], states: Sequence[KeyValueState]) -> NDArray:
        """Run the global layers over new patches.

        x       (B, N, k·D); in rows with fewer new patches the others are no part of the text, stand after
                those that are, and are written over by the next
        before  (B,), how many patches came before
        states  of the layers

        Returns (B, N, D_global).
        """
        B, N, _ = x.shape
        if not N:
            return np.zeros((B, 0, self.latents.weight.shape[0]), dtype=np.float32)
        x = x if self.widen is None else self.widen(x)
        return run(self.layers, x, Step(before, N), states)
