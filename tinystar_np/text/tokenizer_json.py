"""`tokenizer.json`: a complete description of a tokenizer, run by the `tokenizers` package.

Three things are done to it here. Rules with which a stranger's file would end the process or fill the memory
are refused. Tokens that the files beside it state are added. And what `tokenizer_config.json` says against
the file's own rules counts, as in those classes of transformers 4 that read it: DeepSeek's tokenizer.json
puts nothing before a text, but the `add_bos_token: true` beside it does. (transformers 5.24 reads
add_bos_token and add_eos_token only where there is no tokenizer.json.) Classes that ignore such settings in
both versions do so here.
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
from tinystar_np.text.tokenizer_settings import TokenizerSettings

Rules = TypeVar("Rules", Normalizer, Decoder)

MOST_GROWTH = 100  # times as long as it was; the rules of real tokenizers make a text 2 or 3 times as long
MOST_COPIES = 8  # of a text, in what begins and ends it
LONGEST_AFFIX = 64  # characters that the model puts to each of a text's, at the beginning or the end of words


def load_tokenizer_json(
    path: Path, settings: TokenizerSettings
) -> tuple[tokenizers.Tokenizer, TokenizerSettings]:
    """Load a `tokenizer.json`, on which the settings beside it have the last word.

    Returns the package's tokenizer, and the settings with the special tokens of its class.
    Raises CheckpointError, ValueError and what the package raises where the file is damaged or asks for what
    is refused.
    """
    data = path.read_bytes()
    content = parse_json_object(data, path)
    _check_model(content.get("model"))
    backend = tokenizers.Tokenizer.from_buffer(data)
    _check_rules(backend)
    name = (settings.class_name or OF_MODEL_TYPE.get(settings.model_type or "", "")).removesuffix("Fast")
    defaults = default_tokens(name).items()
    settings = settings.with_defaults(
        {role: token for role, token in defaults if backend.token_to_id(token) is not None}
    )
    backend = _with_added_tokens(backend, content, settings)
    _override_ends(backend, settings, name)
    _override_prefix_space(backend, settings, name)
    # Some files carry the truncation and padding of a training run. A prompt is neither cut nor padded.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = settings.split_special_tokens
    return backend, settings


# What a file may not ask for, although the package would try it.


def _check_model(model: object) -> None:
    """Raise ValueError for a model by which the package itself fails.

    A merge whose second half lacks the prefix that it should have can end the whole process there.
    """
    if not isinstance(model, dict):
        return  # the package says it better
    prefix, merges = model.get("continuing_subword_prefix"), model.get("merges")
    if prefix and isinstance(merges, list):
        for merge in merges:
            halves = merge.split(" ") if isinstance(merge, str) else merge
            if not str(halves[-1] if halves else "").startswith(str(prefix)):
                raise ValueError(f"the merge {shown(merge)} lacks the continuing_subword_prefix")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(str(model.get(name) or "")) > LONGEST_AFFIX:
            raise ValueError(f"its {name} is longer than {LONGEST_AFFIX} characters")


def _check_rules(backend: tokenizers.Tokenizer) -> None:
    """Raise ValueError for rules that make very much of a text.

    Forty replacements of `a` by `aa`, one after another, make a terabyte of one letter, and the package is
    native code that nothing can stop. So the most that each rule can do is multiplied before a text meets it:

        replace "ab" by "xyz"    3/2 times as long, and by an expression 1 + 3 times
        prepend "▁"              1 + 1 times
    """
    for name, part in (("normalizer", backend.normalizer), ("decoder", backend.decoder)):
        growth = 1.0
        for rule in _rules_of(part):
            match rule.get("type"):
                case "Replace":
                    found, new = rule["pattern"].get("String"), len(rule["content"])
                    growth *= max(1.0, new / len(found)) if found else 1.0 + new
                case "Prepend":
                    growth *= 1.0 + len(rule["prepend"])
        if growth > MOST_GROWTH:
            raise ValueError(f"its {name} can make a text more than {MOST_GROWTH} times as long")
    copies = 1
    for rule in _rules_of(backend.post_processor):
        if rule.get("type") == "TemplateProcessing":
            copies *= max(1, sum("Sequence" in part for part in rule["single"]))
    if copies > MOST_COPIES:
        raise ValueError(f"its post_processor repeats a text {copies} times")


def _rules_of(part: Normalizer | Decoder | PostProcessor | None) -> Iterator[JsonObject]:
    """Give a rule of a tokenizer as JSON has it, and after it all that are within it."""

    def within(rule: JsonObject) -> Iterator[JsonObject]:
        yield rule
        for key in ("normalizers", "decoders", "processors"):
            for inner in rule.get(key) or ():
                yield from within(inner)

    return iter(()) if part is None else within(json.loads(part.__getstate__()))


# What the settings beside a file change.


def _with_added_tokens(
    backend: tokenizers.Tokenizer, content: JsonObject, settings: TokenizerSettings
) -> tokenizers.Tokenizer:
    """Give a tokenizer the tokens that the settings state.

    backend  made of the content, which is changed

    The package adds a token with the next id only, and never makes a special one ordinary again. So where
    anything changes, it is changed in the file's content, and that is read again.
    """
    present = backend.get_added_tokens_decoder()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    found = resolve_added_tokens(settings, vocabulary, present)
    if all(id in present and flags_of(present[id]) == flags_of(token) for id, token in found.items()):
        return backend
    pieces = content["model"]["vocab"]
    if isinstance(pieces, dict) and any(token.content not in vocabulary for token in found.values()):
        # What the vocabulary has keeps its id. A Unigram model has a list instead, in which an id is a place.
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
    """Begin and end a text as the settings say; name is that of the class."""
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
    """Say what a tokenizer puts before and after every text."""
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
    """Put a space before a text or not, as the settings say."""
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
    """Leave out of a sequence what puts a space before a text, or takes it away."""
    state = json.loads(sequence.__getstate__())
    state[key] = [rule for rule in state[key] if rule["type"] not in ("Prepend", "Strip")]
    sequence.__setstate__(json.dumps(state).encode())
    return sequence
