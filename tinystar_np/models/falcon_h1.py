"""Falcon-H1 (Zuo et al. 2025, arXiv:2507.22448): attention and Mamba 2 side by side in every layer.

    x₀ = e · embedding
    x → norm ─┬→ · a → attention → · a' ─┬──+ x → norm → feed-forward ──+ x      (× L)
              └→ · m → Mamba 2   → · m' ─┘
    logits = norm(x) · W · l

| mixer              | position        | norm    | activation | block                      | context        |
|--------------------|-----------------|---------|------------|----------------------------|----------------|
| GQA beside Mamba 2 | RoPE, base 10¹¹ | RMSNorm | SwiGLU     | mixers side by side, then  | 16384 – 262144 |
|                    |                 |         |            | feed-forward               |                |

New in it: every layer has both mixers, and how much of it is attention is a width. Of a layer's channels, one
part is attention's, two are Mamba's and five the feed-forward layer's; more attention made the model worse.
Hymba ran both side by side before (Dong et al. 2024, arXiv:2411.13676); here one norm feeds them and their
results are added. The base of the rotations is so large that more than half of the pairs rotate less than
once in the longest text. Mamba 2's norm after the gate is left out.

With fourteen multipliers, after Yang et al. 2022, arXiv:2203.03466, hyperparameters tuned on a small model
suit a large one: on embeddings and logits, each mixer's input and output, keys, z, x, B, C and Δ, and the
feed-forward layer's gate and output.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import HybridState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm, linear_each, one_sum
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, check_time_step_limit, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class FalconH1Config(Config):
    """The keys of a Falcon-H1 config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(128000, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(8192, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    mamba_d_ssm: int | None = 1024
    mamba_n_heads: int = 128
    mamba_d_head: int | str = "auto"
    mamba_n_groups: int = 1
    mamba_d_state: int = 256
    mamba_d_conv: int = 4
    mamba_expand: int = 2
    mamba_conv_bias: bool | None = True
    mamba_proj_bias: bool | None = False
    mamba_rms_norm: bool | None = False
    mamba_norm_before_gate: bool | None = True
    projectors_bias: bool | None = False
    time_step_limit: list[float] | tuple[float, ...] = (0.0, math.inf)
    embedding_multiplier: float = 1.0
    attention_in_multiplier: float = 1.0
    attention_out_multiplier: float = 1.0
    key_multiplier: float = 1.0
    ssm_in_multiplier: float = 1.0
    ssm_out_multiplier: float = 1.0
    ssm_multipliers: list[float] | None = None
    mlp_multipliers: list[float] | None = None
    lm_head_multiplier: float = key(1.0, not_zero="which makes all tokens alike")
    tie_word_embeddings: bool = False

    # Keys of the hub's files that transformers does not read.
    REFUSED: ClassVar = {"mamba_use_mlp": (True, None), "attn_layer_indices": (None,)}

    @property
    def mamba_width(self) -> int:
        """The channels of the Mamba mixer."""
        return self.mamba_expand * self.hidden_size if self.mamba_d_ssm is None else self.mamba_d_ssm

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; for Mamba M heads, P head width, U groups, N state size, W convolution width."""
        M, P = self.mamba_n_heads, self.mamba_d_head
        return super().sizes | {
            "M": M,
            "P": P if isinstance(P, int) else self.mamba_width // max(M, 1),
            "U": self.mamba_n_groups,
            "N": self.mamba_d_state,
            "W": self.mamba_d_conv,
        }

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        M, P, U, d_head = *(self.sizes[letter] for letter in "MPU"), self.mamba_d_head
        require(
            isinstance(d_head, int) or d_head == "auto",
            f"mamba_d_head = {d_head!r}, but it must be a whole number or 'auto'.",
        )
        require(
            self.mamba_width == M * P,
            f"mamba_n_heads = {M} heads of mamba_d_head = {d_head} do not make {self.mamba_width} channels, "
            f"mamba_d_ssm = {self.mamba_d_ssm} or else mamba_expand times hidden_size.",
        )
        require(M % U == 0, f"mamba_n_heads = {M} cannot be divided among mamba_n_groups = {U} groups.")
        check_time_step_limit(self.time_step_limit)
        for name, given, count in (
            ("ssm_multipliers", self.ssm_multipliers, 5),
            ("mlp_multipliers", self.mlp_multipliers, 2),
        ):
            right = given is None or (len(given) == count and math.inf not in given)
            require(right, f"{name} = {shown(given)}, but it must be {count} numbers, none infinite.")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.mixer_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.mixer.in.weight": ("layers.{i}.mamba.in_proj.weight", "(2MP+2UN+M D)ᵀ"),
    "blocks.{i}.mixer.in.bias": ("layers.{i}.mamba.in_proj.bias", "2MP+2UN+M", "mamba_proj_bias"),
    "blocks.{i}.mixer.convolution.weight": ("layers.{i}.mamba.conv1d.weight", "MP+2UN 1 W"),
    "blocks.{i}.mixer.convolution.bias": ("layers.{i}.mamba.conv1d.bias", "MP+2UN", "mamba_conv_bias"),
    "blocks.{i}.mixer.time_step_bias": ("layers.{i}.mamba.dt_bias", "M"),
    "blocks.{i}.mixer.A_log": ("layers.{i}.mamba.A_log", "M"),
    "blocks.{i}.mixer.D": ("layers.{i}.mamba.D", "M"),
    "blocks.{i}.mixer.gated_norm.gain": ("layers.{i}.mamba.norm.weight", "MP", "mamba_rms_norm"),
    "blocks.{i}.mixer.out.weight": ("layers.{i}.mamba.out_proj.weight", "(D MP)ᵀ"),
    "blocks.{i}.mixer.out.bias": ("layers.{i}.mamba.out_proj.bias", "D", "projectors_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.pre_ff_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.feed_forward.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias": ("layers.{i}.feed_forward.gate_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.feed_forward.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias": ("layers.{i}.feed_forward.up_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.feed_forward.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias": ("layers.{i}.feed_forward.down_proj.bias", "D", "mlp_bias"),
    "final_norm.gain": ("final_layernorm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention beside Mamba 2, then feed-forward; one norm feeds both mixers, whose results are added."""

    def __init__(self, w: Weights, c: FalconH1Config, i: int):
        H, G, K, M, P, U, N = (c.sizes[letter] for letter in "HGKMPUN")
        least, largest = c.time_step_limit
        self.mixer_norm = RMSNorm(w / "mixer_norm", eps=c.rms_norm_eps)
        # Scores are linear in the keys, so the keys' factor is part of the scale.
        scale = c.key_multiplier * float(K**-0.5)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=scale, rope=c.rope.rotary()
        )
        self.mixer = Mamba2(
            w / "mixer", heads=M, head_dim=P, groups=U, state_size=N, eps=c.rms_norm_eps,
            activation=ACTIVATIONS[c.hidden_act], time_step_limit=(least, largest),
            norm_first=bool(c.mamba_norm_before_gate), multipliers=c.ssm_multipliers,
        )  # fmt: skip
        self.sum = one_sum(self.attention.out, self.mixer.out)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = ScaledFeedForward(w / "feed_forward", c)
        self.attention_in, self.attention_out, self.mixer_in, self.mixer_out = map(
            np.float32,
            (
                c.attention_in_multiplier,
                c.attention_out_multiplier,
                c.ssm_in_multiplier,
                c.ssm_out_multiplier,
            ),
        )

    def new_state(self, batch_size: int, capacity: int) -> HybridState:
        """Make the empty states of the two mixers."""
        return HybridState(*(mixer.new_state(batch_size, capacity) for mixer in (self.attention, self.mixer)))

    def __call__(self, x: NDArray, step: Step, state: HybridState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        keys_and_values: Any  # each mixer made its own
        recurrent: Any
        keys_and_values, recurrent = (None, None) if state is None else state.states
        normed = tap("mixer_norm", self.mixer_norm(x))
        y = self.attention(normed * self.attention_in, step, keys_and_values)
        z = self.mixer(normed * self.mixer_in, step, recurrent)
        y = tap("attention_scaled", y * self.attention_out)
        z = tap("mixer_scaled", z * self.mixer_out)
        y = y + z if self.sum is None else self.sum(y + z)
        x = tap("residual_middle", step.wanted(x) + tap("mixers", y))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class ScaledFeedForward(GatedFeedForward):
    """Gated feed-forward layer whose gate and output are multiplied by factors of the config."""

    def __init__(self, w: Weights, c: FalconH1Config):
        super().__init__(w, ACTIVATIONS[c.hidden_act])
        self.of_gate, self.of_result = map(np.float32, c.mlp_multipliers or (1.0, 1.0))

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        gate, up = linear_each((self.gate, self.up), x)  # (B, T, F) each
        gate, up = tap("feed_forward.gate", gate), tap("feed_forward.up", up)
        hidden = fast.gated_activation(gate * self.of_gate, up, self.activation)
        y = tap("feed_forward.down", self.down(tap("feed_forward.activation", hidden)))
        return tap("feed_forward_scaled", y * self.of_result)


class FalconH1(Decoder[FalconH1Config]):
    """Falcon-H1 in 0.5B, 1.5B, 1.5B-Deep, 3B, 7B and 34B."""

    Config = FalconH1Config
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HG", "MU"))
    PREFIX = "model."

    def build(self, w: Weights, c: FalconH1Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply: ids (B, T) → (B, T, D)."""
        tokens = tap("embedding.tokens", self.embedding(ids))
        return tap("embedding", tokens * np.float32(self.config.embedding_multiplier))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary and multiply: (B, T, D) → (B, T, V)."""
        return self.head(x) * np.float32(self.config.lm_head_multiplier)


FACTS = Facts(
    grew_from="mamba2",
    kind="attention",
    changed="Attention beside Mamba 2 in every layer, then feed-forward",
    why="how much of a layer is attention becomes a number to tune",
    published="7B",
    keys={
        "hidden_size": 3072,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "mamba_d_ssm": 3072,
        "mamba_n_heads": 24,
        "mamba_d_state": 256,
    },
)
