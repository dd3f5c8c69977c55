"""OLMo (Groeneveld et al. 2024, arXiv:2402.00838): Llama with norms that have no parameters.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention            | position | norm                         | activation | block      | context        |
|----------------------|----------|------------------------------|------------|------------|----------------|
| MHA; q, k, v clipped | RoPE     | LayerNorm, no gain, no bias  | SwiGLU     | sequential | 2048, then 4096 |

New in it: data, code and every step of the training in the open. Two choices of the paper differ from Llama.
A norm without parameters was the safest and fastest of those tried. And from version 0424 on, queries, keys
and values are clipped to −8 … 8, so that a rare large one cannot upset the training (as in MPT and DBRX). All
else, names of weights included, is as in Llama (llama.py).
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap

EPSILON = 1e-5  # no key of the config


@dataclass(frozen=True)
class OlmoConfig(Config):
    """The keys of an OLMo config.json that change the mathematics; defaults as in transformers."""

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
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    clip_qkv: float | None = key(None, above=0)
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Read today's keys, or those of the first files."""
        if raw.get("model_type") != "hf_olmo":
            return super().from_dict(raw)
        first = FirstOlmoConfig.from_dict(raw)
        return cls(
            vocab_size=first.sizes["V"],
            hidden_size=first.hidden_size,
            intermediate_size=first.sizes["F"],
            num_hidden_layers=first.num_hidden_layers,
            num_attention_heads=first.num_attention_heads,
            num_key_value_heads=first.sizes["G"],
            max_position_embeddings=first.max_position_embeddings,
            rope_theta=first.rope_theta,
            clip_qkv=first.clip_qkv,
            tie_word_embeddings=first.tie_word_embeddings,
        )

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


@dataclass(frozen=True)
class FirstOlmoConfig(Config):
    """The keys that AI2's own code wrote: ``hf_olmo``, and ``olmo`` in its first files. Defaults are its own.

    That code knows far more variants than the published models use; they are refused. ``mlp_hidden_size`` is
    the width of gate and up together. ``embedding_size`` counts the table's rows, which may be more than
    there are tokens; logits are computed for all of them.
    """

    vocab_size: int = key(50257, letter="V")
    hidden_size: int = key(768, letter="D", aliases=("d_model",))
    num_hidden_layers: int = key(12, letter="L", aliases=("n_layers",))
    num_attention_heads: int = key(12, letter="H", aliases=("n_heads",))
    num_key_value_heads: int | None = key(None, letter="G", aliases=("n_kv_heads",))
    max_position_embeddings: int = key(1024, is_trained_length=True, aliases=("max_sequence_length",))
    rope_theta: float = key(10000.0, null_is_silence=True)
    clip_qkv: float | None = key(None, above=0)
    embedding_size: int | None = None
    mlp_hidden_size: int | None = None
    mlp_ratio: int = 4
    multi_query_attention: bool | None = None
    tie_word_embeddings: bool = key(True, aliases=("weight_tying",))

    REFUSED: ClassVar = {
        "activation_type": ("swiglu",),
        "alibi": (False, None),
        "attention_layer_norm": (False, None),
        "bias_for_layer_norm": (False, None),
        "block_group_size": (1,),
        "block_type": ("sequential",),
        "embedding_layer_norm": (False, None),
        "include_bias": (False,),
        "layer_norm_eps": (1e-5, None),
        "layer_norm_type": ("default", "low_precision"),
        "layer_norm_with_affine": (False,),
        "norm_after": (False, None),
        "rope": (True,),
        "scale_logits": (False, None),
    }

    @property
    def sizes(self) -> dict[str, int]:
        """The letters, of which three have keys of their own."""
        inner = self.mlp_ratio * self.hidden_size if self.mlp_hidden_size is None else self.mlp_hidden_size
        own = {"F": inner // 2}
        own |= {} if self.embedding_size is None else {"V": self.embedding_size}
        own |= {"G": 1} if self.num_key_value_heads is None and self.multi_query_attention else {}
        return super().sizes | own

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        V, size = self.vocab_size, self.embedding_size
        require(size is None or size >= V, f"embedding_size = {size} is less than vocab_size = {V}.")
        n = self.mlp_hidden_size
        require(n is None or n % 2 == 0, f"mlp_hidden_size = {n} is of two inputs, so it must be even.")


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.o_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward.gate.weight": ("layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
FIRST_FILES: WeightTable = {  # queries, keys and values in one matrix; what is multiplied, then its gate too
    "embedding.tokens.weight":             ("transformer.wte.weight", "V D"),
    "blocks.{i}.attention.q.weight":
        ("transformer.blocks.{i}.att_proj.weight[:HK]", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.k.weight":
        ("transformer.blocks.{i}.att_proj.weight[HK:HK+GK]", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.v.weight":
        ("transformer.blocks.{i}.att_proj.weight[HK+GK:]", "(HK+2GK D)ᵀ"),
    "blocks.{i}.attention.out.weight":     ("transformer.blocks.{i}.attn_out.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward.gate.weight": ("transformer.blocks.{i}.ff_proj.weight[F:]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight":   ("transformer.blocks.{i}.ff_proj.weight[:F]", "(2F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("transformer.blocks.{i}.ff_out.weight", "(D F)ᵀ"),
    "head.weight":                         ("transformer.ff_out.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: OlmoConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=EPSILON)
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(), clip=c.clip_qkv
        )
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=EPSILON)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Olmo(Decoder[OlmoConfig]):
    """OLMo 1B and 7B, of February, April and July 2024."""

    Config = OlmoConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (FIRST_FILES,)
    PREFIX = "model."

    def build(self, w: Weights, c: OlmoConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=EPSILON)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="A LayerNorm without parameters; clipped q, k, v",
    why="the safest norm of those tried; everything is open",
    published="7B",
)
