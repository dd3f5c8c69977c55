"""EXAONE 3 and Deep (LG AI Research 2024–25, arXiv:2408.03541, 2412.04862, 2503.12524): a bilingual Llama 3.

    x → norm → attention ──+ x → norm → feed-forward ──+ x      (× L)
    logits = norm(x) · W

| attention | position                 | norm    | activation | block      | context                 |
|-----------|--------------------------|---------|------------|------------|-------------------------|
| GQA 32:8  | RoPE; llama3 from 3.5 on | RMSNorm | SwiGLU     | sequential | 4096, 32768 from 3.5 on |

New in it: a bilingual model, with a vocabulary for Korean as well as English. The mathematics is Llama 3's
(llama.py), under GPT-2's tensor names: ``wte``, ``h``, ``ln_1``, ``c_fc``. transformers runs it with its
Llama, and renames the tensors while it reads them.
"""

from dataclasses import dataclass

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, GatedFeedForward, Linear, RMSNorm
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.tap import tap


@dataclass(frozen=True)
class ExaoneConfig(Config):
    """The keys of an EXAONE 3 config.json that change the mathematics; defaults as in transformers.

    The makers' files give some of them GPT-2's names.
    """

    vocab_size: int = key(102400, letter="V")
    hidden_size: int = key(4096, letter="D")
    intermediate_size: int = key(14336, letter="F")
    num_hidden_layers: int = key(32, letter="L", aliases=("num_layers",))
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(8, letter="G")
    head_dim: int | None = key(None, letter="K")
    hidden_act: str = activation_key("silu", "activation_function")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    original_max_position_embeddings: int | None = None
    rms_norm_eps: float = key(1e-5, above=0, aliases=("layer_norm_epsilon",))
    rope_theta: float = key(500000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"])


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("wte.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("h.{i}.ln_1.weight", "D"),
    "blocks.{i}.attention.q.weight":       ("h.{i}.attn.attention.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("h.{i}.attn.attention.q_proj.bias", "HK", "attention_bias"),
    "blocks.{i}.attention.k.weight":       ("h.{i}.attn.attention.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("h.{i}.attn.attention.k_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.v.weight":       ("h.{i}.attn.attention.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("h.{i}.attn.attention.v_proj.bias", "GK", "attention_bias"),
    "blocks.{i}.attention.out.weight":     ("h.{i}.attn.attention.out_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("h.{i}.attn.attention.out_proj.bias", "D", "attention_bias"),
    "blocks.{i}.feed_forward_norm.gain":   ("h.{i}.ln_2.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("h.{i}.mlp.c_fc_0.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.gate.bias":   ("h.{i}.mlp.c_fc_0.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.up.weight":   ("h.{i}.mlp.c_fc_1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("h.{i}.mlp.c_fc_1.bias", "F", "mlp_bias"),
    "blocks.{i}.feed_forward.down.weight": ("h.{i}.mlp.c_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("h.{i}.mlp.c_proj.bias", "D", "mlp_bias"),
    "final_norm.gain":                     ("ln_f.weight", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip
LLAMA_NAMES = {  # as transformers calls them in memory
    r"(model\.)?embed_tokens\.weight": "wte.weight",
    r"(model\.)?norm\.weight": "ln_f.weight",
    r"(model\.)?layers\.(\d+)\.input_layernorm\.weight": r"h.\2.ln_1.weight",
    r"(model\.)?layers\.(\d+)\.post_attention_layernorm\.weight": r"h.\2.ln_2.weight",
    r"(model\.)?layers\.(\d+)\.self_attn\.([qkv]_proj.*)": r"h.\2.attn.attention.\3",
    r"(model\.)?layers\.(\d+)\.self_attn\.o_proj(.*)": r"h.\2.attn.attention.out_proj\3",
    r"(model\.)?layers\.(\d+)\.mlp\.gate_proj(.*)": r"h.\2.mlp.c_fc_0\3",
    r"(model\.)?layers\.(\d+)\.mlp\.up_proj(.*)": r"h.\2.mlp.c_fc_1\3",
    r"(model\.)?layers\.(\d+)\.mlp\.down_proj(.*)": r"h.\2.mlp.c_proj\3",
}


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: ExaoneConfig, i: int):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = RMSNorm(w / "attention_norm", eps=c.rms_norm_eps)
        self.attention = Attention(w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary())
        self.feed_forward_norm = RMSNorm(w / "feed_forward_norm", eps=c.rms_norm_eps)
        self.feed_forward = GatedFeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", step.wanted(x) + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Exaone(Decoder[ExaoneConfig]):
    """EXAONE 3.0 7.8B; 3.5 and Deep in 2.4B, 7.8B and 32B."""

    Config = ExaoneConfig
    WEIGHTS = WEIGHTS
    PREFIX = "transformer."
    OTHER_NAMES = LLAMA_NAMES

    def build(self, w: Weights, c: ExaoneConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c, i) for i in range(c.num_hidden_layers)]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.rms_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Llama under GPT-2's names",
    why="a vocabulary for Korean as well as English",
    published="3.0 7.8B",
)
