"""What tokenizer_config.json says against a tokenizer.json's own rules: the ends of a text, its first space.

A tokenizer.json has a rule for everything, and `add_bos_token`, `add_eos_token` and `add_prefix_space` beside
it may say another thing. Then they count, as in those classes of transformers 4 that read them: DeepSeek's
tokenizer.json puts nothing before a text, but its `add_bos_token: true` does. (transformers 5.24 reads the
first two only where there is no tokenizer.json.) Classes that ignore them in both versions do so here.
"""

import json
from typing import Any

import tokenizers
from tokenizers import processors

from tinystar_np.text.tokenizer_classes import (
    CLASSES,
    ENDS_FALSE_IF_MISSING,
    ENDS_IN_TOKENIZER_JSON,
    SENTENCEPIECE_ENDS,
)
from tinystar_np.text.tokenizer_settings import TokenizerSettings

End = list[tuple[int, str]]  # ids and tokens


def override_rules(backend: tokenizers.Tokenizer, settings: TokenizerSettings, name: str) -> None:
    """Change the rules of a tokenizer.json where the settings beside it say another thing.

    name  the tokenizer's class, without "Fast" at the end
    """
    _override_ends(backend, settings, name)
    _override_prefix_space(backend, settings, name)


def set_ends(backend: tokenizers.Tokenizer, begin: End, end: End) -> None:
    """Let tokens begin and end every text."""
    special = {f"begin{i}": one for i, one in enumerate(begin)} | {
        f"end{i}": one for i, one in enumerate(end)
    }
    names = list(special)
    backend.post_processor = processors.TemplateProcessing(
        single=[*names[: len(begin)], "$A", *names[len(begin) :]],
        special_tokens=[
            {"id": name, "ids": [id], "tokens": [token]} for name, (id, token) in special.items()
        ],
    )


def tokens_with_ids(backend: tokenizers.Tokenizer, *tokens: str | None) -> End:
    """Pair tokens with their ids; those that the vocabulary has not are left out."""
    ids = [(None if token is None else backend.token_to_id(token), token) for token in tokens]
    return [(id, token) for id, token in ids if id is not None and token is not None]


def _override_ends(backend: tokenizers.Tokenizer, settings: TokenizerSettings, name: str) -> None:
    add_bos, add_eos = settings.add_bos, settings.add_eos
    if name in ENDS_FALSE_IF_MISSING:
        add_bos, add_eos = add_bos is True, add_eos is True
    if name in ENDS_IN_TOKENIZER_JSON or (add_bos is None and add_eos is None):
        return
    tokens = settings.special_tokens
    begin, end = _ends_of(backend)
    if add_bos is not None:
        begin = tokens_with_ids(backend, tokens.get("bos_token")) if add_bos else []
    if add_eos is not None:
        end = tokens_with_ids(backend, tokens.get("eos_token")) if add_eos else []
    set_ends(backend, begin, end)


def _ends_of(backend: tokenizers.Tokenizer) -> tuple[End, End]:
    """Say what a tokenizer puts before and after every text."""
    begin: End = []
    end: End = []
    processor = backend.post_processor
    rules = {} if processor is None else json.loads(processor.__getstate__())
    for rule in rules.get("processors", [rules]):
        before, after = _ends_of_rule(rule)
        begin, end = before + begin, end + after
    return begin, end


def _ends_of_rule(rule: dict[str, Any]) -> tuple[End, End]:
    if "cls" in rule and "sep" in rule:  # RobertaProcessing and BertProcessing
        (begin, begin_id), (end, end_id) = rule["cls"], rule["sep"]
        return [(begin_id, begin)], [(end_id, end)]
    ends: tuple[End, End] = ([], [])
    after = False
    for part in rule.get("single", ()):
        if "SpecialToken" in part:
            found = rule["special_tokens"][part["SpecialToken"]["id"]]
            ends[after].extend(zip(found["ids"], found["tokens"], strict=True))
        else:
            after = True
    return ends


def _override_prefix_space(backend: tokenizers.Tokenizer, settings: TokenizerSettings, name: str) -> None:
    wanted = settings.add_prefix_space
    words = backend.pre_tokenizer
    kind = type(words).__name__
    if kind == "ByteLevel" and (wanted is not None or name in CLASSES):
        words.add_prefix_space = wanted is True  # changes the tokenizer, of which it is a view
    elif name in SENTENCEPIECE_ENDS and kind == "Metaspace" and wanted is not None:
        first = "always" if settings.legacy else "first"
        if (words.prepend_scheme != "never") != wanted:
            words.prepend_scheme = first if wanted else "never"
    if name in SENTENCEPIECE_ENDS and wanted is False:
        for part in ("normalizer", "decoder"):
            _leave_out(backend, part, ("Prepend", "Strip"))


def _leave_out(backend: tokenizers.Tokenizer, part: str, kinds: tuple[str, ...]) -> None:
    """Leave rules of some kinds out of a tokenizer's sequence of rules."""
    sequence = getattr(backend, part)
    if type(sequence).__name__ != "Sequence":
        return
    state = json.loads(sequence.__getstate__())
    key = f"{part}s"
    state[key] = [rule for rule in state[key] if rule["type"] not in kinds]
    sequence.__setstate__(json.dumps(state).encode())
    setattr(backend, part, sequence)
