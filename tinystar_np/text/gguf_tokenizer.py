"""The tokenizer in a GGUF file's metadata; gguf_metadata.py has its keys.

    tokenizer.ggml.model = "gpt2"    byte-level BPE, run by the `tokenizers` package
                           "llama"   sentencepiece's BPE, scored_pieces.py
                           "t5"      sentencepiece's Unigram, unigram.py
                           "bert"    WordPiece, run by the `tokenizers` package

The ids are those of the model's own tokenizer, from which llama.cpp's converter wrote the keys. What it does
not write is lost: a normalizer such as NFC, and whether a token swallows the space beside it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import TokenizerError
from tinystar_np.text.gguf_metadata import PRE, PREFIX, TOKENS, GgufVocabulary, Kind
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.text.ordinary import LONGEST_WORD, are_few, are_ordinary
from tinystar_np.text.scored_pieces import SPACE, Joining, ScoredPieces, Vocabulary
from tinystar_np.text.tokenizer import Backend, Tokenizer
from tinystar_np.text.tokenizer_classes import set_ends
from tinystar_np.text.tokenizer_faults import NotOrdinaryError, package_faults
from tinystar_np.text.tokenizer_settings import TokenizerSettings
from tinystar_np.text.unigram import Normalizer, Unigram
from tinystar_np.text.words import BY_NAME, NAMES, cut_by

FOUND = (Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED)  # in a text before it is cut
SPECIAL = (Kind.CONTROL, Kind.UNKNOWN)
CONTINUES = "##"
NOT_SWALLOWING = ("<unk>", "<s>", "<|endoftext|>")  # of Phi 3's special tokens

INSTEAD = "Use the model's own repository: with a tokenizer.json nothing is left open."


def load_gguf_tokenizer(
    metadata: Mapping[str, object], path: Path, isolated: bool = False
) -> Tokenizer | None:
    """Load the tokenizer that a GGUF file's metadata describes, with its chat templates.

    metadata  the file's keys; texts are str, arrays of texts lists, arrays of numbers NumPy's
    path      the file, for messages
    isolated  run it in a worker, as is done in any case where it is not like those of known models

    Returns None where the file has no tokenizer.
    Raises TokenizerError where a key is missing or damaged, or the kind of tokenizer is not known.
    """
    return gguf_tokenizer(GgufVocabulary(metadata, path), isolated)


def gguf_tokenizer(vocabulary: GgufVocabulary, isolated: bool = False) -> Tokenizer | None:
    """Load a tokenizer as above, of a vocabulary some of which may have been checked already."""
    path = vocabulary.path
    if not isolated:
        try:
            return _in_this_process(vocabulary, ordinary_only=True)
        except NotOrdinaryError:
            pass
    if vocabulary.model is None:
        return None
    settings = settings_of(vocabulary)
    size = sum(map(len, vocabulary.tokens)) + 16 * len(vocabulary.tokens)
    backend = IsolatedTokenizer({"metadata": vocabulary.plain(), "path": str(path)}, path, size)
    return Tokenizer(backend, path, settings)


def load_gguf_in_this_process(
    metadata: Mapping[str, object], path: Path, ordinary_only: bool = False
) -> Tokenizer | None:
    """Load a tokenizer as above, but never in a worker.

    ordinary_only  raise NotOrdinaryError for one that is not like those of known models
    """
    return _in_this_process(GgufVocabulary(metadata, path), ordinary_only)


def _in_this_process(vocabulary: GgufVocabulary, ordinary_only: bool) -> Tokenizer | None:
    path = vocabulary.path
    if vocabulary.model is None:
        return None
    if vocabulary.model not in BUILDERS:
        raise TokenizerError(
            f"{path}: the tokenizer is of the kind {shown(vocabulary.model)} (tokenizer.ggml.model); known "
            f"are {', '.join(BUILDERS)}.\n{INSTEAD}"
        )
    settings = settings_of(vocabulary)
    added = added_tokens(vocabulary)
    if ordinary_only and not (
        are_ordinary(vocabulary.tokens)
        and are_few([token.content for token in added.values()])
        and (vocabulary.charsmap is None or vocabulary.charsmap.is_ordinary)
    ):
        raise NotOrdinaryError
    with package_faults(path):
        return Tokenizer(BUILDERS[vocabulary.model](vocabulary, added, settings), path, settings)


def gguf_end_ids(metadata: Mapping[str, object], path: Path) -> list[int]:
    """Return the ids that end an answer: eos, the end of a turn, and those known by their names.

    Raises TokenizerError where a key is missing or damaged.
    """
    return GgufVocabulary(metadata, path).end_ids


def settings_of(vocabulary: GgufVocabulary) -> TokenizerSettings:
    """Return the tokens with a role, what is put around a text, and the chat templates."""
    kind = vocabulary.model
    rules = BY_NAME.get(vocabulary.pre)
    adds_bos = kind in ("llama", "bert") or (kind == "gpt2" and rules is not None and rules.adds_bos)
    settings = TokenizerSettings(
        named={
            role: AddedToken(vocabulary.tokens[id], special=True) for role, id in vocabulary.roles.items()
        },
        add_bos=vocabulary.flag("add_bos_token", adds_bos),
        add_eos=vocabulary.flag("add_eos_token", kind == "t5"),
        chat_template=vocabulary.templates,
        complete=True,
    )
    for role, wanted in (("bos_token", settings.add_bos), ("eos_token", settings.add_eos)):
        key = f"tokenizer.ggml.{role}_id"
        if wanted and role not in vocabulary.roles and vocabulary.flag(f"add_{role}", False):
            raise vocabulary.fault(key, f"is missing, but add_{role} is true")
    return settings


def added_tokens(vocabulary: GgufVocabulary) -> dict[int, AddedToken]:
    """Return the tokens that are found in a text before it is cut."""
    return {
        id: AddedToken(
            text,
            special=kind in SPECIAL,
            normalized=False,
            rstrip=vocabulary.is_phi3 and text not in NOT_SWALLOWING,
        )
        for id, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind in FOUND
    }


def ends_of_texts(vocabulary: GgufVocabulary, settings: TokenizerSettings) -> tuple[list[int], list[int]]:
    """Return the ids before and after every text."""
    roles = vocabulary.roles
    begin = [roles["bos_token"]] if settings.add_bos and "bos_token" in roles else []
    end = [roles["eos_token"]] if settings.add_eos and "eos_token" in roles else []
    return begin, end


def _byte_level(
    vocabulary: GgufVocabulary, added: Mapping[int, AddedToken], settings: TokenizerSettings
) -> tokenizers.Tokenizer:
    """Build byte-level BPE."""
    if vocabulary.pre not in BY_NAME:
        known = ", ".join(names[0] for _, names in NAMES)
        raise TokenizerError(
            f"{vocabulary.path}: the key {PRE} is {shown(vocabulary.pre)}, the name of rules that cut a text "
            f"into words; known are {known}, and others with the same rules.\n{INSTEAD}"
        )
    rules = BY_NAME[vocabulary.pre]
    merges = vocabulary.merges
    # Unused ids have no text, except where a merge needs them.
    needed = {part for left, right in merges for part in (left, right, left + right)}
    silent = {vocabulary.tokens[id] for id in vocabulary.silent} - needed
    ids = {token: id for token, id in vocabulary.ids.items() if token not in silent}
    backend = tokenizers.Tokenizer(models.BPE(ids, merges, ignore_merges=rules.whole_words))
    backend.pre_tokenizer = cut_by(rules.expressions)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([added[id] for id in sorted(added)])
    begin, end = ends_of_texts(vocabulary, settings)
    tokens = vocabulary.tokens
    set_ends(backend, [(id, tokens[id]) for id in begin], [(id, tokens[id]) for id in end])
    return backend


def _word_pieces(
    vocabulary: GgufVocabulary, added: Mapping[int, AddedToken], settings: TokenizerSettings
) -> tokenizers.Tokenizer:
    """Build WordPiece. In the file a token that begins a word has ▁ before it; here all others have ##."""
    ids: dict[str, int] = {}
    for id, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        kept = kind in FOUND or (token.startswith("[") and token.endswith("]"))
        begins = token.startswith(SPACE) and len(token) > 1
        name = token if kept else token[1:] if begins else CONTINUES + token
        if ids.setdefault(name, id) != id:
            raise vocabulary.fault(TOKENS, f"lists {shown(token)} twice, as {ids[name]} and as {id}")
    unknown = vocabulary.roles.get("unk_token")
    if unknown is None:
        raise vocabulary.fault(f"{PREFIX}unknown_token_id", "is missing")
    backend = tokenizers.Tokenizer(
        models.WordPiece(ids, unk_token=vocabulary.tokens[unknown], max_input_chars_per_word=LONGEST_WORD)
    )
    lowercase = vocabulary.flag("normalizer.lowercase", True)
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=vocabulary.flag("normalizer.strip_accents", lowercase)
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(CONTINUES)
    backend.add_tokens([added[id] for id in sorted(added)])
    begin, _ = ends_of_texts(vocabulary, settings)
    end = [vocabulary.roles["sep_token"]] if "sep_token" in vocabulary.roles else []
    tokens = vocabulary.tokens
    set_ends(backend, [(id, tokens[id]) for id in begin], [(id, tokens[id]) for id in end])
    return backend


def _joined_pieces(
    vocabulary: GgufVocabulary, added: Mapping[int, AddedToken], settings: TokenizerSettings
) -> ScoredPieces:
    """Build sentencepiece's BPE."""
    pieces, prefix = _pieces(vocabulary), vocabulary.flag("add_space_prefix", True)
    return ScoredPieces(pieces, Joining(pieces, prefix), added, ends_of_texts(vocabulary, settings), prefix)


def _unigram(
    vocabulary: GgufVocabulary, added: Mapping[int, AddedToken], settings: TokenizerSettings
) -> ScoredPieces:
    """Build sentencepiece's Unigram."""
    pieces, prefix = _pieces(vocabulary), vocabulary.flag("add_space_prefix", True)
    matched = (Kind.NORMAL, Kind.UNUSED, Kind.USER_DEFINED)
    ids = {token: id for token, id in vocabulary.ids.items() if vocabulary.kinds[id] in matched}
    normalizer = Normalizer(vocabulary.charsmap, prefix, vocabulary.flag("remove_extra_whitespaces", False))
    return ScoredPieces(
        pieces, Unigram(pieces, ids, normalizer), added, ends_of_texts(vocabulary, settings), prefix
    )


def _pieces(vocabulary: GgufVocabulary) -> Vocabulary:
    bytes = {id: vocabulary.byte_of(id) for id, kind in enumerate(vocabulary.kinds) if kind == Kind.BYTE}
    return Vocabulary(
        pieces=vocabulary.tokens,
        ids=vocabulary.ids,
        scores=vocabulary.scores,
        bytes=bytes,
        silent=vocabulary.silent,
        unknown=vocabulary.roles.get("unk_token"),
    )


Build = Callable[[GgufVocabulary, Mapping[int, AddedToken], TokenizerSettings], Backend]
BUILDERS: Mapping[str, Build] = {
    "gpt2": _byte_level,
    "llama": _joined_pieces,
    "t5": _unigram,
    "bert": _word_pieces,
}
