"""FlexOlmo 7x7B (Shi et al. 2025, arXiv:2507.07024): experts trained apart, each on its own data.

    x → attention → norm ──+ x → the 5 best of 7 experts → norm ──+ x      (× L)
    logits = norm(x) · W

| attention          | position | norm    | feed-forward   | block                 | context |
|--------------------|----------|---------|----------------|-----------------------|---------|
| MHA; norms of q, k | RoPE     | RMSNorm | SwiGLU, 5 of 7 | norms on the branches | 4096    |

New in it, beside OLMoE (olmoe.py): owners of data need not share them. Each owner trains one expert, as wide
as a whole feed-forward layer, and its column of the router, beside a frozen public expert. The experts are
then merged into one model without joint training, and each can be left out again. Norms stand on the
branches, as in OLMo 2 (olmo2.py).
"""

from dataclasses import dataclass
from functools import partial

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_top_k, top_k_softmax
from tinystar_np.layers.attention import JointNormAttention
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class FlexOlmoConfig(Config):
    """The keys of a FlexOlmo config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert.
    """

    vocab_size: int = key(100352, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="M")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    num_experts: int = key(7, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int = key(5, chosen_of="E")
    norm_topk_prob: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    @property
    def absent_letters(self) -> str:
        """The letter of dense layers, of which there are none."""
        return "F"


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "HK"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "GK"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention_post_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 writes them: those of a layer in two tensors
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads the residual stream itself, norms its result, and adds it."""

    def __init__(self, w: Weights, c: FlexOlmoConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        self.attention = JointNormAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")),
        )  # fmt: skip
        self.attention_post_norm = norm(w / "attention_post_norm")
        self.feed_forward = Experts(
            w / "feed_forward",
            gated_experts(w / "feed_forward.experts", c.num_experts, ACTIVATIONS[c.hidden_act]),
            per_token=c.num_experts_per_tok,
            routing=top_k_softmax if c.norm_topk_prob else softmax_top_k,
        )
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(x, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        y = tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(x)))
        return tap("residual", x + y)


class FlexOlmo(Decoder[FlexOlmoConfig]):
    """FlexOlmo-7x7B-1T."""

    Config = FlexOlmoConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: FlexOlmoConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="olmoe",
    kind="experts",
    changed="Experts trained apart, each on data of its own; norms on the branches",
    why="data need not be shared, and an expert can be left out again",
    published="7x7B-1T",
)
