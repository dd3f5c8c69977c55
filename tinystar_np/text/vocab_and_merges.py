"""`vocab.json` and `merges.txt`: BPE, byte-level as in GPT-2 or not; the class says how a text is cut."""

from pathlib import Path

import tokenizers
from tokenizers import models

from tinystar_np.checkpoints.json_file import read_json_object, shown
from tinystar_np.errors import TokenizerError
from tinystar_np.text.added_tokens import resolve_added_tokens
from tinystar_np.text.marked_pieces import MarkedPieces, load_marked_pieces
from tinystar_np.text.ordinary import are_ordinary
from tinystar_np.text.tokenizer_classes import CLASSES, TokenizerClass, class_name
from tinystar_np.text.tokenizer_faults import (
    SIZE_LIMIT,
    NotOrdinaryError,
    damaged,
    package_faults,
    small_file,
)
from tinystar_np.text.tokenizer_settings import TokenizerSettings

MARKED = "CTRLTokenizer"
"""The class whose pieces say that their word goes on."""
ELSEWHERE = {"BioGptTokenizer": "by the rules of Moses, a program for English words and punctuation"}
"""Classes of transformers without a tokenizer.json, and how they cut a text."""


def load_vocab_and_merges(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[tokenizers.Tokenizer | MarkedPieces, TokenizerSettings]:
    """Build BPE from `vocab.json` and the `merges.txt` beside it, by the rules of its class.

    Returns the tokenizer, and the settings with the special tokens of its class.
    Raises TokenizerError where a file is damaged or missing, or the class is not implemented, and
    NotOrdinaryError.
    """
    merges_path = path.with_name("merges.txt")
    if not merges_path.exists():
        raise TokenizerError(
            f"{path} has no merges.txt beside it; the two belong together.\n"
            "The model is incomplete: download it again."
        )
    small_file(merges_path.parent, merges_path.name)
    if class_name(settings.class_name, settings.model_type) == MARKED:
        with package_faults(path, merges_path):
            return load_marked_pieces(_vocabulary(path), merges_path, settings)
    rules = _rules(path, settings)
    settings = settings.with_defaults(rules.special_tokens)
    with package_faults(path, merges_path):
        ids = _vocabulary(path)
        if ordinary_only and not are_ordinary(ids):
            raise NotOrdinaryError
        _, merges = models.BPE.read_file(str(path), str(merges_path))
        return rules.build(ids, merges, resolve_added_tokens(settings, ids, {}), settings), settings


def _rules(path: Path, settings: TokenizerSettings) -> TokenizerClass:
    """Return the rules of the tokenizer's class; raises TokenizerError where they are not known."""
    name = class_name(settings.class_name, settings.model_type)
    if name is not None and name in CLASSES:
        return CLASSES[name]
    if name in ELSEWHERE:
        raise TokenizerError(
            f"{path}: {name} cuts a text {ELSEWHERE[name]}, which are not here.\n"
            "Encode with transformers' AutoTokenizer, and give the model its ids."
        )
    if name is not None:
        found = f"the tokenizer class is {shown(settings.class_name)}"
    elif settings.class_name:
        found = f"whatever class is named, model_type {shown(settings.model_type)} has rules of its own"
    else:
        found = f"no tokenizer class is named, nor known for model_type {shown(settings.model_type)}"
    known = ", ".join([*CLASSES, MARKED])
    raise TokenizerError(
        f"{path}: {found}. How that cuts a text is not known here; known are {known}.\n"
        "A tokenizer.json beside it would say it. Let transformers write one: "
        "AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIRECTORY)."
    )


def _vocabulary(path: Path) -> dict[str, int]:
    """Read vocab.json; unlike the package, raise an error for invalid entries."""
    ids = read_json_object(path, SIZE_LIMIT)
    tokens: dict[int, str] = {}
    for token, id in ids.items():
        if type(id) is not int or not 0 <= id < 2**32:
            raise damaged(path, f"the id of {shown(token)} is {shown(id)}")
        if tokens.setdefault(id, token) != token:
            raise damaged(path, f"the id {id} is that of {shown(tokens[id])} and {shown(token)}")
    return ids
