"""Byte Latent Transformer, BLT (Pagnoni et al., Meta 2024, arXiv:2412.09871): bytes, read in patches.

    x = bytes + vectors of the groups that end at them → layers of bytes (encoder)
    a patch ends where a small model of bytes (patcher) is in doubt about the next
    p = largest of the patch's bytes · W → attends to these → layers of patches (global transformer)
    x → 2x + attention to the last patch that ended → attention ──+ x → feed-forward ──+ x   (× L, decoder)
    logits = norm(x) · W

| attention                    | position | norm    | activation | block                   | context |
|------------------------------|----------|---------|------------|-------------------------|---------|
| MHA, window 512 of bytes;    | RoPE     | RMSNorm | SwiGLU     | sequential; bytes       | 4096    |
| all patches; patch and bytes |          |         |            | attend to a patch first |         |

New in it: the text is bytes, and the large model takes a step for each patch of them, 4.5 bytes on average.
Where a patch ends depends on the text, by the entropy of the next byte (kernels/byte_patches.py); groups of
bytes have vectors by their hashes (kernels/byte_hashes.py). In the class's defaults 14 layers cut, 1 encodes,
25 read patches and 9 decode.

There are two clocks: layers of bytes keep keys and values of bytes, the global layers those of patches. A
patch comes to these when it ends, which is known with its last byte, and does not change after that. Bytes of
an open patch attend to the one before. So a text may be cut anywhere between calls. The encoder's results of
all bytes are kept, D numbers each, which is little beside the keys and values of patches. Texts in a pool
share no beginnings: a block of bytes is none of patches. What is said of costs counts a patch for each byte,
the most there can be.

transformers' own cache begins hashes and patches anew with each call, so what it computes without one is
computed here. With ``max_patch_length`` it drops a border at a text's end, and the last logits change when a
byte is added; where several layers of the encoder attend to patches it uses the last alone, and the makers'
code all. Both are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import HybridState, LayerState, Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.byte_patches import bytes_attend_to_patches
from tinystar_np.layers.basic import Embedding, Linear, RMSNorm
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.blt_parts import (
    BytesToLatents,
    CrossAttention,
    Hashes,
    Latents,
    Layer,
    Patcher,
    StackConfig,
    stack_config,
)
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.facts import Facts
from tinystar_np.models.rope_parameters import RopeParameters
from tinystar_np.ranks import Divides
from tinystar_np.tap import tap

MODES = {"entropy": "where the next byte is in doubt", "byte": "after each byte"}
"""Where patches end, by ``patching_mode``."""
LENGTHS = (3, 4, 5, 6, 7, 8)
"""Bytes of the groups that are hashed, where the file does not say."""


@dataclass(frozen=True)
class BltConfig(Config):
    """The keys of a BLT config.json that change the mathematics; defaults as in transformers.

    Each of the four stacks has an object of its own (models/blt_parts.py).
    """

    vocab_size: int = key(260, letter="V")
    max_position_embeddings: int = key(4096, is_trained_length=True)
    patch_in_forward: bool = True
    patch_size: int = key(4, least=1)
    patching_mode: str = key("entropy", known=MODES)
    patching_threshold: float = 1.335442066192627
    local_attention_window_len: int | None = key(512, least=1)
    cross_attn_k: int = key(2, least=1)
    encoder_hash_byte_group_size: list[int] | None = None
    encoder_hash_byte_group_vocab: int = key(500002, least=1)
    encoder_hash_byte_group_nb_functions: int = key(1, least=1)
    encoder_config: JsonObject | None = None
    decoder_config: JsonObject | None = None
    global_config: JsonObject | None = None
    patcher_config: JsonObject | None = None
    tie_word_embeddings: bool = False

    REFUSED: ClassVar = {"max_patch_length": (None,)}

    @cached_property
    def encoder(self) -> StackConfig:
        """The keys of ``encoder_config``."""
        return stack_config("encoder_config", self.encoder_config)

    @cached_property
    def decoder(self) -> StackConfig:
        """The keys of ``decoder_config``."""
        return stack_config("decoder_config", self.decoder_config)

    @cached_property
    def latent(self) -> StackConfig:
        """The keys of ``global_config``."""
        return stack_config("global_config", self.global_config)

    @cached_property
    def patcher(self) -> StackConfig:
        """The keys of ``patcher_config``."""
        return stack_config("patcher_config", self.patcher_config)

    @property
    def has_patcher(self) -> bool:
        """Whether patches end where the next byte is in doubt; otherwise each byte is a patch."""
        return self.patch_in_forward and self.patching_mode == "entropy"

    @property
    def hash_lengths(self) -> Sequence[int]:
        """Bytes of the groups that are hashed."""
        return self.encoder_hash_byte_group_size or LENGTHS

    @property
    def widened(self) -> bool:
        """Whether the vectors of a patch are projected to the width of the global layers."""
        return self.cross_attn_k * self.encoder.hidden_size != self.latent.hidden_size

    @property
    def crossed_layers(self) -> Sequence[int]:
        """The layers of the decoder that attend to patches."""
        return range(self.decoder.num_hidden_layers if self.decoder.cross_attn_all_layers else 1)

    @property
    def sizes(self) -> dict[str, int]:
        """The letters: D, H, G, K, F and L of the decoder, and for the other stacks

        encoder  N layers, A numbers in its keys of a byte, C features; B = k·D; Q rows of hashed groups
        global   M layers, J wide, O numbers in its keys of a patch, I features
        patcher  P layers, X wide, Y numbers in its keys of a byte, Z features, U bytes in its table
        """
        encoder, latent = self.encoder.sizes, self.latent.sizes
        hashed = self.encoder_hash_byte_group_vocab * self.encoder_hash_byte_group_nb_functions
        found = {
            **self.decoder.sizes,
            "V": self.vocab_size,
            **{"N": encoder["L"], "A": encoder["G"] * encoder["K"], "C": encoder["F"]},
            **{"B": self.cross_attn_k * encoder["D"], "Q": hashed * len(self.hash_lengths)},
            **{"M": latent["L"], "J": latent["D"], "O": latent["G"] * latent["K"], "I": latent["F"]},
        }
        if not self.has_patcher:
            return found
        patcher = self.patcher.sizes
        own = {"P": patcher["L"], "X": patcher["D"], "Y": patcher["G"] * patcher["K"], "Z": patcher["F"]}
        return {**found, **own, "U": patcher["V"]}

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters in the decoder."""
        return self.decoder.rope

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer of the decoder."""
        return (self.local_attention_window_len,) * self.decoder.num_hidden_layers

    def _check_heads(self) -> None:
        """Leave this to the stacks, which have checked their heads."""

    def check(self) -> None:
        """Refuse contradictions."""
        super().check()
        encoder, decoder, latent, k = self.encoder, self.decoder, self.latent, self.cross_attn_k
        for name, stack in (("encoder_config", encoder), ("decoder_config", decoder)):
            own = stack.cross_attn_k
            require(own == k, f"{name}.cross_attn_k = {own}, but beside it cross_attn_k = {k}.")
        same = encoder.hidden_size == decoder.hidden_size
        both = f"hidden_size = {encoder.hidden_size} in encoder_config and {decoder.hidden_size}"
        require(same, f"{both} in decoder_config, which goes on with the encoder's bytes.")
        D, said = latent.hidden_size, decoder.hidden_size_global
        require(said == D, f"hidden_size_global = {said}, but global_config has hidden_size = {D}.")
        one = encoder.num_hidden_layers == 1 or not encoder.cross_attn_all_layers
        require(one, "cross_attn_all_layers = true in encoder_config is not implemented for several layers.")
        V, said = self.vocab_size, encoder.vocab_size
        require(said == V, f"vocab_size = {V}, but it is {said} in encoder_config.")
        said = self.patcher.vocab_size if self.has_patcher else V
        require(
            said >= V, f"vocab_size = {V}, but it is {said} in patcher_config, which reads the same bytes."
        )
        right = all(n >= 1 for n in self.hash_lengths)
        require(right, f"encoder_hash_byte_group_size = {self.hash_lengths}, but each must be at least 1.")


WEIGHTS: WeightTable = {
    # ours: the checkpoint's, its shape, when it is there
    "embedding.tokens.weight": ("local_encoder.embed_tokens.weight", "V D"),
    "embedding.hashes.weight": ("encoder_hash_tok_embedding.weight", "Q D"),
    "embedding.patcher.weight": ("patcher.embed_tokens.weight", "U X", "has_patcher"),
    "patcher.layers.{p}.attention_norm.gain":
        ("patcher.layers.{p}.input_layernorm.weight", "X", "has_patcher"),
    "patcher.layers.{p}.attention.q.weight":
        ("patcher.layers.{p}.self_attn.q_proj.weight", "(X X)ᵀ", "has_patcher"),
    "patcher.layers.{p}.attention.k.weight":
        ("patcher.layers.{p}.self_attn.k_proj.weight", "(Y X)ᵀ", "has_patcher"),
    "patcher.layers.{p}.attention.v.weight":
        ("patcher.layers.{p}.self_attn.v_proj.weight", "(Y X)ᵀ", "has_patcher"),
    "patcher.layers.{p}.attention.out.weight":
        ("patcher.layers.{p}.self_attn.o_proj.weight", "(X X)ᵀ", "has_patcher"),
    "patcher.layers.{p}.feed_forward_norm.gain":
        ("patcher.layers.{p}.post_attention_layernorm.weight", "X", "has_patcher"),
    "patcher.layers.{p}.feed_forward.gate.weight":
        ("patcher.layers.{p}.mlp.gate_proj.weight", "(Z X)ᵀ", "has_patcher"),
    "patcher.layers.{p}.feed_forward.up.weight":
        ("patcher.layers.{p}.mlp.up_proj.weight", "(Z X)ᵀ", "has_patcher"),
    "patcher.layers.{p}.feed_forward.down.weight":
        ("patcher.layers.{p}.mlp.down_proj.weight", "(X Z)ᵀ", "has_patcher"),
    "patcher.final_norm.gain": ("patcher.norm.weight", "X", "has_patcher"),
    "patcher.head.weight": ("patcher.lm_head.weight", "(U X)ᵀ", "has_patcher"),
    "encoder.layers.{n}.attention_norm.gain": ("local_encoder.layers.{n}.input_layernorm.weight", "D"),
    "encoder.layers.{n}.attention.q.weight": ("local_encoder.layers.{n}.self_attn.q_proj.weight", "(D D)ᵀ"),
    "encoder.layers.{n}.attention.k.weight": ("local_encoder.layers.{n}.self_attn.k_proj.weight", "(A D)ᵀ"),
    "encoder.layers.{n}.attention.v.weight": ("local_encoder.layers.{n}.self_attn.v_proj.weight", "(A D)ᵀ"),
    "encoder.layers.{n}.attention.out.weight": ("local_encoder.layers.{n}.self_attn.o_proj.weight", "(D D)ᵀ"),
    "encoder.layers.{n}.feed_forward_norm.gain":
        ("local_encoder.layers.{n}.post_attention_layernorm.weight", "D"),
    "encoder.layers.{n}.feed_forward.gate.weight":
        ("local_encoder.layers.{n}.mlp.gate_proj.weight", "(C D)ᵀ"),
    "encoder.layers.{n}.feed_forward.up.weight": ("local_encoder.layers.{n}.mlp.up_proj.weight", "(C D)ᵀ"),
    "encoder.layers.{n}.feed_forward.down.weight":
        ("local_encoder.layers.{n}.mlp.down_proj.weight", "(D C)ᵀ"),
    "encoder.pooling.weight": ("local_encoder.patch_embedding_projection.weight", "(B D)ᵀ"),
    "encoder.cross_attention.q_norm.gain": ("local_encoder.cross_attn_layers.0.q_norm.weight", "D"),
    "encoder.cross_attention.k_norm.gain": ("local_encoder.cross_attn_layers.0.k_norm.weight", "D"),
    "encoder.cross_attention.q.weight": ("local_encoder.cross_attn_layers.0.q_proj.weight", "(D D)ᵀ"),
    "encoder.cross_attention.k.weight": ("local_encoder.cross_attn_layers.0.k_proj.weight", "(A D)ᵀ"),
    "encoder.cross_attention.v.weight": ("local_encoder.cross_attn_layers.0.v_proj.weight", "(A D)ᵀ"),
    "encoder.cross_attention.out.weight": ("local_encoder.cross_attn_layers.0.o_proj.weight", "(D D)ᵀ"),
    "global.in.weight": ("global_transformer.token_embedding_projection.weight", "(J B)ᵀ", "widened"),
    "global.layers.{m}.attention_norm.gain": ("global_transformer.layers.{m}.input_layernorm.weight", "J"),
    "global.layers.{m}.attention.q.weight":
        ("global_transformer.layers.{m}.self_attn.q_proj.weight", "(J J)ᵀ"),
    "global.layers.{m}.attention.k.weight":
        ("global_transformer.layers.{m}.self_attn.k_proj.weight", "(O J)ᵀ"),
    "global.layers.{m}.attention.v.weight":
        ("global_transformer.layers.{m}.self_attn.v_proj.weight", "(O J)ᵀ"),
    "global.layers.{m}.attention.out.weight":
        ("global_transformer.layers.{m}.self_attn.o_proj.weight", "(J J)ᵀ"),
    "global.layers.{m}.feed_forward_norm.gain":
        ("global_transformer.layers.{m}.post_attention_layernorm.weight", "J"),
    "global.layers.{m}.feed_forward.gate.weight":
        ("global_transformer.layers.{m}.mlp.gate_proj.weight", "(I J)ᵀ"),
    "global.layers.{m}.feed_forward.up.weight":
        ("global_transformer.layers.{m}.mlp.up_proj.weight", "(I J)ᵀ"),
    "global.layers.{m}.feed_forward.down.weight":
        ("global_transformer.layers.{m}.mlp.down_proj.weight", "(J I)ᵀ"),
    "latents.weight": ("local_decoder.patch_embedding_projection.weight", "(B J)ᵀ"),
    "blocks.{i}.attention_norm.gain": ("local_decoder.layers.{i}.input_layernorm.weight", "D"),
    "blocks.{i}.attention.q.weight": ("local_decoder.layers.{i}.self_attn.q_proj.weight", "(HK D)ᵀ"),
    "blocks.{i}.attention.k.weight": ("local_decoder.layers.{i}.self_attn.k_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.v.weight": ("local_decoder.layers.{i}.self_attn.v_proj.weight", "(GK D)ᵀ"),
    "blocks.{i}.attention.out.weight": ("local_decoder.layers.{i}.self_attn.o_proj.weight", "(D HK)ᵀ"),
    "blocks.{i}.feed_forward_norm.gain": ("local_decoder.layers.{i}.post_attention_layernorm.weight", "D"),
    "blocks.{i}.feed_forward.gate.weight": ("local_decoder.layers.{i}.mlp.gate_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.weight": ("local_decoder.layers.{i}.mlp.up_proj.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.down.weight": ("local_decoder.layers.{i}.mlp.down_proj.weight", "(D F)ᵀ"),
    "blocks.{i}.cross_attention.q_norm.gain":
        ("local_decoder.cross_attn_layers.{i}.q_norm.weight", "D", "crossed_layers"),
    "blocks.{i}.cross_attention.k_norm.gain":
        ("local_decoder.cross_attn_layers.{i}.k_norm.weight", "D", "crossed_layers"),
    "blocks.{i}.cross_attention.q.weight":
        ("local_decoder.cross_attn_layers.{i}.q_proj.weight", "(D D)ᵀ", "crossed_layers"),
    "blocks.{i}.cross_attention.k.weight":
        ("local_decoder.cross_attn_layers.{i}.k_proj.weight", "(GK D)ᵀ", "crossed_layers"),
    "blocks.{i}.cross_attention.v.weight":
        ("local_decoder.cross_attn_layers.{i}.v_proj.weight", "(GK D)ᵀ", "crossed_layers"),
    "blocks.{i}.cross_attention.out.weight":
        ("local_decoder.cross_attn_layers.{i}.o_proj.weight", "(D D)ᵀ", "crossed_layers"),
    "final_norm.gain": ("local_decoder.norm.weight", "D"),
    "head.weight": ("lm_head.weight", "(V D)ᵀ", "not tie_word_embeddings"),
}  # fmt: skip


class Block(Layer):
    """Bytes attend to a patch, then a layer of the decoder; in the first, all that comes before as well."""

    def __init__(self, w: Weights, c: BltConfig, i: int, bytes_to_latents: BytesToLatents | None):
        super().__init__(w, c.decoder, c.local_attention_window_len, c.decoder.hidden_act)
        self.cross_attention = (
            CrossAttention(w / "cross_attention", c.decoder) if i in c.crossed_layers else None
        )
        self.bytes_to_latents = bytes_to_latents
        self.new_state = self._new_state
        self.reads = () if self.cross_attention is None else ("latents",)

    def _new_state(self, batch_size: int, capacity: int) -> LayerState:
        """Make room for keys and values, in the first block after the states of all that comes before."""
        own = self.attention.new_state(batch_size, capacity)
        if self.bytes_to_latents is None:
            return own
        return HybridState(self.bytes_to_latents.new_state(batch_size, capacity), own)

    def __call__(self, x: NDArray, step: Step, state: Any) -> NDArray:
        """Map the residual stream (B, T, D) to the residual stream (B, T, D)."""
        if self.bytes_to_latents is not None:
            before, state = (None, None) if state is None else state.states
            x, made = self.bytes_to_latents(step.given("ids"), x, step, before)
            step.give("latents", made)
        if self.cross_attention is not None:
            latents: Latents = step.given("latents")
            attend = partial(bytes_attend_to_patches, patch=latents.patch)
            x = tap("residual_patches", x + self.cross_attention(x, latents.vectors, attend))
        return super().__call__(x, step, state)


class Blt(Decoder[BltConfig]):
    """Byte Latent Transformer 1B and 7B."""

    Config = BltConfig
    WEIGHTS = WEIGHTS
    DIVIDES = Divides(why_not="its four stacks of layers have heads of different numbers.")
    PREFIX = "model."
    IGNORED = r"patcher\..*"  # where each byte is a patch
    WHY_NO_SUM = "The stream of this model is doubled where bytes attend to patches."
    FROM_THE_START = "Blocks of this model attend to patches that the first block makes of the bytes."

    def build(self, w: Weights, c: BltConfig) -> None:
        """Build what stands before the decoder, the decoder's blocks, the last norm and the output layer."""
        self.embedding = Embedding(w / "embedding.tokens")
        window = c.local_attention_window_len
        encoder = [
            Layer(w / f"encoder.layers.{j}", c.encoder, window, c.encoder.hidden_act)
            for j in range(c.encoder.num_hidden_layers)
        ]
        layers = [
            Layer(w / f"global.layers.{j}", c.latent, None, c.latent.hidden_act)
            for j in range(c.latent.num_hidden_layers)
        ]
        functions, rows = c.encoder_hash_byte_group_nb_functions, c.encoder_hash_byte_group_vocab
        first = BytesToLatents(
            w,
            hashes=Hashes(w / "embedding.hashes", c.hash_lengths, functions, rows),
            patcher=Patcher(w, c.patcher, c.patching_threshold) if c.has_patcher else None,
            encoder=encoder,
            cross=CrossAttention(w / "encoder.cross_attention", c.encoder),
            layers=layers,
        )
        self.blocks = [
            Block(w / f"blocks.{i}", c, i, None if i else first) for i in range(c.decoder.num_hidden_layers)
        ]
        self.final_norm = RMSNorm(w / "final_norm", eps=c.decoder.rms_norm_eps)
        self.head = Linear(w / "head")

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Look bytes up, (B, T) → (B, T, D), and hand the bytes themselves on to the first block."""
        step.give("ids", ids)
        return super().embed(ids, step)


FACTS = Facts(
    grew_from="llama",
    kind="block",
    changed="Bytes in patches that end where the next byte is in doubt; a large model of patches",
    why="no vocabulary, and steps of the large model where something is decided",
    published="1B",
)
