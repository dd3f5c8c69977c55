"""The tokenizer of a GGUF file as the files that transformers reads.

    tokenizer.json         the tokenizer itself, as the `tokenizers` package writes it
    tokenizer_config.json  which tokens have a role, and the chat templates

Sentencepiece's BPE is run by Python code of our own, which has no such file. The package's BPE does the same
from a list of merges: the pair with the highest score is that which stands first in the list, and every way
to cut a piece into two others is a pair.

    ▁the (−5), he (−2), th (−3)   →   h e,  t h,  ▁t he,  ▁th e

Of equal scores the leftmost pair comes first, which no list can say. Llama's vocabulary has equal ones for
rows of 2 to 16 spaces alone. As nothing else is joined at that score, it is enough to try such rows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.text.gguf_metadata import GgufVocabulary, Kind
from tinystar_np.text.gguf_tokenizer import (
    FOUND,
    added_tokens,
    ends_of_texts,
    load_gguf_in_this_process,
    settings_of,
)
from tinystar_np.text.scored_pieces import SPACE
from tinystar_np.text.tokenizer import Backend
from tinystar_np.text.tokenizer_classes import set_ends
from tinystar_np.text.tokenizer_faults import NotOrdinaryError, package_faults
from tinystar_np.text.tokenizer_settings import CONFIG_FILE, ROLES

TOKENIZER_FILE = "tokenizer.json"
LONGEST_ROW = 64  # trying takes a time that grows with its square
INSTEAD = "Take tokenizer.json from the model's own repository."


def gguf_tokenizer_files(metadata: Mapping[str, object], path: Path) -> tuple[dict[str, str], str | None]:
    """Write the tokenizer that a GGUF file's metadata describes.

    metadata, path  as in ``load_gguf_tokenizer``

    Returns ({the name of a file: its content}, what is missing): the second is a sentence where there is no
    tokenizer.json, or None.
    Raises TokenizerError where a key is missing or damaged, or the kind of tokenizer is not known.
    """
    vocabulary = GgufVocabulary(metadata, path)
    if vocabulary.model is None:
        return {}, None
    files = {CONFIG_FILE: json.dumps(_config(vocabulary), indent=2, ensure_ascii=False) + "\n"}
    try:
        tokenizer = load_gguf_in_this_process(metadata, path, ordinary_only=True)
    except NotOrdinaryError:
        return files, f"The tokenizer is unlike those of known models and was not written. {INSTEAD}"
    assert tokenizer is not None
    backend: Backend | None = tokenizer.backend
    if vocabulary.model == "llama":
        with package_faults(path):
            backend = _from_scores(vocabulary, tokenizer.backend)
    if not isinstance(backend, tokenizers.Tokenizer):
        return files, f"The tokenizer (sentencepiece's) has no exact tokenizer.json. {INSTEAD}"
    return {TOKENIZER_FILE: backend.to_str(pretty=True) + "\n", **files}, None


def special_ids(metadata: Mapping[str, object], path: Path) -> dict[str, int | None]:
    """Return what config.json says of tokens: {"bos_token_id": 1, …}, None for a token that there is not.

    Missing keys would mean other ids: transformers has defaults for each architecture.
    """
    vocabulary = GgufVocabulary(metadata, path)
    roles = {} if vocabulary.model is None else vocabulary.roles
    return {f"{role}_id": roles.get(role) for role in ("bos_token", "eos_token", "pad_token")}


def _config(vocabulary: GgufVocabulary) -> JsonObject:
    """Return the content of tokenizer_config.json."""
    tokens = settings_of(vocabulary).special_tokens
    templates = vocabulary.templates
    config: JsonObject = {
        # Its own class would build another tokenizer of the vocabulary.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{role: tokens[role] for role in ROLES if role in tokens},
    }
    if templates.keys() == {"default"}:
        config["chat_template"] = templates["default"]
    elif templates:
        config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
    return config


def _from_scores(vocabulary: GgufVocabulary, ours: Backend) -> tokenizers.Tokenizer | None:
    """Build sentencepiece's BPE with the package; None where it would not give the ids of ours."""
    tokens, kinds, scores = vocabulary.tokens, vocabulary.kinds, vocabulary.scores
    if any(
        kind == Kind.BYTE and token != f"<0x{vocabulary.byte_of(id):02X}>"
        for id, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
    ):
        return None  # the package knows bytes by their names
    ways = {id: list(_ways(token, vocabulary.ids)) for id, token in enumerate(tokens)}
    joined = sorted((id for id, pairs in ways.items() if pairs), key=lambda id: -scores[id])
    rows = _equal_scores(vocabulary, [id for id in joined if kinds[id] not in FOUND])
    if rows is None:
        return None
    unknown = vocabulary.roles.get("unk_token")
    backend = tokenizers.Tokenizer(
        models.BPE(
            vocabulary.ids,
            [pair for id in joined for pair in ways[id]],
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = vocabulary.flag("add_space_prefix", True)
    spaces = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    rules = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*rules, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    added: Mapping[int, AddedToken] = added_tokens(vocabulary)
    backend.add_tokens([added[id] for id in sorted(added)])
    begin, end = ends_of_texts(vocabulary, settings_of(vocabulary))
    set_ends(backend, [(id, tokens[id]) for id in begin], [(id, tokens[id]) for id in end])
    tries = (letter * count for letter, longest in rows.items() for count in range(1, 4 * longest + 1))
    ids = [[each.encode(text, add_special_tokens=False).ids for each in (ours, backend)] for text in tries]
    return backend if all(own == theirs for own, theirs in ids) else None


def _equal_scores(vocabulary: GgufVocabulary, ids: Sequence[int]) -> dict[str, int] | None:
    """Find tokens that have equal scores; each such group must be all rows of one character.

    ids  of the tokens that are joined from others

    Returns {the character: how long its longest row is}, or None where tokens of other kinds are equal.
    """
    groups: dict[float, list[str]] = {}
    rows: dict[str, list[str]] = {}
    for id in ids:
        token = vocabulary.tokens[id]
        groups.setdefault(vocabulary.scores[id], []).append(token)
        if token == token[0] * len(token):
            rows.setdefault(token[0], []).append(token)
    found: dict[str, int] = {}
    for group in groups.values():
        if len(group) > 1:
            letter, longest = group[0][0], max(map(len, group))
            if sorted(rows.get(letter, ())) != sorted(group) or longest > LONGEST_ROW:
                return None
            found[letter] = longest
    return found


def _ways(token: str, ids: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield each way to cut a token into two others."""
    for cut in range(1, len(token)):
        if token[:cut] in ids and token[cut:] in ids:
            yield token[:cut], token[cut:]
