"""Qwen2 and Qwen2.5 (Qwen Team 2024, arXiv:2407.10671, 2412.15115): Llama with biases where they help most.

    x → norm → attention, q k v with biases ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention               | position | norm    | activation | block      | context                   |
|-------------------------|----------|---------|------------|------------|---------------------------|
| GQA; windows in some    | RoPE     | RMSNorm | SwiGLU     | sequential | 32768, ×4 by yarn in some |

New in it: little in the architecture; it was trained on 7, later 18 trillion tokens. All sizes down to 0.5B
have grouped queries. Queries, keys and values have biases, which Llama's have not: with them rotary embedding
extends better beyond the trained length (Bai et al. 2023, arXiv:2309.16609). The rotary base is 1000000. A
config can give a window to the layers from ``max_window_layers`` on; the published models do not use it. The
smallest tie their output layer.
"""

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
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Qwen2Config(Config):
    """The keys of a Qwen2 config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(151936, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(22016, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(32, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(32768, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; without ``layer_types``, those from ``max_window_layers`` on have one."""
        window = self.sliding_window if self.use_sliding_window else None
        last_full = self.num_hidden_layers if window is None else self.max_window_layers
        usual = [SLIDING if i >= last_full else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, window)


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK"),
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

    def __init__(self, w: Weights, c: Qwen2Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i]
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Qwen2(Decoder[Qwen2Config]):
    """Qwen2, Qwen2.5 and their coding, mathematical and reasoning relatives, 0.5B to 72B, dense."""

    Config = Qwen2Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."
    IGNORED = r"mtp_layers\..*"  # MiMo's, which draft further tokens

    def build(self, w: Weights, c: Qwen2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Biases on queries, keys and values only",
    why="helps rotary positions beyond the trained length",
    published="7B",
    keys={"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4},
)
