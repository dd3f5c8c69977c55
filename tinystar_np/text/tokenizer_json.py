"""`tokenizer.json`: a complete description of a tokenizer, run by the `tokenizers` package.

Two things are done here. Tokens of the files beside it are added. And settings of `tokenizer_config.json`
overrule the file, as in those classes of transformers 4 that read them: DeepSeek's tokenizer.json puts
nothing before a text, but the `add_bos_token: true` beside it does. (transformers 5.24 reads add_bos_token
and add_eos_token only where there is no tokenizer.json.) Classes that ignore such settings in both versions
do so here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import tokenizers
from tokenizers import decoders, normalizers, pre_tokenizers
from tokenizers.decoders import Decoder
from tokenizers.normalizers import Normalizer
from tokenizers.processors import PostProcessor

from tinystar_np.checkpoints.json_file import JsonObject, parse_json_object, shown
from tinystar_np.text.added_tokens import flags_of, resolve_added_tokens
from tinystar_np.text.ordinary import is_ordinary
from tinystar_np.text.tokenizer_classes import (
    CLASSES,
    ENDS_FALSE_IF_MISSING,
    ENDS_IN_TOKENIZER_JSON,
    OF_MODEL_TYPE,
    SENTENCEPIECE_ENDS,
    Tokens,
    default_tokens,
    set_ends,
    with_ids,
)
from tinystar_np.text.tokenizer_faults import NotOrdinaryError
from tinystar_np.text.tokenizer_settings import TokenizerSettings

Rules = TypeVar("Rules", Normalizer, Decoder)


def load_tokenizer_json(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[tokenizers.Tokenizer, TokenizerSettings]:
    """Load a `tokenizer.json`, which the settings beside it overrule.

    Returns the package's tokenizer, and the settings with the special tokens of its class.
    Raises NotOrdinaryError, CheckpointError, ValueError and the package's errors where the file is damaged.
    """
    data = path.read_bytes()
    content = parse_json_object(data, path)
    if ordinary_only and not is_ordinary(content):
        raise NotOrdinaryError
    backend = tokenizers.Tokenizer.from_buffer(data)
    name = (settings.class_name or OF_MODEL_TYPE.get(settings.model_type or "", "")).removesuffix("Fast")
    defaults = default_tokens(name).items()
    settings = settings.with_defaults(
        {role: token for role, token in defaults if backend.token_to_id(token) is not None}
    )
    backend = _with_added_tokens(backend, content, settings)
    _override_ends(backend, settings, name)
    _override_prefix_space(backend, settings, name)
    # Some files have the truncation and padding of a training run. A prompt is neither cut nor padded.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = settings.split_special_tokens
    return backend, settings


def _rules_of(part: Normalizer | Decoder | PostProcessor | None) -> Iterator[JsonObject]:
    """Yield a part of a tokenizer as its JSON, and then all rules within it."""

    def within(rule: JsonObject) -> Iterator[JsonObject]:
        yield rule
        for key in ("normalizers", "decoders", "processors"):
            for inner in rule.get(key) or ():
                yield from within(inner)

    return iter(()) if part is None else within(json.loads(part.__getstate__()))


def _with_added_tokens(
    backend: tokenizers.Tokenizer, content: JsonObject, settings: TokenizerSettings
) -> tokenizers.Tokenizer:
    """Return the tokenizer with the added tokens of the settings.

    backend  made from ``content``, which is changed

    The package adds tokens with the next id only, and cannot make a special one ordinary again. So the file's
    content is changed, and read again.
    """
    present = backend.get_added_tokens_decoder()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    found = resolve_added_tokens(settings, vocabulary, present)
    if all(id in present and flags_of(present[id]) == flags_of(token) for id, token in found.items()):
        return backend
    pieces = content["model"]["vocab"]
    if isinstance(pieces, dict) and any(token.content not in vocabulary for token in found.values()):
        # The vocabulary's tokens keep their ids. In a Unigram model it is a list, and an id is an index.
        pieces |= {token.content: id for id, token in found.items()}
    content["added_tokens"] = [
        {"id": id, "content": token.content, **flags_of(token)} for id, token in sorted(found.items())
    ]
    changed = tokenizers.Tokenizer.from_str(json.dumps(content))
    for id, token in found.items():
        if changed.token_to_id(token.content) != id:
            raise ValueError(f"the added token {shown(token.content)} cannot have the id {id}")
    return changed


def _override_ends(backend: tokenizers.Tokenizer, settings: TokenizerSettings, name: str) -> None:
    """Set the tokens that begin and end a text as the settings of a class of this name say."""
    add_bos, add_eos = settings.add_bos, settings.add_eos
    if name in ENDS_FALSE_IF_MISSING:
        add_bos, add_eos = add_bos is True, add_eos is True
    if name in ENDS_IN_TOKENIZER_JSON or (add_bos is None and add_eos is None):
        return
    special = settings.special_tokens
    begin, end = _ends_of(backend)
    if add_bos is not None:
        begin = with_ids(backend, special.get("bos_token")) if add_bos else []
    if add_eos is not None:
        end = with_ids(backend, special.get("eos_token")) if add_eos else []
    set_ends(backend, begin, end)


def _ends_of(backend: tokenizers.Tokenizer) -> tuple[Tokens, Tokens]:
    """Return the tokens that a tokenizer puts before and after every text."""
    begin: Tokens = []
    end: Tokens = []
    for rule in _rules_of(backend.post_processor):
        if "cls" in rule and "sep" in rule:  # RobertaProcessing and BertProcessing
            (first, first_id), (last, last_id) = rule["cls"], rule["sep"]
            begin, end = [(first_id, first), *begin], [*end, (last_id, last)]
            continue
        before: Tokens = []
        side = before
        for part in rule.get("single", ()):
            if "SpecialToken" in part:
                found = rule["special_tokens"][part["SpecialToken"]["id"]]
                side += zip(found["ids"], found["tokens"], strict=True)
            else:  # the text
                side = end
        begin = before + begin
    return begin, end


def _override_prefix_space(backend: tokenizers.Tokenizer, settings: TokenizerSettings, name: str) -> None:
    """Set whether a space is put before a text, as the settings say."""
    wanted, words = settings.add_prefix_space, backend.pre_tokenizer
    if isinstance(words, pre_tokenizers.ByteLevel) and (wanted is not None or name in CLASSES):
        words.add_prefix_space = wanted is True  # changes the tokenizer, of which it is a view
    if name not in SENTENCEPIECE_ENDS or wanted is None:
        return
    if isinstance(words, pre_tokenizers.Metaspace) and (words.prepend_scheme != "never") != wanted:
        words.prepend_scheme = ("always" if settings.legacy else "first") if wanted else "never"
    if not wanted:
        if isinstance(backend.normalizer, normalizers.Sequence):
            backend.normalizer = _without_spaces(backend.normalizer, "normalizers")
        if isinstance(backend.decoder, decoders.Sequence):
            backend.decoder = _without_spaces(backend.decoder, "decoders")


def _without_spaces(sequence: Rules, key: str) -> Rules:
    """Remove the rules of a sequence that put a space before a text or take it away."""
    state = json.loads(sequence.__getstate__())
    state[key] = [rule for rule in state[key] if rule["type"] not in ("Prepend", "Strip")]
    sequence.__setstate__(json.dumps(state).encode())
    return sequence
