"""Gemma 4 (Google 2026), text: per-layer embeddings, shared keys and values.

    x₀ = √D · embedding,  p = per-layer inputs of the tokens and of x₀
    x → norm → attention → norm ──+ x → norm → feed-forward → norm ──+
                                  + x → norm((GELU(x W) ∘ p_i) W') ──+ · c_i      (× L)
    logits = norm(x) · embeddingᵀ

| attention                   | position         | norm    | activation   | block          | context |
|-----------------------------|------------------|---------|--------------|----------------|---------|
| GQA, norms of q, k and v;   | RoPE, base 10⁶;  | RMSNorm | GeGLU (tanh) | sandwich, and  | 131072  |
| window 512 in 5 of 6 layers | 10⁴ with windows |         |              | per-layer      |         |
|                             |                  |         |              | embeddings     |         |

New in it, beside Gemma 3 (gemma3_text.py): heads of layers that see all are twice as wide, and a quarter of
their pairs rotate. Scores are not scaled; values are normed as well. In the small models each layer looks up
a vector of its own for each token (kernels/per_layer_embeddings.py), and the last layers attend to the keys
and values of the last earlier layer of their kind, which more than halves the cache (Brandon et al. 2024,
arXiv:2405.12981). In the large ones keys may serve as values too, and experts may stand beside the
feed-forward layer. At the end of layer i the stream is multiplied by a learned number c_i.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.attention import capped
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.experts import Experts, gated_experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.per_layer_input import PerLayerInput, PerLayerTable
from tinystar_np.layers.shared_attention import SharedAttention, copying_layers
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

USUAL_ROPES = {
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
}


@dataclass(frozen=True)
class Gemma4TextConfig(Config):
    """The keys of a Gemma 4 config.json that change the mathematics; defaults as in transformers.

    Layers that see all have their own ``global_head_dim`` and, where keys serve as values,
    ``num_global_key_value_heads``; transformers writes both into ``per_layer_config``. The last layer
    always sees all.
    """

    vocab_size: int = key(262144, letter="V")
    hidden_size: int = key(2304, letter="D")
    intermediate_size: int = key(9216, letter="F")
    num_hidden_layers: int = key(30, letter="L")
    num_attention_heads: int = key(8, letter="H")
    num_key_value_heads: int = key(4, letter="G")
    head_dim: int = key(256, letter="K")
    global_head_dim: int = 512
    num_global_key_value_heads: int | None = None
    hidden_activation: str = activation_key("gelu_pytorch_tanh")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    rms_norm_eps: float = key(1e-6, above=0)
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    sliding_window: int = key(512, least=1)
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = key(None, above=0)
    vocab_size_per_layer_input: int = key(262144, letter="Q")
    hidden_size_per_layer_input: int = key(256, letter="J")
    attention_k_eq_v: bool = False
    num_kv_shared_layers: int = key(0, least=0)
    enable_moe_block: bool = False
    use_double_wide_mlp: bool = False
    num_experts: int | None = key(None, letter="E")
    top_k_experts: int | None = key(None, chosen_of="E")
    moe_intermediate_size: int | None = key(None, letter="M")
    tie_word_embeddings: bool = True

    REFUSED: ClassVar = {"use_bidirectional_attention": (None, "vision")}

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Build the config; of layers with sizes of their own, those that see all must be alike."""
        own = raw.get("per_layer_config")
        if not isinstance(own, Mapping) or not own:
            return super().from_dict(raw)
        first, *others = own.values()
        rest = {name: value for name, value in raw.items() if name != "per_layer_config"}
        names = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}
        if isinstance(first, Mapping) and all(each == first for each in others) and {*first} <= {*names}:
            usual = {"global_head_dim": rest.get("head_dim", cls.head_dim)}
            config = super().from_dict({**rest, **usual, **{names[name]: first[name] for name in first}})
            if {str(i) for i in own} == {str(i) for i, w in enumerate(config.windows) if w is None}:
                return config
        return super().from_dict(raw)  # which refuses the key

    @property
    def absent_letters(self) -> str:
        """The letters of experts and per-layer inputs, where there are none."""
        return ("" if self.enable_moe_block else "EM") + ("" if self.hidden_size_per_layer_input else "QJ")

    @property
    def other_sizes(self) -> Mapping[int, Mapping[str, int]]:
        """Heads of layers that see all, and wider feed-forward layers of those that share keys and values."""
        G = self.num_key_value_heads
        G = self.num_global_key_value_heads or G if self.attention_k_eq_v else G
        far = {"K": self.global_head_dim, "G": G}
        wide = {"F": 2 * self.intermediate_size} if self.use_double_wide_mlp else {}
        return {
            i: {**({} if window else far), **({} if i in self.own_layers else wide)}
            for i, window in enumerate(self.windows)
        }

    def sizes_of(self, i: int) -> Mapping[str, int]:
        """Return the letters as they hold in layer i."""
        return {**self.sizes, **self.other_sizes[i]}

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rotary embedding's parameters in each kind of layer that there is."""
        widths = {SLIDING: self.head_dim, FULL: self.global_head_dim}
        given = {**vars(self), "rope_parameters": self.rope_parameters or USUAL_ROPES}
        kinds = {SLIDING if window else FULL for window in self.windows}
        return {kind: RopeParameters.read(given, head_dim=widths[kind], kind=kind) for kind in sorted(kinds)}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters in layers with full attention."""
        return self.ropes[FULL]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every sixth has none, where the file does not name them, nor the last."""
        usual = [SLIDING if (i + 1) % 6 else FULL for i in range(self.num_hidden_layers)]
        return (*layer_windows(self.layer_types, usual, self.sliding_window)[:-1], None)

    @property
    def kinds(self) -> Sequence[str]:
        """What each layer's attention is called."""
        return [FULL if window is None else SLIDING for window in self.windows]

    @property
    def own_layers(self) -> Sequence[int]:
        """The layers with keys and values of their own."""
        return range(self.num_hidden_layers - self.num_kv_shared_layers)

    @property
    def value_layers(self) -> Sequence[int]:
        """Those of them with a linear layer of values: in the others, keys serve as values."""
        return [i for i in self.own_layers if self.windows[i] or not self.attention_k_eq_v]

    def check(self) -> None:
        """Refuse contradictions."""
        given = self.rope_parameters or USUAL_ROPES
        flat = {name: value for name, value in given.items() if not isinstance(value, Mapping | None)}
        require(not flat, f"rope_parameters has {shown(flat)} outside of the two kinds of layers.")
        missing = [kind for kind in self.ropes if not given.get(kind)]
        require(not missing, f"rope_parameters has no entry for {' and '.join(missing)}.")
        super().check()
        n, shared = self.num_kv_shared_layers, self.windows[len(self.own_layers) :]
        said = (
            f"num_kv_shared_layers = {n}, but the layers before those have keys and values of one kind only."
        )
        kinds = [
            {window is None for window in some} for some in (self.windows[: len(self.own_layers)], shared)
        ]
        require(kinds[1] <= kinds[0], said)
        if self.enable_moe_block:
            for name in ("num_experts", "top_k_experts", "moe_intermediate_size"):
                require(getattr(self, name) is not None, f"{name} is missing, but enable_moe_block = true.")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "embedding.layers.weight": ("embed_tokens_per_layer.weight", "Q LJ", "hidden_size_per_layer_input"),
    "per_layer.context.weight":
        ("per_layer_model_projection.weight", "(LJ D)ᵀ", "hidden_size_per_layer_input"),
    "per_layer.norm.gain": ("per_layer_projection_norm.weight", "J", "hidden_size_per_layer_input"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain": ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "own_layers"),
    "blocks.{i}.attention.k.bias":
        ("layers.{i}.self_attn.k_proj.bias", "GK", "own_layers and attention_bias"),
    "blocks.{i}.attention.k_norm.gain": ("layers.{i}.self_attn.k_norm.weight", "K", "own_layers"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "value_layers"),
    "blocks.{i}.attention.v.bias":
        ("layers.{i}.self_attn.v_proj.bias", "GK", "value_layers and attention_bias"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention_post_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.pre_feedforward_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
    # in models with experts
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.router.proj.weight", "(E D)ᵀ", "enable_moe_block"),
    "blocks.{i}.feed_forward.router_gain": ("layers.{i}.router.scale", "D", "enable_moe_block"),
    "blocks.{i}.feed_forward.scales": ("layers.{i}.router.per_expert_scale", "E", "enable_moe_block"),
    "blocks.{i}.feed_forward.norm.gain":
        ("layers.{i}.pre_feedforward_layernorm_2.weight", "D", "enable_moe_block"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.experts.gate_up_proj[:M]", "E (2M D)ᵀ", "enable_moe_block"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.experts.gate_up_proj[M:]", "E (2M D)ᵀ", "enable_moe_block"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.experts.down_proj", "E (D M)ᵀ", "enable_moe_block"),
    "blocks.{i}.feed_forward.dense_norm.gain":
        ("layers.{i}.post_feedforward_layernorm_1.weight", "D", "enable_moe_block"),
    "blocks.{i}.feed_forward.experts_norm.gain":
        ("layers.{i}.post_feedforward_layernorm_2.weight", "D", "enable_moe_block"),
    # in models with per-layer inputs
    "blocks.{i}.per_layer.gate.weight":
        ("layers.{i}.per_layer_input_gate.weight", "(J D)ᵀ", "hidden_size_per_layer_input"),
    "blocks.{i}.per_layer.out.weight":
        ("layers.{i}.per_layer_projection.weight", "(D J)ᵀ", "hidden_size_per_layer_input"),
    "blocks.{i}.per_layer_post_norm.gain":
        ("layers.{i}.post_per_layer_input_norm.weight", "D", "hidden_size_per_layer_input"),
    "blocks.{i}.stream_scale": ("layers.{i}.layer_scalar", "1"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class ScaledExperts(Experts):
    """Experts that read one norm of the stream while the router reads another; each has a scale.

    w  as in ``Experts``, with ``router_gain`` (D,), ``scales`` (E,) and ``norm.gain`` (D,)
    """

    def __init__(self, w: Weights, c: Gemma4TextConfig):
        E, k = c.num_experts or 0, c.top_k_experts or 0
        experts = gated_experts(w / "experts", E, ACTIVATIONS[c.hidden_activation])
        super().__init__(w, experts, per_token=k, routing=top_k_softmax)
        self.router_gain: NDArray = w["router_gain"] * np.float32(c.hidden_size**-0.5)
        self.scales: NDArray = w["scales"]
        self.norm = RMSNorm(w / "norm", eps=c.rms_norm_eps)

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        return tap("feed_forward.experts", self.mixed(self.norm(x), *self.routed(x)))

    def routed(self, x: NDArray) -> tuple[NDArray[np.integer], NDArray]:
        """Choose the experts of each token (B, T, D), and their weights: (B, T, k) each."""
        logits = tap("feed_forward.router", self.router(fast.rms_norm(x, self.router_gain, self.norm.eps)))
        chosen, weights = self.routing(logits, self.per_token)
        chosen, weights = self.agreed(chosen, weights * self.scales[chosen])
        return tap("feed_forward.chosen", chosen), tap("feed_forward.weights", weights)


class ExpertsBeside(Module):
    """Experts beside a feed-forward layer: y = norm(dense) + norm(experts(x)).

    w  as in ``ScaledExperts``, with the gains of ``dense_norm`` and ``experts_norm``
    """

    def __init__(self, w: Weights, c: Gemma4TextConfig):
        self.experts = ScaledExperts(w, c)
        self.dense_norm = RMSNorm(w / "dense_norm", eps=c.rms_norm_eps)
        self.experts_norm = RMSNorm(w / "experts_norm", eps=c.rms_norm_eps)

    def __call__(self, x: NDArray, dense: NDArray) -> NDArray:
        """Add what the experts make of the stream to what the layer gave: (B, T, D) each, a new array."""
        dense = tap("feed_forward.dense_norm", self.dense_norm(dense))
        chosen = tap("feed_forward.experts_norm", self.experts_norm(self.experts(x)))
        return tap("feed_forward.out", dense + chosen)


class Block(Module):
    """Attention and feed-forward between norms, then the per-layer embedding; all times a learned number."""

    def __init__(self, w: Weights, c: Gemma4TextConfig, i: int, copies: bool):
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        activation = ACTIVATIONS[c.hidden_activation]
        H, G, K = (c.sizes_of(i)[letter] for letter in "HGK")
        self.attention_norm = norm(w / "attention_norm")
        self.attention = SharedAttention(
            w / "attention", kind=c.kinds[i], heads=H, kv_heads=G, head_dim=K,
            rope=c.ropes[c.kinds[i]].rotary(), window=c.windows[i], eps=c.rms_norm_eps, copies=copies,
        )  # fmt: skip
        self.attention_post_norm = norm(w / "attention_post_norm")
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", activation)
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.beside = ExpertsBeside(w / "feed_forward", c) if c.enable_moe_block else None
        self.per_layer = None
        if c.hidden_size_per_layer_input:
            self.per_layer = PerLayerInput(w / "per_layer", number=i, activation=activation)
            self.per_layer_post_norm = norm(w / "per_layer_post_norm")
        self.stream_scale: NDArray = w["stream_scale"]
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(normed, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        y = self.feed_forward(tap("feed_forward_norm", self.feed_forward_norm(x)))
        if self.beside is not None:
            y = self.beside(x, y)
        x = x + tap("feed_forward_post_norm", self.feed_forward_post_norm(y))
        if self.per_layer is not None:
            x = tap("residual_late", x)
            x = x + tap("per_layer_post_norm", self.per_layer_post_norm(self.per_layer(x, step)))
        return tap("residual", x * self.stream_scale)


class Gemma4Text(Decoder[Gemma4TextConfig]):
    """The text part of Gemma 4 in E2B, E4B, 26B-A4B and 31B."""

    Config = Gemma4TextConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "Q"))
    PREFIX = "model."
    FROM_THE_START = "Blocks of this model read what the embedding and earlier blocks hand them."
    IGNORED = r"layers\.\d+\.self_attn\.(k_proj|v_proj|k_norm|v_norm)\..*"  # of layers that share others'

    def build(self, w: Weights, c: Gemma4TextConfig) -> None:
        """Build the embeddings, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.per_layer = None
        if c.hidden_size_per_layer_input:
            self.per_layer = PerLayerTable(
                w / "embedding.layers", w / "per_layer", rows=c.vocab_size_per_layer_input, eps=c.rms_norm_eps
            )
        copying = copying_layers(c.kinds, len(c.own_layers), self.first_layer)
        self.blocks = [Block(w / f"blocks.{i}", c, i, i in copying) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up and multiply by √D: ids (B, T) → (B, T, D); hand each layer its vectors."""
        x = self.embedding(ids) * np.sqrt(np.float32(self.config.hidden_size))
        x = tap("embedding", tap("embedding.tokens", x))
        if self.per_layer is not None:
            self.per_layer(ids, x, step)
        return x

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, within the soft cap: (B, T, D) → (B, T, V)."""
        cap, logits = self.config.final_logit_softcapping, self.head(x)
        return logits if cap is None else capped(tap("logits_before_cap", logits), cap)


FACTS = Facts(
    grew_from="gemma3_text",
    kind="block",
    changed="Per-layer embeddings; the last layers share keys and values",
    why="parameters that are looked up, not computed with; less than half of the cache",
    published="E2B",
    keys={
        "hidden_size": 1536, "num_hidden_layers": 35, "num_key_value_heads": 1, "num_kv_shared_layers": 20,
        "layer_types": [SLIDING, SLIDING, SLIDING, SLIDING, FULL] * 7,
    },
)  # fmt: skip
