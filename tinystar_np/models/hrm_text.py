"""HRM-Text (Sapient Intelligence 2026): two stacks of layers, of which each runs many times for a token.

    h = e · embedding;  l = z
    l = low(l + h), three times;  h = high(h + l)                                    (× 2)
    low(x), high(x): x → norm → gated attention ──+ x → norm → feed-forward ──+ x, 16 times;  norm(x)
    logits = h · W

| attention               | position | norm                 | activation | block                 | context |
|-------------------------|----------|----------------------|------------|-----------------------|---------|
| MHA; a gate of each     | RoPE     | RMSNorm without gain | SwiGLU     | sequential; 32 layers | 2048    |
| head's output           |          |                      |            | at 128 depths         |         |

New in it: a text is read at two speeds, as in the Hierarchical Reasoning Model (Wang et al. 2025,
arXiv:2506.21734). The low stack runs three times, each time on the sum of both stacks' last results; then the
high stack runs once on that sum, and all of it is done twice. So a token passes 128 layers with the weights
of 32, and may pass more for the same weights. What tokens remember is not shared: a layer caches keys and
values for each depth that it runs at. The stream here is both vectors side by side, h and then l. The gate of
attention is that of Qwen3-Next (qwen3_next.py) with a matrix of its own; norms learn nothing, as in nanochat
(nanochat.py).

The makers trained it with prompts whose tokens see one another both ways (``prefix_lm``). transformers does
so where a caller marks them by ``token_type_ids``; without, as here, every token sees what came before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.gated_attention import SeparatelyGatedAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

LOW, HIGH = "L_module", "H_module"
"""What files call the stacks."""


@dataclass(frozen=True)
class HrmTextConfig(Config):
    """The keys of an HRM-Text config.json that change the mathematics; defaults as in transformers.

    ``num_hidden_layers`` counts the layers of a stack where ``num_layers_per_stack`` is missing, as in the
    makers' files; transformers writes the latter, and the depths of all runs in the former.
    """

    vocab_size: int = key(151808, letter="V")
    hidden_size: int = key(1536, letter="D")
    intermediate_size: int = key(4096, letter="F")
    num_hidden_layers: int = key(16, letter="L")
    num_layers_per_stack: int | None = key(None, least=1)
    H_cycles: int = key(2, least=1)
    L_cycles: int = key(3, least=1)
    num_attention_heads: int = key(12, letter="H")
    head_dim: int = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    initializer_range: float = 0.02
    embedding_scale: float | None = None
    tie_word_embeddings: bool = False

    @property
    def per_stack(self) -> int:
        """How many layers a stack has."""
        return self.num_layers_per_stack or self.num_hidden_layers

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, L being the depth of all runs together."""
        return super().sizes | {"L": self.per_stack * self.H_cycles * (self.L_cycles + 1)}

    @property
    def runs(self) -> Sequence[str]:
        """The stack that runs at each depth."""
        cycle = [LOW] * (self.L_cycles * self.per_stack) + [HIGH] * self.per_stack
        return cycle * self.H_cycles

    @property
    def places(self) -> Sequence[int]:
        """Which layer of its stack runs at each depth."""
        return [i % self.per_stack for i in range(self.sizes["L"])]

    @property
    def home(self) -> dict[int, int]:
        """The depth at which the layer of each depth runs first."""
        first = {LOW: 0, HIGH: self.L_cycles * self.per_stack}
        return {i: first[stack] + n for i, (stack, n) in enumerate(zip(self.runs, self.places, strict=True))}

    @property
    def first_uses(self) -> Sequence[int]:
        """The depths at which a layer runs for the first time."""
        return sorted(set(self.home.values()))

    @property
    def embedding_factor(self) -> float:
        """What embeddings are multiplied by."""
        return 1 / self.initializer_range if self.embedding_scale is None else self.embedding_scale

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        D, H = self.hidden_size, self.num_attention_heads
        require(
            D % H == 0,
            f"hidden_size = {D} cannot be divided among num_attention_heads = {H} heads, which transformers "
            "asks for whatever head_dim is.",
        )
        require(
            self.embedding_scale is not None or self.initializer_range != 0,
            f"initializer_range = {self.initializer_range}, but embeddings are divided by it.",
        )


WEIGHTS: WeightTable = {
    # ours:                    the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "embedding.low":           ("z_L_init", "D"),
    # of each layer, once
    "blocks.{i}.attention.q.weight":
        ("{runs[i]}.layers.{places[i]}.self_attn.q_proj.weight", "(HK D)ᵀ", "first_uses"),
    "blocks.{i}.attention.q.bias":
        ("{runs[i]}.layers.{places[i]}.self_attn.q_proj.bias", "HK", "first_uses and attention_bias"),
    "blocks.{i}.attention.k.weight":
        ("{runs[i]}.layers.{places[i]}.self_attn.k_proj.weight", "(HK D)ᵀ", "first_uses"),
    "blocks.{i}.attention.k.bias":
        ("{runs[i]}.layers.{places[i]}.self_attn.k_proj.bias", "HK", "first_uses and attention_bias"),
    "blocks.{i}.attention.v.weight":
        ("{runs[i]}.layers.{places[i]}.self_attn.v_proj.weight", "(HK D)ᵀ", "first_uses"),
    "blocks.{i}.attention.v.bias":
        ("{runs[i]}.layers.{places[i]}.self_attn.v_proj.bias", "HK", "first_uses and attention_bias"),
    "blocks.{i}.attention.gate.weight":
        ("{runs[i]}.layers.{places[i]}.self_attn.gate_proj.weight", "(HK D)ᵀ", "first_uses"),
    "blocks.{i}.attention.gate.bias":
        ("{runs[i]}.layers.{places[i]}.self_attn.gate_proj.bias", "HK", "first_uses and attention_bias"),
    "blocks.{i}.attention.out.weight":
        ("{runs[i]}.layers.{places[i]}.self_attn.o_proj.weight", "(D HK)ᵀ", "first_uses"),
    "blocks.{i}.attention.out.bias":
        ("{runs[i]}.layers.{places[i]}.self_attn.o_proj.bias", "D", "first_uses and attention_bias"),
    "blocks.{i}.feed_forward.gate.weight":
        ("{runs[i]}.layers.{places[i]}.mlp.gate_proj.weight", "(F D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.gate.bias":
        ("{runs[i]}.layers.{places[i]}.mlp.gate_proj.bias", "F", "first_uses and mlp_bias"),
    "blocks.{i}.feed_forward.up.weight":
        ("{runs[i]}.layers.{places[i]}.mlp.up_proj.weight", "(F D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.up.bias":
        ("{runs[i]}.layers.{places[i]}.mlp.up_proj.bias", "F", "first_uses and mlp_bias"),
    "blocks.{i}.feed_forward.down.weight":
        ("{runs[i]}.layers.{places[i]}.mlp.down_proj.weight", "(D F)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.down.bias":
        ("{runs[i]}.layers.{places[i]}.mlp.down_proj.bias", "D", "first_uses and mlp_bias"),
    "head.weight":             ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED: WeightTable = {  # as in the makers' files, and as transformers saves them
    "blocks.{i}.attention.gate.weight":
        ("{runs[i]}.layers.{places[i]}.attn.gqkv_proj.weight[:HK]", "(4HK D)ᵀ", "first_uses"),
    "blocks.{i}.attention.q.weight":
        ("{runs[i]}.layers.{places[i]}.attn.gqkv_proj.weight[HK:2HK]", "(4HK D)ᵀ", "first_uses"),
    "blocks.{i}.attention.k.weight":
        ("{runs[i]}.layers.{places[i]}.attn.gqkv_proj.weight[2HK:3HK]", "(4HK D)ᵀ", "first_uses"),
    "blocks.{i}.attention.v.weight":
        ("{runs[i]}.layers.{places[i]}.attn.gqkv_proj.weight[3HK:]", "(4HK D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.gate.weight":
        ("{runs[i]}.layers.{places[i]}.mlp.gate_up_proj.weight[:F]", "(2F D)ᵀ", "first_uses"),
    "blocks.{i}.feed_forward.up.weight":
        ("{runs[i]}.layers.{places[i]}.mlp.gate_up_proj.weight[F:]", "(2F D)ᵀ", "first_uses"),
}  # fmt: skip


def unit_norm(width: int, eps: float) -> RMSNorm:
    """Build a norm without gain."""
    return RMSNorm(Weights({"gain": np.ones(width, dtype=np.float32)}), eps=eps)


class Block(Module):
    """A layer at one of its depths: attention, then feed-forward, on the vector of its stack.

    The first of a run adds the other stack's vector, and the last norms the result, but for the model's last:
    that norm is the model's.
    """

    def __init__(self, w: Weights, c: HrmTextConfig, i: int):
        H, K = c.sizes["H"], c.sizes["K"]
        w = w / f"blocks.{c.home[i]}"
        self.is_high = c.runs[i] == HIGH
        self.adds_other = c.places[i] == 0
        self.attention_norm = unit_norm(c.hidden_size, c.rms_norm_eps)
        self.attention = SeparatelyGatedAttention(w / "attention", heads=H, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = unit_norm(c.hidden_size, c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        ends = c.places[i] + 1 == c.per_stack and i + 1 < c.sizes["L"]
        self.last_norm = unit_norm(c.hidden_size, c.rms_norm_eps) if ends else None
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map both vectors of the stream (B, T, 2D) to both vectors (B, T, 2D)."""
        y, other = self.apart(x)
        y = y + other if self.adds_other else y  # (B, T, D)
        normed = tap("attention_norm", self.attention_norm(y))
        y = step.wanted(y) + self.attention(normed, step, state)
        y, other = self.apart(tap("residual_middle", self.joined(y, step.wanted(other))))
        normed = tap("feed_forward_norm", self.feed_forward_norm(y))
        y = y + self.feed_forward(normed)
        if self.last_norm is not None:
            y, other = self.apart(tap("residual_late", self.joined(y, other)))
            y = self.last_norm(y)
        return tap("residual", self.joined(y, other))

    def apart(self, x: NDArray) -> tuple[NDArray, NDArray]:
        """Divide the stream (B, T, 2D) into the vector of this stack and the other's, (B, T, D) each."""
        D = x.shape[-1] // 2
        high, low = x[..., :D], x[..., D:]
        return (high, low) if self.is_high else (low, high)

    def joined(self, y: NDArray, other: NDArray) -> NDArray:
        """Put both vectors side by side again: (B, T, 2D)."""
        return np.concatenate((y, other) if self.is_high else (other, y), axis=-1)


class HighNorm(RMSNorm):
    """The norm at the end of the last run: of the high vector, which is all that the output layer reads."""

    def __call__(self, x: NDArray) -> NDArray:
        """Map (..., 2D) to (..., D)."""
        return super().__call__(x[..., : self.gain.size])


class HrmText(Decoder[HrmTextConfig]):
    """HRM-Text 1B."""

    Config = HrmTextConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED,)
    OTHER_NAMES: ClassVar = {r"(.*\.layers\.\d+)\.attn\.o_proj\.(weight|bias)": r"\1.self_attn.o_proj.\2"}
    PREFIX = "model."
    WHY_NO_SUM = "Norms stand within this model's stream, at the end of each run of a stack."

    def build(self, w: Weights, c: HrmTextConfig) -> None:
        """Build the embedding, a block for each depth, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.low: NDArray = w["embedding.low"]
        self.blocks = [Block(w, c, i) for i in range(c.sizes["L"])]
        self.final_norm = HighNorm(
            Weights({"gain": np.ones(c.hidden_size, dtype=np.float32)}), eps=c.rms_norm_eps
        )
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up, and put the low stack's first vector beside each: ids (B, T) → (B, T, 2D)."""
        high = tap("embedding.tokens", self.embedding(ids)) * np.float32(self.config.embedding_factor)
        return tap("embedding", np.concatenate((high, np.broadcast_to(self.low, high.shape)), axis=-1))


FACTS = Facts(
    grew_from="nanochat",
    kind="block",
    changed="Two stacks that run in turns, seven of eight times with weights that ran before",
    why="depth for a token without weights for it",
    published="1B",
)
