"""LongCat-Flash 560B (Meituan 2025, arXiv:2509.01322): zero-computation, shortcut-connected experts.

    x → norm → latent attention ──+ x → norm ─┬→ feed-forward ──+ x → …
                                              └→ experts ──────────────┐
    … → norm → latent attention ──+ x → norm ──→ feed-forward ──+ x ───+ x      (× L)
    logits = norm(x) · W             experts = the 12 best of 512, and of 256 that return their input

| attention       | position                | norm    | feed-forward         | block              | context |
|-----------------|-------------------------|---------|----------------------|--------------------|---------|
| latent, R = 512 | RoPE on 64 of 192       | RMSNorm | SwiGLU; 12 of 768    | experts beside the | 131072  |
|                 |                         |         | experts              | next attention     |         |

New in it, beside DeepSeek-V3 (deepseek_v3.py): zero-computation experts (Jin et al. 2024, arXiv:2410.07348).
A third of the experts return their input, so that easy tokens use few experts with weights and hard ones
many; the correction of the router holds the mean constant. And each layer has attention and a dense
feed-forward layer twice: the experts read what the first feed-forward layer reads, and their result is added
after the second (Cai et al. 2024, arXiv:2404.05019), so that communication between machines overlaps with the
computation in between. Queries and latents are scaled by √(D / rank), to be as large as if they were not
compressed. Blocks here are half layers, as in transformers' caches. transformers also writes matrices for the
experts that do nothing; they are ignored.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_corrected_top_k
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm, one_sum
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_keys import AT_LEAST_0, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class LongcatFlashConfig(Config):
    """The keys of a LongCat-Flash config.json that change the mathematics; defaults as in transformers.

    ``ffn_hidden_size`` is the width of dense layers, ``expert_ffn_hidden_size`` that of an expert.
    ``num_layers`` counts pairs of blocks. ``head_dim`` is the width of the part of a head that is rotated.
    """

    vocab_size: int = key(131072, letter="V")
    hidden_size: int = key(6144, letter="D")
    ffn_hidden_size: int = key(12288, letter="F", aliases=("intermediate_size",))
    num_layers: int = key(28, letter="L")
    num_attention_heads: int = key(64, letter="H")
    num_key_value_heads: int | None = None
    kv_lora_rank: int = key(512, letter="R")
    q_lora_rank: int = key(1536, letter="Q")
    head_dim: int = 64
    qk_head_dim: int | None = None
    qk_nope_head_dim: int = key(128, letter="K")
    qk_rope_head_dim: int = key(64, letter="P")
    v_head_dim: int = key(128, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    expert_ffn_hidden_size: int = key(2048, letter="M", aliases=("moe_intermediate_size",))
    n_routed_experts: int = key(512, letter="E", aliases=("num_local_experts",))
    zero_expert_num: int | None = key(256, least=0)
    moe_topk: int = key(12, chosen_of="N", aliases=("num_experts_per_tok",))
    routed_scaling_factor: float = 6.0
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {
        "mla_scale_kv_lora": (True, None),
        "mla_scale_q_lora": (True, None),
        "norm_topk_prob": (False, None),
        "router_bias": (False, None),
        "zero_expert_type": ("identity", None),
    }

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: L counts half layers, N the experts with weights and those without."""
        return super().sizes | {"L": 2 * self.num_layers, "N": self.n_routed_experts + self.zero_experts}

    @property
    def zero_experts(self) -> int:
        """How many experts return their input."""
        return self.zero_expert_num or 0

    @property
    def idle_experts(self) -> str:
        """Their numbers, as a regular expression."""
        return "|".join(str(self.n_routed_experts + e) for e in range(self.zero_experts))

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
        """The blocks that have experts: the first half of each layer."""
        return list(range(0, 2 * self.num_layers, 2))

    @property
    def absent_letters(self) -> str:
        """The letter of key/value heads."""
        return "G"

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        K, P = self.qk_nope_head_dim, self.qk_rope_head_dim
        require(P % 2 == 0, f"qk_rope_head_dim = {P} makes no pairs.")
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        require(self.head_dim == P, f"head_dim = {self.head_dim} is not qk_rope_head_dim = {P}.")
        require(
            self.qk_head_dim in (None, K + P),
            f"qk_head_dim = {self.qk_head_dim} is not the sum of qk_nope_head_dim = {K} and {P}.",
        )
        _ = self.scale


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i//2}.input_layernorm.{i%2}.weight", "D"),
    "blocks.{i}.attention.q_down.weight": ("layers.{i//2}.self_attn.{i%2}.q_a_proj.weight", "(Q D)ᵀ"),
    "blocks.{i}.attention.q_down.bias":
        ("layers.{i//2}.self_attn.{i%2}.q_a_proj.bias", "Q", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i//2}.self_attn.{i%2}.q_a_layernorm.weight", "Q"),
    "blocks.{i}.attention.q_up.weight": ("layers.{i//2}.self_attn.{i%2}.q_b_proj.weight", "(H[K+P] Q)ᵀ"),
    "blocks.{i}.attention.kv_down.weight":
        ("layers.{i//2}.self_attn.{i%2}.kv_a_proj_with_mqa.weight", "(R+P D)ᵀ"),
    "blocks.{i}.attention.kv_down.bias":
        ("layers.{i//2}.self_attn.{i%2}.kv_a_proj_with_mqa.bias", "R+P", "attention_bias"),
    "blocks.{i}.attention.kv_norm.gain": ("layers.{i//2}.self_attn.{i%2}.kv_a_layernorm.weight", "R"),
    "blocks.{i}.attention.kv_up.weight": ("layers.{i//2}.self_attn.{i%2}.kv_b_proj.weight", "(H[K+U] R)ᵀ"),
    "blocks.{i}.attention.out.weight": ("layers.{i//2}.self_attn.{i%2}.o_proj.weight", "(D HU)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i//2}.self_attn.{i%2}.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i//2}.post_attention_layernorm.{i%2}.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i//2}.mlps.{i%2}.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i//2}.mlps.{i%2}.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i//2}.mlps.{i%2}.down_proj.weight", "(D F)ᵀ"),
    # in the first half of each layer
    "blocks.{i}.shortcut.router.weight":
        ("layers.{i//2}.mlp.router.classifier.weight", "(N D)ᵀ", "expert_layers"),
    "blocks.{i}.shortcut.router.correction":
        ("layers.{i//2}.mlp.router.e_score_correction_bias", "N", "expert_layers"),
    "blocks.{i}.shortcut.experts.{e}.gate.weight":
        ("layers.{i//2}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.shortcut.experts.{e}.up.weight":
        ("layers.{i//2}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ", "expert_layers"),
    "blocks.{i}.shortcut.experts.{e}.down.weight":
        ("layers.{i//2}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ", "expert_layers"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 has them in memory: those of a layer in two tensors
    "blocks.{i}.shortcut.experts.{e}.gate.weight":
        ("layers.{i//2}.mlp.experts.gate_up_proj[:M]", "N (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.shortcut.experts.{e}.up.weight":
        ("layers.{i//2}.mlp.experts.gate_up_proj[M:]", "N (2M D)ᵀ", "expert_layers"),
    "blocks.{i}.shortcut.experts.{e}.down.weight":
        ("layers.{i//2}.mlp.experts.down_proj", "E (D M)ᵀ", "expert_layers"),
}  # fmt: skip


class Block(Module):
    """Half a layer: latent attention, feed-forward; the first has experts, the second adds their result."""

    def __init__(self, w: Weights, c: LongcatFlashConfig, i: int):
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = LongcatAttention(w / "attention", c)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.shortcut = experts(w / "shortcut", c) if i in c.expert_layers else None
        self.layer = i // 2
        self.reads = () if i in c.expert_layers else (("shortcut", self.layer),)
        # Ranks add up the experts' results with those of the second half's feed-forward layer.
        self.sum = one_sum(self.feed_forward.down if self.shortcut is None else self.shortcut)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        if self.shortcut is not None:
            step.give(("shortcut", self.layer), self.shortcut(normed))
            return tap("residual", x + self.feed_forward(normed))
        y = self.feed_forward(normed) + step.wanted(self.waiting(step))
        y = y if self.sum is None else self.sum(y)
        return tap("residual", x + tap("feed_forward.out", y))

    def waiting(self, step: Step) -> NDArray:
        """Return the result of the first half's experts; raises InputError where a run begins after it."""
        try:
            return cast(NDArray, step.given(("shortcut", self.layer)))
        except KeyError:
            raise InputError(
                f"Block {2 * self.layer + 1} adds the result of block {2 * self.layer}'s experts, so that a "
                "run must begin there or before it."
            ) from None


class LongcatAttention(LatentAttention):
    """Latent attention whose queries and latents are scaled.

    w  as in ``LatentQueryAttention``
    c  the config
    """

    def __init__(self, w: Weights, c: LongcatFlashConfig):
        super().__init__(
            w,
            heads=c.num_attention_heads,
            rank=c.kv_lora_rank,
            head_dim=c.qk_nope_head_dim,
            rope_dim=c.qk_rope_head_dim,
            value_dim=c.v_head_dim,
            scale=c.scale,
            eps=1e-6,  # whatever the other norms have
            rope=c.rope.rotary(interleaved=True),
        )
        self.query_scale = np.float32((c.hidden_size / c.q_lora_rank) ** 0.5)
        self.latent_scale = np.float32((c.hidden_size / c.kv_lora_rank) ** 0.5)

    def build_queries(self, w: Weights, eps: float) -> None:
        """Build what makes queries."""
        self.q_down, self.q_up = Linear(w / "q_down"), Linear(w / "q_up")
        self.q_norm = RMSNorm(w / "q_norm", eps=eps)

    def queries(self, x: NDArray) -> NDArray:
        """Make queries: (B, T, D) → (B, T, H·(K + K_r))."""
        compressed = tap("attention.q_norm", self.q_norm(tap("attention.q_down", self.q_down(x))))
        return self.q_up(compressed) * self.query_scale

    def latents(self, x: NDArray, step: Step) -> NDArray:
        """Make what is remembered of each token: (B, T, D) → (B, 1, T, R + K_r)."""
        made = super().latents(x, step)
        made[..., : self.rank] *= self.latent_scale
        return made


class ZeroExpert(Module):
    """An expert that returns its input."""

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        return np.array(x)


def experts(w: Weights, c: LongcatFlashConfig) -> Experts:
    """Build the experts of a layer, those with weights before those without."""
    with_weights = gated_experts(w / "experts", c.n_routed_experts, ACTIVATIONS[c.hidden_act])
    routing = partial(
        softmax_corrected_top_k, correction=w["router.correction"], factor=c.routed_scaling_factor
    )
    without = [ZeroExpert() for _ in range(c.zero_experts)]
    return Experts(
        w, [*with_weights, *without], per_token=c.moe_topk, routing=routing, without_weights=c.zero_experts
    )


class LongcatFlash(Decoder[LongcatFlashConfig]):
    """LongCat-Flash."""

    Config = LongcatFlashConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."
    IGNORED = r"mtp\..*|layers\.\d+\.mlp\.experts\.({idle_experts})\..*"

    def build(self, w: Weights, c: LongcatFlashConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(2 * c.num_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="deepseek_v3",
    kind="experts",
    changed="Experts that return their input; the result of experts is added half a layer later",
    why="hard tokens use more weights than easy ones; communication overlaps with computation",
    published="Flash",
    keys={"num_layers": 1},
)
