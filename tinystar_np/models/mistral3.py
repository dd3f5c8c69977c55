"""Mistral Small 3.1 (Mistral AI 2025): images of any size and shape, four patches in a vector.

    image → encoder → h × w vectors → norm → patch merger (2) → h/2 × w/2 → W → GELU → W → vectors of width D

| encoder           | projector                    | places                          | decoder              |
|-------------------|------------------------------|---------------------------------|----------------------|
| Pixtral, any size | norm, patch merger, 2 layers | one a 28 × 28 square, one a row | Mistral; Ministral 3 |

New in it, beside Pixtral 12B: the patch merger. An image of 1540 × 1540 pixels, the largest, is 12 100
patches, and as many places would fill a context with a few images. The vectors of 2 × 2 neighbours become one
of four times the width, which a matrix maps back to the encoder's: a quarter of the places. The tokens that
end the rows are those of Pixtral 12B (Agrawal et al. 2024, arXiv:2410.07073), which is published as a LLaVA.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.pixel_shuffle import pixel_shuffle_by_channel
from tinystar_np.layers.basic import FeedForward, Linear, RMSNorm
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import Config, activation_key, key, require
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.models.vision.pixtral_vision import PixtralVision, PixtralVisionConfig
from tinystar_np.models.vision_part import VisionPart, encoder_config
from tinystar_np.tap import scope, tap

USUAL_VISION = {"patch_size": 14}
"""What differs from the encoder's own defaults where a config.json has no vision_config."""
USUAL_EPS = {"mistral": 1e-6, "ministral3": 1e-5, "mistral4": 1e-6}
"""The decoder's epsilon where its config says none."""


@dataclass(frozen=True)
class Mistral3Config(Config):
    """The keys of a Mistral 3 config.json that concern images; defaults as in transformers.

    The projector's norm has the decoder's epsilon, that of ``text_config``.
    """

    text_width: int = key(1, letter="D")
    image_token_id: int = key(10, least=0, aliases=("image_token_index",))
    spatial_merge_size: int = key(2, least=1)
    vision_feature_layer: int | list[int] = -1
    projector_hidden_act: str = activation_key("gelu")
    multimodal_projector_bias: bool = False
    text_config: JsonObject | None = None
    vision_config: JsonObject | None = None

    @property
    def vision(self) -> PixtralVisionConfig:
        """The encoder's config."""
        given = USUAL_VISION if self.vision_config is None else self.vision_config
        return encoder_config(PixtralVisionConfig, given, ("pixtral",))

    @property
    def norm_eps(self) -> float:
        """The epsilon of the projector's norm."""
        text = self.text_config or {}
        return float(text.get("rms_norm_eps", USUAL_EPS[text.get("model_type", "mistral")]))

    @property
    def feature_layer(self) -> int:
        """After how many blocks of the encoder its vectors are taken; negative ones count from the last."""
        listed = self.vision_feature_layer
        return listed[0] if isinstance(listed, list) and listed else listed  # type: ignore[return-value]

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters: D of the decoder, S of the encoder, M of what the patch merger reads."""
        S = self.vision.hidden_size
        return {**super().sizes, "S": S, "M": S * self.spatial_merge_size**2}

    def check(self) -> None:
        """Refuse vectors of a block that the encoder does not have, or of several."""
        super().check()
        L, listed = self.vision.num_hidden_layers, self.vision_feature_layer
        numbers = listed if isinstance(listed, list) else [listed]
        require(
            len(numbers) == 1 and type(numbers[0]) is int and -L - 1 <= numbers[0] <= L,
            f"vision_feature_layer = {shown(listed)}, but it must be one number from {-L - 1} to {L}, as the "
            f"encoder has {L} blocks.",
        )


WEIGHTS: WeightTable = {
    # ours:                  the checkpoint's, its shape, when it is there
    "projector.norm.gain":   ("multi_modal_projector.norm.weight", "S"),
    "projector.merge.weight": ("multi_modal_projector.patch_merger.merging_layer.weight", "(S M)ᵀ"),
    "projector.up.weight":   ("multi_modal_projector.linear_1.weight", "(D S)ᵀ"),
    "projector.up.bias":     ("multi_modal_projector.linear_1.bias", "D", "multimodal_projector_bias"),
    "projector.down.weight": ("multi_modal_projector.linear_2.weight", "(D D)ᵀ"),
    "projector.down.bias":   ("multi_modal_projector.linear_2.bias", "D", "multimodal_projector_bias"),
}  # fmt: skip


class Mistral3(VisionPart[Mistral3Config]):
    """Mistral Small 3.1 and 3.2, Ministral 3: what reads their images."""

    Config = Mistral3Config
    WEIGHTS = WEIGHTS
    encoder: PixtralVision

    @staticmethod
    def encoder_of(config: Mistral3Config) -> tuple[type[PixtralVision], PixtralVisionConfig]:
        """Return the class of the encoder, and its checked config."""
        return PixtralVision, config.vision

    def build(self, w: Weights, c: Mistral3Config) -> None:
        """Build the norm, the patch merger and the two layers after it."""
        self.image_token_id = c.image_token_id
        self.norm = RMSNorm(w / "projector.norm", eps=c.norm_eps)
        self.merge = Linear(w / "projector.merge")
        self.projector = FeedForward(w / "projector", ACTIVATIONS[c.projector_hidden_act])

    def vectors(self, pixels: Pixels) -> NDArray[np.float32]:
        """Encode one image: (1, C, h, w) → (h/pf · w/pf, D), row by row."""
        with scope("encoder"):
            x = self.encoder(pixels.tiles, self.config.feature_layer)  # (1, h/p, w/p, S)
        x = tap("projector_norm", self.norm(x))
        x = tap("patch_merger", self.merged(x))  # (1, h/pf, w/pf, S)
        with scope("projector"):
            x = self.projector(x)
        return x.reshape(-1, x.shape[-1])

    def merged(self, x: NDArray) -> NDArray:
        """Merge squares of f × f neighbours: (1, h, w, S) → (1, h/f, w/f, S).

        What is left of a square at the right and below is cut off.
        """
        f = self.config.spatial_merge_size
        rows, columns = (count // f * f for count in x.shape[1:3])
        return self.merge(pixel_shuffle_by_channel(x[:, :rows, :columns], f))
