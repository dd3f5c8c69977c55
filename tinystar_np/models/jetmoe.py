"""JetMoe 8B (Shen et al. 2024, arXiv:2404.07413): experts in attention too.

    x → norm → attention, 2 of 8 ──+ x → norm → experts, 2 of 8 ──+ x      (× L)
    logits = norm(x) · W

| attention                        | position | norm    | feed-forward   | block      | context |
|----------------------------------|----------|---------|----------------|------------|---------|
| 2 of 8 experts; shared k and v   | RoPE     | RMSNorm | SwiGLU, 2 of 8 | sequential | 4096    |

New in it: attention has experts and a router as well (Mixture of Attention Heads, Zhang et al. 2022,
arXiv:2210.05144). An expert of attention is a query matrix and an output matrix; keys and values are shared
by all, so that the cache does not depend on the choice. A token attends with the queries of its two best
experts and adds their outputs, weighted by the softmax over the two scores. A token uses 2.2 of 8 billion
weights. Attention and feed-forward each add a bias that belongs to no expert. The config's epsilon is that of
the final norm; norms within the blocks have 1e-6.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

BLOCK_EPS = 1e-6


@dataclass(frozen=True)
class JetMoeConfig(Config):
    """The keys of a JetMoe config.json that change the mathematics; defaults as in transformers.

    Each chosen expert has as many query heads as there are key heads, so that no entry gives their number.
    """

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(2048, letter="D")
    num_hidden_layers: int = key(12, letter="L")
    num_key_value_heads: int = key(16, letter="G")
    kv_channels: int = key(128, letter="K", aliases=("head_dim",))
    intermediate_size: int = key(5632, letter="F")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    activation_function: str = activation_key("silu")
    num_local_experts: int = key(8, letter="E")
    num_experts_per_tok: int = key(2, chosen_of="E")
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    tie_word_embeddings: bool = True

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.kv_channels)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.router.weight": ("layers.{i}.self_attention.experts.router.layer.weight", "(E D)ᵀ"),
    "blocks.{i}.attention.experts.{e}.q.weight":
        ("layers.{i}.self_attention.experts.input_linear.weight", "E (GK D)ᵀ"),
    "blocks.{i}.attention.experts.{e}.out.weight":
        ("layers.{i}.self_attention.experts.output_linear.weight", "E (D GK)ᵀ"),
    "blocks.{i}.attention.bias": ("layers.{i}.self_attention.experts.bias", "D"),
    "blocks.{i}.attention.kv.weight": ("layers.{i}.self_attention.kv_proj.weight", "(2GK D)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.router.layer.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.input_linear.weight[:F]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.input_linear.weight[F:]", "E (2F D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.output_linear.weight", "E (D F)ᵀ"),
    "blocks.{i}.feed_forward.bias": ("layers.{i}.mlp.bias", "D"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Pair(Module):
    """An expert of attention: a matrix that makes G queries, and the output matrix that belongs to it."""

    def __init__(self, w: Weights):
        self.q, self.out = Linear(w / "q"), Linear(w / "out")
        self.out.join = None  # ranks add up those of all chosen experts at once

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D) where every token attends to itself alone."""
        return self.out(self.q(x))


class ExpertAttention(Attention):
    """Self-attention with the queries and outputs of k of E experts, and one set of G keys and values.

        e, w    = the k best of E, and their weights           by a router
        q       = heads of x W_q,e for each chosen e           k·G queries, G for each expert
        y       = attention with x W_k, x W_v
        result  = Σ w_e · (heads of y, those of e) W_out,e + bias

    w          ``router``, ``bias``, ``kv`` (D, 2·G·K), and ``experts`` from 0 on, each of ``q`` and ``out``
    experts    E
    per_token  k
    """

    remark = "queries and outputs of experts that a router chooses"

    def __init__(
        self, w: Weights, *, experts: int, per_token: int, kv_heads: int, head_dim: int, rope: Rotary
    ):
        super().__init__(w, heads=per_token * kv_heads, kv_heads=kv_heads, head_dim=head_dim, rope=rope)
        pairs = [Pair(w / f"experts.{e}") for e in range(experts)]
        self.pairs = Experts(w, pairs, per_token=per_token, routing=top_k_softmax)
        self.join = w.join("experts.0.out.weight")
        self.queries, self.outputs = tuple(pair.q for pair in pairs), tuple(pair.out for pair in pairs)

    def build_projections(self, w: Weights) -> None:
        """Build what makes keys and values."""
        self.kv = Linear(w / "kv")

    def value_dim(self) -> int:
        """Return the width of a value, here that of a key."""
        return self.head_dim

    def build_output(self, w: Weights) -> None:
        """Build nothing: each expert has its output."""

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to itself and to what came before; arguments as of ``Attention``."""
        wanted = step.wanted(x)
        B, T, D = wanted.shape
        k, G, K = self.pairs.per_token, self.kv_heads, self.head_dim
        logits = tap("attention.router", self.pairs.router(wanted))  # (B, T, E)
        chosen, weights = self.pairs.agreed(*self.pairs.routing(logits, k))  # (B, T, k)
        chosen, weights = tap("attention.chosen", chosen), tap("attention.weights", weights)
        chosen = chosen.reshape(-1, k)
        vectors = np.broadcast_to(wanted.reshape(-1, 1, D), (B * T, k, D))
        q = fast.chosen_outputs(vectors, chosen, self.queries)  # (BT, k, GK)
        q = q.reshape(B, T, k, G, K).swapaxes(2, 3).reshape(B, T, -1)  # queries of one key beside each other
        q, keys, values = self.by_heads(q, *np.split(self.kv(x), 2, axis=-1))
        q, keys = self.rotated(q, keys, step)
        held, held_values, positions = step.remember(keys, values, state)
        mask = step.mask(positions, self.limits())
        y = tap("attention.mixed", self.attend(q, held, held_values, mask, step))  # (B, GK-heads, T, K)
        y = y.reshape(B, G, k, T, K).transpose(0, 3, 2, 1, 4).reshape(B * T, k, G * K)
        parts = fast.chosen_outputs(y, chosen, self.outputs)  # (BT, k, D)
        mixed = (parts * weights.reshape(-1, k, 1)).sum(axis=1).reshape(B, T, D)
        mixed = mixed if self.pairs.bias is None else mixed + self.pairs.bias
        return tap("attention.out", mixed if self.join is None else self.join(mixed))


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: JetMoeConfig, i: int):
        self.attention_norm = RMSNorm(w / "attention_norm", eps=BLOCK_EPS)
        self.attention = ExpertAttention(
            w / "attention", experts=c.num_local_experts, per_token=c.num_experts_per_tok,
            kv_heads=c.num_key_value_heads, head_dim=c.kv_channels, rope=c.rope.rotary(),
        )  # fmt: skip
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=BLOCK_EPS)
        activation = ACTIVATIONS[c.activation_function]
        experts = gated_experts(w / "feed_forward.experts", c.num_local_experts, activation)
        self.feed_forward = Experts(
            w / "feed_forward", experts, per_token=c.num_experts_per_tok, routing=top_k_softmax
        )
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class JetMoe(Decoder[JetMoeConfig]):
    """JetMoe 8B, base and chat."""

    Config = JetMoeConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("G",))
    PREFIX = "model."

    def build(self, w: Weights, c: JetMoeConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mixtral",
    kind="experts",
    changed="Queries and outputs of attention are experts too; keys and values are shared",
    why="a token uses a quarter of the query and output weights as well",
    published="8B",
)
