"""PaliGemma (Beyer et al. 2024, arXiv:2407.07726) and PaliGemma 2 (Steiner et al. 2024, arXiv:2412.03555).

    image (224², 448² or 896²) → encoder → 256, 1024 or 4096 vectors → W → as many of width D

| encoder       | projector  | places                                  | decoder        |
|---------------|------------|-----------------------------------------|----------------|
| SigLIP So400m | one matrix | before the text, one for each patch     | Gemma, Gemma 2 |

New in it: a small model (3 B) to be tuned for one task, with a prefix. Image and question are given, so
nothing is gained by hiding the later ones of their tokens from the earlier ones: all of them see one another,
and only the answer is read from left to right (Raffel et al. 2019, arXiv:1910.10683). So the patches can look
at the question.

A prefix is what one call of the model is given together with an image. What follows in later calls is the
answer, each token of which sees what came before; a later call with a further image is a prefix again, though
the model was not trained on such texts. A text without an image is read from left to right throughout.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision.siglip_vision import SiglipVision, SiglipVisionConfig
from tinystar_np.models.vision_part import VisionPart, encoder_config
from tinystar_np.tap import scope, tap

SO400M: JsonObject = {
    "hidden_size": 1152,
    "intermediate_size": 4096,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
}
"""The encoder of a config.json that says nothing of it, as in transformers."""


@dataclass(frozen=True)
class PaliGemmaConfig(Config):
    """The keys of a PaliGemma config.json that concern images; defaults as in transformers."""

    text_width: int = key(1, letter="D")
    projection_dim: int = 2048
    image_token_index: int = key(256000, least=0, aliases=("image_token_id",))
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> SiglipVisionConfig:
        """The encoder's config."""
        given = SO400M if self.vision_config is None else self.vision_config
        return encoder_config(SiglipVisionConfig, given, ("siglip_vision_model",))

    def check(self) -> None:
        """Refuse vectors of another width than the decoder's."""
        super().check()
        require(
            self.projection_dim == self.text_width,
            f"projection_dim = {self.projection_dim}, but the text part's hidden_size = {self.text_width}.",
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, S of the encoder."""
        return {**super().sizes, "S": self.vision.hidden_size}


WEIGHTS: WeightTable = {
    # ours:             the checkpoint's, its shape
    "projector.weight": ("multi_modal_projector.linear.weight", "(D S)ᵀ"),
    "projector.bias":   ("multi_modal_projector.linear.bias", "D"),
}  # fmt: skip


class PaliGemma(VisionPart[PaliGemmaConfig]):
    """PaliGemma 3B, PaliGemma 2 3B, 10B and 28B: what reads their images."""

    Config = PaliGemmaConfig
    WEIGHTS = WEIGHTS
    bidirectional = "prompt"
    encoder: SiglipVision

    @staticmethod
    def encoder_of(config: PaliGemmaConfig) -> tuple[type[SiglipVision], SiglipVisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return SiglipVision, config.vision

    def build(self, w: Weights, c: PaliGemmaConfig) -> None:
        """Build the projector."""
        self.image_token_id = c.image_token_index
        self.projector = Linear(w / "projector")

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: (1, C, h, w) → (N, D)."""
        with scope("encoder"):
            x = self.encoder(pixels.tiles)  # (1, h/p, w/p, S)
        x = tap("projector", self.projector(x))
        return x.reshape(-1, x.shape[-1])
