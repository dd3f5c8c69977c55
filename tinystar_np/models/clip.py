"""CLIP (Radford et al. 2021, arXiv:2103.00020): images and their captions as neighbours in one space.

    text  → embedding + positions → blocks, causal → norm, at the end token → W ─┐
                                                                                 ├→ eˢ · cosine
    image → ViT with a class (models/vision/clip_vision.py) → norm, class → W ───┘

| text                  | image                  | loss                            | data             |
|-----------------------|------------------------|---------------------------------|------------------|
| decoder, 77 positions | ViT-B/32 to ViT-L/14   | softmax over a batch's captions | 400 M from the web |

New in it: what an image shows is not a number of a list but whatever somebody wrote beside it. Of a batch of
32 768 images and captions the model has to find which belong together, by the cosine of their vectors times a
learned scale; it needs to know no more about a label than its words. The text encoder is GPT-2 without an
output layer: the end token has seen all the others, and its vector is that of the text.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.softmax import softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Embedding, FeedForward, LayerNorm, Linear
from tinystar_np.layers.module import Module
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.models.vision.clip_vision import ClipVision, ClipVisionConfig
from tinystar_np.models.vision_part import encoder_config
from tinystar_np.tap import at, scope, tap

FIRST_END_TOKEN = 2
"""What the first files call the end token, which it never was: theirs is the largest id of a text."""


@dataclass(frozen=True)
class ClipTextConfig(Config):
    """The keys of a text_config that change the mathematics; defaults as in transformers."""

    vocab_size: int = key(49408, letter="V")
    hidden_size: int = key(512, letter="D")
    intermediate_size: int = key(2048, letter="F")
    num_hidden_layers: int = key(12, letter="L")
    num_attention_heads: int = key(8, letter="H")
    max_position_embeddings: int = key(77, letter="C")
    hidden_act: str = activation_key("quick_gelu")
    layer_norm_eps: float = key(1e-5, above=0)
    eos_token_id: int = 49407


@dataclass(frozen=True)
class ClipConfig(Config):
    """The keys of a CLIP config.json that change the mathematics; defaults as in transformers.

    The first files have the parts' keys twice; what they say under the names with ``_dict`` holds.
    """

    projection_dim: int = key(512, letter="P")
    text_config: JsonObject | None = None
    text_config_dict: JsonObject | None = None
    vision_config: JsonObject | None = None
    vision_config_dict: JsonObject | None = None

    @property
    def text(self) -> ClipTextConfig:
        """The text encoder's config."""
        raw = self.text_config if self.text_config_dict is None else self.text_config_dict
        return encoder_config(ClipTextConfig, raw, ("clip_text_model",), "text_config")

    @property
    def vision(self) -> ClipVisionConfig:
        """The vision encoder's config."""
        raw = self.vision_config if self.vision_config_dict is None else self.vision_config_dict
        return encoder_config(ClipVisionConfig, raw, ("clip_vision_model",))

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: those of the text encoder, P, and I of the vision encoder's vectors."""
        text = self.text.sizes
        return {**super().sizes, **{letter: text[letter] for letter in "VDFLC"}, "I": self.vision.hidden_size}

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
    "text_projection.weight":           ("text_projection.weight", "(P D)ᵀ"),
    "image_projection.weight":          ("visual_projection.weight", "(P I)ᵀ"),
    "scale":                            ("logit_scale", ""),
}  # fmt: skip


class Block(Module):
    """Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result."""

    def __init__(self, w: Weights, c: ClipTextConfig):
        H, K, eps = c.num_attention_heads, c.sizes["K"], c.layer_norm_eps
        self.attention_norm = LayerNorm(w / "attention_norm", eps=eps)
        self.attention = Attention(w / "attention", heads=H, head_dim=K)
        self.feed_forward_norm = LayerNorm(w / "feed_forward_norm", eps=eps)
        self.feed_forward = FeedForward(w / "feed_forward", ACTIVATIONS[c.hidden_act])
        self.new_state = self.attention.new_state

    def __call__(self, x: NDArray, step: Step, state: None = None) -> NDArray:
        """Map the residual stream of a text (B, T, D) to the residual stream (B, T, D)."""
        normed = tap("attention_norm", self.attention_norm(x))
        x = tap("residual_middle", x + self.attention(normed, step, state))
        normed = tap("feed_forward_norm", self.feed_forward_norm(x))
        return tap("residual", x + self.feed_forward(normed))


class Clip(EmbeddingModel[ClipConfig]):
    """CLIP, and models trained like it: LAION's, DataComp's."""

    Config = ClipConfig
    WEIGHTS = WEIGHTS
    IGNORED = r"text_model\.embeddings\.position_ids"
    encoder: ClipVision

    @staticmethod
    def encoder_of(config: ClipConfig) -> tuple[type[ClipVision], ClipVisionConfig]:
        """Return the class of the vision encoder, and its checked config."""
        return ClipVision, config.vision

    def build(self, w: Weights, c: ClipConfig) -> None:
        """Build the text encoder, and both projections."""
        text = c.text
        self.end_token_id = text.eos_token_id
        self.embedding = Embedding(w / "embedding.tokens")
        self.positions = Embedding(w / "embedding.positions")
        self.blocks = [Block(w / f"blocks.{i}", text) for i in range(text.num_hidden_layers)]
        self.final_norm = LayerNorm(w / "final_norm", eps=text.layer_norm_eps)
        self.text_projection = Linear(w / "text_projection")
        self.image_projection = Linear(w / "image_projection")
        self.scale = np.float32(np.exp(w["scale"]))

    def text_vectors(self, ids: NDArray[np.integer]) -> NDArray:
        """Embed texts of one length: (B, T) → (B, P)."""
        ends = self.ends(ids)
        step = Step(np.zeros(len(ids), dtype=np.int64), ids.shape[1])
        with at(step.positions):
            tokens = tap("embedding.tokens", self.embedding(ids))
            x = tap("embedding", tokens + tap("embedding.positions", self.positions(step.positions)))
            for i, block in enumerate(self.blocks):
                with scope(f"blocks.{i}"):
                    x = block(x, step, None)  # (B, T, D)
            x = tap("final_norm", self.final_norm(x))
        return self.text_projection(x[np.arange(len(x)), ends])

    def ends(self, ids: NDArray[np.integer]) -> NDArray[np.intp]:
        """Say where each text ends, (B, T) → (B,): what follows is padding.

        Raises InputError for a text without an end token.
        """
        if self.end_token_id == FIRST_END_TOKEN:
            return ids.argmax(axis=1)
        found = ids == self.end_token_id
        if not found.any(axis=1).all():
            raise InputError(
                f"A text has no end token, {self.end_token_id}, whose vector is that of the text. "
                "processor.encode puts it there."
            )
        return found.argmax(axis=1)

    def image_vectors(self, tiles: NDArray[np.float32], interpolate: bool) -> NDArray:
        """Embed images of one size: (n, C, h, w) → (n, P)."""
        with scope("encoder"):
            x = self.encoder.pooled(self.encoder(tiles, interpolate))
        return self.image_projection(x)

    def logits(self, cosines: NDArray) -> NDArray:
        """Multiply by the scale: (n, B) → (n, B)."""
        return cosines * self.scale

    def probabilities(self, text: ArrayLike, image: ArrayLike) -> NDArray[np.float32]:
        """Say which of these texts is probably an image's: (B, P) and (n, P) → (n, B), rows sum to 1."""
        return softmax(self.similarity(text, image))
