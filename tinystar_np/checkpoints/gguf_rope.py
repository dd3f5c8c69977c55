"""The rotary embedding of a GGUF model, as the ``rope_parameters`` of a config.json.

rope.freq_base, rope.dimension_count               the base, and how much of each head is rotated
rope.scaling.type "linear", "yarn", "longrope"     with factor, original_context_length and others
rope_freqs.weight                                  a divisor for each pair's frequency: Llama 3.1's rule
rope_factors_short.weight, rope_factors_long.weight    LongRoPE's (Phi-3)
"""

from collections.abc import Mapping

import numpy as np

from tinystar_np.checkpoints.gguf_keys import ModelKeys, shortest
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.errors import ConfigError
from tinystar_np.kernels.rope import default_frequencies, llama3_frequencies

BASE = 10000.0  # where a file says none, as in llama.cpp
LLAMA3_LOW, LLAMA3_HIGH = 1.0, 4.0  # of all Llamas
LLAMA3_LENGTH = 8192  # of Llama 3's first training; the conversion takes it for all
FACTORS = "rope_freqs.weight"
SHORT, LONG = "rope_factors_short.weight", "rope_factors_long.weight"

YARN: Mapping[str, str] = {
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}


def rope_parameters(keys: ModelKeys, head_dim: int) -> JsonObject:
    """Return what a config.json would have under ``rope_parameters``.

    head_dim  K, of which a part may be rotated

    Raises ConfigError for a rule that is not known, CheckpointError for what is no number.
    """
    found: JsonObject = {"rope_type": "default", "rope_theta": keys.number("rope.freq_base", BASE)}
    rotated = keys.whole("rope.dimension_count", head_dim)
    found["partial_rotary_factor"] = _share(rotated, head_dim)
    for unused in ("rope.scaling.finetuned", "rope.scaling.original_context_length"):
        keys.value(unused)  # how the model came to it, and what some rules read once more
    kind = keys.value("rope.scaling.type", "none")
    old_factor = keys.number("rope.scale_linear", 1.0)
    if old_factor != 1:
        kind, found["factor"] = "linear", old_factor
    if keys.has(SHORT) or keys.has(LONG):
        return found | _longrope(keys)
    if keys.number("rope.scaling.attn_factor", 1.0) != 1:
        raise keys.error("rope.scaling.attn_factor", "1 for this rule")
    if keys.has(FACTORS):
        return found | _by_pair(keys, rotated, found["rope_theta"])
    match kind:
        case "none":
            pass
        case "linear":
            factor = keys.number("rope.scaling.factor", 1.0)
            found |= {"rope_type": "linear", "factor": found.get("factor", factor)}
        case "yarn":
            given = {theirs: keys.number(ours) for ours, theirs in YARN.items() if ours in keys}
            found |= {"rope_type": "yarn", **given}
            if keys.number("rope.scaling.yarn_ext_factor", 1.0) != 1:
                raise ConfigError(f"{keys.path}: YaRN with another extrapolation factor is not implemented.")
        case _:
            raise ConfigError(
                f"{keys.path}: rope.scaling.type = {shown(kind)} is not known here. Known: none, linear, "
                "yarn, and longrope where its factors are there."
            )
    return found


def _share(rotated: int, head_dim: int) -> float:
    """Return the part of a head that is rotated, such that rounding down gives the number again."""
    share = rotated / max(head_dim, 1)
    return share if int(head_dim * share) == rotated else float(np.nextafter(share, np.inf))


def _longrope(keys: ModelKeys) -> JsonObject:
    short, long = keys.vector(SHORT), keys.vector(LONG)
    if short is None or long is None:
        raise ConfigError(f"{keys.path}: has only one of {SHORT} and {LONG}.")
    keys.value("rope.scaling.type")
    found: JsonObject = {"rope_type": "longrope"}
    found["short_factor"], found["long_factor"] = (
        [shortest(float(n)) for n in each] for each in (short, long)
    )
    if "rope.scaling.original_context_length" in keys:
        found["original_max_position_embeddings"] = keys.whole("rope.scaling.original_context_length")
    if "rope.scaling.attn_factor" in keys:
        found["attention_factor"] = keys.number("rope.scaling.attn_factor")
    return found


def _by_pair(keys: ModelKeys, rotated: int, theta: float) -> JsonObject:
    """Return the rule that divides each pair's frequency by a number of the file.

    That is Llama 3.1's where the numbers are what its rule gives. Any others are LongRoPE's, with the same
    factors for texts of any length.
    """
    factors = keys.vector(FACTORS)
    assert factors is not None
    largest = shortest(float(factors.max(initial=1)))
    if largest == 1:
        return {}
    trained = keys.whole("rope.scaling.original_context_length", LLAMA3_LENGTH)
    if len(factors) == rotated // 2 and largest > 1 and theta > 0 and trained > 0:
        scaled = llama3_frequencies(rotated, theta, largest, LLAMA3_LOW, LLAMA3_HIGH, trained)
        if np.allclose(default_frequencies(rotated, theta) / scaled, factors, rtol=1e-5, atol=0):
            return {
                "rope_type": "llama3",
                "factor": largest,
                "low_freq_factor": LLAMA3_LOW,
                "high_freq_factor": LLAMA3_HIGH,
                "original_max_position_embeddings": trained,
            }
    listed = [shortest(float(number)) for number in factors]
    return {
        "rope_type": "longrope",
        "short_factor": listed,
        "long_factor": listed,
        "attention_factor": 1.0,
        "original_max_position_embeddings": keys.whole("context_length"),
    }
