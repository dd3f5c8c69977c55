"""OLMo 3 (Team Olmo 2025, arXiv:2512.13961): OLMo 2 with a window in three of four layers.

    x → attention → norm ──+ x → feed-forward → norm ──+ x      (× L)
    logits = norm(x) · W

| attention                        | position | norm    | activation | block                 | context |
|----------------------------------|----------|---------|------------|-----------------------|---------|
| MHA, GQA in 32B; norms of q, k;  | RoPE     | RMSNorm | SwiGLU     | norms on the branches | 65536   |
| window 4096 in 3 of 4 layers     |          |         |            |                       |         |

New in it, beside OLMo 2 (olmo2.py): layers that see the last 4096 tokens, and after every three of them one
that sees all, so that the cache of a long text is little more than a quarter. YaRN stretches the rotations of
the layers that see all; in the others no distance is longer than in training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import JointNormAttention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class Olmo3Config(Config):
    """The keys of an OLMo 3 config.json that change the mathematics; defaults as in transformers.

    Each kind of layer has its rotations. Files give them in ``rope_parameters``, once per kind; old files in
    ``rope_theta`` for both, and in ``rope_scaling`` for the layers that see all. transformers gives the old
    key to the layers that see all and 500000 to the others, which in the published files is the same.
    """

    vocab_size: int = key(50304, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(11008, letter="F")
    num_hidden_layers: int = key(32, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(2048, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    sliding_window: int | None = 4096
    layer_types: list[str] | None = None
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations in the layers that see all."""
        return self.ropes[FULL]

    @property
    def ropes(self) -> dict[str, RopeParameters]:
        """The rule of the rotations in each kind of layer."""
        kinds = {FULL: vars(self), SLIDING: {**vars(self), "rope_scaling": None}}
        return {
            kind: RopeParameters.read(keys, head_dim=self.sizes["K"], kind=kind)
            for kind, keys in kinds.items()
        }

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer; every fourth has none, where the file does not name them."""
        usual = [SLIDING if (i + 1) % 4 else FULL for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    def check(self) -> None:
        """Refuse contradictions."""
        given = self.rope_parameters or {}
        flat = {name: value for name, value in given.items() if not isinstance(value, Mapping | None)}
        require(not flat, f"rope_parameters has {shown(flat)} outside of the two kinds of layers.")
        super().check()


WEIGHTS: WeightTable = {
    # ours:                                   the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":                ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention.q.weight":          ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":            ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":          ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":            ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":          ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":            ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.q_norm.gain":       ("layers.{i}.self_attn.q_norm.weight", "HK"),
    "blocks.{i}.attention.k_norm.gain":       ("layers.{i}.self_attn.k_norm.weight", "GK"),
    "blocks.{i}.attention.out.weight":        ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":          ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.attention_post_norm.gain":    ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight":    ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":      ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight":    ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward_post_norm.gain": ("layers.{i}.post_feedforward_layernorm.weight", "D"),
    "final_norm.gain":                        ("norm.weight", "D"),
    "head.weight":                            ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads the residual stream itself, norms its result, and adds it."""

    def __init__(self, w: Weights, c: Olmo3Config, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norm = partial(RMSNorm, eps=c.rms_norm_eps)
        window = c.windows[i]
        self.attention = JointNormAttention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, window=window,
            rope=c.ropes[FULL if window is None else SLIDING].rotary(),
            norms=(norm(w / "attention.q_norm"), norm(w / "attention.k_norm")),
        )  # fmt: skip
        self.attention_post_norm = norm(w / "attention_post_norm")
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.feed_forward_post_norm = norm(w / "feed_forward_post_norm")
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        y = tap("attention_post_norm", self.attention_post_norm(self.attention(x, step, state)))
        x = tap("residual_middle", step.wanted(x) + y)
        y = tap("feed_forward_post_norm", self.feed_forward_post_norm(self.feed_forward(x)))
        return tap("residual", x + y)


class Olmo3(Decoder[Olmo3Config]):
    """OLMo 3 in 7B and 32B."""

    Config = Olmo3Config
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: Olmo3Config) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="olmo2",
    kind="attention",
    changed="Windows in three of four layers",
    why="a quarter of the cache",
    published="7B",
    keys={"num_hidden_layers": 4},
)
