"""The tokenizer of a model's directory, from whichever files it has.

    tokenizer.json             a complete description, which current models ship
    tokenizer.model            sentencepiece's own file, the only one of Llama's first releases
    vocab.json and merges.txt  byte-level BPE as GPT-2 came; how a text is cut, their class says

The small files beside them add tokens and settings to each.
"""

from collections.abc import Callable
from pathlib import Path

import tokenizers
from tokenizers import models

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import download_again, read_json_object, shown
from tinystar_np.errors import CheckpointError, TokenizerError
from tinystar_np.text.added_tokens import resolve_added_tokens, with_added_tokens
from tinystar_np.text.sentencepiece import load_sentencepiece
from tinystar_np.text.tokenizer import Backend, Tokenizer
from tinystar_np.text.tokenizer_check import problem_before_loading, problem_of
from tinystar_np.text.tokenizer_classes import (
    CLASSES,
    OF_MODEL_TYPE,
    TokenizerClass,
    class_name,
    default_tokens,
)
from tinystar_np.text.tokenizer_faults import damaged, package_faults
from tinystar_np.text.tokenizer_overrides import override_rules, set_ends, tokens_with_ids
from tinystar_np.text.tokenizer_settings import TokenizerSettings, read_settings

SIZE_LIMIT = 64_000_000  # bytes of a file; the largest of real models have 35 MB

Loaded = tuple[Backend, TokenizerSettings]


def load_tokenizer(directory: Path) -> Tokenizer | None:
    """Load the tokenizer of a model's directory.

    directory  holds `tokenizer.json`, `tokenizer.model`, or `vocab.json` with `merges.txt` as GPT-2's first
               releases do; and perhaps settings in `tokenizer_config.json`

    Returns None where there are no tokenizer files: a model can be run on ids alone.
    Raises TokenizerError where a file is damaged or missing from its pair, or names a class whose rules are
    not known here.
    """
    directory = Path(directory)
    for name, load in LOADERS.items():
        if (directory / name).exists():
            path = _small_file(directory, name)
            backend, settings = load(path, read_settings(directory))
            with package_faults(path):  # an added token's id that the package cannot hold
                return Tokenizer(backend, path, settings)
    return None


def _small_file(directory: Path, name: str) -> Path:
    """Check that a file lies in the directory, and is no larger than such files are."""
    try:
        path = file_inside(directory, name)
    except CheckpointError as error:
        raise TokenizerError(str(error)) from error
    if path.stat().st_size > SIZE_LIMIT:
        raise TokenizerError(
            f"{path}: larger than {SIZE_LIMIT // 1_000_000} MB, which no tokenizer is.\n"
            f"{download_again(path)}"
        )
    return path


def _from_tokenizer_json(path: Path, settings: TokenizerSettings) -> Loaded:
    """Load the complete description of a tokenizer, on which the settings beside it have the last word."""
    with package_faults(path):
        data = path.read_bytes()
        problem = problem_before_loading(data)
        if problem is None:
            backend = tokenizers.Tokenizer.from_buffer(data)
            problem = problem_of(backend)
        if problem is not None:
            raise damaged(path, problem)
        name = (settings.class_name or OF_MODEL_TYPE.get(settings.model_type or "", "")).removesuffix("Fast")
        defaults = default_tokens(name).items()
        settings = settings.with_defaults(
            {role: token for role, token in defaults if backend.token_to_id(token) is not None}
        )
        backend = with_added_tokens(backend, data, settings)
        override_rules(backend, settings, name)
    # Some files carry the truncation and padding of a training run. A prompt is neither cut nor padded.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = settings.split_special_tokens
    return backend, settings


def _from_vocab_and_merges(path: Path, settings: TokenizerSettings) -> Loaded:
    """Build byte-level BPE from `vocab.json` and the `merges.txt` beside it, by the rules of its class."""
    merges_path = path.with_name("merges.txt")
    if merges_path.exists():
        _small_file(merges_path.parent, merges_path.name)
    else:
        raise TokenizerError(
            f"{path} has no merges.txt beside it; the two belong together.\n"
            "The model is incomplete: download it again."
        )
    rules = _rules(path, settings)
    settings = settings.with_defaults(rules.special_tokens)
    ids = _vocabulary(path)
    added = resolve_added_tokens(settings, ids, {})
    with package_faults(path, merges_path):
        _, merges = models.BPE.read_file(str(path), str(merges_path))
        ids |= {token.content: id for id, token in added.items()}
        backend = rules.build(ids, merges, settings.special_tokens, settings.add_prefix_space is True)
        backend.add_tokens(list(added.values()))
    names = settings.special_tokens
    begin, end = (
        (
            [names.get("bos_token")] if settings.add_bos else [],
            [names.get("eos_token")] if settings.add_eos else [],
        )
        if rules.around is None
        else ([names.get(one, one) for one in ends] for ends in rules.around)
    )
    set_ends(backend, tokens_with_ids(backend, *begin), tokens_with_ids(backend, *end))
    backend.encode_special_tokens = settings.split_special_tokens
    return backend, settings


def _rules(path: Path, settings: TokenizerSettings) -> TokenizerClass:
    """Find the rules by which a vocabulary's class cuts a text; never a guess."""
    name = class_name(settings.class_name, settings.model_type)
    if name is not None and name in CLASSES:
        return CLASSES[name]
    if name is not None:
        found = f"the tokenizer class is {shown(settings.class_name)}"
    elif settings.class_name:
        found = f"whatever class is named, model_type {shown(settings.model_type)} has rules of its own"
    else:
        found = f"no tokenizer class is named, nor known for model_type {shown(settings.model_type)}"
    raise TokenizerError(
        f"{path}: {found}. How that cuts a text is not known here; known are {', '.join(CLASSES)}.\n"
        "A tokenizer.json beside it would say it. Let transformers write one: "
        "AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIRECTORY)."
    )


def _vocabulary(path: Path) -> dict[str, int]:
    """Read vocab.json; the package leaves out what it does not understand."""
    try:
        ids = read_json_object(path, SIZE_LIMIT)
    except CheckpointError as error:
        raise TokenizerError(str(error)) from error
    wrong = next((token for token, id in ids.items() if type(id) is not int or not 0 <= id < 2**32), None)
    if wrong is not None:
        raise damaged(path, f"the id of {shown(wrong)} is {shown(ids[wrong])}")
    if len(set(ids.values())) < len(ids):
        tokens: dict[int, str] = {}
        twice = next(token for token, id in ids.items() if tokens.setdefault(id, token) != token)
        raise damaged(path, f"the id {ids[twice]} is that of {shown(tokens[ids[twice]])} and {shown(twice)}")
    return ids


# The files that can hold a tokenizer, the most complete first.
LOADERS: dict[str, Callable[[Path, TokenizerSettings], Loaded]] = {
    "tokenizer.json": _from_tokenizer_json,
    "tokenizer.model": load_sentencepiece,
    "vocab.json": _from_vocab_and_merges,
}
