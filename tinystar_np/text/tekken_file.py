"""`tekken.json`, Mistral's own form of a tokenizer: tokens with their ranks, and how a text is cut.

    {"config": {"pattern": "…", "default_vocab_size": 131072, "default_num_special_tokens": 1000, …},
     "vocab": [{"rank": 0, "token_bytes": "AA==", "token_str": "\\u0000"}, …],
     "special_tokens": [{"rank": 0, "token_str": "<unk>", "is_control": true}, …]}

The ids of special tokens come first, as many as the config says, with names such as `<SPECIAL_20>` for those
that are not listed; older files list none of them and mean the twenty below. A token's id is its rank after
these. Of the vocabulary the model knows only the first `default_vocab_size`. Rules: mistral-common's.
"""

import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from tinystar_np.checkpoints.json_file import read_json_object, shown
from tinystar_np.errors import TokenizerError
from tinystar_np.text.ordinary import is_known_expression
from tinystar_np.text.ranked_bytes import Family, build
from tinystar_np.text.tiktoken_file import in_order
from tinystar_np.text.tokenizer_faults import SIZE_LIMIT, NotOrdinaryError, damaged
from tinystar_np.text.tokenizer_settings import TokenizerSettings

TEKKEN_FILE = "tekken.json"
MOST_SPECIAL = 20_000  # of real files 1000

UNLISTED = (
    *(
        "<unk>",
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_RESULTS]",
    ),
    *(
        "[/TOOL_RESULTS]",
        "[TOOL_CALLS]",
        "[IMG]",
        "<pad>",
        "[IMG_BREAK]",
        "[IMG_END]",
        "[PREFIX]",
        "[MIDDLE]",
    ),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)
NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def load_tekken(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[tokenizers.Tokenizer, TokenizerSettings]:
    """Load a `tekken.json`.

    Raises TokenizerError where it is damaged, and NotOrdinaryError where its expression is not a known one.
    """
    content = read_json_object(path, SIZE_LIMIT)
    config = content.get("config")
    if not isinstance(config, dict):
        raise damaged(path, f"config is {shown(config)}, expected an object")
    pattern = config.get("pattern")
    if not isinstance(pattern, str):
        raise damaged(path, f"pattern is {shown(pattern)}, expected a text")
    if ordinary_only and not is_known_expression(pattern):
        raise NotOrdinaryError
    reserved = _count(config, "default_num_special_tokens", MOST_SPECIAL, path)
    size = _count(config, "default_vocab_size", 1 << 24, path)
    special = _special(content.get("special_tokens"), reserved, path)
    ranks = _ranks(content.get("vocab"), size - reserved, path)
    tokens = {token: reserved + rank for token, rank in ranks.items()}
    names = {token.content for token in special.values()}
    named = {role: text for role, text in NAMED.items() if text in names}
    return build(tokens, Family((pattern,), special, named, adds_bos=True), settings, ordinary_only)


def _count(config: dict[str, Any], key: str, most: int, path: Path) -> int:
    value = config.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise damaged(path, f"{key} is {shown(value)}, expected a number of tokens")
    return value


def _objects(found: object, key: str, path: Path) -> Iterable[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise damaged(path, f"{key} is {shown(found)}, expected a list of objects")
    return found


def _ranks(found: object, count: int, path: Path) -> dict[bytes, int]:
    """Return the first tokens of the vocabulary with their ranks, in their order."""
    ranks: dict[bytes, int] = {}
    for entry in _objects(found, "vocab", path):
        rank, written = entry.get("rank"), entry.get("token_bytes")
        if type(rank) is not int or not isinstance(written, str):
            raise damaged(path, f"an entry of the vocabulary is {shown(entry)}")
        if rank >= count:
            continue
        token = binascii.a2b_base64(written.encode("ascii", "replace"), strict_mode=True)
        if not token or ranks.setdefault(token, rank) != rank:
            raise damaged(path, f"the token {shown(token)} is empty or stands there twice")
    if len(ranks) != count:
        raise damaged(path, f"the vocabulary has {len(ranks)} of the {count} tokens that config says")
    return in_order(ranks, path)


def _special(found: object, count: int, path: Path) -> dict[int, AddedToken]:
    """Return the special tokens by their ids."""
    unlisted = [{"rank": id, "token_str": text} for id, text in enumerate(UNLISTED)]
    special: dict[int, AddedToken] = {}
    texts: set[str] = set()
    for entry in unlisted if found is None else _objects(found, "special_tokens", path):
        id, text, control = entry.get("rank"), entry.get("token_str"), entry.get("is_control", True)
        if type(id) is not int or not 0 <= id < count or not isinstance(text, str) or not text:
            raise TokenizerError(f"{path}: a special token is {shown(entry)}; config says {count} of them.")
        if id in special or text in texts:
            raise damaged(path, f"the special token {shown(text)} or its id {id} stands there twice")
        special[id] = AddedToken(text, special=control is not False, normalized=False)
        texts.add(text)
    for id in range(count):
        if id not in special:
            special[id] = AddedToken(f"<SPECIAL_{id}>", special=True, normalized=False)
    return special
