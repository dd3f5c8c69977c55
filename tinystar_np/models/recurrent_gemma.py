"""RecurrentGemma (Griffin: De et al. 2024, arXiv:2402.19427): linear recurrences and short windows.

    x₀ = √D · embedding
    x → norm → recurrence or attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = 30 · tanh(norm(x) · embeddingᵀ / 30)

| mixer                     | position     | norm              | activation   | block      | context  |
|---------------------------|--------------|-------------------|--------------|------------|----------|
| RG-LRU in 2 of 3 layers;  | RoPE, half   | RMSNorm, gain 1+w | GeGLU (tanh) | sequential | no limit |
| MQA, window 2048, in 1    | of each head |                   |              |            |          |

New in it: the RG-LRU (kernels/rg_lru.py), a recurrence of one number for each channel, between a convolution
and a gate. Attention sees 2048 tokens at most, so that no state grows with the text; the recurrence carries
on what falls out of the window. The published models are RecurrentGemma 2B and 9B
(Botev et al. 2024, arXiv:2404.07839), with Gemma's norms and feed-forward layers. √D is rounded to bfloat16.
transformers keeps the state of a text within the model, and forgets the convolution's inputs between pieces
of a prompt; here pieces continue one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.attention import capped
from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, Mixer, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.rg_lru import RGLRU
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

RECURRENT, ATTENTION = "recurrent", "attention"


@dataclass(frozen=True)
class RecurrentGemmaConfig(Config):
    """The keys of a RecurrentGemma config.json that change the mathematics; defaults as in transformers.

    ``block_types`` is repeated until every layer has one. ``intermediate_size`` counts gate and up together.
    """

    vocab_size: int = key(256000, letter="V")
    hidden_size: int = key(2560, letter="D")
    intermediate_size: int = key(7680, least=2)
    num_hidden_layers: int = key(26, letter="L")
    num_attention_heads: int = key(10, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    lru_width: int | None = key(None)
    conv1d_width: int = key(4, letter="W")
    attention_window_size: int = key(2048, least=1, aliases=("sliding_window",))
    block_types: list[str] | tuple[str, ...] = (RECURRENT, RECURRENT, ATTENTION)
    hidden_activation: str = activation_key("gelu_pytorch_tanh")
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float = key(0.5, null_is_silence=True)
    attention_bias: bool = False
    logits_soft_cap: float = key(30.0, above=0)
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"embeddings_scale_by_sqrt_dim": (True,)}

    @property
    def layer_kinds(self) -> Sequence[str]:
        """The kind of each layer."""
        return [self.block_types[i % len(self.block_types)] for i in range(self.num_hidden_layers)]

    @property
    def recurrent_layers(self) -> Sequence[int]:
        """The layers whose mixer is a recurrence."""
        return [i for i, kind in enumerate(self.layer_kinds) if kind == RECURRENT]

    @property
    def attention_layers(self) -> Sequence[int]:
        """The layers whose mixer is attention."""
        return [i for i, kind in enumerate(self.layer_kinds) if kind == ATTENTION]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; None where there is no attention."""
        return tuple(self.attention_window_size if kind == ATTENTION else None for kind in self.layer_kinds)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with C channels of the recurrence in blocks of P."""
        H = max(self.num_attention_heads, 1)
        C = self.hidden_size if self.lru_width is None else self.lru_width
        return {**super().sizes, "F": self.intermediate_size // 2, "C": C, "P": C // H}

    @property
    def absent_letters(self) -> str:
        """The letters of attention and of the recurrence, where there is none."""
        return ("" if self.attention_layers else "GK") + ("" if self.recurrent_layers else "W")

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None in a model without attention."""
        if not self.attention_layers:
            return None
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)

    def check(self) -> None:
        """Refuse contradictions."""
        wrong = [kind for kind in self.block_types if kind not in (RECURRENT, ATTENTION)]
        found = shown(list(self.block_types))
        said = f"block_types = {found}, but it must name {RECURRENT!r} and {ATTENTION!r}."
        require(bool(self.block_types) and not wrong, said)
        for name, given in (("rope_parameters", self.rope_parameters), ("rope_scaling", self.rope_scaling)):
            rule = (given or {}).get("rope_type", (given or {}).get("type"))
            said = f"{name} has rope_type = {shown(rule)}, but this architecture scales no rotations."
            require(rule in (None, "default"), said)
        super().check()
        C, H = self.sizes["C"], self.num_attention_heads
        name = "hidden_size" if self.lru_width is None else "lru_width"
        divided = not self.recurrent_layers or C % H == 0
        require(divided, f"{name} = {C} cannot be divided among num_attention_heads = {H} blocks.")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    # in layers with attention
    "blocks.{i}.attention_norm.gain": ("layers.{i}.temporal_pre_norm.weight", "D", "attention_layers"),
    "blocks.{i}.attention.q.weight":
        ("layers.{i}.temporal_block.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.q.bias":
        ("layers.{i}.temporal_block.q_proj.bias", "HK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.k.weight":
        ("layers.{i}.temporal_block.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.bias":
        ("layers.{i}.temporal_block.k_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.v.weight":
        ("layers.{i}.temporal_block.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.bias":
        ("layers.{i}.temporal_block.v_proj.bias", "GK", "attention_layers and attention_bias"),
    "blocks.{i}.attention.out.weight":
        ("layers.{i}.temporal_block.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.temporal_block.o_proj.bias", "D", "attention_layers"),
    # in recurrent layers
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.temporal_pre_norm.weight", "D", "recurrent_layers"),
    "blocks.{i}.mixer.in.weight":
        ("layers.{i}.temporal_block.linear_x.weight", "(HP D)ᵀ", "recurrent_layers"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}.temporal_block.linear_x.bias", "HP", "recurrent_layers"),
    "blocks.{i}.mixer.z.weight":
        ("layers.{i}.temporal_block.linear_y.weight", "(HP D)ᵀ", "recurrent_layers"),
    "blocks.{i}.mixer.z.bias": ("layers.{i}.temporal_block.linear_y.bias", "HP", "recurrent_layers"),
    "blocks.{i}.mixer.convolution.weight":
        ("layers.{i}.temporal_block.conv_1d.weight", "HP 1 W", "recurrent_layers"),
    "blocks.{i}.mixer.convolution.bias":
        ("layers.{i}.temporal_block.conv_1d.bias", "HP", "recurrent_layers"),
    "blocks.{i}.mixer.input_gate.weight":
        ("layers.{i}.temporal_block.rg_lru.input_gate_weight", "H P P", "recurrent_layers"),
    "blocks.{i}.mixer.input_gate.bias":
        ("layers.{i}.temporal_block.rg_lru.input_gate_bias", "H P", "recurrent_layers"),
    "blocks.{i}.mixer.recurrence_gate.weight":
        ("layers.{i}.temporal_block.rg_lru.recurrent_gate_weight", "H P P", "recurrent_layers"),
    "blocks.{i}.mixer.recurrence_gate.bias":
        ("layers.{i}.temporal_block.rg_lru.recurrent_gate_bias", "H P", "recurrent_layers"),
    "blocks.{i}.mixer.decay": ("layers.{i}.temporal_block.rg_lru.recurrent_param", "HP", "recurrent_layers"),
    "blocks.{i}.mixer.out.weight":
        ("layers.{i}.temporal_block.linear_out.weight", "(D HP)ᵀ", "recurrent_layers"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}.temporal_block.linear_out.bias", "D", "recurrent_layers"),
    # in every layer
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.channel_pre_norm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp_block.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias": ("layers.{i}.mlp_block.gate_proj.bias", "F"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp_block.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias": ("layers.{i}.mlp_block.up_proj.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp_block.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias": ("layers.{i}.mlp_block.down_proj.bias", "D"),
    "final_norm.gain": ("final_norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Recurrence or attention, then feed-forward: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: RecurrentGemmaConfig, i: int):
        norm = partial(RMSNorm, eps=c.rms_norm_eps, offset=1.0)
        activation = ACTIVATIONS[c.hidden_activation]
        self.mixer: Mixer
        if i in c.recurrent_layers:
            self.name = "mixer"
            self.mixer = RGLRU(w / "mixer", activation)
        else:
            self.name = "attention"
            H, G, K = (c.sizes[letter] for letter in "HGK")
            rope = c.rope.rotary() if c.rope else None
            self.mixer = Attention(
                w / "attention", heads=H, kv_heads=G, head_dim=K, rope=rope, window=c.windows[i]
            )
        self.mixer_norm = norm(w / f"{self.name}_norm")
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", activation)
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class RecurrentGemma(Decoder[RecurrentGemmaConfig]):
    """RecurrentGemma 2B and 9B."""

    Config = RecurrentGemmaConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: RecurrentGemmaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps, offset=1.0)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply by √D, rounded to bfloat16: ids (B, T) → (B, T, D)."""
        root = from_bfloat16(to_bfloat16(np.sqrt(np.array([self.config.hidden_size], dtype=np.float32))))
        return tap("embedding", tap("embedding.tokens", self.embedding(ids)) * root)

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, none above the cap: (B, T, D) → (B, T, V)."""
        return capped(tap("logits_before_cap", self.head(x)), self.config.logits_soft_cap)


FACTS = Facts(
    grew_from="gemma",
    kind="recurrence",
    changed="RG-LRU in two of three layers, and a window of 2048 in the third",
    why="no state grows with the text",
    published="2B",
    keys={"num_hidden_layers": 3, "num_key_value_heads": 1},
)
