"""InternLM2 and 2.5 (Shanghai AI Laboratory 2024, arXiv:2403.17297): Llama with q, k and v in one matrix.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention | position          | norm    | activation | block      | context |
|-----------|-------------------|---------|------------|------------|---------|
| GQA       | RoPE, dynamic NTK | RMSNorm | SwiGLU     | sequential | 32768   |

New in it: queries, keys and values come out of one matrix, sorted by key head: the queries that share the
head, then its key, then its value, as in Falcon's larger models (falcon.py). Tensor parallelism cuts the
matrix between these groups, and training may go on with another number of processors. What is computed is
Llama (llama.py); InternLM3 (internlm3.py) has three matrices again.

transformers does not have it: the code in the makers' repositories defines it.
"""

from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import GroupedFusedAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap


@dataclass(frozen=True)
class InternLM2Config(Config):
    """The keys of an InternLM2 config.json that change the mathematics; defaults as in the makers' class."""

    vocab_size: int = key(103168, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    bias: bool = True
    tie_word_embeddings: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with Q heads in a group."""
        found = super().sizes
        return found | {"Q": found["H"] // max(found["G"], 1)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("tok_embeddings.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.attention_norm.weight", "D"),
    "blocks.{i}.attention.qkv.weight":     ("layers.{i}.attention.wqkv.weight", "(G[QK+2K] D)ᵀ"),
    "blocks.{i}.attention.qkv.bias":       ("layers.{i}.attention.wqkv.bias", "G[QK+2K]", "bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.attention.wo.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.attention.wo.bias", "D", "bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.ffn_norm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.feed_forward.w1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.feed_forward.w3.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.feed_forward.w2.weight", "(D F)ᵀ"),
    "final_norm.gain":                     ("norm.weight", "D"),
    "head.weight":                         ("output.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: InternLM2Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = GroupedFusedAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary()
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


class InternLM2(Decoder[InternLM2Config]):
    """InternLM2 and 2.5 in 1.8B, 7B and 20B."""

    Config = InternLM2Config
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HGQ",))
    PREFIX = "model."

    def build(self, w: Weights, c: InternLM2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Queries, keys and values in one matrix, sorted by key head",
    why="training may go on with another number of processors",
    published="2.5 7B",
    keys={"num_key_value_heads": 8},
)
