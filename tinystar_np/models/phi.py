"""Phi 1, 1.5 and 2 (Gunasekar et al. 2023, arXiv:2306.11644; Li et al. 2023, arXiv:2309.05463).

    x → norm ─┬→ attention ────┬→ + x      (× L)
              └→ feed-forward ─┘
    logits = norm(x) · W + b

| attention | position                                 | norm      | activation  | block    | context |
|-----------|------------------------------------------|-----------|-------------|----------|---------|
| MHA       | RoPE, first half of a head; 2/5 in Phi 2 | LayerNorm | GELU (tanh) | parallel | 2048    |

New in it: the texts. With 1.3 billion weights and textbooks, many of them written by a larger model, it did
what others did with ten times as many weights and the text of the web. The block is GPT-J's (gptj.py), with
half-split pairs and biases everywhere. The config also allows fewer key/value heads than query heads, and
norms of queries and keys (``qk_layernorm``); the published three have neither.

The first files, ``mixformer-sequential`` and ``phi-msft`` after it, came with code of their own: other keys,
with other defaults (``FirstPhiConfig``), and other names of the tensors (``ROW`` and ``TREE``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, nextafter
from typing import ClassVar, Self

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.json_file import JsonObject, one_line, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.config import Config, activation_key, key, not_in_files, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Part
from tinystar_np.tap import tap


@dataclass(frozen=True)
class PhiConfig(Config):
    """The keys of a Phi config.json that change the mathematics; defaults as in transformers.

    ``pad_vocab_size_multiple`` is a key of the first files only: see ``FirstPhiConfig``.
    """

    vocab_size: int = key(51200, letter="V")
    hidden_size: int = key(2048, letter="D")
    intermediate_size: int | None = key(8192, letter="F")
    num_hidden_layers: int = key(24, letter="L")
    num_attention_heads: int = key(32, letter="H")
    num_key_value_heads: int | None = key(None, letter="G")
    hidden_act: str = activation_key("gelu_new")
    max_position_embeddings: int = key(2048, letter="C", is_trained_length=True)
    original_max_position_embeddings: int | None = None
    layer_norm_eps: float = key(1e-5, above=0)
    rope_theta: float = key(10000.0, null_is_silence=True)
    rope_scaling: JsonObject | None = None
    rope_parameters: JsonObject | None = None
    partial_rotary_factor: float | None = 0.5  # null rotates whole heads
    qk_layernorm: bool = False
    tie_word_embeddings: bool = False
    pad_vocab_size_multiple: int = not_in_files(1)

    @classmethod
    def from_dict(cls, raw: JsonObject) -> "PhiConfig":
        """Read today's keys, or those of the first files."""
        if raw.get("model_type") in FIRST_TYPES:
            return FirstPhiConfig.from_dict(raw).of_today()
        return super().from_dict(raw)

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters, for a part of each head."""
        return RopeParameters.read(vars(self), head_dim=self.sizes["K"], partial=True)

    @property
    def after_blocks(self) -> int:
        """The number of the module after the last block, counted from the embedding, which is 0."""
        return self.num_hidden_layers + 1

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        part, n = self.rope.partial_rotary_factor, self.rope.rotary_dim
        require(n % 2 == 0, f"partial_rotary_factor = {part} rotates {n} numbers of each head: half a pair.")


WEIGHTS: WeightTable = {
    # ours:                                the checkpoint's, its shape, when it is there
    "embedding.tokens.weight":             ("embed_tokens.weight", "V D"),
    "blocks.{i}.attention_norm.gain":      ("layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention_norm.bias":      ("layers.{i}.input_layernorm.bias", "D"),
    "blocks.{i}.attention.q.weight":       ("layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.q.bias":         ("layers.{i}.self_attn.q_proj.bias", "HK"),
    "blocks.{i}.attention.k.weight":       ("layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.k.bias":         ("layers.{i}.self_attn.k_proj.bias", "GK"),
    "blocks.{i}.attention.v.weight":       ("layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.bias":         ("layers.{i}.self_attn.v_proj.bias", "GK"),
    "blocks.{i}.attention.q_norm.gain":    ("layers.{i}.self_attn.q_layernorm.weight", "K", "qk_layernorm"),
    "blocks.{i}.attention.q_norm.bias":    ("layers.{i}.self_attn.q_layernorm.bias", "K", "qk_layernorm"),
    "blocks.{i}.attention.k_norm.gain":    ("layers.{i}.self_attn.k_layernorm.weight", "K", "qk_layernorm"),
    "blocks.{i}.attention.k_norm.bias":    ("layers.{i}.self_attn.k_layernorm.bias", "K", "qk_layernorm"),
    "blocks.{i}.attention.out.weight":     ("layers.{i}.self_attn.dense.weight", "(D HK)ᵀ"),
    "blocks.{i}.attention.out.bias":       ("layers.{i}.self_attn.dense.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":   ("layers.{i}.mlp.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":     ("layers.{i}.mlp.fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("layers.{i}.mlp.fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":   ("layers.{i}.mlp.fc2.bias", "D"),
    "final_norm.gain":                     ("final_layernorm.weight", "D"),
    "final_norm.bias":                     ("final_layernorm.bias", "D"),
    "head.weight":                         ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
    "head.bias":                           ("lm_head.bias", "V"),
}  # fmt: skip


class Block(Module):
    """Attention and feed-forward side by side: both read the same normed copy of the stream."""

    def __init__(self, w: Weights, c: PhiConfig):
        H, G, K = (c.sizes[letter] for letter in "HGK")
        self.attention_norm = LayerNorm(w / "attention_norm", eps=c.layer_norm_eps)
        q_norm, k_norm = (
            LayerNorm(w / f"attention.{name}", eps=c.layer_norm_eps) for name in ("q_norm", "k_norm")
        )
        self.attention = Attention(
            w / "attention", heads=H, kv_heads=G, head_dim=K, rope=c.rope.rotary(),
            norms=(q_norm, k_norm) if c.qk_layernorm else None,
        )  # fmt: skip
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        attended = self.attention(normed, step, state)
        return tap("residual", step.wanted(x) + (attended + self.feed_forward(step.wanted(normed))))


FIRST_TYPES = ("mixformer-sequential", "phi-msft")
"""What ``model_type`` was in the first files."""
KNOWN_PARTS: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "mixer": {"mixer_cls": ("mha",), "causal": (True,), "bias": (True,)},
    "mlp": {"mlp_cls": ("mlp", "fused_mlp")},
}
"""What ``architecture`` may say of its parts, besides null."""
HOW_IT_IS_COMPUTED = (
    *("checkpointing", "cutlass_attn", "dropout", "flash_attn", "flash_rotary", "fused_dense"),
    "raise_on_missing",
)


@dataclass(frozen=True)
class FirstPhiConfig(Config):
    """The keys of the first files' config.json; defaults are those of its class.

    ``vocab_size`` was rounded up to a multiple of ``pad_vocab_size_multiple`` when a model was made.
    """

    vocab_size: int = key(50304, letter="V")
    hidden_size: int = key(1024, letter="D", aliases=("n_embd",))
    intermediate_size: int | None = key(None, letter="F", aliases=("n_inner",))
    num_hidden_layers: int = key(20, letter="L", aliases=("n_layer",))
    num_attention_heads: int = key(16, letter="H", aliases=("n_head",))
    num_key_value_heads: int | None = key(None, letter="G", aliases=("n_head_kv",))
    hidden_act: str = activation_key("gelu_new", "activation_function")
    max_position_embeddings: int = key(2048, letter="C", aliases=("n_positions",), is_trained_length=True)
    layer_norm_eps: float = key(1e-5, above=0, aliases=("layer_norm_epsilon",))
    rotary_dim: int = 32
    tie_word_embeddings: bool = False
    pad_vocab_size_multiple: int = 64
    architecture: JsonObject | None = key(None, aliases=("blocks",))

    def of_today(self) -> PhiConfig:
        """Return the same config with today's keys."""
        K = self.sizes["K"]
        return PhiConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            hidden_act=self.hidden_act,
            max_position_embeddings=self.max_position_embeddings,
            layer_norm_eps=self.layer_norm_eps,
            # Rounded up: K times the fraction must not fall below rotary_dim.
            partial_rotary_factor=nextafter(min(self.rotary_dim, K) / K, 1),
            tie_word_embeddings=self.tie_word_embeddings,
            pad_vocab_size_multiple=self.pad_vocab_size_multiple,
        )

    def check(self) -> None:
        """Refuse contradictions, and blocks of another kind."""
        n = self.rotary_dim
        require(n >= 2 and n % 2 == 0, f"rotary_dim = {n}, but it must be even and at least 2.")
        require(self.pad_vocab_size_multiple >= 1, "pad_vocab_size_multiple must be at least 1.")
        said = self.architecture or {}
        block = said.get("block_cls", "parallel")
        require(
            block == "parallel", f"architecture.block_cls = {shown(block)} is not implemented; 'parallel' is."
        )
        for part, known in KNOWN_PARTS.items():
            given = said.get(part) or {}
            require(
                isinstance(given, Mapping), f"architecture.{part} = {shown(given)}, but it must be an object."
            )
            for name, value in given.items():
                right = value is None or name in HOW_IT_IS_COMPUTED or value in known.get(name, ())
                require(right, f"architecture.{part}.{one_line(name)} = {shown(value)} is not implemented.")
        super().check()
        self.of_today().check()


def first_names(embedding: str, block: str, head: str) -> WeightTable:
    """Return the weight table of first files, in which a layer's queries, keys and values are one matrix."""
    return {
        # ours:                                the checkpoint's, its shape, when it is there
        "embedding.tokens.weight":             (f"{embedding}.weight", "V D"),
        "blocks.{i}.attention_norm.gain":      (f"{block}.ln.weight", "D"),
        "blocks.{i}.attention_norm.bias":      (f"{block}.ln.bias", "D"),
        "blocks.{i}.attention.q.weight":       (f"{block}.mixer.Wqkv.weight[:HK]", "(HK+2GK D)ᵀ"),
        "blocks.{i}.attention.q.bias":         (f"{block}.mixer.Wqkv.bias[:HK]", "HK+2GK"),
        "blocks.{i}.attention.k.weight":       (f"{block}.mixer.Wqkv.weight[HK:HK+GK]", "(HK+2GK D)ᵀ"),
        "blocks.{i}.attention.k.bias":         (f"{block}.mixer.Wqkv.bias[HK:HK+GK]", "HK+2GK"),
        "blocks.{i}.attention.v.weight":       (f"{block}.mixer.Wqkv.weight[HK+GK:]", "(HK+2GK D)ᵀ"),
        "blocks.{i}.attention.v.bias":         (f"{block}.mixer.Wqkv.bias[HK+GK:]", "HK+2GK"),
        "blocks.{i}.attention.out.weight":     (f"{block}.mixer.out_proj.weight", "(D HK)ᵀ"),
        "blocks.{i}.attention.out.bias":       (f"{block}.mixer.out_proj.bias", "D"),
        "blocks.{i}.feed_forward.up.weight":   (f"{block}.mlp.fc1.weight", "(F D)ᵀ"),
        "blocks.{i}.feed_forward.up.bias":     (f"{block}.mlp.fc1.bias", "F"),
        "blocks.{i}.feed_forward.down.weight": (f"{block}.mlp.fc2.weight", "(D F)ᵀ"),
        "blocks.{i}.feed_forward.down.bias":   (f"{block}.mlp.fc2.bias", "D"),
        "final_norm.gain":                     (f"{head}.ln.weight", "D"),
        "final_norm.bias":                     (f"{head}.ln.bias", "D"),
        "head.weight":                         (f"{head}.linear.weight", "(V D)ᵀ", "not tie_word_embeddings"),
        "head.bias":                           (f"{head}.linear.bias", "V"),
    }  # fmt: skip


ROW = first_names("layers.0.wte", "layers.{i+1}", "layers.{after_blocks}")
"""A list of modules: the embedding is the first, and the output layer with its norm the last."""
TREE = first_names("transformer.embd.wte", "transformer.h.{i}", "lm_head")
"""Names like GPT-2's."""


class Phi(Decoder[PhiConfig]):
    """Phi 1, Phi 1.5 and Phi 2; Phi 3 is another architecture."""

    Config = PhiConfig
    WEIGHTS = WEIGHTS
    OTHER_FORMS = (ROW, TREE)
    PREFIX = "model."
    OTHER_NAMES: ClassVar = {  # of first files' feed-forward layers, some within another module
        r"(.*\.mlp)\.fc_in\.(\w+)": r"\1.fc1.\2",
        r"(.*\.mlp)\.fc_out\.(\w+)": r"\1.fc2.\2",
        r"(.*\.mlp)\.mlp\.(fc\d\.\w+)": r"\1.\2",
    }

    @classmethod
    def from_checkpoint(
        cls,
        config: PhiConfig,
        checkpoint: Checkpoint,
        end_ids: Sequence[int] = (),
        dtype: str = "auto",
        part: Part | None = None,
    ) -> Self:
        """Build the model, with the vocabulary padded where the file's is."""
        step = config.pad_vocab_size_multiple
        padded = ceil(config.vocab_size / step) * step
        tables = {table["embedding.tokens.weight"][0] for table in (WEIGHTS, ROW, TREE)}
        found = [name for name in checkpoint if name.removeprefix(cls.PREFIX) in tables]
        if any(checkpoint.shape(name)[:1] == (padded,) for name in found):
            config = replace(config, vocab_size=padded)
        return super().from_checkpoint(config, checkpoint, end_ids, dtype, part)

    def build(self, w: Weights, c: PhiConfig) -> None:
        """Build the embedding, blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        self.blocks = [Block(w / f"blocks.{i}", c) for i in range(c.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=c.layer_norm_eps)
        self.head = Linear(w / "head")


FACTS = Facts(
    grew_from="gptj",
    kind="block",
    changed="The same block, small; rotary pairs across the halves of a head",
    why="textbooks teach a small model what the web teaches a large one",
    published="1.5",
)
