"""The processor of a model that embeds texts and images: a tokenizer that also prepares images."""

from pathlib import Path
from typing import TYPE_CHECKING

from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.text.tokenizer import Tokenizer
from tinystar_np.text.tokenizer_settings import CONFIG_FILE, read_beside
from tinystar_np.vision.form import ImageForm
from tinystar_np.vision.processor import has_settings, not_told, read_form
from tinystar_np.vision.reading import read_image

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource


class EmbeddingProcessor(Tokenizer):
    """A tokenizer that also prepares images, for a model that embeds both.

    tokenizer  the model's tokenizer, all of whose methods the processor has
    form       how the model's images are prepared
    length     how many tokens each text is filled up to with padding; None for no padding
    pad_id     the token of padding
    pads_left  whether it stands before the text, and not after it
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        form: ImageForm,
        length: int | None = None,
        pad_id: int | None = None,
        pads_left: bool = False,
    ) -> None:
        super().__init__(tokenizer.backend, tokenizer.path, tokenizer.settings, tokenizer.rows)
        self.form, self.length, self.pad_id, self.pads_left = form, length, pad_id, pads_left
        self.has_settings = has_settings(tokenizer.path.parent)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Cut a text into tokens, and fill them up where the model has learned from texts of one length.

        Arguments and errors as of ``Tokenizer.encode``. Raises InputError for a text that is too long, too.
        """
        ids = super().encode(text, add_special_tokens)
        if self.length is None:
            return ids
        if len(ids) > self.length:
            raise InputError(
                f"The text has {len(ids)} tokens, but the model reads {self.length}. Shorten it."
            )
        if self.pad_id is None:
            raise TokenizerError(
                f"{self.path.parent}: no file names a pad_token; texts are padded to {self.length} tokens."
            )
        padding = [self.pad_id] * (self.length - len(ids))
        return padding + ids if self.pads_left else ids + padding

    def pixels(self, image: "ImageSource") -> Pixels:
        """Read an image and prepare it for the encoder.

        image  a file's name, bytes, a PIL image, or an array (H, W, 3)

        Raises InputError where it cannot be read, CheckpointError where no file says how it is prepared.
        """
        if not self.has_settings:
            raise not_told(self.path.parent)
        return self.form.pixels(read_image(image))


def embedding_processor(
    tokenizer: Tokenizer, directory: Path, config: JsonObject, length: int | None, pad_id: int | None
) -> EmbeddingProcessor:
    """Return the processor of a model that embeds texts and images.

    tokenizer  its tokenizer, whose pad_token is used before ``pad_id``
    directory  holds preprocessor_config.json, and tokenizer_config.json, which may say ``padding_side``
    config     the whole config.json
    length     as of ``EmbeddingProcessor``
    pad_id     the padding by config.json

    Raises ConfigError for settings that are not implemented, CheckpointError or TokenizerError where the
    files are damaged.
    """
    name = tokenizer.settings.special_tokens.get("pad_token")
    named = None if name is None else tokenizer.backend.token_to_id(name)
    side = read_beside(directory, CONFIG_FILE).get("padding_side", "right")
    if side not in ("left", "right"):
        raise TokenizerError(
            f"{directory / CONFIG_FILE}: padding_side is {shown(side)}, but it must be left or right."
        )
    form = read_form(tokenizer, directory, config)
    return EmbeddingProcessor(tokenizer, form, length, pad_id if named is None else named, side == "left")
