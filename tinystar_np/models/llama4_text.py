"""Llama 4 Scout and Maverick (Meta 2025), their text models: chunks, and a layer in four without positions.

    x → norm → attention, rotated and in chunks, or neither ──+ x → norm → feed-forward ──+ x      (× L)
    feed-forward(x) = shared(x) + expert_e(σ(s_e) · x)      e the best of E by its score s_e
    logits = norm(x) · W

| attention              | position             | norm    | feed-forward             | block      | context  |
|------------------------|----------------------|---------|--------------------------|------------|----------|
| GQA 40:8, chunks of    | RoPE, neighbours, in | RMSNorm | SwiGLU, shared + 1 of 16 | sequential | 10485760 |
| 8192 in three of four, | these; none in each  |         | or 128; in Maverick each |            |          |
| q and k normed there   | 4th, but temperature |         | second layer is dense    |            |          |

New in it: two kinds of layers, for texts of millions of tokens (10485760 by Scout's config, 1048576 by
Maverick's). Three layers of four have rotary positions and attend within a chunk; the fourth attends to the
whole text without positions (Kazemnejad et al. 2023, arXiv:2305.19466), and its queries grow with the
position (Nakanishi 2025, arXiv:2501.19399). Rotated queries and keys are normed, without a gain. An expert's
weight is a sigmoid of its score, and multiplies the expert's input. Published in "The Llama 4 herd" (2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Limits, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_top_k
from tinystar_np.kernels.temperature import temperature
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import CHUNKED, FULL, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


class Temperature(NamedTuple):
    """What queries are multiplied by at each position, see kernels/temperature.py.

    floor  f, the length of a step in tokens
    scale  a
    """

    floor: int
    scale: float


@dataclass(frozen=True)
class Llama4TextConfig(Config):
    """The keys of a Llama 4 text config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of an expert, ``intermediate_size_mlp`` that of a dense layer.
    ``no_rope_layers`` has 1 for each layer with rotary embedding and 0 for each without. Of
    ``attn_temperature_tuning``, a number in the published files, it only matters whether it is 0.
    """

    vocab_size: int = key(202048, letter="V")
    hidden_size: int = key(5120, letter="D")
    intermediate_size: int = key(8192, letter="M")
    intermediate_size_mlp: int = key(16384, letter="F")
    num_hidden_layers: int = key(48, letter="L")
    num_attention_heads: int = key(40, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    attention_bias: bool = False
    use_qk_norm: bool = True
    attention_chunk_size: int | None = 8192
    layer_types: list[str] | None = None
    attn_temperature_tuning: bool | int = True
    floor_scale: int = 8192
    attn_scale: float = 0.1
    num_local_experts: int = key(16, letter="E")
    num_experts_per_tok: int = key(1, chosen_of="E")
    moe_layers: list[int] | None = None
    interleave_moe_layer_step: int = 1
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Read an empty list of layers without positions as none at all, as the published files mean it."""
        return super().from_dict(raw if raw.get("no_rope_layers") != [] else {**raw, "no_rope_layers": None})

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def rotated(self) -> Sequence[int]:
        """Whether each layer rotates queries and keys: 1 or 0."""
        if self.no_rope_layers is not None:
            return self.no_rope_layers
        n = at_least_1("no_rope_layer_interval", self.no_rope_layer_interval)
        return [int((i + 1) % n != 0) for i in range(self.num_hidden_layers)]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The chunk of each layer; where the file has no ``layer_types``, rotated ones have one."""
        usual = [CHUNKED if rotates else FULL for rotates in self.rotated[: self.num_hidden_layers]]
        return layer_windows(self.layer_types, usual, self.attention_chunk_size, near=CHUNKED)

    @property
    def temperature(self) -> Temperature | None:
        """What scales queries in layers without rotary embedding; None where nothing does."""
        if not self.attn_temperature_tuning or all(self.rotated):
            return None
        return Temperature(at_least_1("floor_scale", self.floor_scale), self.attn_scale)

    @property
    def expert_layers(self) -> Sequence[int]:
        """The layers with experts: those that are listed, or every n-th."""
        L, listed = self.num_hidden_layers, self.moe_layers
        if listed is None:
            n = at_least_1("interleave_moe_layer_step", self.interleave_moe_layer_step)
            return list(range(n - 1, L, n))
        return [i for i in range(L) if i in listed]

    @property
    def absent_letters(self) -> str:
        """The letters of dense layers, or of experts, where there are none."""
        count = len(self.expert_layers)
        return ("" if count else "EM") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions."""
        listed, L = self.no_rope_layers, self.num_hidden_layers
        require(
            listed is None or (len(listed) >= L and all(rotates in (0, 1) for rotates in listed)),
            f"no_rope_layers = {listed}, but it must be 0 or 1 for each of num_hidden_layers = {L}.",
        )
        super().check()
        _ = self.temperature


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.feed_forward.router.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.feed_forward.experts.gate_up_proj[:, :M]", "E D 2M", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.feed_forward.experts.gate_up_proj[:, M:]", "E D 2M", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.feed_forward.experts.down_proj", "E M D", "expert_layers"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.feed_forward.shared_expert.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.feed_forward.shared_expert.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.feed_forward.shared_expert.down_proj.weight", "(D M)ᵀ", "expert_layers"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight":
        ("layers.{i}.feed_forward.gate_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.weight":
        ("layers.{i}.feed_forward.up_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.weight":
        ("layers.{i}.feed_forward.down_proj.weight", "(D F)ᵀ", "not expert_layers"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
EXPERTS_APART: WeightTable = {  # in most packed files, since formats pack linear layers
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.feed_forward.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.feed_forward.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.feed_forward.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts or a dense feed-forward layer: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Llama4TextConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        rotates = bool(c.rotated[i])
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Llama4Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, chunk=c.windows[i],
            rope=c.rope.rotary(interleaved=True) if rotates else None,
            norm_eps=c.rms_norm_eps if rotates and c.use_qk_norm else None,
            temperature=None if rotates else c.temperature,
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Llama4Attention(Attention):
    """Attention with rotary embedding within chunks, or to the whole text with a temperature.

    chunk        C: a token attends within its chunk of C tokens; None for no limit
    norm_eps     of the norm of queries and keys after rotation, which has no gain; None for no norm
    temperature  scales queries by their positions; None for nothing
    """

    def __init__(
        self,
        w: Weights,
        *,
        heads: int,
        kv_heads: int,
        head_dim: int,
        rope: Rotary | None,
        chunk: int | None,
        norm_eps: float | None,
        temperature: Temperature | None,
    ):
        super().__init__(w, heads=heads, kv_heads=kv_heads, head_dim=head_dim, rope=rope)
        self.chunk, self.temperature = chunk, temperature
        if temperature is not None:
            self.remark = f"queries × 1 + {temperature.scale:g} · ln(1 + ⌊position / {temperature.floor}⌋)"
        ones = Weights({"gain": np.ones(head_dim, dtype=np.float32)})
        self.unit_norm = None if norm_eps is None else RMSNorm(ones, eps=norm_eps)

    def limits(self) -> Limits:
        """Return which keys a token may attend to."""
        return Limits(chunk=self.chunk)

    def rotated(self, q: NDArray, k: NDArray, step: Step) -> tuple[NDArray, NDArray]:
        """Rotate queries and keys by their positions and norm them, or scale queries."""
        q, k = super().rotated(q, k, step)
        if self.unit_norm is not None:
            q, k = tap("attention.q_norm", self.unit_norm(q)), tap("attention.k_norm", self.unit_norm(k))
        if self.temperature is not None:
            q = tap("attention.q_scaled", q * self._factors(self.temperature, step.queries))
        return q, k

    def _factors(self, t: Temperature, queries: Step) -> NDArray[np.float32]:
        """Return what queries are multiplied by, the same in all layers: (B, 1, T, 1)."""
        factors = queries.once(t, lambda: temperature(queries.positions, t.floor, t.scale))  # (B, T)
        return factors[:, None, :, None]


def feed_forward(w: Weights, c: Llama4TextConfig, i: int) -> Layer:
    """Build layer i's experts and its shared expert, or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    experts = Experts(
        w,
        gated_experts(w / "experts", c.num_local_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=sigmoid_top_k,
        weigh_inputs=True,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class Llama4Text(Decoder[Llama4TextConfig]):
    """Llama 4 Scout (17B-16E) and Maverick (17B-128E), their text part."""

    Config = Llama4TextConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "M"))
    OTHER_FORMS = (EXPERTS_APART,)
    PREFIX = "model."

    def build(self, w: Weights, c: Llama4TextConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="experts",
    changed="Experts; chunks of 8192 and rotary positions, but not in every fourth layer",
    why="most layers attend to what is near, a few to the whole text of millions of tokens",
    published="Scout",
    keys={"num_hidden_layers": 4},
)
