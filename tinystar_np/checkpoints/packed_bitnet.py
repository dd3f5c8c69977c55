"""BitNet: matrices of −1, 0 and 1 with one scale (kernels/ternary.py).

    NAME         U8 (out / 4, in), four rows packed into one; or float (out, in), −1, 0 and 1 themselves
    NAME_scale   float (1,): what the numbers are multiplied by ("linear_class" "autobitlinear"), or divided
                 by ("bitlinear", or none)

With "quantization_mode" "online" the file has the weights of training, float (out, in), and no scale: they
are rounded when they are loaded. The layers are those of attention and feed-forward, whose names end in
"_proj". What they multiply is rounded to 8 bits by the model (models/bitnet.py). Source: transformers,
``integrations/bitnet.py``.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from tinystar_np.checkpoints.element_types import to_float32
from tinystar_np.checkpoints.packed_tensor import FLOATS, PackedTensor, Parts, damaged, numbers, rank
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.packed import TernaryMatrix
from tinystar_np.kernels.ternary import IN_A_BYTE, pack, ternary

METHOD = "bitnet"
SCALE = "_scale"
LAYER = re.compile(r".*_proj\.weight")
LINEAR_CLASSES = ("autobitlinear", "bitlinear", None)


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether a ``quantization_config`` of this method is read here."""
    return (
        settings.get("linear_class") in LINEAR_CLASSES
        and settings.get("quantization_mode") in ("offline", "online", None)
        and settings.get("modules_to_not_convert") in (None, ["lm_head"])
        and not settings.get("use_rms_norm")
        and not (_is_online(settings) and settings.get("linear_class") != "autobitlinear")
    )


def _is_online(settings: Mapping[str, object]) -> bool:
    return settings.get("quantization_mode") == "online"


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    divides = settings.get("linear_class") != "autobitlinear"
    for name in parts:
        if not LAYER.fullmatch(name):
            continue
        codes = parts[name]
        rows, columns = rank(codes, 2)
        if _is_online(settings):
            codes = parts.need(name, name, FLOATS)
            read = partial(_rounded, codes)
            yield PackedTensor(codes.path, name, "ternary", (rows, columns), (codes,), read)
            continue
        codes = parts.need(name, name, ("U8", *FLOATS))
        scale = parts.need(name + SCALE, name, FLOATS, [(1,), ()])
        rows *= IN_A_BYTE if codes.element_type == "U8" else 1
        read = partial(_read, codes, scale, divides)
        yield PackedTensor(codes.path, name, "ternary", (rows, columns), (codes, scale), read)


def _read(codes: StoredTensor, scale: StoredTensor, divides: bool, expert: int | None) -> TernaryMatrix:
    factor = float(numbers(scale).ravel()[0])
    if divides:
        if factor == 0:
            raise damaged(scale, "it is 0, but weights are divided by it")
        factor = 1 / factor
    if codes.element_type == "U8":
        return TernaryMatrix(codes.array(), factor)
    values = to_float32(codes.array(), codes.element_type)
    if not np.isin(values, (-1, 0, 1)).all():
        raise damaged(codes, "its numbers are not -1, 0 and 1")
    return TernaryMatrix(pack(values.astype(np.int8)), factor, len(values))


def _rounded(weights: StoredTensor, expert: int | None) -> TernaryMatrix:
    values, scale = ternary(to_float32(weights.array(), weights.element_type))
    return TernaryMatrix(pack(values), float(scale), len(values))
