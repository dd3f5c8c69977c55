"""MiniMax-M2 (MiniMax 2025): full attention again, and 256 small experts.

    x → norm → attention, q and k normed ──+ x → norm → the 8 best of 256 experts ──+ x      (× L)
    logits = norm(x) · W

| attention             | position                      | norm    | feed-forward     | block      | context |
|-----------------------|-------------------------------|---------|------------------|------------|---------|
| GQA; norms of q and k | RoPE, first half of each head | RMSNorm | SwiGLU, 8 of 256 | sequential | 196608  |

New in it, beside Mixtral (mixtral.py): all queries of a token are normed as one vector, and so are its keys;
half of each head is rotated. The router is DeepSeek-V3's (arXiv:2412.19437) without groups: experts are
chosen by sigmoid scores and a correction that evens their loads, and weighted by the scores, scaled to sum to
1. MiniMax-01 (minimax.py) had linear attention in seven layers of eight; M2 has full attention in all.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.attention import JointNormAttention
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class MiniMaxM2Config(Config):
    """The keys of a MiniMax-M2 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert. Published files say with ``rotary_dim`` how many numbers
    of a head are rotated, others with ``partial_rotary_factor``, which wins.
    """

    REFUSED: ClassVar = {
        "qk_norm_type": ("per_layer", None),
        "scoring_func": ("sigmoid", None),
        "shared_intermediate_size": (0, None),
        "use_qk_norm": (True, None),
        "use_routing_bias": (True, None),
    }

    vocab_size: int = key(200064, letter="V")
    hidden_size: int = key(3072, letter="D")
    intermediate_size: int = key(1536, letter="M")
    num_hidden_layers: int = key(62, letter="L")
    num_attention_heads: int = key(48, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(128, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(196608, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(5_000_000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = None
    rotary_dim: int | None = key(None, least=1)
    num_local_experts: int = key(256, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(8, chosen_of="E")
    tie_word_embeddings: bool = False
    attn_type_list: list[int] | None = None

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        K, keys = self.sizes["K"], dict(vars(self))
        if self.rotary_dim is not None and self.partial_rotary_factor is None:
            require(self.rotary_dim <= K, f"rotary_dim = {self.rotary_dim} is above head_dim = {K}.")
            keys["partial_rotary_factor"] = self.rotary_dim / K
        return RopeParameters.read(keys, head_dim=K, partial=True)

    @property
    def absent_letters(self) -> str:
        """That of dense layers: there are none."""
        return "F"

    def check(self) -> None:
        """Refuse layers of MiniMax-01's linear attention."""
        super().check()
        types = self.attn_type_list or ()
        require(all(kind == 1 for kind in types), f"attn_type_list = {shown(types)}, but all must be 1.")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "HK"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "GK"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.block_sparse_moe.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.block_sparse_moe.e_score_correction_bias", "E"),
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
    "blocks.{i}.feed_forward.router.correction": ("layers.{i}.mlp.e_score_correction_bias", "E"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: MiniMaxM2Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        q_norm, k_norm = (
            RMSNorm(w / f"attention.{name}", eps=c.rms_norm_eps) for name in ("q_norm", "k_norm")
        )
        self.attention = JointNormAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), norms=(q_norm, k_norm)
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = Experts(
            w / "feed_forward",
            gated_experts(w / "feed_forward.experts", c.num_local_experts, ACTIVATIONS[c.hidden_act]),
            per_token=c.num_experts_per_tok,
            routing=partial(sigmoid_grouped_top_k, correction=w["feed_forward.router.correction"]),
        )
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class MiniMaxM2(Decoder[MiniMaxM2Config]):
    """MiniMax-M2, M2.1 and M2.5."""

    Config = MiniMaxM2Config
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"layers\.6[2-4]\..*"  # layers that predict further tokens

    def build(self, w: Weights, c: MiniMaxM2Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mixtral",
    kind="experts",
    changed="256 small experts, chosen by corrected sigmoid scores; norms of queries and keys",
    why="10 of 230 billion weights for a token, at even loads",
    published="M2",
    keys={"num_hidden_layers": 1},
)
