"""xLSTM 7B (Beck et al. 2024, arXiv:2405.04517; 2025, arXiv:2503.13427): LSTMs whose memory is a matrix.

    x → norm → mLSTM ──+ x → norm → feed-forward ──+ x      (× L)
    logits = c · tanh(norm(x) · W / c)                        c = 30

| attention             | position | norm                   | activation | block      | context  |
|-----------------------|----------|------------------------|------------|------------|----------|
| none: mLSTM, 8 heads  | none     | RMSNorm; LayerNorm per | SwiGLU     | sequential | no limit |
|                       |          | head after the memory  |            |            |          |

New in it: the gates of an LSTM around a large memory cell. A head's memory is a matrix that maps keys to
values; an exponential input gate writes, a forget gate erases, and what is read is divided by how much was
written (kernels/mlstm.py). Unlike in an LSTM, no gate reads the last hidden state, so that a text can be
computed in chunks. The gates' inputs are capped, which keeps training stable, and so are the logits. The
paper's second cell, sLSTM, which does read the last hidden state, is neither in the 7B model nor in
transformers.

transformers' cache has room for widths in multiples of 64 only, and a text of more tokens than
``max_inference_chunksize`` is read through such a cache in bfloat16; its form of "fused" weights cannot be
built. What is compared here is its computation without a cache.
"""

from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from tinystar_np.cache import RecurrentState, Step
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import silu
from tinystar_np.kernels.attention import capped
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.mlstm import MLSTM
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import LARGEST_INT, Config, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.tap import tap


@dataclass(frozen=True)
class XlstmConfig(Config):
    """The keys of an xLSTM config.json that change the mathematics; defaults as in transformers.

    K and U are the widths of a head's keys and values, of which ``qk_dim_factor`` and ``v_dim_factor`` say
    that of all heads as a share of D; F is D times ``ffn_proj_factor``, rounded up.
    """

    vocab_size: int = key(50304, letter="V")
    hidden_size: int = key(4096, letter="D", aliases=("embedding_dim",), null_is_silence=True)
    num_hidden_layers: int = key(32, letter="L", aliases=("num_blocks",), null_is_silence=True)
    num_heads: int = key(8, letter="H")
    qk_dim_factor: float = key(0.5, above=0)
    v_dim_factor: float = key(1.0, above=0)
    ffn_proj_factor: float = key(2.667, above=0)
    ffn_round_up_to_multiple_of: int = key(64, least=1)
    use_bias: bool = False
    norm_eps: float = key(1e-6, above=0)
    eps: float = key(1e-6, least=0)
    gate_soft_cap: float = key(15.0, above=0)
    output_logit_soft_cap: float = key(30.0, above=0)

    REFUSED: ClassVar = {
        "add_out_norm": (True,),
        "weight_mode": ("single",),
        "inference_state_dtype": ("float32",),
    }

    @property
    def sizes(self) -> dict[str, int]:
        """The letters."""
        sizes = super().sizes
        D, H = self.hidden_size, self.num_heads
        each = max(H, 1)
        keys, values = int(D * self.qk_dim_factor), int(D * self.v_dim_factor)
        step = self.ffn_round_up_to_multiple_of
        F = int((D * self.ffn_proj_factor + step - 1) // step * step)
        return {**{n: sizes[n] for n in "VDLH"}, "K": keys // each, "U": values // each, "F": F}

    def check(self) -> None:
        """Refuse contradictions."""
        self._check_keys()
        H = self.num_heads
        require(H >= 1, f"num_heads = {H} must be at least 1.")
        for name in ("qk_dim_factor", "v_dim_factor"):
            factor = getattr(self, name)
            width = int(self.hidden_size * factor)
            require(
                width % H == 0 and abs(width) in range(H, LARGEST_INT),
                f"hidden_size = {self.hidden_size} times {name} = {factor} is a width of {width}, which "
                f"cannot be divided among num_heads = {H}.",
            )
        F = self.sizes["F"]
        require(
            F <= LARGEST_INT and (F >= 1 or self.hidden_size < 1),
            f"hidden_size = {self.hidden_size} and ffn_proj_factor = {self.ffn_proj_factor} make F = {F}.",
        )
        super().check()


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embeddings.weight", "V D"),
    "blocks.{i}.mixer_norm.gain":          ("blocks.{i}.norm_mlstm.weight", "D"),
    "blocks.{i}.mixer_norm.bias":          ("blocks.{i}.norm_mlstm.bias", "D", "use_bias"),
    "blocks.{i}.mixer.q.weight":           ("blocks.{i}.mlstm_layer.q.weight", "(HK D)ᵀ"),
    "blocks.{i}.mixer.q.bias":             ("blocks.{i}.mlstm_layer.q.bias", "HK", "use_bias"),
    "blocks.{i}.mixer.k.weight":           ("blocks.{i}.mlstm_layer.k.weight", "(HK D)ᵀ"),
    "blocks.{i}.mixer.k.bias":             ("blocks.{i}.mlstm_layer.k.bias", "HK", "use_bias"),
    "blocks.{i}.mixer.v.weight":           ("blocks.{i}.mlstm_layer.v.weight", "(HU D)ᵀ"),
    "blocks.{i}.mixer.v.bias":             ("blocks.{i}.mlstm_layer.v.bias", "HU", "use_bias"),
    "blocks.{i}.mixer.output_gate.weight": ("blocks.{i}.mlstm_layer.ogate_preact.weight", "(HU D)ᵀ"),
    "blocks.{i}.mixer.output_gate.bias":   ("blocks.{i}.mlstm_layer.ogate_preact.bias", "HU", "use_bias"),
    "blocks.{i}.mixer.input_gate.weight":  ("blocks.{i}.mlstm_layer.igate_preact.weight", "(H D)ᵀ"),
    "blocks.{i}.mixer.input_gate.bias":    ("blocks.{i}.mlstm_layer.igate_preact.bias", "H"),
    "blocks.{i}.mixer.forget_gate.weight": ("blocks.{i}.mlstm_layer.fgate_preact.weight", "(H D)ᵀ"),
    "blocks.{i}.mixer.forget_gate.bias":   ("blocks.{i}.mlstm_layer.fgate_preact.bias", "H"),
    "blocks.{i}.mixer.norm.gain":          ("blocks.{i}.mlstm_layer.multihead_norm.weight", "HU"),
    "blocks.{i}.mixer.norm.bias":          ("blocks.{i}.mlstm_layer.multihead_norm.bias", "HU", "use_bias"),
    "blocks.{i}.mixer.out.weight":         ("blocks.{i}.mlstm_layer.out_proj.weight", "(D HU)ᵀ"),
    "blocks.{i}.mixer.out.bias":           ("blocks.{i}.mlstm_layer.out_proj.bias", "D", "use_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("blocks.{i}.norm_ffn.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("blocks.{i}.norm_ffn.bias", "D", "use_bias"),
    "blocks.{i}.feed_forward.gate.weight": ("blocks.{i}.ffn.proj_up_gate.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias":   ("blocks.{i}.ffn.proj_up_gate.bias", "F", "use_bias"),
    "blocks.{i}.feed_forward.up.weight":   ("blocks.{i}.ffn.proj_up.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("blocks.{i}.ffn.proj_up.bias", "F", "use_bias"),
    "blocks.{i}.feed_forward.down.weight": ("blocks.{i}.ffn.proj_down.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("blocks.{i}.ffn.proj_down.bias", "D", "use_bias"),
    "final_norm.gain":                     ("out_norm.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ"),
}  # fmt: skip


class BiasedRMSNorm(RMSNorm):
    """RMSNorm with a bias, which xLSTM has where all layers have one.

    w  as of ``RMSNorm``, and optionally ``bias`` (D,)
    """

    def __init__(self, w: Weights, *, eps: float):
        super().__init__(w, eps=eps)
        self.bias: NDArray | None = w.get("bias")

    def __call__(self, x: NDArray) -> NDArray:
        """Normalise (..., D): a new array."""
        y = super().__call__(x)
        return y if self.bias is None else y + self.bias


class Block(Module):
    """mLSTM, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: XlstmConfig, i: int):
        self.mixer_norm = BiasedRMSNorm(w / "mixer_norm", eps=c.norm_eps)
        self.mixer = MLSTM(w / "mixer", heads=c.num_heads, cap=c.gate_soft_cap, eps=c.norm_eps, least=c.eps)
        self.feed_forward_norm = BiasedRMSNorm(w / "feed_forward_norm", eps=c.norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", silu)
        self.new_state = self.mixer.new_state

    def __call__(self, x: NDArray, step: Step, state: RecurrentState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("mixer_norm", self.mixer_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.mixer(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Xlstm(Decoder[XlstmConfig]):
    """xLSTM 7B."""

    Config = XlstmConfig
    WEIGHTS = WEIGHTS
    PREFIX = "backbone."

    def build(self, w: Weights, c: XlstmConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.norm_eps)
        self.head = Linear(w / "head")

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary, none above the cap: (B, T, D) → (B, T, V)."""
        return capped(tap("logits_before_cap", self.head(x)), self.config.output_logit_soft_cap)


FACTS = Facts(
    grew_from=None,
    kind="recurrence",
    changed="An LSTM's gates around a matrix as memory; the input gate is an exponential",
    why="a token can outweigh all before it, and a text is computed in chunks",
    published="7B",
)
