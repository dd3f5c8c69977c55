"""MiniMax-Text-01 and M1 (MiniMax 2025, arXiv:2501.08313): lightning attention in 7 of 8 layers.

    x → norm ─┬→ lightning or softmax attention · β ─┬─+ → norm ─┬→ the 2 best of 32 experts · β' ─┬─+ x
              └→ · α ────────────────────────────────┘           └→ · α' ──────────────────────────┘   (× L)
    logits = norm(x) · W

| mixer                    | position    | norm    | feed-forward    | block                 | context   |
|--------------------------|-------------|---------|-----------------|-----------------------|-----------|
| lightning attention; GQA | RoPE in GQA | RMSNorm | SwiGLU, 2 of 32 | residuals are normed  | 1 million |
| in 1 of 8 layers         |             |         |                 | inputs (DeepNorm)     |           |

New in it: linear attention at 456 billion weights. In seven layers of eight each head keeps a matrix of fixed
size that decays at a constant rate (kernels/lightning_attention.py; Qin et al. 2024, arXiv:2401.04658); every
eighth layer has softmax attention. The residual connection carries the normed input times α, to which the
branch is added times β (DeepNorm, Wang et al. 2022, arXiv:2203.00555).

Published files say ``rotary_dim`` 64, and the makers' code rotates that half of each head; transformers
5.24 ignores the key and rotates whole heads. Here the makers' code is followed. The makers' slopes differ
from transformers' where the number of heads is no power of two, which no published model has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nextafter
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, RecurrentState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.kernels.lightning_attention import lightning_slopes
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, Linear, Mixer, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.lightning_attention import LightningAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, not_in_files, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, equal_windows, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

LINEAR = "linear_attention"


@dataclass(frozen=True)
class MiniMaxConfig(Config):
    """The keys of a MiniMax config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert. The makers' files have other names for the factors, and
    ``attn_type_list``, where 0 is lightning attention, for ``layer_types``.
    """

    REFUSED: ClassVar = {"postnorm": (True, None)}

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="M")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(1_000_000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    rotary_dim: int | None = not_in_files(None)
    sliding_window: int | None = None
    num_local_experts: int = key(8, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(2, chosen_of="E")
    layer_types: list[str] | None = None
    full_attn_alpha_factor: float = key(1.0, aliases=("layernorm_full_attention_alpha",))
    full_attn_beta_factor: float = key(1.0, aliases=("layernorm_full_attention_beta",))
    linear_attn_alpha_factor: float = key(1.0, aliases=("layernorm_linear_attention_alpha",))
    linear_attn_beta_factor: float = key(1.0, aliases=("layernorm_linear_attention_beta",))
    mlp_alpha_factor: float = key(1.0, aliases=("layernorm_mlp_alpha",))
    mlp_beta_factor: float = key(1.0, aliases=("layernorm_mlp_beta",))
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Build the config, from the makers' ``attn_type_list`` and ``rotary_dim`` as well."""
        shared = raw.get("shared_intermediate_size")
        widths = shared if isinstance(shared, list) else [shared]
        none = not any(isinstance(width, int) and width > 0 for width in widths)
        require(none, f"shared_intermediate_size = {shown(shared)}, but a shared expert is not implemented.")
        kinds = raw.get("attn_type_list")
        if isinstance(kinds, list) and kinds and raw.get("layer_types") is None:
            known = all(kind in (0, 1) for kind in kinds)
            require(known, f"attn_type_list = {shown(kinds)}, but it must be a list of 0 and 1.")
            raw = {**raw, "layer_types": [FULL if kind else LINEAR for kind in kinds]}
        config = super().from_dict(raw)
        n, K = raw.get("rotary_dim"), config.sizes["K"]
        if not isinstance(n, int) or not n:
            return config
        even = n is not True and 2 <= n <= K and n % 2 == 0
        require(even, f"rotary_dim = {shown(n)}, but it must be even, from 2 to the width of a head, {K}.")
        return replace(config, rotary_dim=n)

    @property
    def linear_layers(self) -> Sequence[int]:
        """The layers with lightning attention: every second, unless the file says otherwise."""
        usual = [LINEAR if i % 2 else FULL for i in range(self.num_hidden_layers)]
        kinds = layer_kinds(self.layer_types, usual, (LINEAR, FULL))
        return [i for i, name in enumerate(kinds) if name == LINEAR]

    @property
    def attention_layers(self) -> Sequence[int]:
        """The layers with softmax attention."""
        return [i for i in range(self.num_hidden_layers) if i not in self.linear_layers]

    @property
    def rope(self) -> RopeParameters | None:
        """The rotary embedding's parameters; None in a model without softmax attention."""
        if not self.attention_layers:
            return None
        K, keys = self.sizes["K"], dict(vars(self))
        if self.rotary_dim is not None:  # rounded up: K times the fraction must not fall below it
            keys["partial_rotary_factor"] = min(nextafter(self.rotary_dim / K, 2), 1.0)
        return RopeParameters.read(keys, head_dim=K, partial=self.rotary_dim is not None)

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer: of those with softmax attention."""
        usual = equal_windows(self.num_hidden_layers, self.sliding_window)
        return [None if i in self.linear_layers else window for i, window in enumerate(usual)]

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; the J heads of lightning attention are as many as the others, but have no groups."""
        found = super().sizes
        return found | {"J": found["H"]}

    @property
    def absent_letters(self) -> str:
        """That of dense layers: there are none."""
        return "F"


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    # in layers with softmax attention
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "attention_layers"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ", "attention_layers"),
    # in layers with lightning attention
    "blocks.{i}.mixer.in.weight": ("layers.{i}.self_attn.qkv_proj.weight", "(J3K D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.z.weight": ("layers.{i}.self_attn.output_gate.weight", "(JK D)ᵀ", "linear_layers"),
    "blocks.{i}.mixer.norm.gain": ("layers.{i}.self_attn.norm.weight", "JK", "linear_layers"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.self_attn.out_proj.weight", "(D JK)ᵀ", "linear_layers"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.block_sparse_moe.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w1.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w3.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.block_sparse_moe.experts.{e}.w2.weight", "(D M)ᵀ"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 writes them: those of a layer in two tensors
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Lightning or softmax attention, then experts; what each reads, normed, is also its residual."""

    def __init__(self, w: Weights, c: MiniMaxConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        activation = ACTIVATIONS[c.hidden_act]
        self.mixer: Mixer
        if i in c.linear_layers:
            self.name, self.alpha, self.beta = "mixer", c.linear_attn_alpha_factor, c.linear_attn_beta_factor
            self.mixer = LightningAttention(
                w / "mixer", heads=H, head_dim=K, slopes=lightning_slopes(H, i, c.num_hidden_layers),
                eps=1e-6,  # whatever the other norms have
                activation=activation,
            )  # fmt: skip
        else:
            self.name, self.alpha, self.beta = "attention", c.full_attn_alpha_factor, c.full_attn_beta_factor
            rope = c.rope.rotary() if c.rope else None
            self.mixer = Attention(
                w / "attention", heads=H, kv_heads=G, head_dim=K, rope=rope, window=c.windows[i]
            )
        self.mixer_norm = RMSNorm(w / "mixer_norm", eps=c.rms_norm_eps)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = Experts(
            w / "feed_forward",
            gated_experts(w / "feed_forward.experts", c.num_local_experts, activation),
            per_token=c.num_experts_per_tok,
            routing=top_k_softmax,
        )
        self.mlp_alpha, self.mlp_beta = c.mlp_alpha_factor, c.mlp_beta_factor
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap(f"{self.name}_norm", self.mixer_norm(x))
        kept = tap("residual_normed", step.wanted(normed) * np.float32(self.alpha))
        added = tap(f"{self.name}_scaled", self.mixer(normed, step, state) * np.float32(self.beta))
        normed = tap("feed_forward_norm", self.feed_forward_norm(tap("residual_middle", kept + added)))
        kept = tap("residual_middle_normed", normed * np.float32(self.mlp_alpha))
        added = tap("feed_forward_scaled", self.feed_forward(normed) * np.float32(self.mlp_beta))
        return tap("residual", kept + added)


class MiniMax(Decoder[MiniMaxConfig]):
    """MiniMax-Text-01 and MiniMax-M1."""

    Config = MiniMaxConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "J"))
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"layers\.\d+\.self_attn\.(slope_rate|(query|key|diagonal)_decay)"  # computed here

    def build(self, w: Weights, c: MiniMaxConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mixtral",
    kind="recurrence",
    changed="Linear attention with constant decays; residuals are normed inputs",
    why="a state of fixed size in most layers, at a context of a million tokens",
    published="MiniMax-Text-01",
    keys={
        "hidden_size": 6144,
        "num_attention_heads": 64,
        "head_dim": 128,
        "intermediate_size": 9216,
        "num_local_experts": 32,
        "num_hidden_layers": 8,
        "layer_types": [*[LINEAR] * 7, FULL],
        "vocab_size": 200064,
    },
)
