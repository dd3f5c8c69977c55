"""Prompts of conversations: OpenAI's messages as the model's chat template writes them, as tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation.content_form import ContentForms
from tinystar_np.generation.image_prompt import encode_with_images, seeing
from tinystar_np.models.vision.pixels import Prompt
from tinystar_np.serving.api_errors import api_error_of, wrong
from tinystar_np.serving.bodies import checked
from tinystar_np.serving.served import Served
from tinystar_np.serving.tool_schema import EarlierCall
from tinystar_np.text.chat_template import ChatTemplate

ROLES = ("system", "developer", "user", "assistant", "tool")
TEXTS = ("text", "input_text", "output_text")  # types of parts; the last two are of OpenAI's other interface
IMAGE = "image_url"
MOST_MESSAGES = 10_000


def chat_prompt(
    served: Served,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    add_special_tokens: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> Prompt:
    """Write a conversation as tokens.

    messages   in OpenAI's form
    variables  further variables of the template
    others     as in ``ChatTemplate.render`` and ``Tokenizer.encode``

    Returns the ids, and the images that stand in them. Raises the ApiError that says which message is wrong.
    """
    template = served.tokenizer.chat_template
    if template is None:
        words = f"{served.last_part} has no chat template: it only continues texts, at /v1/completions."
        raise wrong("messages", words, "no_chat_template")
    if not messages or len(messages) > MOST_MESSAGES:
        raise wrong("messages", f"messages must have 1 to {MOST_MESSAGES} messages; it has {len(messages)}.")
    processor = seeing(served.tokenizer)
    images: list[str] = []
    plain = [_plain(each, f"messages[{i}]", template, images) for i, each in enumerate(messages)]
    if images and processor is None:
        raise wrong("messages", f"{served.last_part} reads text alone: it cannot be given images.")
    if processor is None:
        plain = [_with_text(each) for each in plain]
    else:
        plain = ContentForms(template, {processor.form.mark, processor.form.image_token}).given(plain)
    names = {name: value for name, value in (variables or {}).items() if name not in RESERVED}
    try:
        text = template.render(
            plain,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **names,
        )
        pixels = [] if processor is None else [processor.pixels(_bytes(image)) for image in images]
        return encode_with_images(
            *(served.model, served.tokenizer, text, pixels, "The conversation"),
            add_special_tokens=add_special_tokens,
        )
    except TinyStarError as error:
        raise api_error_of(error, "messages") from error


RESERVED = ("messages", "add_generation_prompt", "chat_template", "continue_final_message")
"""Arguments of ``render`` that a request cannot set as the template's variables."""


def ends_of_messages(served: Served, ids: Sequence[int]) -> list[int]:
    """Return the lengths of a prompt at which messages end: other conversations may share it so far."""
    ends = {*served.model.end_ids, served.tokenizer.end_id}
    return [i + 1 for i, id in enumerate(ids[:-1]) if id in ends]


def _plain(
    message: Mapping[str, Any], place: str, template: ChatTemplate, images: list[str]
) -> dict[str, Any]:
    """Check one message; its images are added to a list."""
    role = message.get("role")
    if role not in ROLES:
        raise wrong(f"{place}.role", f"{place}.role is {role!r:.40}; it must be one of {', '.join(ROLES)}.")
    if role == "developer" and not any("developer" in source for source in template.sources.values()):
        role = "system"  # its older name, which nearly all templates know
    _check_calls(message.get("tool_calls"), f"{place}.tool_calls")
    content = message.get("content")
    if isinstance(content, list) and content:
        content = [_part(part, f"{place}.content[{i}]", images) for i, part in enumerate(content)]
    elif content is None and role == "assistant" and message.get("tool_calls"):
        pass
    elif not isinstance(content, str):
        words = f"{place}.content is {content!r:.40}; it must be a text or a list of parts."
        raise wrong(f"{place}.content", words)
    return {**message, "role": role, "content": content}


def _check_calls(calls: Any, place: str) -> None:
    """Check the calls in an earlier answer."""
    if calls is None:
        return
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise wrong(place, f"{place} must be a list of calls.")
    for i, call in enumerate(calls):
        checked(EarlierCall, call, f"{place}[{i}]")


def _part(part: Any, place: str, images: list[str]) -> dict[str, Any]:
    """Check one part of a message."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in TEXTS and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return {"type": "text", "text": part["refusal"]}
    if kind == IMAGE:
        given = part.get(IMAGE)
        address = given.get("url") if isinstance(given, Mapping) else given
        if not isinstance(address, str) or not address.startswith("data:"):
            words = f"{place}.{IMAGE} must be a data: address, as nothing is fetched from the network."
            raise wrong(f"{place}.{IMAGE}", words)
        images.append(address)
        return {"type": "image_url", IMAGE: {"url": address}}
    raise wrong(place, f"{place} must be a text or an {IMAGE}; its type is {kind!r:.40}.")


def _with_text(message: dict[str, Any]) -> dict[str, Any]:
    """Join a message's parts, a line each, as vLLM does: templates of text alone take texts."""
    content = message["content"]
    if isinstance(content, list):
        return {**message, "content": "\n".join(part["text"] for part in content)}
    return message


def _bytes(address: str) -> bytes:
    """Return the bytes that a data: address holds."""
    import base64
    import binascii

    try:
        return base64.b64decode("".join(address.rpartition(",")[2].split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("An image's data: address is no valid base64. Encode its file again.") from None
