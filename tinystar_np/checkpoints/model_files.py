"""Which of a repository's files are a model, as this package reads it.

A repository on the hub often holds the same weights several times: as pickles, for other frameworks, once
whole and once in shards. Only what is named here is ever downloaded.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE, GENERATION_FILE
from tinystar_np.checkpoints.shard_index import INDEX_FILE, SINGLE_FILE, weight_files
from tinystar_np.errors import CheckpointError

SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")

# Any of these sets is a tokenizer.
TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"})

# Loading one of these may run any code: they are only ever mentioned.
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")

MORE_TEMPLATES = "additional_chat_templates"
TEMPLATE = re.compile(rf"{MORE_TEMPLATES}/[^/]+\.jinja")

SMALL_FILES = {
    CONFIG_FILE,
    GENERATION_FILE,
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
}


def needed_files(names: Iterable[str]) -> list[str]:
    """Choose from the names of all files of a repository those that are needed."""
    names = set(names)
    if SINGLE_FILE in names:
        weights = {SINGLE_FILE}
    elif INDEX_FILE in names:
        weights = {INDEX_FILE} | {name for name in names if SHARD.fullmatch(name)}
    else:
        weights = set()
    return sorted(weights | (names & SMALL_FILES) | {name for name in names if TEMPLATE.fullmatch(name)})


def has_model(directory: Path) -> bool:
    """Tell whether a directory holds config.json and all weights."""
    if not (directory / CONFIG_FILE).exists():
        return False
    try:
        return bool(weight_files(directory))
    except CheckpointError:
        return False


def has_tokenizer(directory: Path) -> bool:
    """Tell whether a directory holds the files of a tokenizer."""
    return any(all((directory / name).exists() for name in names) for names in TOKENIZERS)
