"""Ministral 3 (Mistral AI 2025): Mistral without a window, and queries that grow with the length of the text.

    x → norm → attention, queries × (1 + β · ln(1 + ⌊p / f⌋)) ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention | position                         | norm    | activation | block      | context               |
|-----------|----------------------------------|---------|------------|------------|-----------------------|
| GQA 32:8  | RoPE, YaRN ×16, temperature from | RMSNorm | SwiGLU     | sequential | 262144, trained 16384 |
|           | position 16384 on                |         |            |            |                       |

New in it, beside Mistral: what it takes to read sixteen times as far as the first training did. YaRN (Peng
et al. 2023, arXiv:2309.00071) slows the slow pairs of the rotations down. Queries grow with their position
(Nakanishi 2025, arXiv:2501.19399; kernels/temperature.py), here in every layer, since all of them read the
whole text; Llama 4 does so in its layers without rotations alone. The 3B, 8B and 14B were made of Mistral
Small 3.1 by pruning and distilling in turns (Mistral AI 2026, arXiv:2601.08584). All of them see: this is the
text part of a ``mistral3``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.temperature import temperature
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import equal_windows
from tinystar_np.models.rope_keys import AT_LEAST_0, LENGTH, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

SCALING = "llama_4_scaling_beta"
USUAL: JsonObject = {
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    SCALING: 0.1,
}
"""The rotations of a config.json that says nothing of them."""


class Temperature(NamedTuple):
    """What queries are multiplied by at each position: 1 + β · ln(1 + ⌊p / f⌋).

    floor  f, the length of a step in tokens
    scale  β
    """

    floor: int
    scale: float


@dataclass(frozen=True)
class Ministral3Config(Config):
    """The keys of a Ministral 3 config.json that change the mathematics; defaults as in transformers.

    β of the queries' growth is among the parameters of the rotations, as ``llama_4_scaling_beta``, and f is
    the length that they are scaled from, ``original_max_position_embeddings``.
    """

    vocab_size: int = key(131072, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="F")
    num_hidden_layers: int = key(34, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(262144, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    sliding_window: int | None = None
    tie_word_embeddings: bool = False

    @property
    def rope_keys(self) -> Mapping[str, JsonObject | None]:
        """Those of the rotations, the usual ones where a file says nothing of them."""
        return vars(self) if self.rope_parameters is not None else {**vars(self), "rope_parameters": USUAL}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        keys = self.rope_keys
        without = {name: _without_scaling(keys[name]) for name in ("rope_scaling", "rope_parameters")}
        return RopeParameters.read({**keys, **without}, head_dim=self.sizes["K"])

    @property
    def temperature(self) -> Temperature:
        """What scales queries by their positions."""
        given, name = RopeKeys.of(self.rope_keys, None), "original_max_position_embeddings"
        # Rules that go by a trained length have it from outside too, or the longest is meant.
        goes_by_it = self.rope.rope_type in ("llama3", "longrope", "yarn")
        floor = given.trained() if goes_by_it else given.number(name, LENGTH)
        return Temperature(int(floor), given.number(SCALING, AT_LEAST_0))

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all; published files have none."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)

    def check(self) -> None:
        """Refuse what queries cannot be scaled by."""
        super().check()
        _ = self.temperature


def _without_scaling(keys: JsonObject | None) -> JsonObject | None:
    """Return the parameters of the rotations alone."""
    return None if keys is None else {name: value for name, value in keys.items() if name != SCALING}


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: Ministral3Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Ministral3Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i],
            temperature=c.temperature,
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Ministral3Attention(Attention):
    """Attention whose rotated queries grow with their positions.

    temperature  what they are multiplied by; all else as in ``Attention``
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        rope: Rotary,
        window: int | None,
        temperature: Temperature,
    ):
        super().__init__(w, heads=heads, kv_heads=kv_heads, head_dim=head_dim, rope=rope, window=window)
        self.temperature = temperature
        self.remark = f"queries × 1 + {temperature.scale:g} · ln(1 + ⌊position / {temperature.floor}⌋)"

    def rotated(self, q: NDArray, k: NDArray, step: Step) -> tuple[NDArray, NDArray]:
        """Rotate queries and keys by their positions, and scale queries."""
        q, k = super().rotated(q, k, step)
        return tap("attention.q_scaled", q * self._factors(step.queries)), k

    def _factors(self, queries: Step) -> NDArray[np.float32]:
        """Return what queries are multiplied by, the same in all layers: (B, 1, T, 1)."""
        floor, scale = self.temperature
        # The kernel's steps end one position earlier than those here.
        factors = queries.once(self.temperature, lambda: temperature(queries.positions - 1, floor, scale))
        return factors[:, None, :, None]


class Ministral3(Decoder[Ministral3Config]):
    """Ministral 3 (3B, 8B, 14B), their text part."""

    Config = Ministral3Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Ministral3Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mistral",
    kind="attention",
    changed="No window; queries that grow with their position, beyond 16384 tokens",
    why="attention stays sharp in texts sixteen times as long as those of the first training",
    published="8B",
)
