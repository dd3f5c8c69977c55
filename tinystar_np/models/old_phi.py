"""Phi 1, 1.5 and 2 as they were first published: ``mixformer-sequential``, and ``phi-msft`` after it.

The model is Phi's (phi.py). Queries, keys and values are one matrix. The tensors' names are either those of
a row of modules, in which the embedding is layer 0 and the output layer L + 1, or those of GPT-2's kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, nextafter
from typing import Any, ClassVar

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.configs.config import require
from tinystar_np.configs.rope_parameters import RopeParameters
from tinystar_np.models.phi import Phi, PhiConfig
from tinystar_np.weights.weight_table import FittedTable, WeightTable, with_switches

ROW, TREE, TODAY = "layers.0.wte.weight", "transformer.embd.wte.weight", "embed_tokens.weight"
"""What the embedding is called in a row of modules, in names of GPT-2's kind, and today."""
KNOWN: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "mixer": {"mixer_cls": ("mha",), "causal": (True,), "bias": (True,)},
    "mlp": {"mlp_cls": ("mlp", "fused_mlp")},
}
"""What ``architecture`` may say of its parts, beside null."""
HOW_IT_IS_COMPUTED = (
    *("checkpointing", "cutlass_attn", "dropout", "flash_attn", "flash_rotary", "fused_dense"),
    "raise_on_missing",
)


@dataclass(frozen=True)
class OldPhiConfig(PhiConfig):
    """The keys of the first config.json; defaults are those of its class.

    ``vocab_size`` was rounded up to a multiple of ``pad_vocab_size_multiple`` when a model was made.
    ``embedding`` is no key: what the file calls it.
    """

    ALIASES: ClassVar = {
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_head_kv": "num_key_value_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "activation_function": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
        "blocks": "architecture",
    }
    UNUSED: ClassVar[Sequence[str]] = (
        *("partial_rotary_factor", "rope_theta", "rope_scaling", "rope_parameters", "qk_layernorm"),
        *("original_max_position_embeddings", "embedding"),
    )

    vocab_size: int = 50304
    hidden_size: int = 1024
    intermediate_size: int | None = None
    num_hidden_layers: int = 20
    num_attention_heads: int = 16
    rotary_dim: int = 32
    pad_vocab_size_multiple: int = 64
    architecture: dict[str, Any] | None = None
    embedding: str = ROW

    @property
    def rope(self) -> RopeParameters:
        """The rule of the rotations, of a part of each head."""
        K = self.sizes["K"]
        # Rounded up: K times the fraction must not fall below rotary_dim.
        return RopeParameters("default", 10000.0, K, nextafter(min(self.rotary_dim, K) / K, 1))

    def check(self) -> None:
        """Refuse contradictions, and blocks of another kind."""
        n = self.rotary_dim
        require(n >= 2 and n % 2 == 0, f"rotary_dim = {n}, but it must be even and at least 2.")
        require(self.pad_vocab_size_multiple >= 1, "pad_vocab_size_multiple must be at least 1.")
        said = self.architecture or {}
        block = said.get("block_cls", "parallel")
        require(block == "parallel", f"architecture.block_cls = {block!r} is not implemented; 'parallel' is.")
        for part, known in KNOWN.items():
            given = said.get(part) or {}
            require(isinstance(given, Mapping), f"architecture.{part} = {given!r}, but it must be an object.")
            for key, value in given.items():
                right = value is None or key in HOW_IT_IS_COMPUTED or value in known.get(key, ())
                require(right, f"architecture.{part}.{key} = {value!r} is not implemented.")
        super().check()


def old_rows(embedding: str, block: str, ends: str) -> WeightTable:
    """Write a weight table with the names of the embedding, of a block, and of what follows the last one."""
    return {
        # ours:                                (the checkpoint's, shape)
        "embedding.tokens.weight":             (embedding, "V D"),
        "blocks.{i}.attention_norm.gain":      (f"{block}.ln.weight", "D"),
        "blocks.{i}.attention_norm.bias":      (f"{block}.ln.bias", "D"),
        "blocks.{i}.attention.qkv.weight":     (f"{block}.mixer.Wqkv.weight", "HK+2GK D -> D HK+2GK"),
        "blocks.{i}.attention.qkv.bias":       (f"{block}.mixer.Wqkv.bias", "HK+2GK"),
        "blocks.{i}.attention.out.weight":     (f"{block}.mixer.out_proj.weight", "D HK -> HK D"),
        "blocks.{i}.attention.out.bias":       (f"{block}.mixer.out_proj.bias", "D"),
        "blocks.{i}.feed_forward.up.weight":   (f"{block}.mlp.fc1.weight", "F D -> D F"),
        "blocks.{i}.feed_forward.up.bias":     (f"{block}.mlp.fc1.bias", "F"),
        "blocks.{i}.feed_forward.down.weight": (f"{block}.mlp.fc2.weight", "D F -> F D"),
        "blocks.{i}.feed_forward.down.bias":   (f"{block}.mlp.fc2.bias", "D"),
        "final_norm.gain":                     (f"{ends}.ln.weight", "D"),
        "final_norm.bias":                     (f"{ends}.ln.bias", "D"),
        "head.bias":                           (f"{ends}.linear.bias", "V"),
    }  # fmt: skip


class OldPhi(Phi):
    """The first files of Phi 1, 1.5 and 2, and what was tuned from them."""

    Config = OldPhiConfig
    OTHER_NAMES: ClassVar = {  # of the first feed-forward layer, and of one around it
        r"(.*\.mlp)\.fc_in\.(\w+)": r"\1.fc1.\2",
        r"(.*\.mlp)\.fc_out\.(\w+)": r"\1.fc2.\2",
        r"(.*\.mlp)\.mlp\.(fc\d\.\w+)": r"\1.\2",
    }

    @classmethod
    def fit(cls, config: Any, checkpoint: Checkpoint) -> tuple[Any, FittedTable]:
        """Find each row of the weight table, after a look at the names and the vocabulary in the file."""
        c: OldPhiConfig = config
        called = [name for name in (ROW, TREE, TODAY, cls.PREFIX + TODAY) if name in checkpoint]
        if called:
            padded = ceil(c.vocab_size / c.pad_vocab_size_multiple) * c.pad_vocab_size_multiple
            vocab_size = padded if checkpoint.shape(called[0])[:1] == (padded,) else c.vocab_size
            c = replace(c, embedding=called[0].removeprefix(cls.PREFIX), vocab_size=vocab_size)
        return super().fit(c, checkpoint)

    @staticmethod
    def weight_table(config: Any) -> WeightTable:
        """Take the names by which the file has the embedding."""
        c: OldPhiConfig = config
        if c.embedding == TODAY:
            return Phi.weight_table(c)
        block, ends = ("transformer.h.{i}", "lm_head")
        if c.embedding == ROW:
            block, ends = "layers.{i+1}", f"layers.{c.num_hidden_layers + 1}"
        head = {"head.weight": (f"{ends}.linear.weight", "V D -> D V")}
        return with_switches(old_rows(c.embedding, block, ends), c, head)
