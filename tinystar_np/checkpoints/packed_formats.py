"""The formats of packed weights, by the ``quant_method`` of config.json's ``quantization_config``."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tinystar_np.checkpoints import (
    packed_awq,
    packed_bitnet,
    packed_bitsandbytes,
    packed_compressed,
    packed_float8,
    packed_gptq,
    packed_mlx,
    packed_mxfp4,
)
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.compressed_tensors import is_int8_per_output
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.checkpoints.packed_tensor import PackedTensor, Parts
from tinystar_np.errors import ConfigError

Settings = Mapping[str, object]
OF_ACTIVATIONS = re.compile(
    r".*[._](input|output|activation|q|k|v|kv)_(scale|scale_ub|zero_point|global_scale)"
)
"""Tensors about how others round activations, keys and values."""

STORED_AS_IN_OUT = {"gpt2": re.compile(r".+\.(c_attn|c_proj|c_fc)\.weight")}
"""The layers of an architecture that lie as (in, out) where they are not packed. Whoever packs them makes
ordinary linear layers of them, (out, in); only compressed-tensors leaves them as they lie."""


class Format(NamedTuple):
    """How one format is read.

    accepts         says whether these settings are of the kinds that are read here
    packed_tensors  finds the packed tensors among all
    """

    accepts: Callable[[Settings], bool]
    packed_tensors: Callable[[Parts, Settings], Iterator[PackedTensor]]


FORMATS = {
    "awq": Format(packed_awq.accepts, packed_awq.packed_tensors),
    "bitnet": Format(packed_bitnet.accepts, packed_bitnet.packed_tensors),
    "bitsandbytes": Format(packed_bitsandbytes.accepts, packed_bitsandbytes.packed_tensors),
    "compressed-tensors": Format(packed_compressed.accepts, packed_compressed.packed_tensors),
    "fbgemm_fp8": Format(packed_float8.accepts, packed_float8.packed_tensors),
    "fp8": Format(packed_float8.accepts, packed_float8.packed_tensors),
    "gptq": Format(packed_gptq.accepts, packed_gptq.packed_tensors),
    "mxfp4": Format(packed_mxfp4.accepts, packed_mxfp4.packed_tensors),
}
MLX = Format(packed_mlx.accepts, packed_mlx.packed_tensors)
"""Its settings name no method. They are also, or only, under the key "quantization"."""


def is_readable(settings: object) -> bool:
    """Say whether weights with this ``quantization_config`` can be read."""
    return is_int8_per_output(settings) or _format(settings) is not None


def rounds_activations(settings: object) -> bool:
    """Say whether a model of these settings was trained with rounded activations: it must round them too."""
    return isinstance(settings, Mapping) and settings.get("quant_method") == packed_bitnet.METHOD


def _format(settings: object) -> Format | None:
    """Return the format of a ``quantization_config``, None where it is not read here."""
    if not isinstance(settings, Mapping):
        return None
    method = settings.get("quant_method")
    found = MLX if method is None else FORMATS.get(method) if isinstance(method, str) else None
    return found if found is not None and found.accepts(settings) else None


def _said(raw: JsonObject) -> tuple[str, object]:
    """Return what a parsed config.json says about packed weights, and under which key."""
    key = "quantization_config"
    if raw.get(key) is None:
        key = "quantization"
    return key, raw.get(key)


def packed_method(raw: JsonObject) -> str | None:
    """Return the name of the format that a parsed config.json says; None where it says none that is read."""
    _, settings = _said(raw)
    if not isinstance(settings, Mapping) or _format(settings) is None:
        return None
    return str(settings.get("quant_method", "mlx"))


def with_packed(checkpoint: Checkpoint, raw: JsonObject) -> Checkpoint:
    """Return a checkpoint in which packed tensors take the places of their parts.

    raw  the parsed config.json

    What the file says about how others round activations is left out: that is not done here.
    Raises ConfigError for a format that is not read here, and CheckpointError for parts that are missing or
    do not fit each other.
    """
    key, settings = _said(raw)
    found = _format(settings)
    if settings is not None and not is_readable(settings):
        raise ConfigError(f"config.json: {key} = {shown(settings)} is not implemented.")
    if found is None or is_int8_per_output(settings):
        return checkpoint
    assert isinstance(settings, Mapping)
    packed = list(found.packed_tensors(checkpoint.parts(), settings))
    model_type = raw.get("model_type")
    turned = STORED_AS_IN_OUT.get(model_type) if isinstance(model_type, str) else None
    if turned is not None and settings.get("quant_method") != "compressed-tensors":
        packed = [each.with_axes_exchanged() if turned.fullmatch(each.name) else each for each in packed]
    of_activations = {name for name in checkpoint if OF_ACTIVATIONS.fullmatch(name)}
    return checkpoint.with_packed(packed, of_activations)
