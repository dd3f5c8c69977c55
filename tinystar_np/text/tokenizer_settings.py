"""What the small files beside a vocabulary say: special tokens, and what to put at the ends of a text.

`tokenizer_config.json` is the main one. Older models say the names of their special tokens in
`special_tokens_map.json` and list tokens added after training in `added_tokens.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import read_json_object
from tinystar_np.errors import CheckpointError, TokenizerError

CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class TokenizerSettings:
    """The settings of one tokenizer.

    special_tokens    {"bos_token": "<s>", …}, by the names that they have in files and in chat templates
    added             {id: token}: what is cut out of a text before anything else
    add_bos, add_eos  whether bos_token begins and eos_token ends every text; a tokenizer.json says it itself
    legacy            a sentencepiece vocabulary puts a space in front of what follows a special token
    chat_template     as tokenizer_config.json has it
    """

    special_tokens: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[int, AddedToken] = field(default_factory=dict)
    add_bos: bool = False
    add_eos: bool = False
    legacy: bool = False
    chat_template: Any = None


def read_settings(directory: Path) -> TokenizerSettings:
    """Read the settings beside a vocabulary; what no file says has the defaults of transformers.

    Raises TokenizerError where a file is damaged.
    """
    config = _read(directory, CONFIG_FILE)
    special = _special(config)
    added: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in config:
        source = directory / CONFIG_FILE
        for id, token in _object(config["added_tokens_decoder"], source, "added_tokens_decoder").items():
            added[_id(id, source)] = _added_token(token, source)
    else:
        special |= _special(_read(directory, SPECIAL_FILE))
        source = directory / ADDED_FILE
        for text, id in _read(directory, ADDED_FILE).items():
            is_special = text in special.values()
            added[_id(id, source)] = AddedToken(text, special=is_special, normalized=not is_special)
    return TokenizerSettings(
        special_tokens=special,
        added=added,
        add_bos=config.get("add_bos_token") is True,
        add_eos=config.get("add_eos_token") is True,
        legacy=config.get("legacy") is True,
        chat_template=config.get("chat_template"),
    )


def _read(directory: Path, name: str) -> dict[str, Any]:
    """Read a JSON file of the directory; an empty object where there is none."""
    if not (directory / name).exists():
        return {}
    try:
        return read_json_object(file_inside(directory, name))
    except CheckpointError as error:
        raise TokenizerError(str(error)) from error


def _special(values: dict[str, Any]) -> dict[str, str]:
    """Choose the special tokens from a file's keys: texts under names that end in _token."""
    return {
        name: text for name, token in values.items() if name.endswith("_token") and (text := _text(token))
    }


def _object(value: Any, source: Path, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TokenizerError(f"{source}: {key} is {value!r:.60}, expected an object {{...}}.")
    return value


def _id(value: Any, source: Path) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if type(number) is not int or not 0 <= number < 2**31:
        raise TokenizerError(
            f"{source}: an added token has the id {value!r:.60}, expected a number from 0 on."
        )
    return number


def _added_token(value: Any, source: Path) -> AddedToken:
    text = _text(value)
    if not text:
        raise TokenizerError(f"{source}: an added token is {value!r:.60}, expected one with a content.")
    flags = {flag: value[flag] is True for flag in FLAGS if isinstance(value, dict) and flag in value}
    return AddedToken(text, **flags)


def _text(token: Any) -> str | None:
    """Give the text of a token, which files write as a string or as an object with a content."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
