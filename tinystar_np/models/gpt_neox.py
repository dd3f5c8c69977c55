"""GPT-NeoX 20B (Black et al. 2022, arXiv:2204.06745) and Pythia (Biderman et al. 2023, arXiv:2304.01373).

    x ─┬→ norm → attention ─────┬→ + x      (× L)
       └→ norm' → feed-forward ─┘
    logits = norm(x) · W

| attention | position                         | norm      | activation   | block    | context |
|-----------|----------------------------------|-----------|--------------|----------|---------|
| MHA       | RoPE, first quarter of each head | LayerNorm | GELU (exact) | parallel | 2048    |

New in it: everything open, data, code and weights; in Pythia the weights of every stage of the training too,
in sixteen models that read the same texts in the same order. Blocks are parallel as in GPT-J, but with a norm
for each branch, and pairs are the two halves of what turns. The fused projection holds [query, key, value]
for each head. Some that are built like it (RedPajama 3B) say ``use_parallel_residual: false``.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from tinystar_np.checkpoints.weight_table import WeightTable, with_switches
from tinystar_np.layers_old import Weights
from tinystar_np.models.config import require
from tinystar_np.models.facts import Facts
from tinystar_np.models.layer_norm_decoder import LayerNormConfig, LayerNormDecoder
from tinystar_np.models.rope_parameters import RopeParameters


@dataclass(frozen=True)
class GPTNeoXConfig(LayerNormConfig):
    """The keys of a GPT-NeoX config.json that change the mathematics; defaults as in transformers."""

    vocab_size: int = 50432
    hidden_size: int = 6144
    intermediate_size: int | None = 24576
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    hidden_act: str = "gelu"
    use_parallel_residual: bool = True
    attention_bias: bool = True
    head_dim: int | None = None
    original_max_position_embeddings: int | None = None
    rotary_pct: float = 0.25
    rotary_emb_base: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return self.use_parallel_residual

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations, under the names that others have for its base and its part."""
        renamed = {"rope_theta": self.rotary_emb_base, "partial_rotary_factor": self.rotary_pct}
        return RopeParameters.read(vars(self) | renamed, head_dim=self.sizes["K"], partial=True)

    def check(self) -> None:
        """Refuse contradictions: heads divide the width among themselves."""
        super().check()
        D, H, K = self.hidden_size, self.num_attention_heads, self.head_dim
        require(K is None or H * K == D, f"{H} heads of head_dim = {K} do not make hidden_size = {D}.")


WEIGHTS: WeightTable = {
    # ours:                                (the checkpoint's, shape)
    "embedding.tokens.weight":             ("embed_in.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.qkv.weight":     ("layers.{i}.attention.query_key_value.weight", "3D D -> D 3D"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.attention.dense.weight", "D D -> D D"),
    "blocks.{i}.feed_forward_norm.gain":   ("layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":   ("layers.{i}.post_attention_layernorm.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.dense_h_to_4h.weight", "F D -> D F"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.dense_h_to_4h.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.dense_4h_to_h.weight", "D F -> F D"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.dense_4h_to_h.bias", "D"),
    "final_norm.gain":                     ("final_layer_norm.weight", "D"),
    "final_norm.bias":                     ("final_layer_norm.bias", "D"),
}  # fmt: skip
ATTENTION_BIASES: WeightTable = {
    "blocks.{i}.attention.qkv.bias":       ("layers.{i}.attention.query_key_value.bias", "3D"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.attention.dense.bias", "D"),
}  # fmt: skip
UNTIED_HEAD: WeightTable = {"head.weight": ("embed_out.weight", "V D -> D V")}


class GPTNeoX(LayerNormDecoder):
    """GPT-NeoX 20B, the Pythia models, and those built like them."""

    Config = GPTNeoXConfig
    PREFIX = "gpt_neox."
    OTHER_NAMES: ClassVar = {r"lm_head\.weight": "embed_out.weight"}
    IGNORED = r"layers\.\d+\.attention\.(bias|masked_bias)"  # the mask was saved as a buffer by old versions

    @staticmethod
    def weight_table(config: GPTNeoXConfig) -> WeightTable:
        """Add what the config switches on."""
        return with_switches(WEIGHTS, config, UNTIED_HEAD, attention_bias=ATTENTION_BIASES)

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """The fused projection holds a head's query, key and value side by side."""
        return {**super().attention(i, w), "by_group": True}


FACTS = Facts(
    grew_from="gptj",
    kind="position",
    changed="Rotary pairs across the halves of a head, a norm for each branch, biases",
    why="open from data to checkpoints: Pythia shows how a model learns",
    published="20B",
)
