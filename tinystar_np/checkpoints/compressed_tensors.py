"""The ``quantization_config`` of 8-bit weights, as the compressed-tensors package writes it into config.json.

    {"quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized",
                             "quantization_status": "compressed", "ignore": ["lm_head", …],
                             "config_groups": {"group_0": {"targets": ["Linear"], "weights": {…}}}}}

A linear layer's NAME.weight (out, in) is then int8, and NAME.weight_scale (out, 1) multiplies its rows; the
layers under ``ignore`` are not quantised. transformers reads such files with that package. Of the package's
many schemes only this one is read here: 8-bit integers, a scale per output, activations not quantised.
GPT-2's layers are of the kind "Conv1D", with weights (in, out) and scales (1, out): transformers reads those
with ``CompressedTensorsConfig(dequantize=True)``, and raises an error without. Source:
https://github.com/vllm-project/compressed-tensors, ``QuantizationConfig`` and ``QuantizationArgs``.
"""

from collections.abc import Mapping, Sequence

METHOD, FORMAT = "compressed-tensors", "int-quantized"
LINEAR, CONV1D = "Linear", "Conv1D"
"""What transformers calls the modules with weights (out, in) and (in, out)."""
SCALE = "_scale"
"""The ending of a scale tensor's name, after the name of its tensor."""
WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
SAYS_NOTHING: tuple[object, ...] = (None, False, {}, [])
"""Values with which any other key changes nothing."""
NO_MATTER = ("observer", "observer_kwargs", "scale_dtype", "zp_dtype")
"""Keys about how the scales were found, and in which type others compute with them."""


def int8_settings(kinds: Sequence[str], ignored: Sequence[str]) -> dict[str, object]:
    """Return the ``quantization_config`` for 8 bits in all layers of these kinds but the ``ignored``."""
    group = {"targets": list(kinds), "format": FORMAT, "weights": WEIGHTS}
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "ignore": list(ignored),
        "config_groups": {"group_0": group},
    }


def is_int8_per_output(settings: object) -> bool:
    """Say whether a ``quantization_config`` is of the scheme that is read here."""
    known = {"quant_method": (METHOD,), "format": (FORMAT,), "quantization_status": ("compressed",)}
    free = ("ignore", "config_groups", "version", "global_compression_ratio")
    if not isinstance(settings, Mapping) or not _has_only(settings, known, free):
        return False
    groups = settings.get("config_groups")
    return isinstance(groups, Mapping) and bool(groups) and all(map(_is_known_group, groups.values()))


def _is_known_group(group: object) -> bool:
    if not isinstance(group, Mapping):
        return False
    weights = group.get("weights")
    return (
        _has_only(group, {"format": (FORMAT, None)}, ("targets", "weights"))
        and isinstance(weights, Mapping)
        and _has_only(weights, {key: (value,) for key, value in WEIGHTS.items()}, NO_MATTER)
    )


def _has_only(
    found: Mapping[str, object], known: Mapping[str, Sequence[object]], free: Sequence[str]
) -> bool:
    """Say whether all keys have values that are read here.

    known  the values that keys must have one of
    free   keys that may have any value; all others must have one of ``SAYS_NOTHING``
    """
    others = found.keys() - known.keys() - {*free}
    return all(found.get(key) in values for key, values in known.items()) and all(
        found[key] in SAYS_NOTHING for key in others
    )
