"""The settings in the small files beside a vocabulary: special tokens, and what begins and ends a text.

`tokenizer_config.json` is the main one. Where it has no `added_tokens_decoder`, two older files count as
well: `special_tokens_map.json`, which then overrules it, and `added_tokens.json`, which lists the tokens
added after training. transformers 4 and 5 read them so.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tokenizers import AddedToken

from tinystar_np.checkpoints.config_file import CONFIG_FILE as MODEL_FILE
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import read_json_object, shown
from tinystar_np.errors import CheckpointError, TokenizerError

CONFIG_FILE = "tokenizer_config.json"
SPECIAL_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
EXTRA_KEYS = ("extra_special_tokens", "additional_special_tokens")  # transformers 5's name, and 4's
ID = re.compile("[0-9]{1,10}")

T = TypeVar("T")
EXPECTED: dict[type, str] = {bool: "true or false", dict: "an object {...}", str: "a name"}


@dataclass(frozen=True)
class TokenizerSettings:
    """The settings of one tokenizer; None where no file has a value.

    named                 {"bos_token": the token, …}: tokens with a role; null in a file is None here
    added                 {id: token}: added tokens, with their ids
    added_overrule        whether these overrule a tokenizer.json; those of added_tokens.json do not
    extra                 further special tokens, which may have no id in any file
    add_bos, add_eos      whether bos_token begins and eos_token ends every text
    add_prefix_space      whether a space is put before every text
    split_special_tokens  whether the text of a special token is encoded as ordinary text
    legacy                whether sentencepiece puts a space before what follows a special token
    class_name            the tokenizer's class in transformers
    model_type            config.json's
    chat_template         as tokenizer_config.json has it
    complete              whether these are of a file that holds everything: none beside it is read
    """

    named: Mapping[str, AddedToken | None] = field(default_factory=dict)
    added: Mapping[int, AddedToken] = field(default_factory=dict)
    added_overrule: bool = False
    extra: tuple[AddedToken, ...] = ()
    add_bos: bool | None = None
    add_eos: bool | None = None
    add_prefix_space: bool | None = None
    split_special_tokens: bool = False
    legacy: bool = False
    class_name: str | None = None
    model_type: str | None = None
    chat_template: object = None
    complete: bool = False

    @property
    def special_tokens(self) -> dict[str, str]:
        """{"bos_token": "<s>", …}, by the names that they have in files and in chat templates."""
        return {role: token.content for role, token in self.named.items() if token is not None}

    def with_defaults(self, special_tokens: Mapping[str, str]) -> "TokenizerSettings":
        """Add special tokens for roles that no file mentions."""
        given = {role: AddedToken(text, special=True) for role, text in special_tokens.items()}
        return replace(self, named=_in_order(given | dict(self.named)))


def read_settings(directory: Path) -> TokenizerSettings:
    """Read the settings beside a vocabulary.

    Raises TokenizerError where a file is damaged.
    """
    config, source = read_beside(directory, CONFIG_FILE), directory / CONFIG_FILE
    model = read_beside(directory, MODEL_FILE)
    named, extra = _special(config, source)
    added: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in config:
        stated = _expect(config, "added_tokens_decoder", dict, source) or {}
        added = _by_id(((id, _added_token(token, source)) for id, token in stated.items()), source)
    else:
        older, more = _special(read_beside(directory, SPECIAL_FILE), directory / SPECIAL_FILE)
        named, extra = named | older, tuple({token.content: token for token in (*extra, *more)}.values())
        special = {token.content for token in (*named.values(), *extra) if token is not None}
        source = directory / ADDED_FILE
        added = _by_id(
            (
                (id, _added_token({"content": text, "special": text in special}, source))
                for text, id in read_beside(directory, ADDED_FILE).items()
            ),
            source,
        )
    source = directory / CONFIG_FILE
    return TokenizerSettings(
        named=_in_order(named),
        added=added,
        added_overrule="added_tokens_decoder" in config,
        extra=extra,
        add_bos=_expect(config, "add_bos_token", bool, source),
        add_eos=_expect(config, "add_eos_token", bool, source),
        add_prefix_space=_expect(config, "add_prefix_space", bool, source),
        split_special_tokens=_expect(config, "split_special_tokens", bool, source) is True,
        legacy=config.get("legacy") is True,
        class_name=_expect(config, "tokenizer_class", str, source)
        or _expect(model, "tokenizer_class", str, directory / MODEL_FILE),
        model_type=_expect(model, "model_type", str, directory / MODEL_FILE),
        chat_template=config.get("chat_template"),
    )


def _in_order(named: Mapping[str, AddedToken | None]) -> dict[str, AddedToken | None]:
    """Sort tokens by their roles, as transformers does; those without ids get theirs in this order."""
    places = {role: place for place, role in enumerate(ROLES)}
    return {role: named[role] for role in sorted(named, key=lambda role: places.get(role, len(ROLES)))}


def read_beside(directory: Path, name: str) -> dict[str, object]:
    """Read a JSON file of the directory; an empty object where there is none."""
    if not (directory / name).exists():
        return {}
    try:
        return read_json_object(file_inside(directory, name))
    except CheckpointError as error:
        raise TokenizerError(str(error)) from error


def _special(
    values: dict[str, object], source: Path
) -> tuple[dict[str, AddedToken | None], tuple[AddedToken, ...]]:
    """Find the special tokens among a file's keys: those with a role, and further ones."""
    named = {key: value for key, value in values.items() if key.endswith("_token")}
    extra: list[object] = []
    for key in EXTRA_KEYS:
        found = values.get(key)
        if isinstance(found, dict):  # with roles of their own: {"image_token": "<image>"}
            for role, token in found.items():
                _added_token(token, source)
                named.setdefault(role, token)
        elif isinstance(found, list):
            extra = extra or found
        elif found is not None:
            raise TokenizerError(f"{source}: {key} is {shown(found)}, expected a list of tokens.")
    # Flags such as add_bos_token are left out, and empty texts.
    tokens = {
        role: None if token is None else _added_token(token, source, special=True)
        for role, token in named.items()
        if token is None or _text(token)
    }
    return tokens, tuple(_added_token(token, source, special=True) for token in extra if token != "")


def _expect(values: Mapping[str, object], key: str, kind: type[T], source: Path) -> T | None:
    """Return a key's value, or None for a missing one or null; raises TokenizerError for other types."""
    value = values.get(key)
    if value is None or isinstance(value, kind):
        return value
    raise TokenizerError(f"{source}: {key} is {shown(value)}, expected {EXPECTED[kind]}.")


def _by_id(tokens: Iterable[tuple[object, AddedToken]], source: Path) -> dict[int, AddedToken]:
    """Return added tokens by their ids; raises TokenizerError for duplicates."""
    found: dict[int, AddedToken] = {}
    texts: set[str] = set()
    for written, token in tokens:
        id = _id(written, source)
        if id in found or token.content in texts:
            raise TokenizerError(
                f"{source}: the added token {shown(token.content)} or its id {id} stands there twice."
            )
        found[id] = token
        texts.add(token.content)
    return found


def _id(value: object, source: Path) -> int:
    number = int(value) if isinstance(value, str) and ID.fullmatch(value) else value
    if type(number) is not int or not 0 <= number < 2**31:
        raise TokenizerError(
            f"{source}: an added token has the id {shown(value)}, expected a number from 0 on."
        )
    return number


def _added_token(value: object, source: Path, **flags: bool) -> AddedToken:
    """Make a token from a file's value: its text, or an object with its content and flags."""
    text = _text(value)
    if not text:
        raise TokenizerError(f"{source}: an added token is {shown(value)}, expected one with a content.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TokenizerError(
            f"{source}: the added token {shown(text)} has half of a surrogate pair, which is no text."
        ) from None
    given = value if isinstance(value, dict) else {}
    stated = {flag: _expect(given, flag, bool, source) for flag in FLAGS if flag in given}
    return AddedToken(text, **{flag: value is True for flag, value in stated.items()} | flags)


def _text(token: object) -> str | None:
    """Return the text of a token, which files write as a string or as an object with a content."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
