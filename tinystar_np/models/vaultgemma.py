"""VaultGemma 1B (Google 2025, arXiv:2510.15001): Gemma 2 trained with differential privacy.

    x₀ = √D · embedding
    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = 30 · tanh(norm(x) · embeddingᵀ / 30)

| attention | position | norm              | activation   | block      | context |
|-----------|----------|-------------------|--------------|------------|---------|
| MQA       | RoPE     | RMSNorm, gain 1+w | GeGLU (tanh) | sequential | 1024    |

New in it: training with differential privacy from the first step (Abadi et al. 2016, arXiv:1607.00133). Each
text's gradient is clipped and noise is added to the sum, which bounds how much any one text can change the
weights. The larger the batch, the less the noise counts; so texts are short and batches large.
Beside Gemma 2 (gemma2.py), the norms after the branches are gone, and no layer of the published model has a
window shorter than a text.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.attention import capped
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class VaultGemmaConfig(Config):
    """The keys of a VaultGemma config.json that change the mathematics; defaults as in transformers.

    ``hidden_act``, which old files have beside ``hidden_activation``, means nothing.
    """

    vocab_size: int = key(256000, letter="V")
    hidden_size: int = key(2304, letter="D")
    intermediate_size: int = key(9216, letter="F")
    num_hidden_layers: int = key(26, letter="L")
    num_attention_heads: int = key(8, letter="H")
    num_key_value_heads: int | None = key(4, letter="G")
    head_dim: int | None = key(256, letter="K")
    hidden_activation: str = activation_key("gelu_pytorch_tanh")
    max_position_embeddings: int = key(8192, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    query_pre_attn_scalar: float = key(256, above=0)
    sliding_window: int | None = 4096
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = key(30.0, above=0)
    attn_logit_softcapping: float | None = key(50.0, above=0)
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every second layer has one, where the file does not name them."""
        usual = [FULL if i % 2 else SLIDING for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)


WEIGHTS: WeightTable = {
    # ours:                                   the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":         ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":          ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":            ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":          ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":            ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":          ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":            ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":        ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":          ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":      ("layers.{i}.pre_feedforward_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight":    ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":      ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":    ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "final_norm.gain":                        ("norm.weight", "D"),
    "head.weight":                            ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: VaultGemmaConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps, offset=1.0)
        self.attention_norm = norm(w / "attention_norm")
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, scale=c.query_pre_attn_scalar**-0.5,
            rope=c.rope.rotary(), window=c.windows[i], soft_cap=c.attn_logit_softcapping,
        )  # fmt: skip
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_activation])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class VaultGemma(Decoder[VaultGemmaConfig]):
    """VaultGemma 1B."""

    Config = VaultGemmaConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: VaultGemmaConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps, offset=1.0)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply by √D: ids (B, T) → (B, T, D)."""
        x = self.embedding(ids) * np.sqrt(np.float32(self.config.hidden_size))
        x = tap("embedding.tokens", x)  # transformers' embedding multiplies as well
        return tap("embedding", x)

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, none above the cap: (B, T, D) → (B, T, V)."""
        cap, logits = self.config.final_logit_softcapping, self.head(x)
        return logits if cap is None else capped(tap("logits_before_cap", logits), cap)


FACTS = Facts(
    grew_from="gemma2",
    kind="block",
    changed="No norms after the branches; trained with differential privacy",
    why="how much any one text of the training data can change the weights is bounded",
    published="1B",
    keys={"num_key_value_heads": 1, "layer_types": [FULL]},
)
