"""DeepSeek-V3.2 (DeepSeek-AI 2025, arXiv:2512.02556), 671B: each query attends to 2048 chosen keys.

    x → norm → indexer → latent attention to the chosen keys ──+ x → norm → experts ──+ x      (× L)
    logits = norm(x) · W             experts = shared + the 8 best of 256; dense in the first 3 layers

| attention           | position           | norm    | feed-forward  | block      | context       |
|---------------------|--------------------|---------|---------------|------------|---------------|
| latent, R = 512, to | RoPE on 64 of 192, | RMSNorm | SwiGLU; 1 + 8 | sequential | 163840 (yarn) |
| 2048 chosen keys    | yarn               |         | experts       |            |               |

New in it, beside DeepSeek-V3 (deepseek_v3.py): attention whose cost per token stops growing at 2048 tokens. A
lightning indexer, with 64 query heads of width 128 and one key for all of them, scores every earlier token;
each query attends to the 2048 keys of the highest scores alone (kernels/sparse_attention.py). The indexer's
queries are computed from the compressed queries of attention, its keys from the layer's input; its rotary
pairs are halves, where attention's are neighbours. The makers multiply its vectors by a Hadamard matrix
before they round them to 8 bits; that changes no score, and here, as in transformers, nothing is rounded.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import sigmoid_grouped_top_k
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.sparse_attention import Indexer, SparseLatentAttention
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, layer_kinds, sparse_layers
from tinystar_np.models.rope_keys import AT_LEAST_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

INDEXED = "indexed_attention"
"""The kind of all layers; the other name that files may give changes nothing in transformers."""


@dataclass(frozen=True)
class DeepseekV32Config(Config):
    """The keys of a DeepSeek-V3.2 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups.
    ``index_n_heads``, ``index_head_dim`` and ``index_topk`` are J, I and k of kernels/sparse_attention.py.
    """

    vocab_size: int = key(129280, letter="V")
    hidden_size: int = key(7168, letter="D")
    intermediate_size: int = key(18432, letter="F")
    num_hidden_layers: int = key(61, letter="L")
    num_attention_heads: int = key(128, letter="H")
    num_key_value_heads: int | None = 128
    kv_lora_rank: int = key(512, letter="R")
    q_lora_rank: int = key(1536, letter="Q")
    qk_nope_head_dim: int = key(128, letter="K")
    qk_rope_head_dim: int = key(64, letter="P")
    v_head_dim: int = key(128, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(163840, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    moe_intermediate_size: int = key(2048, letter="M")
    n_routed_experts: int = key(256, letter="E", aliases=("num_local_experts", "num_experts"))
    num_experts_per_tok: int = key(8, chosen_of="E")
    n_shared_experts: int = key(1, letter="S")
    routed_scaling_factor: float = 2.5
    norm_topk_prob: bool = True
    n_group: int = 8
    topk_group: int = 4
    first_k_dense_replace: int = key(3, least=0)
    mlp_layer_types: list[str] | None = None
    index_n_heads: int = key(64, letter="J")
    index_head_dim: int = key(128, letter="I")
    index_topk: int = key(2048, least=1)
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {
        "moe_layer_freq": (1, None),
        "rope_interleave": (True, None),
        "scoring_func": ("sigmoid", None),
        "topk_method": ("noaux_tc", None),
    }

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the part of a head that is rotated."""
        return RopeParameters.read(vars(self), head_dim=self.qk_rope_head_dim)

    @property
    def scale(self) -> float:
        """What scores are multiplied by: 1/√(K + P) times the square of yarn's factor for whole heads.

        ``rope`` has the factor for the rotated numbers alone.
        """
        weight = RopeKeys.of(vars(self), None).number("mscale_all_dim", AT_LEAST_0, 0.0)
        sharper = 1 + 0.1 * weight * math.log(max(self.rope.factor, 1))
        return sharper**2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5

    @property
    def expert_layers(self) -> list[int]:
        """The layers with experts: those after the first, dense ones, where the file does not name them."""
        return sparse_layers(self.mlp_layer_types, self.num_hidden_layers, dense=self.first_k_dense_replace)

    @property
    def absent_letters(self) -> str:
        """The letters of key/value heads, and of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return "G" + ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        P = self.qk_rope_head_dim
        require(P % 2 == 0, f"qk_rope_head_dim = {P} makes no pairs.")
        I = self.index_head_dim  # noqa: E741 — the letter of the kernel
        require(P <= I, f"index_head_dim = {I} has no room for qk_rope_head_dim = {P} rotated numbers.")
        layer_kinds(self.layer_types, [INDEXED] * self.num_hidden_layers, (INDEXED, FULL))
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        _ = self.scale
        if self.expert_layers:
            check_groups(self.n_routed_experts, self.num_experts_per_tok, self.n_group, self.topk_group)


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q_down.weight": ("layers.{i}.self_attn.q_a_proj.weight", "(Q D)ᵀ"),
    "blocks.{i}.attention.q_down.bias": ("layers.{i}.self_attn.q_a_proj.bias", "Q", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_a_layernorm.weight", "Q"),
    "blocks.{i}.attention.q_up.weight": ("layers.{i}.self_attn.q_b_proj.weight", "(H[K+P] Q)ᵀ"),
    "blocks.{i}.attention.kv_down.weight": ("layers.{i}.self_attn.kv_a_proj_with_mqa.weight", "(R+P D)ᵀ"),
    "blocks.{i}.attention.kv_down.bias":
        ("layers.{i}.self_attn.kv_a_proj_with_mqa.bias", "R+P", "attention_bias"),
    "blocks.{i}.attention.kv_norm.gain": ("layers.{i}.self_attn.kv_a_layernorm.weight", "R"),
    "blocks.{i}.attention.kv_up.weight": ("layers.{i}.self_attn.kv_b_proj.weight", "(H[K+U] R)ᵀ"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HU)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention.indexer.q.weight": ("layers.{i}.self_attn.indexer.wq_b.weight", "(JI Q)ᵀ"),
    "blocks.{i}.attention.indexer.k.weight": ("layers.{i}.self_attn.indexer.wk.weight", "(I D)ᵀ"),
    "blocks.{i}.attention.indexer.k_norm.gain": ("layers.{i}.self_attn.indexer.k_norm.weight", "I"),
    "blocks.{i}.attention.indexer.k_norm.bias": ("layers.{i}.self_attn.indexer.k_norm.bias", "I"),
    "blocks.{i}.attention.indexer.weights.weight":
        ("layers.{i}.self_attn.indexer.weights_proj.weight", "(J D)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mlp.gate.e_score_correction_bias", "E", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_experts.gate_proj.weight", "(MS D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.up.weight":
        ("layers.{i}.mlp.shared_experts.up_proj.weight", "(MS D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_experts.down_proj.weight", "(D MS)ᵀ", "expert_layers"),
    # in the others
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ", "not expert_layers"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ", "not expert_layers"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 writes them: those of a layer in two tensors
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """Sparse latent attention, then experts or dense layer: each reads a normed copy, and adds its result."""

    def __init__(self, w: Weights, c: DeepseekV32Config, i: int):
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = SparseLatentAttention(
            w / "attention",
            indexer=Indexer(
                w / "attention.indexer",
                heads=c.index_n_heads,
                head_dim=c.index_head_dim,
                rope_dim=c.qk_rope_head_dim,
                rope=c.rope.rotary(),  # pairs are halves, where those of attention are neighbours
                top_k=c.index_topk,
            ),
            chooser=i,
            heads=c.num_attention_heads,
            rank=c.kv_lora_rank,
            head_dim=c.qk_nope_head_dim,
            rope_dim=c.qk_rope_head_dim,
            value_dim=c.v_head_dim,
            scale=c.scale,
            rope=c.rope.rotary(interleaved=True),
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


def feed_forward(w: Weights, c: DeepseekV32Config, i: int) -> Layer:
    """Build layer i's experts and the shared ones, these as one layer; or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    routing = partial(
        sigmoid_grouped_top_k,
        correction=w["router.correction"],
        groups=c.n_group,
        kept=c.topk_group,
        normed=c.norm_topk_prob,
        factor=c.routed_scaling_factor,
    )
    experts = Experts(
        w,
        gated_experts(w / "experts", c.n_routed_experts, activation),
        per_token=c.num_experts_per_tok,
        routing=routing,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class DeepseekV32(Decoder[DeepseekV32Config]):
    """DeepSeek-V3.2."""

    Config = DeepseekV32Config
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"layers\.61\..*"  # multi-token prediction: predicts the token after the next

    def build(self, w: Weights, c: DeepseekV32Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="deepseek_v3",
    kind="attention",
    changed="An indexer chooses 2048 keys for each query",
    why="attention costs the same for every token of a long text",
    published="V3.2",
    keys={"num_hidden_layers": 1},
)
