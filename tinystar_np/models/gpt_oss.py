"""gpt-oss 20B and 120B (OpenAI 2025, arXiv:2508.10925).

    x → norm → attention with sinks ──+ x → norm → the 4 best of E experts ──+ x      (× L)
    logits = norm(x) · W

| attention                     | position | norm    | feed-forward                   | block      | context |
|-------------------------------|----------|---------|--------------------------------|------------|---------|
| GQA, windows in every second  | yarn     | RMSNorm | clamped SwiGLU, 4 of 32 or 128 | sequential | 131072  |

New in it: a learned sink in each head, one more score that takes a share of the softmax and has no value, so
that a head need not attend to any token (Xiao et al. 2023, arXiv:2309.17453, had seen heads use the first
token for that). Windows of 128 tokens in every second layer. Nearly all weights are in experts, and these
were in 4 bits in the last part of the training; their SwiGLU is clamped. Attention, router and experts have
biases. The ends of yarn's blend are not rounded to whole pairs.

Files in 4 bits (kernels/mxfp4.py) stay so in memory: for a token, the experts that it chose are widened.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.clamped_swiglu import clamped_swiglu
from tinystar_np.kernels.experts import top_k_softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.experts import Experts
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_types import FULL, SLIDING, layer_windows
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}


@dataclass(frozen=True)
class GptOssConfig(Config):
    """The keys of a gpt-oss config.json that change the mathematics; defaults as in transformers.

    ``intermediate_size`` is the width of one expert. ``hidden_act`` is ignored.
    """

    vocab_size: int = key(201088, letter="V")
    hidden_size: int = key(2880, letter="D")
    intermediate_size: int = key(2880, letter="M")
    num_hidden_layers: int = key(36, letter="L")
    num_attention_heads: int = key(64, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(64, letter="K")
    hidden_act: str = activation_key("silu")
    max_position_embeddings: int = key(131072, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(150000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = True
    sliding_window: int | None = 128
    layer_types: list[str] | None = None
    num_local_experts: int = key(128, letter="E", aliases=("num_experts",))
    num_experts_per_tok: int = key(4, chosen_of="E")
    swiglu_alpha: float = 1.702
    swiglu_limit: float = key(7.0, above=0)
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters: yarn, where the file has no others."""
        said = {} if self.rope_parameters is not None else {"rope_parameters": YARN}
        return RopeParameters.read({**vars(self), **said}, head_dim=self.sizes["K"])

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer; every second layer has one, where the file does not name them."""
        usual = [FULL if i % 2 else SLIDING for i in range(self.num_hidden_layers)]
        return layer_windows(self.layer_types, usual, self.sliding_window)

    @property
    def absent_letters(self) -> str:
        """That of dense layers: there are none."""
        return "F"


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain": ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias": ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight": ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias": ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight": ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias": ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.sinks": ("layers.{i}.self_attn.sinks", "H"),
    "blocks.{i}.attention.out.weight": ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias": ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain": ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.router.weight": ("layers.{i}.mlp.router.weight", "(E D)ᵀ"),
    "blocks.{i}.feed_forward.router.bias": ("layers.{i}.mlp.router.bias", "E"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.weight": ("layers.{i}.mlp.experts.gate_up_proj", "E D 2M"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.bias": ("layers.{i}.mlp.experts.gate_up_proj_bias", "E 2M"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight": ("layers.{i}.mlp.experts.down_proj", "E M D"),
    "blocks.{i}.feed_forward.experts.{e}.down.bias": ("layers.{i}.mlp.experts.down_proj_bias", "E D"),
    "final_norm.gain": ("norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then experts: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: GptOssConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), window=c.windows[i]
        )
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        experts = [
            Expert(w / f"feed_forward.experts.{e}", alpha=c.swiglu_alpha, limit=c.swiglu_limit)
            for e in range(c.num_local_experts)
        ]
        self.feed_forward = Experts(
            w / "feed_forward", experts, per_token=c.num_experts_per_tok, routing=top_k_softmax
        )
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Expert(Module):
    """A feed-forward layer with the clamped SwiGLU (kernels/clamped_swiglu.py).

    w             linear layers ``gate_up`` (D, 2M), in which gate and up alternate, and ``down`` (M, D)
    alpha, limit  of the clamped SwiGLU
    """

    def __init__(self, w: Weights, *, alpha: float, limit: float):
        self.gate_up, self.down = Linear(w / "gate_up"), Linear(w / "down")
        self.alpha, self.limit = alpha, limit

    def __call__(self, x: NDArray) -> NDArray:
        """Map (n, D) to (n, D), a new array."""
        both = self.gate_up(x)  # (n, 2M)
        return self.down(clamped_swiglu(both[..., ::2], both[..., 1::2], self.alpha, self.limit))


class GptOss(Decoder[GptOssConfig]):
    """gpt-oss-20b and gpt-oss-120b."""

    Config = GptOssConfig
    WEIGHTS = WEIGHTS
    PREFIX = "model."

    def build(self, w: Weights, c: GptOssConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="mixtral",
    kind="attention",
    changed="A sink in each head, windows of 128 in every second layer, clamped SwiGLU",
    why="a head may attend to nothing; experts fit into 4 bits a weight",
    published="20B",
    keys={"num_hidden_layers": 2},
)
