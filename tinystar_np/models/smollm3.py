"""SmolLM3 3B (Hugging Face 2025, https://huggingface.co/blog/smollm3): every fourth layer has no positions.

    x → norm → attention, rotated in three layers of four ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · embeddingᵀ

| attention | position                 | norm    | activation | block      | context                    |
|-----------|--------------------------|---------|------------|------------|----------------------------|
| GQA 16:4  | RoPE; none in each 4th   | RMSNorm | SwiGLU     | sequential | 65536, 131072 by yarn      |

New in it: its training is fully documented. Scores of layers without positions do not depend on the distance
of tokens, and so these layers treat long texts as they treat short ones; the order comes from the rotated
layers between them. The causal mask alone gives some order too (Haviv et al. 2022, arXiv:2203.16634). Yang et
al. 2025, arXiv:2501.18795. A config can give such layers windows; the published model does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, at_least_1, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class SmolLM3Config(Config):
    """The keys of a SmolLM3 config.json that change the mathematics; defaults as in transformers.

    ``no_rope_layers`` has 1 for each layer with rotary embedding and 0 for each without.
    ``use_sliding_window`` decides only where there are no ``layer_types``, as in transformers.
    """

    vocab_size: int = key(128256, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(36, letter="L")
    num_attention_heads: int = key(16, letter="H")
    num_key_value_heads: int | None = key(4, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(32768, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(2_000_000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    use_sliding_window: bool = False
    sliding_window: int | None = None
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = True

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
        """The window of each layer; without ``layer_types``, layers without rotary embedding have one."""
        used = self.use_sliding_window and self.sliding_window is not None
        rotated = self.rotated[: self.num_hidden_layers]
        usual = [FULL if rotates or not used else SLIDING for rotates in rotated]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    def check(self) -> None:
        """Refuse contradictions."""
        listed, L = self.no_rope_layers, self.num_hidden_layers
        require(
            listed is None or (len(listed) >= L and all(rotates in (0, 1) for rotates in listed)),
            f"no_rope_layers = {listed}, but it must be 0 or 1 for each of num_hidden_layers = {L}.",
        )
        super().check()


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias":   ("layers.{i}.mlp.gate_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.up_proj.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.down_proj.bias", "D", "mlp_bias"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: SmolLM3Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, window=c.windows[i],
            rope=c.rope.rotary() if c.rotated[i] else None,
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


class SmolLM3(Decoder[SmolLM3Config]):
    """SmolLM3 3B."""

    Config = SmolLM3Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: SmolLM3Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="position",
    changed="No positions in every fourth layer",
    why="those layers treat long texts as they treat short ones",
    published="3B",
)
