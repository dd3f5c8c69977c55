"""Mistral Small 4 (Mistral AI 2026): DeepSeek's block, and queries that grow with the text.

    x → norm → latent attention, queries × (1 + β · ln(1 + ⌊p / f⌋)) ──+ x → norm → experts ──+ x      (× L)
    logits = norm(x) · W             experts = shared + the 4 best of 128

| attention       | position                     | norm    | feed-forward          | block      | context |
|-----------------|------------------------------|---------|-----------------------|------------|---------|
| latent, R = 256 | RoPE on 64 of 128, YaRN ×128 | RMSNorm | SwiGLU; 1 + 4 experts | sequential | 1048576 |
|                 | from 8192; temperature from  |         |                       |            |         |
|                 | position 8192 on             |         |                       |            |         |

New in it: two families in one. Attention and experts are DeepSeek-V3's (deepseek_v3.py), but the router is a
softmax without a correction. Queries, rotated part and unrotated part alike, grow with their position as in
Ministral 3 (ministral3.py; Nakanishi 2025, arXiv:2501.19399; kernels/temperature.py). A token uses 6.5 of 119
billion weights. The model reads images as well: this is the text part of a ``mistral3``. transformers fails
on a config without a rule that scales rotations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.experts import softmax_grouped_top_k
from tinystar_np.kernels.temperature import temperature
from tinystar_np.layers.attention import heads_apart
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Layer, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, ExpertsAndShared, gated_experts
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.expert_groups import check_groups
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_keys import AT_LEAST_0, FRACTION, LENGTH, RopeKeys
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

SCALING, SHARE = "llama_4_scaling_beta", "partial_rotary_factor"
USUAL: JsonObject = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 128.0,
    "original_max_position_embeddings": 8192,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    SCALING: 0.1,
}
"""The rotations of a config.json that says nothing of them."""


class Temperature(NamedTuple):
    """What queries are multiplied by at each position: 1 + β · ln(1 + ⌊p / f⌋).

    floor  f, the length of a step in tokens
    scale  β
    """

    floor: int
    scale: float


@dataclass(frozen=True)
class Mistral4Config(Config):
    """The keys of a Mistral 4 config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of dense layers, ``moe_intermediate_size`` that of an expert.
    ``num_key_value_heads`` can only repeat ``num_attention_heads``: latents have no groups. β of the
    queries' growth is among the parameters of the rotations, as ``llama_4_scaling_beta``, and f is the length
    that they are scaled from, ``original_max_position_embeddings``.
    """

    vocab_size: int = key(131072, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(12288, letter="F")
    num_hidden_layers: int = key(36, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = 32
    kv_lora_rank: int = key(256, letter="R")
    q_lora_rank: int | None = key(1024, letter="Q")
    qk_nope_head_dim: int = key(64, letter="K")
    qk_rope_head_dim: int = key(64, letter="P")
    v_head_dim: int = key(128, letter="U")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(1048576, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    rope_interleave: bool | None = True
    attention_bias: bool = False
    moe_intermediate_size: int = key(2048, letter="M")
    n_routed_experts: int = key(128, letter="E", aliases=("num_local_experts",))
    num_experts_per_tok: int | None = key(4, chosen_of="E")
    n_shared_experts: int = key(1, letter="S")
    routed_scaling_factor: float = 1.0
    norm_topk_prob: bool | None = True
    n_group: int | None = 1
    topk_group: int | None = 1
    first_k_dense_replace: int | None = key(0, least=0)
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for the part of a head that is rotated."""
        keys = self.rope_keys
        without = {name: _of_rotations(keys[name]) for name in ("rope_scaling", "rope_parameters")}
        return RopeParameters.read({**keys, **without}, head_dim=self.qk_rope_head_dim)

    @property
    def rope_keys(self) -> Mapping[str, JsonObject | None]:
        """The keys of the rotations, the usual ones where a file says nothing of them."""
        return vars(self) if self.rope_parameters is not None else {**vars(self), "rope_parameters": USUAL}

    @property
    def temperature(self) -> Temperature:
        """What scales queries by their positions."""
        given, name = RopeKeys.of(self.rope_keys, None), "original_max_position_embeddings"
        # Rules that go by a trained length have it from outside too, or the longest is meant.
        goes_by_it = self.rope.rope_type in ("llama3", "longrope", "yarn")
        floor = given.trained() if goes_by_it else given.number(name, LENGTH)
        return Temperature(int(floor), given.number(SCALING, AT_LEAST_0))

    @property
    def scale(self) -> float:
        """What scores are multiplied by: 1/√(K + P) times the square of yarn's factor for whole heads.

        ``rope`` has the factor for the rotated numbers alone.
        """
        weight = RopeKeys.of(self.rope_keys, None).number("mscale_all_dim", AT_LEAST_0, 0.0)
        sharper = 1 + 0.1 * weight * math.log(max(self.rope.factor, 1))
        return sharper**2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5

    @property
    def expert_layers(self) -> list[int]:
        """The layers with experts: all from ``first_k_dense_replace`` on."""
        return list(range(self.first_k_dense_replace or 0, self.num_hidden_layers))

    @property
    def absent_letters(self) -> str:
        """The letters of key/value heads, and of dense layers or experts where there are none."""
        count = len(self.expert_layers)
        return "G" + ("" if count else "EMS") + ("F" if count == self.num_hidden_layers else "")

    def check(self) -> None:
        """Refuse contradictions, and choices that cannot be made."""
        P = self.qk_rope_head_dim
        require(P % 2 == 0, f"qk_rope_head_dim = {P} makes no pairs.")
        super().check()
        H, G = self.num_attention_heads, self.num_key_value_heads
        require(
            G in (None, H),
            f"num_key_value_heads = {G} is not num_attention_heads = {H}, but latents have no groups.",
        )
        _ = self.scale, self.temperature
        share = self.rope_share
        require(
            share is None or int(share * (self.qk_nope_head_dim + P)) == P,
            f"partial_rotary_factor = {share} is not the share of a head that qk_rope_head_dim = {P} is.",
        )
        if self.expert_layers:
            check_groups(self.n_routed_experts, self.num_experts_per_tok, self.n_group, self.topk_group)

    @property
    def rope_share(self) -> float | None:
        """The share of each head that is rotated, where the file repeats it."""
        given = RopeKeys.of(self.rope_keys, None)
        return given.number(SHARE, FRACTION) if given.get(SHARE) is not None else None


def _of_rotations(keys: JsonObject | None) -> JsonObject | None:
    """Return the parameters of the rotations alone, for the part of a head that is rotated."""
    return None if keys is None else {key: keys[key] for key in keys if key not in (SCALING, SHARE)}


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(H[K+P] D)ᵀ", "not q_lora_rank"),
    "blocks.{i}.attention.q_down.weight": ("layers.{i}.self_attn.q_a_proj.weight", "(Q D)ᵀ", "q_lora_rank"),
    "blocks.{i}.attention.q_down.bias":
        ("layers.{i}.self_attn.q_a_proj.bias", "Q", "q_lora_rank and attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_a_layernorm.weight", "Q", "q_lora_rank"),
    "blocks.{i}.attention.q_up.weight":
        ("layers.{i}.self_attn.q_b_proj.weight", "(H[K+P] Q)ᵀ", "q_lora_rank"),
    "blocks.{i}.attention.kv_down.weight": ("layers.{i}.self_attn.kv_a_proj_with_mqa.weight", "(R+P D)ᵀ"),
    "blocks.{i}.attention.kv_down.bias":
        ("layers.{i}.self_attn.kv_a_proj_with_mqa.bias", "R+P", "attention_bias"),
    "blocks.{i}.attention.kv_norm.gain": ("layers.{i}.self_attn.kv_a_layernorm.weight", "R"),
    "blocks.{i}.attention.kv_up.weight": ("layers.{i}.self_attn.kv_b_proj.weight", "(H[K+U] R)ᵀ"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HU)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    # in layers with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ", "expert_layers"),
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
    """Latent attention, then experts or dense feed-forward: each reads a normed copy and adds its result."""

    def __init__(self, w: Weights, c: Mistral4Config, i: int):
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = GrowingAttention(w / "attention", c)
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class GrowingAttention(LatentAttention):
    """Latent attention whose queries grow with their positions.

    w  as in ``LatentAttention``, or ``LatentQueryAttention``
    c  the config
    """

    def __init__(self, w: Weights, c: Mistral4Config):
        rotation = c.rope.rotary(interleaved=bool(c.rope_interleave))
        super().__init__(
            w,
            heads=c.num_attention_heads,
            rank=c.kv_lora_rank,
            head_dim=c.qk_nope_head_dim,
            rope_dim=c.qk_rope_head_dim,
            value_dim=c.v_head_dim,
            scale=c.scale,
            eps=1e-6,  # whatever the other norms have
            rope=rotation,
        )
        self.rotation, self.temperature = rotation, c.temperature
        floor, scale = self.temperature
        self.remark = f"queries × 1 + {scale:g} · ln(1 + ⌊position / {floor}⌋)"

    def build_queries(self, w: Weights, eps: float) -> None:
        """Build what makes queries, compressed on the way where the file has matrices for that."""
        self.is_compressed = w.get("q.weight") is None
        if self.is_compressed:
            self.q_down, self.q_up = Linear(w / "q_down"), Linear(w / "q_up")
            self.q_norm = RMSNorm(w / "q_norm", eps=eps)
        else:
            self.q = Linear(w / "q")

    def queries(self, x: NDArray) -> NDArray:
        """Make queries: (B, T, D) → (B, T, H·(K + K_r))."""
        if not self.is_compressed:
            return self.q(x)
        return self.q_up(tap("attention.q_norm", self.q_norm(tap("attention.q_down", self.q_down(x)))))

    def rotated_queries(self, x: NDArray, step: Step) -> NDArray:
        """Make queries, scale them, and rotate their second part: (B, T, D) → (B, H, T, K + K_r)."""
        q = tap("attention.q", heads_apart(self.queries(x), self.heads))
        floor, scale = self.temperature
        # The kernel's steps end one position earlier than those here.
        factors = step.once(self.temperature, lambda: temperature(step.positions - 1, floor, scale))
        q = q * factors[:, None, :, None]
        rotated = tap("attention.q_rotated", self.rotation(q[..., self.head_dim :], step))
        return np.concatenate((q[..., : self.head_dim], rotated), axis=-1)


def feed_forward(w: Weights, c: Mistral4Config, i: int) -> Layer:
    """Build layer i's experts and the shared ones, these as one layer; or its dense feed-forward layer."""
    activation = ACTIVATIONS[c.hidden_act]
    if i not in c.expert_layers:
        return GatedFeedForward(w, activation)
    routing = partial(
        softmax_grouped_top_k,
        groups=c.n_group or 1,
        kept=c.topk_group or 1,
        normed=bool(c.norm_topk_prob),
        factor=c.routed_scaling_factor,
    )
    experts = Experts(
        w,
        gated_experts(w / "experts", c.n_routed_experts, activation),
        per_token=c.num_experts_per_tok or 0,
        routing=routing,
    )
    return ExpertsAndShared(experts, GatedFeedForward(w / "shared", activation))


class Mistral4(Decoder[Mistral4Config]):
    """Mistral Small 4, its text part."""

    Config = Mistral4Config
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FUSED_EXPERTS,)
    PREFIX = "model."

    def build(self, w: Weights, c: Mistral4Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="deepseek_v3",
    kind="attention",
    changed="Queries that grow with their position, beyond 8192 tokens; a softmax as router",
    why="attention stays sharp in texts of a million tokens, of which the cache holds 320 numbers each",
    published="Small 4",
    keys={"num_hidden_layers": 1},
)
