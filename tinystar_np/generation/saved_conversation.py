"""Conversations in files: readable JSON, and the cache beside it where that is wanted.

    {
      "format": "tinystar_np conversation 1",
      "model": "smollm2",
      "settings": {"temperature": 0.8, "seed": 5},
      "messages": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"}
      ]
    }

Only "messages" is needed, so that conversations of other programs, or written by hand, can be resumed.
An image that is no longer where it was is looked for beside the file: a folder with both may be moved.
"random" is where the stream of random numbers has arrived: a resumed conversation goes on as if it had not
been left. "left_out" counts the oldest messages that are no longer before the model.

Without its cache a conversation is read again, which gives the same. The cache is in a file beside it
(talk.json, talk.cache.safetensors), and "cache" has the tokens that it holds, and its hash: a cache of
another conversation would change the answers without a trace.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinystar_np.checkpoints.json_file import JsonObject, read_json_object, shown
from tinystar_np.errors import CheckpointError, InputError
from tinystar_np.generation.conversation import Conversation
from tinystar_np.generation.full_context import system_length
from tinystar_np.generation.messages import Message, check_message, to_save
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.models import Decoder
from tinystar_np.whole_file import whole_file

FORMAT = "tinystar_np conversation 1"
ROLES = ("system", "user", "assistant")
NOT_ONE = 'A saved conversation is expected: a JSON object with "messages".'


@dataclass(frozen=True)
class Saved:
    """What a file holds, checked.

    messages  the conversation
    model     the model's name, None where the file names none
    settings  of sampling, those that the file names
    left_out  how many of the oldest messages are left out
    seed, rng the seed, and the random generator where it has arrived; None for none
    tokens    those that the cache beside it holds, and perhaps more; None where none was saved
    digest    SHA-256 of that file
    """

    messages: list[Message]
    model: str | None = None
    settings: Sampling = field(default_factory=lambda: Sampling())
    left_out: int = 0
    seed: int | None = None
    rng: "np.random.Generator | None" = None
    tokens: list[int] | None = None
    digest: str | None = None


def cache_beside(path: Path) -> Path:
    """Return the path of a conversation's cache."""
    return path.with_suffix(".cache.safetensors")


def save_conversation(
    conversation: Conversation,
    path: Path,
    model: str | None = None,
    settings: Sampling | None = None,
    with_cache: bool = False,
) -> None:
    """Write a conversation to a file.

    path        new, or an older saved conversation, which is replaced
    model       the model's name, and the settings, to be resumed with
    with_cache  whether to write the cache too, which may be large

    Raises InputError where the file is something else, CheckpointError where it cannot be written.
    """
    check_free(path)
    content: JsonObject = {"format": FORMAT}
    if model is not None:
        content["model"] = model
    if settings:
        named: JsonObject = {name: value for name, value in settings.items() if value not in (None, [])}
        if "logit_bias" in named:  # as pairs: the keys of JSON are texts
            named["logit_bias"] = SamplingOptions(logit_bias=named["logit_bias"]).biases
        content["settings"] = named
    if conversation.left_out:
        content["left_out"] = conversation.left_out
    if conversation.rng is not None:
        state = conversation.rng.bit_generator.state["state"]
        content["random"] = {"seed": conversation.seed, "state": state["state"], "increment": state["inc"]}
    cache = conversation.read.cache
    if with_cache and cache is not None:
        beside = cache_beside(path)
        cache.save(beside)
        content["cache"] = {"sha256": _digest(beside), "tokens": conversation.read.ids}
    content["messages"] = [to_save(message) for message in conversation.messages]
    with whole_file(path) as file:
        # A file's name may have bytes that are no text: JSON writes those as \\udcff.
        file.write(_readable(content).encode(errors="backslashreplace"))


def read_conversation(path: Path) -> Saved:
    """Read a conversation; raises CheckpointError where the file is missing or damaged, or is none."""
    content = read_json_object(path, remedy=NOT_ONE)
    if content.get("format", FORMAT) != FORMAT:
        raise CheckpointError(f"{path}: 'format' is {shown(content['format'])}, expected {FORMAT!r}.")
    messages = content.get("messages")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise CheckpointError(
            f"{path}: 'messages' is {shown(messages)}, expected a list of objects with a 'role' "
            f"({', '.join(ROLES)}) and a 'content', which is text, or a list of texts and images."
        )
    messages = [{"role": each["role"], "content": _found(each["content"], path.parent)} for each in messages]
    roles = [message["role"] for message in messages]
    if "system" in roles[1:] or "assistant" in roles[: system_length(messages)]:
        raise CheckpointError(f"{path}: a conversation begins with the system message, if any, and the user.")
    try:
        return _checked(content, messages)
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise CheckpointError(
            f"{path}: is damaged ({type(error).__name__}: {shown(str(error))}).\n"
            "Take out all but its messages: these are enough."
        ) from error


def resume(conversation: Conversation, saved: Saved, path: Path, model: Decoder) -> str | None:
    """Let a conversation go on where the saved one was left.

    path   the file
    model  the conversation's, which loads the cache

    Returns why the saved cache is not used; None where it is, or none was saved.
    """
    conversation.messages = list(saved.messages)
    conversation.reset(keep=True)
    conversation.left_out = saved.left_out
    conversation.seed, conversation.rng = saved.seed, saved.rng
    if saved.tokens is None:
        return None
    beside = cache_beside(path)
    try:
        if _digest(beside) != saved.digest:
            return f"{beside} is not the cache of this conversation: it is read again."
        cache = model.load_cache(beside)
    except (OSError, CheckpointError) as error:
        return f"{error} The conversation is read again."
    if cache.batch_size != 1 or int(cache.lengths[0]) > len(saved.tokens):
        return f"{beside} does not hold the tokens of this conversation: it is read again."
    conversation.read.hold(saved.tokens, cache)
    return None


def check_free(path: Path) -> None:
    """Raise InputError where a file is there that is no saved conversation."""
    try:
        if not path.exists() or read_json_object(path).get("format") == FORMAT:
            return
    except CheckpointError:
        pass
    raise InputError(f"{path}: it exists and is no saved conversation. Choose another name.")


def _found(content: Any, folder: Path) -> Any:
    """Return a message's content with the images that lie beside the conversation, moved there with it."""
    if isinstance(content, str):
        return content
    return [_part_found(part, folder) for part in content]


def _part_found(part: Any, folder: Path) -> Any:
    key = next((key for key in ("path", "image", "url") if isinstance(part.get(key), str)), None)
    if part["type"] != "image" or key is None:
        return part
    name, beside = Path(part[key]), folder / Path(part[key]).name
    try:
        moved = not name.is_file() and beside.is_file()
    except (OSError, ValueError):  # a name that is too long, or none
        moved = False
    return {**part, key: str(beside)} if moved else part


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        return False
    try:
        check_message(value)
    except InputError:
        return False
    return True


def _checked(content: JsonObject, messages: list[Message]) -> Saved:
    """Check all but the messages; raises any error where something is wrong."""
    settings = Sampling(**content.get("settings", {}))  # type: ignore[typeddict-item]
    SamplingOptions(**settings)
    model, left_out = content.get("model"), content.get("left_out", 0)
    if not (model is None or isinstance(model, str)) or type(left_out) is not int:
        raise ValueError("'model' must be a name, 'left_out' a number")
    if not 0 <= left_out <= len(messages):
        raise ValueError(f"'left_out' is {left_out}")
    rest = messages[system_length(messages) + left_out :]
    if left_out and rest and rest[0]["role"] != "user":
        raise ValueError(f"'left_out' is {left_out}, which leaves an answer without its message")
    seed, rng = None, None
    if "random" in content:
        seed, rng = content["random"]["seed"], np.random.default_rng(0)
        SamplingOptions(seed=seed)
        numbers = {"state": content["random"]["state"], "inc": content["random"]["increment"]}
        if not all(type(number) is int and 0 <= number < 2**128 for number in numbers.values()):
            raise ValueError("'random' must have two numbers below 2^128")
        rng.bit_generator.state = {**rng.bit_generator.state, "state": numbers}
    tokens, digest = None, None
    if "cache" in content:
        tokens, digest = content["cache"]["tokens"], str(content["cache"]["sha256"])
        if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
            raise ValueError("the cache's 'tokens' must be a list of ids")
    return Saved(messages, model, settings, left_out, seed, rng, tokens, digest)


def _readable(content: JsonObject) -> str:
    """Write JSON with a line for each key, and for each message."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value, ensure_ascii=False)
        if key == "messages" and value:
            text = "[\n" + ",\n".join(f"    {json.dumps(m, ensure_ascii=False)}" for m in value) + "\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
