"""LLaVA 1.5 (Liu et al. 2023, arXiv:2304.08485, 2310.03744): an image's patches as words of the text.

    image (336 × 336) → encoder → 24 × 24 vectors → W₁, GELU, W₂ → 576 vectors of width D

| encoder                | projector            | places            | decoder                         |
|------------------------|----------------------|-------------------|---------------------------------|
| CLIP ViT-L/14; SigLIP; | two layers with GELU | 576, one a patch  | Llama (Vicuna), Mistral, Qwen 2 |
| Pixtral's              |                      |                   |                                 |

New in it: how little it takes. An encoder that knows images and a decoder that knows language are both
there; between them stands a projector, trained first and alone, then with the decoder on conversations about
images that a language model had written from captions. Every patch becomes one vector among those of the
tokens, without queries that would choose (BLIP-2), or layers in the decoder that look at the image
(Flamingo). 1.5 has a projector of two layers instead of one, and larger images. The vectors are those of an
encoder's block before the last, where they still are of patches; the class before them is left out.

Others published their models in this form, above all Pixtral 12B (Agrawal et al. 2024, arXiv:2410.07073),
whose encoder reads images of any size, and has no class.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.layers.basic import FeedForward
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.base import VisionEncoder
from tinystar_np.models.vision.clip_vision import ClipVision
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision.pixtral_vision import PixtralVision
from tinystar_np.models.vision.siglip_vision import SiglipVision
from tinystar_np.models.vision_part import EncoderConfig, VisionPart, tower_config
from tinystar_np.tap import scope, tap

TOWERS: Mapping[str, type[VisionEncoder]] = {
    "clip_vision_model": ClipVision,
    "pixtral": PixtralVision,
    "siglip_vision_model": SiglipVision,
}
"""The encoders that it was published with."""
CLIP_L_14_336: JsonObject = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
"""The encoder of a config.json that names none."""
SELECTED = {"default": "all but the first", "full": "all"}
"""Which of the encoder's vectors are used, by ``vision_feature_select_strategy``."""


@dataclass(frozen=True)
class LlavaConfig(Config):
    """The keys of a LLaVA config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    image_token_index: int = key(32000, least=0, aliases=("image_token_id",))
    vision_config: JsonObject | None = None
    vision_feature_layer: int | list[int] = -2
    vision_feature_select_strategy: str = key("default", known=SELECTED)
    projector_hidden_act: str = activation_key("gelu")
    multimodal_projector_bias: bool = True

    @property
    def tower(self) -> tuple[type[VisionEncoder], EncoderConfig]:
        """The encoder's class and config."""
        return tower_config(TOWERS, CLIP_L_14_336 if self.vision_config is None else self.vision_config)

    @property
    def layers(self) -> list[int]:
        """After how many of the encoder's blocks its vectors are taken; several are put side by side."""
        found = self.vision_feature_layer
        return [found] if isinstance(found, int) else found

    def check(self) -> None:
        """Refuse blocks that the encoder does not have, and a class to leave out where there is none."""
        tower, blocks = self.tower[0], self.tower[1].sizes["L"]
        require(
            self.layers != [] and all(-blocks <= number + 1 <= blocks + 1 for number in self.layers),
            f"vision_feature_layer = {self.vision_feature_layer}, but the encoder has {blocks} blocks.",
        )
        require(
            tower is not PixtralVision or self.vision_feature_select_strategy == "full",
            f"vision_feature_select_strategy = {shown(self.vision_feature_select_strategy)}, but it must be "
            "'full' with vision_config.model_type = 'pixtral', whose first vector is that of a patch.",
        )
        super().check()

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, S of the vectors that the projector reads."""
        return {**super().sizes, "S": self.tower[1].sizes["D"] * len(self.layers)}


WEIGHTS: WeightTable = {
    # ours:                  the checkpoint's, its shape, when it is there
    "projector.up.weight":   ("multi_modal_projector.linear_1.weight", "(D S)ᵀ"),
    "projector.up.bias":     ("multi_modal_projector.linear_1.bias", "D", "multimodal_projector_bias"),
    "projector.down.weight": ("multi_modal_projector.linear_2.weight", "(D D)ᵀ"),
    "projector.down.bias":   ("multi_modal_projector.linear_2.bias", "D", "multimodal_projector_bias"),
}  # fmt: skip


class Llava(VisionPart[LlavaConfig]):
    """LLaVA 1.5, BakLLaVA, Pixtral 12B and what else was published in their form: what reads images."""

    Config = LlavaConfig
    WEIGHTS = WEIGHTS

    @staticmethod
    def encoder_of(config: LlavaConfig) -> tuple[type[VisionEncoder], EncoderConfig]:
        """Return the class of the encoder, and its checked config."""
        return config.tower

    def build(self, w: Weights, c: LlavaConfig) -> None:
        """Build the projector."""
        self.image_token_id = c.image_token_index
        self.projector = FeedForward(w / "projector", ACTIVATIONS[c.projector_hidden_act])

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: (n, C, h, w) → (n·N, D), n being 1 where it was not cut."""
        with scope("encoder"):
            streams = self.encoder.hidden_states(pixels.tiles, self.config.layers)  # (n, N, D of the encoder)
        x = np.concatenate(streams, axis=-1)
        if self.config.vision_feature_select_strategy == "default":
            x = x[:, 1:]  # the class, where the encoder has one
        x = tap("selected", x)
        with scope("projector"):
            x = self.projector(x)
        return x.reshape(-1, x.shape[-1])
