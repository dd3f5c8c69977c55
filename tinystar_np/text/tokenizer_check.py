"""What a stranger's tokenizer.json may not ask for, although the `tokenizers` package would try it.

The rules of such a file are a small program. Forty replacements of `a` by `aa`, one after another, make a
terabyte of one letter, and the package is native code that nothing can stop. So the rules are read before a
text meets them: how many times as long can they make it?

    replace "ab" by "xyz"    3/2 times as long, and by an expression 1 + 3 times
    prepend "▁"              1 + 1 times
    one after another        the product of all

Real tokenizers reach 2 or 3.
"""

import json
from collections import Counter
from typing import Any

MOST_GROWTH = 100
MOST_COPIES = 8  # of a text, in what begins and ends it
LONGEST_AFFIX = 64  # characters that the model puts to each of a text's, at the beginning or the end of words

PARTS = ("normalizers", "decoders", "processors", "pretokenizers")


def problem_before_loading(data: bytes) -> str | None:
    """Say why a tokenizer.json must not even be given to the package, or None.

    The package takes the last of two tokens that are written the same way, without a word. And a merge whose
    second half lacks the prefix that it should have can end the whole process there. To read a file of the
    size of GPT-2's for this takes 0.05 s, half of what the package then takes to load it.
    """
    try:
        content = json.loads(data, object_pairs_hook=_object)
    except _TwiceError as error:
        return f"the key {str(error)[:60]!r} stands there twice"
    except (ValueError, RecursionError):
        return None  # the package says it better
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        return None
    prefix, merges = model.get("continuing_subword_prefix"), model.get("merges")
    if prefix and isinstance(merges, list):
        for merge in merges:
            halves = merge.split(" ") if isinstance(merge, str) else merge
            if not str(halves[-1] if halves else "").startswith(str(prefix)):
                return f"the merge {str(merge)[:60]!r} lacks the continuing_subword_prefix"
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(str(model.get(name) or "")) > LONGEST_AFFIX:
            return f"its {name} is longer than {LONGEST_AFFIX} characters"
    return None


class _TwiceError(ValueError):
    """An object has a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError(next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1))
    return found


def problem_of(backend: Any) -> str | None:
    """Say why a loaded tokenizer must not be used, or None."""
    for name in ("normalizer", "decoder"):
        part = getattr(backend, name)
        if part is not None and growth(json.loads(part.__getstate__())) > MOST_GROWTH:
            return f"its {name} can make a text more than {MOST_GROWTH} times as long"
    if backend.post_processor is not None:
        copies = _copies(json.loads(backend.post_processor.__getstate__()))
        if copies > MOST_COPIES:
            return f"its post_processor repeats a text {copies} times"
    return None


def growth(rules: Any) -> float:
    """Bound how many times as long a rule, or a sequence of them, makes a text."""
    result = 1.0
    for rule in _each(rules):
        match rule.get("type"):
            case "Replace":
                found, new = rule["pattern"].get("String"), len(rule["content"])
                result *= max(1.0, new / len(found)) if found else 1.0 + new
            case "Prepend":
                result *= 1.0 + len(rule["prepend"])
    return result


def _copies(rules: Any) -> int:
    result = 1
    for rule in _each(rules):
        if rule.get("type") == "TemplateProcessing":
            result *= max(1, sum("Sequence" in part for part in rule["single"]))
    return result


def _each(rules: Any) -> list[dict[str, Any]]:
    """List a rule with all that are within it."""
    waiting, found = [rules], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            found.append(one)
            waiting += [rule for part in PARTS for rule in one.get(part) or ()]
    return found
