"""SigLIP (Zhai et al. 2023, arXiv:2303.15343): CLIP with a sigmoid, each pair of image and text by itself.

    text  → embedding + positions → blocks, all see all → norm, the last of 64 tokens → W ─┐
                                                                                           ├→ eˢ · cosine + b
    image → ViT, a probe attends to its patches (models/vision/siglip_vision.py) ──────────┘

| text                  | image                 | loss                     | data                |
|-----------------------|-----------------------|--------------------------|---------------------|
| encoder, 64 positions | ViT-B/16 to So400m/14 | sigmoid, each pair alone | WebLI, from the web |

New in it: the loss. CLIP's softmax asks which text of a batch is an image's, so that all pairs of a huge
batch must be compared on all machines at once, and some text always wins. A sigmoid with a learned bias asks
of each pair whether it is one: smaller batches do, and an image may fit no text at all, or several.

A text is filled up with padding to 64 tokens, and padding is attended to as any token is: its last vector is
that of the text. ``processor.encode`` does so, as the model has learned from nothing else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS, sigmoid
from tinystar_np.layers.attention import EncoderAttention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.models.vision.siglip_vision import PooledSiglipVision, SiglipVisionConfig
from tinystar_np.models.vision_part import encoder_config
from tinystar_np.tap import at, scope, tap


@dataclass(frozen=True)
class SiglipTextConfig(Config):
    """The keys of a text_config that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(32000, letter="V")
    hidden_size: int = key(768, letter="D")
    intermediate_size: int = key(3072, letter="F")
    num_hidden_layers: int = key(12, letter="L")
    num_attention_heads: int = key(12, letter="H")
    max_position_embeddings: int = key(64, letter="C")
    hidden_act: str = activation_key("gelu_pytorch_tanh")
    layer_norm_eps: float = key(1e-6, above=0)
    pad_token_id: int | None = key(1, least=0)
    projection_size: int | None = key(None, letter="P")

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: where no key says so, P is D."""
        found = super().sizes
        return {**found, "P": found.get("P", found["D"])}


@dataclass(frozen=True)
class SiglipConfig(Config):
    """The keys of a SigLIP config.json that change the mathematics; defaults as in transformers."""

    text_config: JsonObject | None = None
    vision_config: JsonObject | None = None

    @property
    def text(self) -> SiglipTextConfig:
        """The text encoder's config."""
        return encoder_config(SiglipTextConfig, self.text_config, ("siglip_text_model",), "text_config")

    @property
    def vision(self) -> SiglipVisionConfig:
        """The vision encoder's config."""
        return encoder_config(SiglipVisionConfig, self.vision_config, ("siglip_vision_model",))

    def check(self) -> None:
        """Refuse what has no vectors to compare."""
        P, width = self.text.sizes["P"], self.vision.hidden_size
        require(width == P, f"texts get {P} numbers, projection_size, and images {width}, hidden_size.")
        has_probe = (self.vision_config or {}).get("vision_use_head", True)
        require(
            has_probe is True,
            f"vision_config.vision_use_head = {shown(has_probe)}, but without it an image has no one vector.",
        )
        super().check()

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: those of the text encoder."""
        text = self.text.sizes
        return {**super().sizes, **{letter: text[letter] for letter in "VDFLCP"}}

    @property
    def context_length(self) -> int:
        """Learned positions end where their table ends."""
        return self.text.max_position_embeddings


WEIGHTS: WeightTable = {
    # ours:                             the checkpoint's, its shape
    "embedding.tokens.weight":          ("text_model.embeddings.token_embedding.weight", "V D"),
    "embedding.positions.weight":       ("text_model.embeddings.position_embedding.weight", "C D"),
    "blocks.{i}.attention_norm.gain":   ("text_model.encoder.layers.{i}.layer_norm1.weight", "D"),
    "blocks.{i}.attention_norm.bias":   ("text_model.encoder.layers.{i}.layer_norm1.bias", "D"),
    "blocks.{i}.attention.q.weight":    ("text_model.encoder.layers.{i}.self_attn.q_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.q.bias":      ("text_model.encoder.layers.{i}.self_attn.q_proj.bias", "D"),
    "blocks.{i}.attention.k.weight":    ("text_model.encoder.layers.{i}.self_attn.k_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.k.bias":      ("text_model.encoder.layers.{i}.self_attn.k_proj.bias", "D"),
    "blocks.{i}.attention.v.weight":    ("text_model.encoder.layers.{i}.self_attn.v_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.v.bias":      ("text_model.encoder.layers.{i}.self_attn.v_proj.bias", "D"),
    "blocks.{i}.attention.out.weight":  ("text_model.encoder.layers.{i}.self_attn.out_proj.weight", "(D D)ᵀ"),
    "blocks.{i}.attention.out.bias":    ("text_model.encoder.layers.{i}.self_attn.out_proj.bias", "D"),
    "blocks.{i}.feed_forward_norm.gain":  ("text_model.encoder.layers.{i}.layer_norm2.weight", "D"),
    "blocks.{i}.feed_forward_norm.bias":  ("text_model.encoder.layers.{i}.layer_norm2.bias", "D"),
    "blocks.{i}.feed_forward.up.weight":  ("text_model.encoder.layers.{i}.mlp.fc1.weight", "(F D)ᵀ"),
    "blocks.{i}.feed_forward.up.bias":  ("text_model.encoder.layers.{i}.mlp.fc1.bias", "F"),
    "blocks.{i}.feed_forward.down.weight": ("text_model.encoder.layers.{i}.mlp.fc2.weight", "(D F)ᵀ"),
    "blocks.{i}.feed_forward.down.bias":  ("text_model.encoder.layers.{i}.mlp.fc2.bias", "D"),
    "final_norm.gain":                  ("text_model.final_layer_norm.weight", "D"),
    "final_norm.bias":                  ("text_model.final_layer_norm.bias", "D"),
    "projection.weight":                ("text_model.head.weight", "(P D)ᵀ"),
    "projection.bias":                  ("text_model.head.bias", "P"),
    "scale":                            ("logit_scale", "1"),
    "bias":                             ("logit_bias", "1"),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: SiglipTextConfig):
        H, K, eps = c.num_attention_heads, c.sizes["K"], c.layer_norm_eps
        self.attention_norm = LayerNorm(w / "attention_norm", eps=eps)
        self.attention = EncoderAttention(w / "attention", heads=H, head_dim=K)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: None = None) -> NDArray:
        """Map the residual stream of a text (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", x + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Siglip(EmbeddingModel[SiglipConfig]):
    """SigLIP, and SigLIP 2 for one size of images."""

    Config = SiglipConfig
    WEIGHTS = WEIGHTS
    IGNORED = r"text_model\.embeddings\.position_ids"
    encoder: PooledSiglipVision

    @staticmethod
    def encoder_of(config: SiglipConfig) -> tuple[type[PooledSiglipVision], SiglipVisionConfig]:
        """Return the class of the vision encoder, and its checked config."""
        return PooledSiglipVision, config.vision

    def build(self, w: Weights, c: SiglipConfig) -> None:
        """Build the text encoder and its projection."""
        text = c.text
        self.padded_length, self.pad_token_id = text.max_position_embeddings, text.pad_token_id
        self.embedding = Embedding(w / "embedding.tokens")
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", text) for i in range(text.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=text.layer_norm_eps)
        self.projection = Linear(w / "projection")
        self.scale, self.bias = np.float32(np.exp(w["scale"][0])), np.float32(w["bias"][0])

    def text_vectors(self, ids: NDArray[np.integer]) -> NDArray:
        """Embed texts of one length: (B, T) → (B, P)."""
        step = Step(np.zeros(len(ids), dtype=np.int64), ids.shape[1])
        with at(step.positions):
            tokens = tap("embedding.tokens", self.embedding(ids))
            x = tap("embedding", tokens + tap("embedding.positions", self.positions(step.positions)))
            for i, block in enumerate(self.blocks):
                with scope(f"blocks.{i}"):
                    x = block(x, step, None)  # (B, T, D)
            x = tap("final_norm", self.final_norm(x))
        return self.projection(x[:, -1])

    def image_vectors(self, tiles: NDArray[np.float32], interpolate: bool) -> NDArray:
        """Embed images of one size: (n, C, h, w) → (n, P)."""
        with scope("encoder"):
            return self.encoder.pooled(self.encoder(tiles, interpolate))

    def logits(self, cosines: NDArray) -> NDArray:
        """Multiply by the scale, and add the bias: (n, B) → (n, B)."""
        return cosines * self.scale + self.bias

    def probabilities(self, text: ArrayLike, image: ArrayLike) -> NDArray[np.float32]:
        """Say whether each text probably fits an image, others apart: (B, P) and (n, P) → (n, B)."""
        return sigmoid(self.similarity(text, image))
