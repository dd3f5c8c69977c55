"""Gemma 3n (Google 2025), text: AltUp, LAuReL and per-layer embeddings.

    x_1 = √D · embedding;  x_2 … x_P = projections of x_1;  p = per-layer inputs
    x̂ = predicted from x;  a = norm(x̂_1)
    y = (x̂_1 + norm(attention(a)) + a + norm(a W W')) / √2;  y = y + norm(feed-forward(norm(y)))
    x = x̂ corrected by y;  x_2 … x_P += norm((GELU(x_1 W) ∘ p_i) W')                        (× L)
    logits = 30 · tanh(norm(mean of projections of x_j) · embeddingᵀ / 30)

| attention                   | position         | norm    | activation        | block           | context |
|-----------------------------|------------------|---------|-------------------|-----------------|---------|
| GQA, norms of q, k and v;   | RoPE, base 10⁶;  | RMSNorm | GeGLU (tanh),     | AltUp, LAuReL,  | 32768   |
| window 512 in 4 of 5 layers | 10⁴ with windows |         | 95 % zeros in 10  | per-layer       |         |
|                             |                  |         | layers            | embeddings      |         |

New in it, beside Gemma 3 (gemma3_text.py): parts that save memory and work on a phone. AltUp: the residual
stream is P vectors, of which a layer computes one and updates the others from it (kernels/altup.py). LAuReL:
a product of low rank is added beside the residual connection (Menghani et al. 2024, arXiv:2411.07501).
Per-layer embeddings: each layer looks up a vector for each token in a table that may stay in slow memory
(kernels/per_layer_embeddings.py). The first ten layers keep one feature in twenty
(kernels/gaussian_top_k.py). The last layers read the keys and values of earlier ones. E2B is a part of E4B,
with matrices cut from its own (MatFormer: Devvrit et al. 2023, arXiv:2310.07707).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, Activation
from tinystar_np.kernels.altup import correct, match_rms, predict
from tinystar_np.kernels.attention import capped
from tinystar_np.kernels.gaussian_top_k import gaussian_top_k
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm, linear_each
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


@dataclass(frozen=True)
class Gemma3nTextConfig(Config):
    """The keys of a Gemma 3n config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is one number or one for each layer. Each kind of layer has its rotations, as in
    Gemma 3.
    """

    vocab_size: int = key(262400, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int | list[int] = 16384
    num_hidden_layers: int = key(35, letter="L")
    num_attention_heads: int = key(8, letter="H")
    num_key_value_heads: int = key(2, letter="G")
    head_dim: int = key(256, letter="K")
    hidden_activation: str = activation_key("gelu_pytorch_tanh")
    max_position_embeddings: int = key(32768, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-6, above=0)
    rope_theta: float = key(1e6, null_is_silence=True)
    rope_local_base_freq: float = key(1e4, above=0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    sliding_window: int = 512
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = key(30.0, above=0)
    vocab_size_per_layer_input: int = key(262144, letter="Q")
    hidden_size_per_layer_input: int = key(256, letter="J")
    altup_active_idx: int = key(0, least=0)
    altup_correct_scale: bool = True
    altup_num_inputs: int = key(4, letter="P")
    num_kv_shared_layers: int = key(15, least=0)
    laurel_rank: int = key(64, letter="R")
    activation_sparsity_pattern: list[float] | None = None
    tie_word_embeddings: bool = True

    @property
    def widths(self) -> Sequence[int]:
        """F of each layer."""
        given = self.intermediate_size
        return given if isinstance(given, list) else [given] * self.num_hidden_layers

    @property
    def sizes(self) -> dict[str, int]:
        """The letters; F as in the first layer, N further vectors of the stream."""
        others = {"N": self.altup_num_inputs - 1} if self.has_others else {}
        return {**super().sizes, "F": self.widths[0] if self.widths else 0, **others}

    @property
    def absent_letters(self) -> str:
        """The letter of further vectors of the stream, where there are none."""
        return "" if self.has_others else "N"

    @property
    def has_others(self) -> bool:
        """Whether the stream has more than one vector."""
        return self.altup_num_inputs > 1

    @property
    def other_sizes(self) -> Mapping[int, Mapping[str, int]]:
        """The widths of feed-forward layers that differ from the first."""
        return {i: {"F": F} for i, F in enumerate(self.widths) if self.widths[0] != F}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters in layers with full attention."""
        return self.ropes[FULL]

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rotary embedding's parameters in each kind of layer."""
        far = vars(self)
        near = {**far, "rope_scaling": None, "rope_theta": self.rope_local_base_freq}
        return {
            kind: RopeParameters.read(keys, head_dim=self.head_dim, kind=kind)
            for kind, keys in ((FULL, far), (SLIDING, near))
        }

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every fifth has none, where the file does not name them."""
        usual = [SLIDING if (i + 1) % 5 else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    @property
    def kinds(self) -> Sequence[str]:
        """What each layer's attention is called."""
        return [FULL if window is None else SLIDING for window in self.windows]

    @property
    def own_layers(self) -> Sequence[int]:
        """The layers with keys and values of their own."""
        return range(self.num_hidden_layers - self.num_kv_shared_layers)

    @property
    def sparsities(self) -> Sequence[float]:
        """The share of features that are zero, for each layer."""
        L, sparse = self.num_hidden_layers, 10 if self.num_hidden_layers > 10 else 0
        given = self.activation_sparsity_pattern
        return [0.95] * sparse + [0.0] * (L - sparse) if given is None else given

    def check(self) -> None:
        """Refuse contradictions."""
        L, widths = self.num_hidden_layers, self.widths
        right = len(widths) == L and all(type(F) is int and F >= 1 for F in widths)
        require(
            right, f"intermediate_size = {shown(self.intermediate_size)}, but it must be {L} sizes, or one."
        )
        sparse = self.sparsities
        right = len(sparse) == L and all(0 <= s < 1 for s in sparse)
        said = f"activation_sparsity_pattern = {shown(list(sparse))}, but it must be {L} numbers from 0 to 1."
        require(right, said)
        a, P = self.altup_active_idx, self.altup_num_inputs
        require(a < P, f"altup_active_idx = {a}, but altup_num_inputs = {P} counts from 0.")
        given = self.rope_parameters or {}
        flat = {name: value for name, value in given.items() if not isinstance(value, Mapping | None)}
        require(not flat, f"rope_parameters has {shown(flat)} outside of the two kinds of layers.")
        super().check()
        n, first = self.num_kv_shared_layers, len(self.own_layers)
        own = {window is None for window in self.windows[:first]}
        shared = {window is None for window in self.windows[first:]}
        require(shared <= own, f"num_kv_shared_layers = {n}, but no layer before those is of their kind.")


WEIGHTS: WeightTable = {
    # ours:                                   the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                ("embed_tokens.weight", "V D"),
    "embedding.layers.weight":                ("embed_tokens_per_layer.weight", "Q LJ"),
    "per_layer.context.weight":               ("per_layer_model_projection.weight", "(LJ D)ᵀ"),
    "per_layer.norm.gain":                    ("per_layer_projection_norm.weight", "J"),
    "spread.{n}.weight":                      ("altup_projections.{n}.weight", "(D D)ᵀ", "has_others"),
    "merge.{n}.weight":
        ("altup_unembed_projections.{n}.weight", "(D D)ᵀ", "has_others"),
    "blocks.{i}.altup.router.weight":         ("layers.{i}.altup.modality_router.weight", "(P D)ᵀ"),
    "blocks.{i}.altup.router_norm.gain":      ("layers.{i}.altup.router_norm.weight", "D"),
    "blocks.{i}.altup.predict.weight":        ("layers.{i}.altup.prediction_coefs.weight", "(PP P)ᵀ"),
    "blocks.{i}.altup.correct.weight":        ("layers.{i}.altup.correction_coefs.weight", "(P P)ᵀ"),
    "blocks.{i}.altup.scale":                 ("layers.{i}.altup.correct_output_scale", "D"),
    "blocks.{i}.laurel.left.weight":          ("layers.{i}.laurel.linear_left.weight", "(R D)ᵀ"),
    "blocks.{i}.laurel.right.weight":         ("layers.{i}.laurel.linear_right.weight", "(D R)ᵀ"),
    "blocks.{i}.laurel_post_norm.gain":       ("layers.{i}.laurel.post_laurel_norm.weight", "D"),
    "blocks.{i}.attention_norm.gain":         ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight":          ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":            ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain":       ("layers.{i}.self_attn.q_norm.weight", "K"),
    "blocks.{i}.attention.k.weight":          ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ", "own_layers"),
    "blocks.{i}.attention.k.bias":
        ("layers.{i}.self_attn.k_proj.bias", "GK", "own_layers and attention_bias"),
    "blocks.{i}.attention.k_norm.gain":       ("layers.{i}.self_attn.k_norm.weight", "K", "own_layers"),
    "blocks.{i}.attention.v.weight":          ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ", "own_layers"),
    "blocks.{i}.attention.v.bias":
        ("layers.{i}.self_attn.v_proj.bias", "GK", "own_layers and attention_bias"),
    "blocks.{i}.attention.out.weight":        ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":          ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention_post_norm.gain":    ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.gain":      ("layers.{i}.pre_feedforward_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight":    ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":      ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":    ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
    "blocks.{i}.per_layer.gate.weight":       ("layers.{i}.per_layer_input_gate.weight", "(J D)ᵀ"),
    "blocks.{i}.per_layer.out.weight":        ("layers.{i}.per_layer_projection.weight", "(D J)ᵀ"),
    "blocks.{i}.per_layer_post_norm.gain":    ("layers.{i}.post_per_layer_input_norm.weight", "D"),
    "final_norm.gain":                        ("norm.weight", "D"),
    "head.weight":                            ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class AltUp(Module):
    """Alternating updates of P vectors: the prediction before a layer, and the correction after it.

    w       linear layers ``router`` (D, P), ``predict`` (P, P·P) and ``correct`` (P, P); ``router_norm.gain``
    active  which vector the layer computes, from 0
    eps     of the norm
    """

    def __init__(self, w: Weights, *, active: int, eps: float):
        self.router, self.mix, self.share = (Linear(w / name) for name in ("router", "predict", "correct"))
        self.router_norm = RMSNorm(w / "router_norm", eps=eps)
        self.active = active

    def modalities(self, x: NDArray) -> NDArray:
        """Compute the P numbers of each token: (B, T, D) → (B, T, P), from −1 to 1."""
        return np.tanh(self.router(self.router_norm(x) / np.float32(x.shape[-1])))

    def __call__(self, x: NDArray) -> NDArray:
        """Predict the vectors (B, T, P, D), a new array."""
        P = x.shape[-2]
        return predict(x, self.mix(self.modalities(x[..., self.active, :])).reshape(*x.shape[:2], P, P))

    def corrected(self, predicted: NDArray, y: NDArray) -> NDArray:
        """Correct predicted vectors (B, T, P, D) by the layer's output for the active one, (B, T, D)."""
        return correct(predicted, y, self.active, self.share(self.modalities(y)))


class SparseFeedForward(GatedFeedForward):
    """Gated feed-forward layer of which a share of the features is 0; arguments as of ``GatedFeedForward``.

    sparsity  that share; 0 for none
    features  F
    """

    def __init__(self, w: Weights, activation: Activation, sparsity: float, features: int):
        super().__init__(w, activation)
        self.mean = None if w.division is None else partial(w.division.mean, width=features)
        self.z = NormalDist().inv_cdf(sparsity) if sparsity else None

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        gate, up = linear_each((self.gate, self.up), x)  # (B, T, F) each
        gate, up = tap("feed_forward.gate", gate), tap("feed_forward.up", up)
        if self.z is not None:
            gate = gaussian_top_k(gate, self.z, self.mean)
        hidden = tap("feed_forward.activation", fast.gated_activation(gate, up, self.activation))
        return tap("feed_forward.down", self.down(hidden))


class LowRank(Module):
    """Two linear layers with nothing between: ``left`` (D, R) and ``right`` (R, D) of w."""

    def __init__(self, w: Weights):
        self.left, self.right = Linear(w / "left"), Linear(w / "right")

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, D), a new array."""
        return tap("laurel.right", self.right(tap("laurel.left", self.left(x))))


class Block(Module):
    """Predict all vectors, compute one, correct all by it, and add the per-layer embedding to the others."""

    def __init__(self, w: Weights, c: Gemma3nTextConfig, i: int, copies: bool):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        activation = ACTIVATIONS[c.hidden_activation]
        self.altup = AltUp(w / "altup", active=c.altup_active_idx, eps=c.rms_norm_eps)
        self.scale: NDArray | None = w["altup.scale"] if c.altup_correct_scale else None
        self.attention_norm, self.laurel = norm(w / "attention_norm"), LowRank(w / "laurel")
        self.attention = SharedAttention(
            w / "attention", kind=c.kinds[i], heads=H, kv_heads=G, head_dim=K,
            rope=c.ropes[c.kinds[i]].rotary(), window=c.windows[i], eps=c.rms_norm_eps, copies=copies,
        )  # fmt: skip
        self.attention_post_norm, self.laurel_post_norm = (
            norm(w / "attention_post_norm"),
            norm(w / "laurel_post_norm"),
        )
        self.feed_forward_norm = norm(w / "feed_forward_norm")
        self.feed_forward = SparseFeedForward(w / "feed_forward", activation, c.sparsities[i], c.widths[i])
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.per_layer = PerLayerInput(w / "per_layer", number=i, activation=activation)
        self.per_layer_post_norm = norm(w / "per_layer_post_norm")
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, P·D) to the residual stream (B, T, P·D)."""
        a, D = self.altup.active, self.attention_norm.gain.size
        flat = x.shape[-1]
        predicted = self.altup(apart(x, D))
        predicted = apart(tap("residual_predicted", predicted.reshape(*x.shape[:2], flat)), D)
        normed = tap("attention_norm", self.attention_norm(predicted[..., a, :]))
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(normed, step, state)))
        predicted, normed = step.wanted(predicted), step.wanted(normed)
        beside = normed + tap("laurel_post_norm", self.laurel_post_norm(self.laurel(normed)))
        y = (predicted[..., a, :] + y + beside) * np.float32(0.5**0.5)
        y = tap("residual_middle", y)  # (B, T, D)
        normed = tap("feed_forward_norm", self.feed_forward_norm(y))
        y = y + tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(normed)))
        corrected = self.altup.corrected(predicted, tap("residual_late", y))
        corrected = tap("residual_corrected", corrected.reshape(*y.shape[:2], flat))
        first = apart(corrected, D)[..., a, :]
        first = first if self.scale is None else first * self.scale
        added = tap("per_layer_post_norm", self.per_layer_post_norm(self.per_layer(first, step)))
        others = corrected[..., D:] + np.tile(added, flat // D - 1)
        return tap("residual", np.concatenate((corrected[..., :D], others), axis=-1))


def apart(x: NDArray, D: int) -> NDArray:
    """Divide the stream into its vectors: (B, T, P·D) → (B, T, P, D), a view."""
    return x.reshape(*x.shape[:2], -1, D)


class Spread(Module):
    """Further vectors of the stream, projected from its first and scaled to its length.

    w      linear layers, numbered from 0
    count  how many
    """

    def __init__(self, w: Weights, count: int):
        self.projections = [Linear(w / str(j)) for j in range(count)]

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, D) to (B, T, P·D), a new array."""
        others = [match_rms(project(x), x) for project in self.projections]
        return np.concatenate((x, *others), axis=-1)


class MergedNorm(Module):
    """The norm of the mean of all vectors of the stream, each projected and scaled to the first one's length.

    w      ``final_norm.gain`` (D,), and linear layers (D, D) ``merge``, numbered from 0
    count  how many of these
    eps    of the norm
    """

    def __init__(self, w: Weights, count: int, eps: float):
        self.projections = [Linear(w / f"merge.{j}") for j in range(count)]
        self.norm = RMSNorm(w / "final_norm", eps=eps)
        self.gain = self.norm.gain

    def __call__(self, x: NDArray) -> NDArray:
        """Map (B, T, P·D) to (B, T, D), a new array."""
        D = self.gain.size
        first, total = x[..., :D], x[..., :D].copy()
        for j, project in enumerate(self.projections, start=1):
            total += match_rms(project(x[..., j * D : (j + 1) * D]), first)
        return self.norm(total / np.float32(len(self.projections) + 1))


class Gemma3nText(Decoder[Gemma3nTextConfig]):
    """The text part of Gemma 3n in E2B and E4B."""

    Config = Gemma3nTextConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(features=("F", "V", "Q"))
    PREFIX = "model."
    WHY_NO_SUM = "The vectors of this model's stream predict and correct one another."
    FROM_THE_START = "Blocks of this model read what the embedding and earlier blocks hand them."
    IGNORED = r"layers\.\d+\.self_attn\.(k_proj|v_proj|k_norm|v_norm)\..*"  # of layers that share others'

    def build(self, w: Weights, c: Gemma3nTextConfig) -> None:
        """Build the embeddings, blocks, the last norm and the output layer."""
        others = c.altup_num_inputs - 1
        self.embedding = Embedding(w / "embedding.tokens")
        self.per_layer = PerLayerTable(
            w / "embedding.layers", w / "per_layer", rows=c.vocab_size_per_layer_input, eps=c.rms_norm_eps
        )
        self.spread = Spread(w / "spread", others)
        copying = copying_layers(c.kinds, len(c.own_layers), self.first_layer)
        self.blocks = [Block(w / f"blocks.{i}", c, i, i in copying) for i in range(c.num_hidden_layers)]
        self.final_norm = MergedNorm(w, others, c.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look the tokens up: ids (B, T) → all vectors of the stream (B, T, P·D)."""
        x = self.embedding(ids) * np.sqrt(np.float32(self.config.hidden_size))
        x = tap("embedding.tokens", x)
        self.per_layer(ids, x, step)
        return tap("embedding", self.spread(x))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, within the soft cap: (B, T, D) → (B, T, V)."""
        cap, logits = self.config.final_logit_softcapping, self.head(x)
        return logits if cap is None else capped(tap("logits_before_cap", logits), cap)


FACTS = Facts(
    grew_from="gemma3_text",
    kind="block",
    changed="Four residual streams; per-layer embeddings; sparse features; shared keys and values",
    why="less memory and work for each token, on a phone",
    published="E4B",
    keys={"num_hidden_layers": 35},
)
