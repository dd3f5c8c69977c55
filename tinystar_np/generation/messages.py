"""The messages of a conversation: a text each, or parts, of which some are images.

    {"role": "user", "content": "Hello"}
    {"role": "user", "content": [{"type": "image", "image": "cat.jpg"}, {"type": "text", "text": "Who?"}]}

An image is a file's name, bytes, a PIL image or an array (H, W, 3), under "image", "path" or "url" (the name
of a file: nothing is fetched from the network), or "base64", the text of a file's bytes. As OpenAI's clients
write it: {"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}.
"""

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.vision.form import CUT

if TYPE_CHECKING:
    from tinystar_np.vision.reading import ImageSource

Message = dict[str, Any]
Part = dict[str, Any]
IMAGE_KEYS = ("image", "path", "url", "base64", "image_url")


def user_message(text: str, images: Sequence["ImageSource"] = (), mark: str | None = None) -> Message:
    """Make the user's message of a text and images.

    images  as many as the text has marks; where it has none they stand before it
    mark    the text at the place of an image; None for a model that has none

    Raises InputError where there are more images than marks, or fewer.
    """
    check_is_list(images)
    if len(images) == 0:
        return {"role": "user", "content": text}
    texts = text.split(mark) if mark and mark in text else [*[""] * len(images), text]
    if len(texts) - 1 != len(images):
        from tinystar_np.vision.processor import wrong_number  # late: few messages have images

        raise wrong_number("message", len(texts) - 1, len(images), str(mark))
    parts: list[Part] = [{"type": "text", "text": texts[0]}]
    for image, after in zip(images, texts[1:], strict=True):
        parts += {"type": "image", "image": image}, {"type": "text", "text": after}
    return {"role": "user", "content": [part for part in parts if part.get("text") != ""]}


def check_is_list(images: object) -> None:
    """Raise InputError where images are not given as a list, as one alone is easily given."""
    if not isinstance(images, list | tuple):
        raise InputError(f'images must be a list, as images=["cat.jpg"]; found {shown(images)}')


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, without its images; none where it is a call alone."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part.get("type") == "text")


def image_parts(messages: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Return the parts of messages that are images, in their order."""
    contents = [message.get("content") for message in messages]
    return [
        part
        for content in contents
        if content is not None and not isinstance(content, str)
        for part in content
        if _is_image(part)
    ]


def check_message(message: Mapping[str, Any]) -> None:
    """Raise InputError where a message's content is neither text nor parts that are text or images.

    A message that calls tools may have none.
    """
    content = message.get("content")
    if isinstance(content, str) or (content is None and message.get("tool_calls")):
        return
    if not isinstance(content, list | tuple) or not content:
        raise InputError(f"A message's content is a text or a list of parts; found {shown(content)}")
    for part in content:
        if not _is_text(part) and not _is_image(part):
            raise InputError(
                'A part of a message is {"type": "text", "text": "…"} or {"type": "image", "image": '
                f'"cat.jpg"}}; found {shown(part)}'
            )


def given_in(part: Mapping[str, Any]) -> Any:
    """Return what a part names as its image, as it stands there."""
    name = next(key for key in IMAGE_KEYS if part.get(key) is not None)
    found = part[name]
    return found.get("url") if name == "image_url" and isinstance(found, Mapping) else found


def source_of(part: Mapping[str, Any]) -> "ImageSource":
    """Return the image of a part, as ``read_image`` takes it; raises InputError where it would be fetched."""
    found = given_in(part)
    if part.get("base64") is found or (isinstance(found, str) and found.startswith("data:")):
        return _from_base64(found)
    if isinstance(found, str) and found.startswith(("http://", "https://")):
        raise InputError(
            f"{shown(found)}: nothing is fetched from the network. Download it, and name the file."
        )
    if isinstance(found, str) and found.startswith("file:"):
        return _path_of(found)
    return found


def _path_of(address: str) -> str:
    """Return the path that a file: address names, as in file:///home/me/my%20cat.jpg."""
    from urllib.parse import unquote, urlsplit  # late: few conversations have such addresses

    parts = urlsplit(address)
    return unquote(parts.netloc.removeprefix("localhost") + parts.path)


def _from_base64(text: Any) -> bytes:
    """Return the bytes that base64 stands for, in lines or not, or a data: address with it."""
    try:
        letters = text if isinstance(text, bytes) else str(text).rpartition(",")[2].encode("ascii")
        return base64.b64decode(b"".join(letters.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"An image's base64 is damaged: {shown(text)}") from None


def to_save(message: Message) -> Message:
    """Return a message as JSON can hold it: an image by its file's name, or as PNG in base64."""
    if message.get("content") is None or isinstance(message["content"], str):
        return message
    return {**message, "content": [_saved(p) if _is_image(p) else p for p in message["content"]]}


def _saved(part: Part) -> Part:
    source = source_of(part)
    if isinstance(source, str | Path):
        return {"type": "image", "path": str(Path(source).absolute())}
    from tinystar_np.vision.pillow import require_pillow
    from tinystar_np.vision.reading import read_image

    require_pillow()
    from PIL import Image

    file = BytesIO()
    Image.fromarray(read_image(source)).save(file, "PNG")
    return {"type": "image", "base64": base64.b64encode(file.getvalue()).decode()}


def cut_marks(text: str, marks: Collection[str]) -> str:
    """Put a cut within each word that would stand for an image: so it is the letters that the model wrote.

    Without it, an answer about the word itself would ask for an image that nobody gave.
    """
    for mark in marks:
        text = text.replace(mark, f"{mark[:1]}{CUT}{mark[1:]}")
    return text


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _is_image(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and part.get("type") in ("image", "image_url")
        and any(part.get(key) is not None for key in IMAGE_KEYS)
    )
