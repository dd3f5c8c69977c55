"""The ``quantization_config`` of weights in int8 and MXFP4, as the compressed-tensors package writes it.

    {"quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized",
                             "quantization_status": "compressed", "ignore": ["lm_head", …],
                             "config_groups": {"group_0": {"targets": ["Linear"], "weights": {…}}}}}

A linear layer's NAME.weight (out, in) is then int8, and NAME.weight_scale (out, 1) multiplies its rows; the
layers under ``ignore`` are not quantised. transformers reads such files with that package. This one of its
schemes is not packed: 8-bit integers, a scale per output, activations not quantised. MXFP4 is, like the
others (checkpoints/packed_compressed.py).
GPT-2's layers are of the kind "Conv1D", with weights (in, out) and scales (1, out): transformers reads those
with ``CompressedTensorsConfig(dequantize=True)``, and raises an error without. Source:
https://github.com/vllm-project/compressed-tensors, ``QuantizationConfig`` and ``QuantizationArgs``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

METHOD, FORMAT, MXFP4_FORMAT = "compressed-tensors", "int-quantized", "mxfp4-pack-quantized"
LINEAR, CONV1D = "Linear", "Conv1D"
"""What transformers calls the modules with weights (out, in) and (in, out)."""
SCALE = "_scale"
"""The ending of a scale tensor's name, after the name of its tensor."""
WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
MXFP4_WEIGHTS = {
    "num_bits": 4,
    "type": "float",
    "symmetric": True,
    "strategy": "group",
    "group_size": 32,
    "dynamic": False,
    "scale_dtype": "torch.uint8",
}
SAYS_NOTHING: tuple[object, ...] = (None, False, {}, [])
"""Values with which any other key changes nothing."""
NO_MATTER = ("observer", "observer_kwargs", "scale_dtype", "zp_dtype")
"""Keys about how the scales were found, and in which type others compute with them."""


def int8_settings(kinds: Sequence[str], ignored: Sequence[str]) -> dict[str, object]:
    """Return the ``quantization_config`` for 8 bits in all layers of these kinds but the ``ignored``."""
    return _settings(FORMAT, WEIGHTS, kinds, ignored)


def endings(ignored: Iterable[str], rounded: Iterable[str]) -> list[str]:
    """Return patterns for ``ignored`` modules that hold whatever stands before their names.

    In models of text and images transformers calls a module model.vision_tower.… that files call
    vision_tower.…: by the file's name alone it is taken for one in 8 bits, and stays without weights.

    ignored  names of modules in a file
    rounded  names of the tensors that are not to be ignored
    """
    taken = {ending for name in rounded for ending in _endings_of(name.removesuffix(".weight"))}
    free = (next((each for each in _endings_of(name) if each not in taken), None) for name in ignored)
    return [rf"re:(.*\.)?{re.escape(ending)}$" for ending in sorted({each for each in free if each})]


def _endings_of(name: str) -> list[str]:
    """List the endings of a module's name, the shortest first."""
    parts = name.split(".")
    return [".".join(parts[i:]) for i in reversed(range(len(parts)))]


def mxfp4_settings(kinds: Sequence[str], ignored: Sequence[str]) -> dict[str, object]:
    """Return the ``quantization_config`` for MXFP4 in all layers of these kinds but the ``ignored``."""
    return _settings(MXFP4_FORMAT, MXFP4_WEIGHTS, kinds, ignored)


def _settings(
    form: str, weights: Mapping[str, object], kinds: Sequence[str], ignored: Sequence[str]
) -> dict[str, object]:
    group = {"targets": list(kinds), "format": form, "weights": weights}
    return {
        "quant_method": METHOD,
        "format": form,
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
