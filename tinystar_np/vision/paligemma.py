"""PaliGemma's prompts: images, the start token, the text, and the end of a line."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinystar_np.models.vision.pixels import Pixels, Prompt
from tinystar_np.text.tokenizer import Tokenizer
from tinystar_np.vision.processor import Processor
from tinystar_np.vision.siglip import PaliGemmaImages

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource


class PaliGemmaProcessor(Processor):
    """A processor that writes the start token after the last image, where the model learned to see it.

    form  PaliGemma's, which knows what stands around a text
    """

    def __init__(self, tokenizer: Tokenizer, form: PaliGemmaImages) -> None:
        super().__init__(tokenizer, form)
        self.complete = form.complete

    def prompt(
        self, text: str, images: Sequence["ImageSource | Pixels"] = (), add_special_tokens: bool = True
    ) -> Prompt:
        """Cut a text with images into tokens.

        add_special_tokens  whether this begins the whole text: the start token is put after its last image,
                            and the end of a line after all of it

        The other arguments, the result and the errors are those of ``Processor.prompt``.
        """
        if add_special_tokens:
            marked = text if self.form.mark in text else self.form.before(len(images)) + text
            text = self.complete(marked)
        return super().prompt(text, images, add_special_tokens=False)
