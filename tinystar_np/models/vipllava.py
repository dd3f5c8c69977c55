"""ViP-LLaVA (Cai et al. 2023, arXiv:2312.00784): a LLaVA that sees what somebody drew on the image.

    image (336 × 336) → encoder, five of its blocks → norm, W₁, GELU, W₂ → 576 vectors of width D

| encoder       | projector                   | places            | decoder        |
|---------------|-----------------------------|-------------------|----------------|
| CLIP ViT-L/14 | norm, two layers with GELU  | 576, one a patch  | Llama (Vicuna) |

New in it, beside LLaVA 1.5: what is asked may be about a part of the image that is marked by an arrow, a
circle or a scribble, drawn into the pixels. The blocks near an encoder's end have learned to leave such
things out; so the vectors of an early one and of four later blocks are put side by side, and normed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import FeedForward, LayerNorm
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.clip_vision import ClipVision, ClipVisionConfig
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision_part import VisionPart, encoder_config
from tinystar_np.tap import scope, tap

CLIP_L_14_336: JsonObject = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
"""The encoder of a config.json that names none."""
LAYERS = (-2, -5, -8, -11, 6)
"""After how many of the encoder's blocks its vectors are taken, of a config.json that does not say."""


@dataclass(frozen=True)
class VipLlavaConfig(Config):
    """The keys of a ViP-LLaVA config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    image_token_index: int = key(32000, least=0, aliases=("image_token_id",))
    vision_config: JsonObject | None = None
    vision_feature_layer: int | list[int] | tuple[int, ...] = key(LAYERS, aliases=("vision_feature_layers",))
    projector_hidden_act: str = activation_key("gelu")
    projector_layernorm_eps: float = key(1e-5, above=0)

    @property
    def vision(self) -> ClipVisionConfig:
        """The encoder's config."""
        raw = CLIP_L_14_336 if self.vision_config is None else self.vision_config
        return encoder_config(ClipVisionConfig, raw, ("clip_vision_model",))

    @property
    def layers(self) -> list[int]:
        """After how many of the encoder's blocks its vectors are taken; several are put side by side."""
        found = self.vision_feature_layer
        return [found] if isinstance(found, int) else list(found)

    def check(self) -> None:
        """Refuse blocks that the encoder does not have."""
        blocks = self.vision.sizes["L"]
        require(
            self.layers != [] and all(-blocks <= number + 1 <= blocks + 1 for number in self.layers),
            f"vision_feature_layer = {self.vision_feature_layer}, but the encoder has {blocks} blocks.",
        )
        super().check()

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, S of the vectors that the projector reads."""
        return {**super().sizes, "S": self.vision.sizes["D"] * len(self.layers)}


WEIGHTS: WeightTable = {
    # ours:                  the checkpoint's, its shape
    "projector_norm.gain":   ("multi_modal_projector.projector_layernorm.weight", "S"),
    "projector_norm.bias":   ("multi_modal_projector.projector_layernorm.bias", "S"),
    "projector.up.weight":   ("multi_modal_projector.linear_1.weight", "(D S)ᵀ"),
    "projector.up.bias":     ("multi_modal_projector.linear_1.bias", "D"),
    "projector.down.weight": ("multi_modal_projector.linear_2.weight", "(D D)ᵀ"),
    "projector.down.bias":   ("multi_modal_projector.linear_2.bias", "D"),
}  # fmt: skip


class VipLlava(VisionPart[VipLlavaConfig]):
    """ViP-LLaVA 7B and 13B: what reads their images."""

    Config = VipLlavaConfig
    WEIGHTS = WEIGHTS
    encoder: ClipVision

    @staticmethod
    def encoder_of(config: VipLlavaConfig) -> tuple[type[ClipVision], ClipVisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return ClipVision, config.vision

    def build(self, w: Weights, c: VipLlavaConfig) -> None:
        """Build the norm and the projector."""
        self.image_token_id = c.image_token_index
        self.projector_norm = LayerNorm(w / "projector_norm", eps=c.projector_layernorm_eps)
        self.projector = FeedForward(w / "projector", ACTIVATIONS[c.projector_hidden_act])

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: (n, C, h, w) → (n·N, D), n being 1 where it was not cut."""
        with scope("encoder"):
            streams = self.encoder.hidden_states(pixels.tiles, self.config.layers)  # (n, 1+N, …) each
        x = tap("selected", np.concatenate(streams, axis=-1)[:, 1:])  # without the class
        x = tap("projector_norm", self.projector_norm(x))
        with scope("projector"):
            x = self.projector(x)
        return x.reshape(-1, x.shape[-1])
