"""Which tokenizers are like those of known models, and may run in this process; all others run in a worker.

The `tokenizers` package is native code, which nothing can stop. Forty replacements of `a` by `aa`, one after
another, make a terabyte of one letter; an expression such as `(a|a)*$` takes years for a line. No list of
such dangers is complete. So this is a list of what real tokenizers have: rules that make a text little
longer, the expressions by which known families cut words, tokens of ordinary length.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.text.tokenizer_classes import CLIP_WORDS, QWEN2_WORDS
from tinystar_np.text.words import (
    BLOOM_WORDS,
    CL100K_WORDS,
    DEEPSEEK_V3_WORDS,
    GPT2_WORDS,
    O200K_WORDS,
    TEKKEN_WORDS,
)

LONGEST_TOKEN = 1000  # characters; rows of spaces and dashes have up to 512 in real models
MOST_ADDED = 20_000  # tokens that are searched for in a text; real models have up to 6500
MOST_ADDED_TEXT = 500_000  # their characters
LONGEST_WORD = 200  # characters, where time grows with their square; the usual is 100
MOST_RULES = 16  # one after another
MOST_ENDS = 100  # ids around a text

EXPRESSIONS = {
    CLIP_WORDS,
    QWEN2_WORDS,
    GPT2_WORDS,
    CL100K_WORDS,  # GPT-4, Llama 3, Phi-4, GLM 4, OLMo 2
    O200K_WORDS,  # gpt-oss, Llama 4
    TEKKEN_WORDS,  # Mistral
    BLOOM_WORDS,
    DEEPSEEK_V3_WORDS,
}
# Or a few classes of characters, of which the last alone may repeat: `\s?\p{L}+`, `[0-9][0-9][0-9]`.
CLASS = r"(?:\[(?:\\.|[^\[\]\\])+\]|\\[pP]\{\w+\}|\\[sSdDrn]|[^\\\[\](){}|.*+?^$])"
SIMPLE = re.compile(rf"(?:{CLASS}\??){{0,4}}{CLASS}(?:[?*+]|\{{[12],3?\}})?")


def is_ordinary(content: JsonObject) -> bool:
    """Say whether a `tokenizer.json` has only what known models have.

    content  the file's, which may be damaged
    """
    try:
        return (
            _is_known_model(content["model"])
            and are_few([token["content"] for token in content.get("added_tokens") or ()])
            and all(_are_known(content.get(part), *known) for part, known in RULES.items())
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def are_ordinary(tokens: Iterable[str]) -> bool:
    """Say whether tokens are as short as those of known models."""
    return max(map(len, tokens), default=0) <= LONGEST_TOKEN


def are_few(added: Sequence[str]) -> bool:
    """Say whether added tokens are as few and as short as those of known models."""
    return are_ordinary(added) and len(added) <= MOST_ADDED and sum(map(len, added)) <= MOST_ADDED_TEXT


def is_known_expression(expression: str) -> bool:
    """Say whether a regular expression is one by which known families cut a text, or a simple one."""
    expression = expression.replace("\r", r"\r").replace("\n", r"\n")
    return expression in EXPRESSIONS or SIMPLE.fullmatch(expression) is not None


def _is_known_model(model: JsonObject) -> bool:
    vocabulary = model["vocab"]
    return (
        model.get("type", "BPE") in ("BPE", "WordPiece", "WordLevel", "Unigram")
        and are_ordinary(vocabulary if isinstance(vocabulary, dict) else (piece for piece, _ in vocabulary))
        and (model.get("type") == "WordPiece" or not model.get("continuing_subword_prefix"))
        and len(model.get("end_of_word_suffix") or "") <= MOST_RULES
        and (model.get("max_input_chars_per_word") or 0) <= LONGEST_WORD
    )


Checks = Mapping[str, Callable[[JsonObject], bool]]


def _are_known(rule: JsonObject | None, within: str, checks: Checks) -> bool:
    """Say whether a part of a tokenizer is a known rule, or a few of them after one another."""
    if rule is None:
        return True
    rules = rule[within] if rule["type"] == "Sequence" else [rule]
    return len(rules) <= MOST_RULES and all(
        one["type"] in checks and checks[one["type"]](one) for one in rules
    )


def _always(rule: JsonObject) -> bool:
    return True


def _splits_as_known(rule: JsonObject) -> bool:
    return is_known_expression(rule["pattern"].get("Regex", " "))


def _does_not_lengthen(rule: JsonObject) -> bool:
    found = rule["pattern"].get("String")
    return (
        len(rule["content"]) <= len(found) if found else len(rule["content"]) <= 1 and _splits_as_known(rule)
    )


def _adds_few_ids(rule: JsonObject) -> bool:
    ids = sum(len(token["ids"]) for token in rule["special_tokens"].values())
    return ids <= MOST_ENDS and max(len(rule["single"]), len(rule["pair"])) <= MOST_RULES


# Each part's name, the key of its rules within a sequence, the known rules.
RULES: Mapping[str, tuple[str, Checks]] = {
    "normalizer": (
        "normalizers",
        dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip"), _always)
        | {"BertNormalizer": _always, "Replace": _does_not_lengthen}
        | {"Prepend": lambda rule: len(rule["prepend"]) <= MOST_RULES},
    ),
    "pre_tokenizer": (
        "pretokenizers",
        dict.fromkeys(("ByteLevel", "Digits", "Punctuation", "BertPreTokenizer"), _always)
        | dict.fromkeys(("Whitespace", "WhitespaceSplit", "Metaspace"), _always)
        | {"Split": _splits_as_known},
    ),
    "post_processor": (
        "processors",
        dict.fromkeys(("ByteLevel", "BertProcessing", "RobertaProcessing"), _always)
        | {"TemplateProcessing": _adds_few_ids},
    ),
    "decoder": (
        "decoders",
        dict.fromkeys(("ByteLevel", "ByteFallback", "Fuse", "Metaspace", "Strip", "WordPiece"), _always)
        | {"Replace": _does_not_lengthen, "BPEDecoder": lambda rule: rule["suffix"] != ""},
    ),
}
