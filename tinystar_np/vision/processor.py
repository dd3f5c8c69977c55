"""The processor: a tokenizer that also takes images.

A prompt names the places of its images by a mark, such as <image>. Each mark is expanded to a token for every
vector that the encoder makes of the image, and the tokens that the model was trained to see around them.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinystar_np.amounts import counted
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import JsonObject, one_line, read_json_object, shown
from tinystar_np.errors import CheckpointError, ConfigError, InputError
from tinystar_np.models.vision.pixels import ImageInput, Pixels, Prompt
from tinystar_np.text.chat_template import ChatTemplate, load_chat_template
from tinystar_np.text.tokenizer import Tokenizer
from tinystar_np.vision.form import CUT, Form
from tinystar_np.vision.reading import read_image
from tinystar_np.vision.settings import Settings
from tinystar_np.vision.steps import image_processor

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
CLIP = {"CLIPImageProcessor": "clip.ClipImages"}
IDEFICS3 = dict.fromkeys(("Idefics3ImageProcessor", "SmolVLMImageProcessor"), "idefics3.Idefics3Images")
LLAVA = dict.fromkeys(
    ("CLIPImageProcessor", "LlavaImageProcessor", "SiglipImageProcessor"), "llava.LlavaImages"
)
PIXTRAL = {"PixtralImageProcessor": "pixtral.PixtralImages"}
# The second is what the first files of Qwen2.5-VL call it.
QWEN = dict.fromkeys(("Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor"), "qwen2_vl.Qwen2VLImages")
SIGLIP = {"SiglipImageProcessor": "siglip.SiglipImages"}
FORMS = {
    "clip": CLIP | SIGLIP,
    "gemma3": {"Gemma3ImageProcessor": "gemma3.Gemma3Images"},
    "idefics3": IDEFICS3,
    "llama4": {"Llama4ImageProcessor": "llama4.Llama4Images"},
    "llava": LLAVA | PIXTRAL,
    "llava_next": {"LlavaNextImageProcessor": "llava_next.LlavaNextImages"},
    "mistral3": PIXTRAL,
    "paligemma": {"SiglipImageProcessor": "paligemma.PaliGemmaImages"},
    "qwen2_5_vl": QWEN,
    "qwen2_vl": QWEN,
    "qwen3_vl": QWEN,
    "qwen3_vl_moe": QWEN,
    "siglip": SIGLIP | CLIP,
    "smolvlm": IDEFICS3,
    "vipllava": LLAVA,
}
"""{``model_type``: {image processor of transformers: the class here}}; the first is that of files which name
none."""
PROCESSORS = {"paligemma": "paligemma.PaliGemmaProcessor"}
"""The processor of a ``model_type`` whose prompts have more around an image than its form writes."""


class Processor(Tokenizer):
    """A tokenizer that also takes images.

    tokenizer  the model's tokenizer, all of whose methods the processor has
    form       how the model's images are prepared
    """

    def __init__(self, tokenizer: Tokenizer, form: Form) -> None:
        super().__init__(tokenizer.backend, tokenizer.path, tokenizer.settings, tokenizer.rows)
        self.form = form
        self.has_settings = has_settings(tokenizer.path.parent)

    def pixels(self, image: "ImageSource") -> Pixels:
        """Read an image and prepare it for the encoder.

        Raises InputError where it cannot be read, CheckpointError where no file says how it is prepared.
        """
        if not self.has_settings:
            raise not_told(self.path.parent)
        return self.form.pixels(read_image(image))

    def tokens_of(self, pixels: Pixels) -> int:
        """Return how many tokens of a prompt an image takes, those around it included."""
        return len(self.encode(self.form.text(pixels), add_special_tokens=False))

    def prompt(
        self, text: str, images: Sequence["ImageSource | Pixels"] = (), add_special_tokens: bool = True
    ) -> Prompt:
        """Cut a text with images into tokens.

        text                the text, with a mark (``form.mark``) at the place of each image; without any, the
                            images stand before it
        images              as many as marks: files' names, bytes, PIL images, arrays (H, W, 3), or what
                            ``pixels`` made of them
        add_special_tokens  as in ``encode``

        Raises InputError where there are more images than marks, or fewer, or an image cannot be read.
        """
        parts = text.split(self.form.mark)
        if len(parts) == 1 and images:
            parts = (self.form.before(len(images)) + text).split(self.form.mark)
        if len(parts) - 1 != len(images):
            raise wrong_number("prompt", len(parts) - 1, len(images), self.form.mark)
        prepared = [each if isinstance(each, Pixels) else self.pixels(each) for each in images]
        written = [self.form.text(pixels) for pixels in prepared]
        whole = "".join(part for pair in zip(parts, [*written, ""], strict=True) for part in pair)
        ids = self._encoded(whole, add_special_tokens)
        places = np.flatnonzero(np.asarray(ids) == self.image_token_id)
        counts = [each.count(self.form.image_token) for each in written]
        if len(places) != sum(counts):
            raise InputError(
                f"The prompt has {counted(len(places), 'image token')} ({shown(self.form.image_token)}), "
                f"but its images take {sum(counts)}. Leave that token out of the text."
            )
        ends = np.cumsum([0, *counts]).tolist()
        return Prompt(
            ids,
            tuple(
                ImageInput(pixels, places[start:end])
                for pixels, start, end in zip(prepared, ends, ends[1:], strict=False)
            ),
        )

    def _encoded(self, text: str, add_special_tokens: bool) -> list[int]:
        """Cut a text into tokens, none of which goes across a ``CUT``."""
        first, *rest = text.split(CUT)
        ids = self.encode(first, add_special_tokens)
        return ids + [id for part in rest for id in self.encode(part, add_special_tokens=False)]

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The processor's chat template, else the tokenizer's; TokenizerError where its file is damaged."""
        return load_chat_template(self.path, self.settings, sees=True)

    @property
    def image_token_id(self) -> int:
        """The id of the token that stands for a vector of an image; ConfigError where there is none."""
        found = self.backend.token_to_id(self.form.image_token)
        if found is None:
            raise ConfigError(
                f"{self.path}: has no token {shown(self.form.image_token)}, which stands for an image."
            )
        return found


def wrong_number(what: str, places: int, images: int, mark: str) -> InputError:
    """Return the error for a prompt, or a message, with more images than places for them, or fewer."""
    named, given = counted(places, "image"), counted(images, "image")
    return InputError(
        f"The {what} has places for {named} ({shown(mark)}), but {given} "
        f"{'was' if images == 1 else 'were'} given."
    )


def read_processor(tokenizer: Tokenizer, directory: Path, config: JsonObject) -> Processor:
    """Return the processor of a model of text and images.

    tokenizer  its tokenizer
    directory  holds preprocessor_config.json, or processor_config.json with the same within
    config     the whole config.json

    Where neither is there, the model still reads text.

    Raises ConfigError for settings that are not implemented, CheckpointError where the files are damaged.
    """
    kind: type[Processor] = _class_named(PROCESSORS.get(config["model_type"], "processor.Processor"))
    return kind(tokenizer, read_form(tokenizer, directory, config))


def read_form(tokenizer: Tokenizer, directory: Path, config: JsonObject) -> Form:
    """Read how a model's images are prepared; arguments and errors as of ``read_processor``."""
    return form_in(directory, config, tokenizer.settings.special_tokens)


def has_settings(directory: Path) -> bool:
    """Say whether a directory has a file that says how images are prepared."""
    return (directory / PREPROCESSOR).exists() or "image_processor" in _read_if_there(directory, PROCESSOR)


def form_in(directory: Path, config: JsonObject, special_tokens: Mapping[str, str] | None = None) -> Form:
    """Read how a model's images are prepared, where its tokenizer is not at hand.

    special_tokens  those that the tokenizer's files name; without them the texts around images may be others

    The other arguments and the errors are those of ``read_processor``.
    """
    settings: JsonObject = {**(special_tokens or {}), **_settings(directory)}
    known = FORMS[config["model_type"]]
    file = Settings(settings, one_line(directory / PREPROCESSOR))
    name = image_processor(file, next(iter(known)), tuple(known))
    form: type[Form] = _class_named(known[name])
    return form.read(settings, config) if has_settings(directory) else form()


def not_told(directory: Path) -> CheckpointError:
    """Return the error for an image that nobody knows how to prepare: other numbers give other answers."""
    return CheckpointError(
        f"{directory}: has no {PREPROCESSOR}, which says how images are prepared.\n"
        "Download it from where the model comes from. Text is read without it."
    )


def _class_named(name: str) -> Any:
    module, _, class_name = name.partition(".")
    return getattr(import_module(f"tinystar_np.vision.{module}"), class_name)


def _settings(directory: Path) -> JsonObject:
    """Read how images are prepared: an image_processor of processor_config.json, else the older file."""
    older, newer = (_read_if_there(directory, name) for name in (PREPROCESSOR, PROCESSOR))
    within = newer.pop("image_processor", None)
    return {**(within if isinstance(within, dict) else older), **newer}


def _read_if_there(directory: Path, name: str) -> JsonObject:
    return read_json_object(file_inside(directory, name)) if (directory / name).exists() else {}
