"""The settings that /set changes: their names, and their values in words."""

import argparse

from tinystar_np.cli.chat_history import OFF
from tinystar_np.cli.nearest import did_you_mean
from tinystar_np.cli.open_model import token_bias
from tinystar_np.cli.wording import wrapped
from tinystar_np.errors import InputError
from tinystar_np.generation.options import Sampling, SamplingOptions

WHOLE = ("top_k", "no_repeat_ngram_size", "max_new_tokens", "prompt_lookup_num_tokens", "seed")
FRACTIONS = (
    *("temperature", "top_p", "min_p", "typical_p"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)
OTHERS = ("stop", "context", "when_full", "logit_bias")
OTHER_NAMES = {
    "max_tokens": "max_new_tokens",
    "prompt_lookup": "prompt_lookup_num_tokens",
    "temp": "temperature",
}
KEYS = sorted((*(set(WHOLE) - set(OTHER_NAMES.values())), *FRACTIONS, *OTHERS, "max_tokens", "prompt_lookup"))


def setting(key: str, value: str, width: int) -> Sampling:
    """Return the setting of sampling that a name and a text stand for.

    width  columns of the list of names, if it must be shown

    Raises InputError for an unknown name, and for a text that is no number where one is needed.
    """
    name = key.replace("-", "_")
    name = OTHER_NAMES.get(name, name)
    if name == "stop":
        return Sampling(stop=[value] if value else [])
    if name == "logit_bias":
        return Sampling(logit_bias=biases(key, value))
    if name == "seed" and value in ("", OFF):
        return Sampling(seed=None)
    if name in WHOLE:
        return Sampling(**{name: whole_number(key, value)})  # type: ignore[misc]
    if name in FRACTIONS:
        return Sampling(**{name: number(key, value)})  # type: ignore[misc]
    guess = did_you_mean(name, KEYS)
    keys = wrapped(f"Settings: {' '.join(KEYS)}", width)
    raise InputError(f"There is no setting {key[:40]}. {guess}".rstrip() + f"\n{keys}")


def in_words(settings: Sampling) -> str:
    """Write settings of sampling, but for what is off: "temperature 0.8, top_k 40"."""
    off = vars(SamplingOptions(temperature=1.0, max_new_tokens=0))
    shown = {name: value for name, value in settings.items() if value not in (off[name], [])}
    shown = {"temperature": settings["temperature"], **shown} if "temperature" in settings else shown
    if "logit_bias" in shown:
        pairs = SamplingOptions(logit_bias=shown["logit_bias"]).biases  # type: ignore[arg-type]
        shown["logit_bias"] = " ".join(f"{id}={bias:g}" for id, bias in pairs)
    names = {theirs: ours for ours, theirs in OTHER_NAMES.items() if ours != "temp"}
    return ", ".join(f"{names.get(name, name)} {value}" for name, value in shown.items())


def whole_number(key: str, value: str) -> int:
    """Read a whole number, 0 or more; raises InputError for anything else."""
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise InputError(f"{key} is {value[:40]!r}; it must be a whole number, 0 or more.")
    return int(value)


def biases(key: str, value: str) -> list[tuple[int, float]]:
    """Read token ids and the numbers that are added to their logits, as "50=-5 7=3"; none from nothing."""
    try:
        return [token_bias(each) for each in value.split()] if value != OFF else []
    except argparse.ArgumentTypeError:
        raise InputError(f"{key} is {value[:40]!r}; it must be token ids and numbers: 50=-5 7=3.") from None


def number(key: str, value: str) -> float:
    """Read a number; raises InputError for anything else."""
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{key} is {value[:40]!r}; it must be a number.") from None
