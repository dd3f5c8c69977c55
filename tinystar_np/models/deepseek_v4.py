"""DeepSeek-V4 (DeepSeek-AI 2026), Flash and Pro: a window, and before it one entry for 4 or for 128 tokens.

    x_1 … x_4 = embedding
    a = Σ p_j x_j;  x = M x + q · attention(norm(a))
    a = Σ p_j x_j;  x = M x + q · experts(norm(a))                     (× L)
    logits = norm(Σ p_j x_j) · W             experts = shared + 6 of 256; by the token's id in 3 layers

| attention                   | position                | norm     | feed-forward  | block       | context |
|-----------------------------|-------------------------|----------|---------------|-------------|---------|
| MQA, keys are values,       | RoPE on 64 of 512;      | RMSNorm; | clamped       | hyper-      | 1048576 |
| sinks; window 128 and 512   | base 10⁴, where entries | of q, no | SwiGLU; 1 + 6 | connections |         |
| entries of 4, or all of 128 | are 160000 and yarn     | gain     | experts       |             |         |

New in it, beside DeepSeek-V3.2 (deepseek_v32.py): a context of a million tokens, of which little is kept. A
layer remembers 128 tokens, each as one vector that is key and value for all heads, and from there on entries
in their place (kernels/window_compression.py). In every second layer an entry stands for 128 tokens and all
are attended to; in the others it stands for 4 and an indexer with entries of its own chooses 512
(layers/compressed_attention.py). Four residual streams take the place of one (kernels/hyper_connections.py;
Xie et al. 2025, arXiv:2512.24880). The first layers look up the experts of a token (kernels/hash_routing.py).
The heads' results go to the output in groups, each through a matrix of its own.

transformers' cached path keeps the whole text where the window is 1; what counts here is its path without a
cache. It reads ``scoring_func`` as an activation, and so cannot run "softmax".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import HybridState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, Activation, sigmoid, sqrt_softplus
from tinystar_np.kernels.hash_routing import scored_top_k
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.compressed_attention import (
    CompressedAttention,
    Compressor,
    EntryIndexer,
    LastRotary,
)
from tinystar_np.layers.experts import Experts
from tinystar_np.layers.hashed_experts import HashedExpertsAndShared, LimitedExpert, LimitedFeedForward
from tinystar_np.layers.hyper_connections import HyperConnection, StreamsNorm, added
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import SLIDING, equal_windows, layer_kinds
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

FEW, MANY = "compressed_sparse_attention", "heavily_compressed_attention"
"""The kinds of layers with entries: of few tokens, among which an indexer chooses, and of many."""
KINDS = {0: SLIDING, 4: FEW, 128: MANY}
"""What ``compress_ratios`` of the makers' files says of a layer."""
HASHED, SCORED = "hash_moe", "moe"
MAIN, COMPRESS = "main", "compress"
RULES = ("default", "linear", "yarn", "llama3")
SCORES: dict[str, Activation] = {"sqrtsoftplus": sqrt_softplus, "sigmoid": sigmoid}
IDS = "token ids"
"""The name under which a step hands them to the blocks."""


@dataclass(frozen=True)
class DeepseekV4Config(Config):
    """The keys of a DeepSeek-V4 config.json that change the mathematics; defaults as in transformers.

    The makers' files have ``compress_ratios`` and ``num_hash_layers`` in place of ``layer_types`` and
    ``mlp_layer_types``, and ``qk_rope_head_dim`` for ``partial_rotary_factor``. ``rope_parameters`` has the
    rotations of layers without entries, "main", and of those with entries, "compress".
    """

    vocab_size: int = key(129280, letter="V")
    hidden_size: int = key(4096, letter="D")
    moe_intermediate_size: int = key(2048, letter="M", aliases=("intermediate_size",))
    num_hidden_layers: int = key(43, letter="L")
    num_attention_heads: int = key(64, letter="H")
    head_dim: int = key(512, letter="K")
    q_lora_rank: int = key(1024, letter="Q")
    num_experts_per_tok: int = key(6, letter="C", chosen_of="E")
    n_routed_experts: int = key(256, letter="E", aliases=("num_local_experts",))
    scoring_func: str = key("sqrtsoftplus", known=SCORES)
    routed_scaling_factor: float = 1.5
    max_position_embeddings: int = key(1048576, is_trained_length=True)
    rope_theta: float = key(10000.0, null_is_silence=True)
    compress_rope_theta: float = key(160000.0, above=0)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = None
    qk_rope_head_dim: int | None = None
    layer_types: list[str] | None = None
    compress_ratios: list[int] | None = None
    compress_rates: JsonObject | None = None
    compress_rate_csa: int | None = None
    compress_rate_hca: int | None = None
    hc_mult: int = key(4, letter="N")
    hc_sinkhorn_iters: int = key(20, least=0)
    hc_eps: float = key(1e-6, least=0)
    mlp_layer_types: list[str] | None = None
    num_hash_layers: int | None = None
    swiglu_limit: float = key(10.0, above=0)
    sliding_window: int = 128
    o_groups: int = key(8, letter="O")
    o_lora_rank: int = key(1024, letter="R")
    index_n_heads: int = key(64, letter="J")
    index_head_dim: int = key(128, letter="I")
    index_topk: int = key(512, least=1)
    hidden_act: str = activation_key("silu")
    rms_norm_eps: float = key(1e-6, above=0)
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {  # nothing reads these in transformers; elsewhere they have a meaning
        "n_shared_experts": (1, None),
        "norm_topk_prob": (True, None),
        "num_key_value_heads": (1, None),
        "topk_method": ("noaux_tc", None),
    }

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, with U for the numbers of a group of heads' results.

        Heads and groups of numbers are T units that belong together, of S groups each.
        """
        found = super().sizes | {"G": 1}
        units = max(math.gcd(found["H"], found["O"]), 1)
        width = found["H"] * found["K"] // max(found["O"], 1)
        return found | {"U": width, "T": units, "S": found["O"] // units}

    @property
    def other_sizes(self) -> Mapping[int, Mapping[str, int]]:
        """W, the tokens of an entry, and Z, how many vectors of each kind a token gives for entries."""
        rates = self.rates
        return {
            i: {"W": rates[kind], "Z": 1 + (kind == FEW)}
            for i, kind in enumerate(self.kinds)
            if kind in rates
        }

    @property
    def absent_letters(self) -> str:
        """Those of the indexer, where there is none."""
        return "" if self.indexed_layers else "IJ"

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of each layer's attention."""
        L, given = self.num_hidden_layers, self.layer_types
        if given is None and self.compress_ratios is not None:
            wrong = [n for n in self.compress_ratios if n not in KINDS]
            require(
                not wrong, f"compress_ratios has {shown(wrong[:1])}, but layers with 0, 4 or 128 are known."
            )
            given = [KINDS[n] for n in self.compress_ratios]
        usual = [FEW if i > 2 and i % 2 else MANY for i in range(L)]
        return layer_kinds(None if given is None else given[:L], usual, (SLIDING, FEW, MANY))

    @property
    def rates(self) -> Mapping[str, int]:
        """How many tokens an entry stands for, in each kind of layer that has entries."""
        given = {FEW: 4, MANY: 128} if self.compress_rates is None else dict(self.compress_rates)
        named = {FEW: self.compress_rate_csa, MANY: self.compress_rate_hca}
        rates = given | {kind: rate for kind, rate in named.items() if rate is not None}
        used = {kind: rates.get(kind, 0) for kind in (FEW, MANY) if kind in self.kinds}
        for kind, rate in used.items():
            right = type(rate) is int and 1 <= rate <= 2**20
            require(right, f"compress_rates.{kind} = {shown(rate)}, but it must be a number of tokens.")
        return used

    @property
    def compressing_layers(self) -> list[int]:
        """The layers with entries."""
        return [i for i, kind in enumerate(self.kinds) if kind != SLIDING]

    @property
    def indexed_layers(self) -> list[int]:
        """The layers with an indexer."""
        return [i for i, kind in enumerate(self.kinds) if kind == FEW]

    @property
    def hash_layers(self) -> list[int]:
        """The layers that look up the experts of a token."""
        L, given = self.num_hidden_layers, self.mlp_layer_types
        first = 3 if self.num_hash_layers is None else self.num_hash_layers
        usual = [HASHED if i < first else SCORED for i in range(L)]
        kinds = layer_kinds(None if given is None else given[:L], usual, (HASHED, SCORED), "mlp_layer_types")
        return [i for i, kind in enumerate(kinds) if kind == HASHED]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer."""
        return equal_windows(self.num_hidden_layers, self.sliding_window)

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters in layers with entries."""
        return self.ropes[COMPRESS]

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rotary embedding's parameters in layers without entries, and in those with them."""
        share = self.partial_rotary_factor
        if share is None:
            share = 64 / 512 if self.qk_rope_head_dim is None else self.qk_rope_head_dim / self.head_dim
        given = self.rope_scaling or self.rope_parameters or {}
        both = {name: given.get(name) for name in (MAIN, COMPRESS)}
        if not all(isinstance(one, Mapping) for one in both.values()):
            one = {name: value for name, value in given.items() if name not in both}
            if (one.get("rope_type") or one.get("type")) == "yarn":
                one = {"attention_factor": 1.0} | one
            far = {**one, "rope_theta": self.compress_rope_theta, "partial_rotary_factor": share}
            both = {MAIN: {"rope_theta": self.rope_theta, "partial_rotary_factor": share}, COMPRESS: far}
        keys = {**vars(self), "rope_scaling": None, "rope_parameters": both, "partial_rotary_factor": share}
        return {
            name: RopeParameters.read(keys, head_dim=self.head_dim, partial=True, kind=name) for name in both
        }

    def check(self) -> None:
        """Refuse contradictions, and what is not implemented."""
        _ = self.rates, self.hash_layers
        k, E = self.num_experts_per_tok, self.n_routed_experts
        require(1 <= k <= E, f"num_experts_per_tok = {k} of n_routed_experts = {E} cannot be chosen.")
        super().check()
        O, wide = self.o_groups, self.num_attention_heads * self.head_dim  # noqa: E741 — the letter
        require(
            wide % O == 0, f"{wide} numbers of all heads' results cannot be divided among o_groups = {O}."
        )
        for name, rope in self.ropes.items():
            rule, rotated = rope.rope_type, rope.rotary_dim + rope.rotary_dim % 2
            known = f"Known: {', '.join(RULES)}."
            require(rule in RULES, f"rope_parameters.{name}.rope_type = {rule} is not implemented. {known}")
            I = self.index_head_dim  # noqa: E741 — the letter of the kernel
            few = bool(self.indexed_layers) and name == COMPRESS
            require(
                not few or rotated <= I, f"index_head_dim = {I} has no room for {rotated} rotated numbers."
            )


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_streams.router.weight": ("layers.{i}.attn_hc.fn", "(2N+NN ND)ᵀ"),
    "blocks.{i}.attention_streams.scale": ("layers.{i}.attn_hc.scale", "3"),
    "blocks.{i}.attention_streams.bias": ("layers.{i}.attn_hc.base", "2N+NN"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q_down.weight": ("layers.{i}.self_attn.q_a_proj.weight", "(Q D)ᵀ"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_a_norm.weight", "Q"),
    "blocks.{i}.attention.q_up.weight": ("layers.{i}.self_attn.q_b_proj.weight", "(HK Q)ᵀ"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.kv_proj.weight", "(K D)ᵀ"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.kv_norm.weight", "K"),
    "blocks.{i}.attention.sinks": ("layers.{i}.self_attn.sinks", "H"),
    "blocks.{i}.attention.out_down.weight": ("layers.{i}.self_attn.o_a_proj.weight", "TSR U"),
    "blocks.{i}.attention.out_up.weight": ("layers.{i}.self_attn.o_b_proj.weight", "(D TSR)ᵀ"),
    # in layers with entries
    "blocks.{i}.attention.compressor.values.weight":
        ("layers.{i}.self_attn.compressor.kv_proj.weight", "(ZK D)ᵀ", "compressing_layers"),
    "blocks.{i}.attention.compressor.gates.weight":
        ("layers.{i}.self_attn.compressor.gate_proj.weight", "(ZK D)ᵀ", "compressing_layers"),
    "blocks.{i}.attention.compressor.bias":
        ("layers.{i}.self_attn.compressor.position_bias", "W ZK", "compressing_layers"),
    "blocks.{i}.attention.compressor.norm.gain":
        ("layers.{i}.self_attn.compressor.kv_norm.weight", "K", "compressing_layers"),
    "blocks.{i}.attention.indexer.q.weight":
        ("layers.{i}.self_attn.compressor.indexer.q_b_proj.weight", "(JI Q)ᵀ", "indexed_layers"),
    "blocks.{i}.attention.indexer.weights.weight":
        ("layers.{i}.self_attn.compressor.indexer.scorer.weights_proj.weight", "(J D)ᵀ", "indexed_layers"),
    "blocks.{i}.attention.indexer.compressor.values.weight":
        ("layers.{i}.self_attn.compressor.indexer.kv_proj.weight", "(2I D)ᵀ", "indexed_layers"),
    "blocks.{i}.attention.indexer.compressor.gates.weight":
        ("layers.{i}.self_attn.compressor.indexer.gate_proj.weight", "(2I D)ᵀ", "indexed_layers"),
    "blocks.{i}.attention.indexer.compressor.bias":
        ("layers.{i}.self_attn.compressor.indexer.position_bias", "W 2I", "indexed_layers"),
    "blocks.{i}.attention.indexer.compressor.norm.gain":
        ("layers.{i}.self_attn.compressor.indexer.kv_norm.weight", "I", "indexed_layers"),
    "blocks.{i}.feed_forward_streams.router.weight": ("layers.{i}.ffn_hc.fn", "(2N+NN ND)ᵀ"),
    "blocks.{i}.feed_forward_streams.scale": ("layers.{i}.ffn_hc.scale", "3"),
    "blocks.{i}.feed_forward_streams.bias": ("layers.{i}.ffn_hc.base", "2N+NN"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.gate.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.router.correction":
        ("layers.{i}.mlp.gate.e_score_correction_bias", "E", "not hash_layers"),
    "blocks.{i}.feed_forward.router.table": ("layers.{i}.mlp.gate.tid2eid", "V C", "hash_layers"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight": ("layers.{i}.mlp.experts.{e}.up_proj.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "(D M)ᵀ"),
    "blocks.{i}.feed_forward.shared.gate.weight":
        ("layers.{i}.mlp.shared_experts.gate_proj.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.shared.gate.bias":
        ("layers.{i}.mlp.shared_experts.gate_proj.bias", "M", "mlp_bias"),
    "blocks.{i}.feed_forward.shared.up.weight": ("layers.{i}.mlp.shared_experts.up_proj.weight", "(M D)ᵀ"),
    "blocks.{i}.feed_forward.shared.up.bias": ("layers.{i}.mlp.shared_experts.up_proj.bias", "M", "mlp_bias"),
    "blocks.{i}.feed_forward.shared.down.weight":
        ("layers.{i}.mlp.shared_experts.down_proj.weight", "(D M)ᵀ"),
    "blocks.{i}.feed_forward.shared.down.bias":
        ("layers.{i}.mlp.shared_experts.down_proj.bias", "D", "mlp_bias"),
    "merge.router.weight": ("hc_head.hc_fn", "(N ND)ᵀ"),
    "merge.scale": ("hc_head.hc_scale", "1"),
    "merge.bias": ("hc_head.hc_base", "N"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {  # as transformers 5 holds them: those of a layer in two tensors
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[:M]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj[M:]", "E (2M D)ᵀ"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight": ("layers.{i}.mlp.experts.down_proj", "E (D M)ᵀ"),
}  # fmt: skip


def renamed(there: str, here: str, names: Mapping[str, str]) -> dict[str, str]:
    """Write out what the makers call the parts of a part of a layer: patterns for ``OTHER_NAMES``."""
    layer = r"layers\.(\d+)\."
    return {layer + rf"{there}\.{name}": rf"layers.\1.{here}.{ours}" for name, ours in names.items()}


ENTRIES = {
    r"ape": "position_bias",
    r"norm\.weight": "kv_norm.weight",
    r"wgate\.weight": "gate_proj.weight",
    r"wkv\.weight": "kv_proj.weight",
}
OF_EXPERTS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
MAKERS_NAMES = {
    r"embed\.weight": "embed_tokens.weight",
    r"head\.weight": "lm_head.weight",
    r"hc_head_(fn|base|scale)": r"hc_head.hc_\1",
    r"layers\.(\d+)\.hc_(attn|ffn)_(fn|base|scale)": r"layers.\1.\2_hc.\3",
    r"layers\.(\d+)\.attn_norm\.weight": r"layers.\1.input_layernorm.weight",
    r"layers\.(\d+)\.ffn_norm\.weight": r"layers.\1.post_attention_layernorm.weight",
    **renamed(
        "attn",
        "self_attn",
        {
            "attn_sink": "sinks",
            r"(?:kv_)?norm\.weight": "kv_norm.weight",  # transformers writes "norm"
            r"q_norm\.weight": "q_a_norm.weight",
            r"w(q_a|q_b|o_a|o_b|kv)\.weight": r"\2_proj.weight",
        },
    ),
    **renamed(r"attn\.compressor", "self_attn.compressor", ENTRIES),
    **renamed(r"attn\.indexer\.compressor", "self_attn.compressor.indexer", ENTRIES),
    **renamed(
        r"attn\.indexer",
        "self_attn.compressor.indexer",
        {r"wq_b\.weight": "q_b_proj.weight", r"weights_proj\.weight": "scorer.weights_proj.weight"},
    ),
    **renamed(
        r"ffn\.gate",
        "mlp.gate",
        {"(weight|tid2eid)": r"\2", "bias": "e_score_correction_bias"},
    ),
    **renamed(
        r"ffn\.(shared_experts|experts\.\d+)",
        r"mlp.\2",
        {rf"{name}\.(weight|bias)": rf"{ours}.\3" for name, ours in OF_EXPERTS.items()},
    ),
}  # fmt: skip
"""{regular expression for what the makers call a tensor: the table's name}"""


def feed_forward(w: Weights, c: DeepseekV4Config, i: int) -> HashedExpertsAndShared:
    """Build layer i's experts, and the layer of all tokens."""
    activation, score, factor = ACTIVATIONS[c.hidden_act], SCORES[c.scoring_func], c.routed_scaling_factor
    hashed = i in c.hash_layers
    correction = np.zeros(1, np.float32) if hashed else w["router.correction"]
    experts = Experts(
        w,
        [LimitedExpert(w / f"experts.{e}", activation, c.swiglu_limit) for e in range(c.n_routed_experts)],
        per_token=c.num_experts_per_tok,
        routing=partial(scored_top_k, correction=correction, score=score, factor=factor),
    )
    shared = LimitedFeedForward(w / "shared", activation, c.swiglu_limit)
    return HashedExpertsAndShared(experts, shared, w["router.table"] if hashed else None, score, factor)


def attention(w: Weights, c: DeepseekV4Config, i: int) -> CompressedAttention:
    """Build layer i's attention, with entries and an indexer where its kind has them."""
    kind = c.kinds[i]
    rope = LastRotary(c.ropes[MAIN if kind == SLIDING else COMPRESS].rotary(interleaved=True))
    eps = c.rms_norm_eps
    return CompressedAttention(
        w,
        heads=c.num_attention_heads,
        groups=c.o_groups,
        rope=rope,
        window=c.sliding_window,
        eps=eps,
        compressor=None if kind == SLIDING else Compressor(w / "compressor", rope=rope, eps=eps),
        indexer=None if kind != FEW else EntryIndexer(
            w / "indexer", heads=c.index_n_heads, rope=rope, eps=eps, top_k=c.index_topk
        ),
    )  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a mean of the streams, normed, and adds to all of them."""

    def __init__(self, w: Weights, c: DeepseekV4Config, i: int):
        streams = partial(
            HyperConnection,
            streams=c.hc_mult,
            rounds=c.hc_sinkhorn_iters,
            eps=c.hc_eps,
            norm_eps=c.rms_norm_eps,
        )
        self.attention_streams = streams(w / "attention_streams")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = attention(w / "attention", c, i)
        self.feed_forward_streams = streams(w / "feed_forward_streams")
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = feed_forward(w / "feed_forward", c, i)
        self.new_state = self.attention.new_state
        self.reads = (IDS,)

    def __call__(self, x: NDArray, step: Step, state: HybridState | None) -> NDArray:
        """Map the residual streams (B, T, N·D) to the residual streams (B, T, N·D)."""
        read, (back, mixing) = self.attention_streams(x)
        normed = tap("attention_norm", self.attention_norm(read))
        y = self.attention(normed, step, state)
        x = added(step.wanted(x), y, step.wanted(back), step.wanted(mixing))
        read, (back, mixing) = self.feed_forward_streams(tap("residual_streams", x))
        normed = tap("feed_forward_norm", self.feed_forward_norm(tap("residual_middle", read)))
        y = self.feed_forward.of_tokens(normed, step.wanted(step.given(IDS)))
        return tap("residual", added(x, y, back, mixing))


class DeepseekV4(Decoder[DeepseekV4Config]):
    """DeepSeek-V4."""

    Config = DeepseekV4Config
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(heads=("HT",), features=("F", "V", "M"))
    OTHER_FORMS = (FUSED_EXPERTS,)
    OTHER_NAMES = MAKERS_NAMES
    PREFIX = "model."
    WHY_NO_SUM = "Each layer of this model mixes its residual streams anew."
    FROM_THE_START = "Blocks of this model read the ids of the tokens, which the embedding hands them."
    IGNORED = r"mtp\..*"  # the layer that predicts the token after the next

    def build(self, w: Weights, c: DeepseekV4Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = StreamsNorm(w, streams=c.hc_mult, eps=c.hc_eps, norm_eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up: ids (B, T) → all streams, which begin alike (B, T, N·D)."""
        step.give(IDS, ids)
        x = tap("embedding.tokens", self.embedding(ids))
        return tap("embedding", np.tile(x, self.config.hc_mult))


FACTS = Facts(
    grew_from="deepseek_v32",
    kind="attention",
    changed="Entries of 4 and of 128 tokens in place of these; four streams; experts looked up by token",
    why="a context of a million tokens",
    published="Flash",
    keys={"num_hidden_layers": 2, "layer_types": [FEW, MANY]},
)
