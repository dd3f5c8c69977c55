"""GPTQ: whole numbers of 4 or 8 bits in groups of inputs, chosen so that their errors undo each other.

    NAME.qweight  int32 (in · bits / 32, out)       codes, neighbouring inputs in a word
    NAME.qzeros   int32 (groups, out · bits / 32)   zero points, neighbouring outputs in a word
    NAME.scales   float (groups, out)
    NAME.g_idx    int32 (in,)                       the group of each input, in files that say it

    W_oi = (q_oi − z_og) · s_og        g: the group of input i

The first format ("checkpoint_format" "gptq", or none) stores z − 1, and "gptq_v2" z itself. With "desc_act"
inputs were rounded in the order of how much they matter, and groups are of inputs that were neighbours then.
When it is loaded, the words are put into the order in which a product reads them: that is a copy in memory.

Frantar et al. 2022, arXiv:2210.17323. Formats: AutoGPTQ and GPTQModel.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from tinystar_np.checkpoints.packed_groups import (
    BITS,
    WORD,
    as_bytes,
    group_width,
    order_by_group,
    pack,
    unpack,
    with_zeros,
)
from tinystar_np.checkpoints.packed_tensor import FLOATS, PackedTensor, Parts, damaged, numbers, rank
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.coded_matrix import CodedMatrix

CODES, ZEROS, SCALES, GROUPS = ".qweight", ".qzeros", ".scales", ".g_idx"
STORED_LESS_ONE = {"gptq": 1, None: 1, "gptq_v2": 0}
"""How much less than a zero point is stored, by the format's name."""


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether a ``quantization_config`` of this method is read here."""
    size = settings.get("group_size")
    return (
        settings.get("bits") in BITS
        and type(size) is int
        and (size == -1 or size >= 1)
        and settings.get("checkpoint_format") in STORED_LESS_ONE
    )


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    bits, size = settings["bits"], settings["group_size"]
    assert isinstance(bits, int)
    assert isinstance(size, int)
    less = STORED_LESS_ONE[settings.get("checkpoint_format")]  # type: ignore[index]
    for name in parts:
        if not name.endswith(CODES):
            continue
        base = name.removesuffix(CODES)
        codes = parts.need(name, name, ("I32",))
        words, outputs = rank(codes, 2)
        inputs = words * WORD // bits
        width = group_width(size, inputs)
        groups = -(-inputs // width)
        if outputs * bits % WORD:
            raise damaged(codes, f"its {outputs} outputs do not fill words of 32 bits")
        scales = parts.need(base + SCALES, name, FLOATS, [(groups, outputs)])
        zeros = parts.need(base + ZEROS, name, ("I32",), [(groups, outputs * bits // WORD)])
        used = [codes, scales, zeros]
        by_group: StoredTensor | None = None
        if base + GROUPS in parts:
            by_group = parts.need(base + GROUPS, name, ("I32", "I64"), [(inputs,)])
            used.append(by_group)
        read = partial(_read, codes, scales, zeros, by_group, bits, width, less)
        shape = (outputs, inputs)
        yield PackedTensor(codes.path, base + ".weight", f"GPTQ {bits} bits", shape, tuple(used), read)


def _read(
    codes: StoredTensor,
    scales: StoredTensor,
    zeros: StoredTensor,
    by_group: StoredTensor | None,
    bits: int,
    width: int,
    less: int,
    expert: int | None,
) -> CodedMatrix:
    inputs, outputs = codes.shape[0] * WORD // bits, codes.shape[1]
    packed = as_bytes(codes.array().T, bits, inputs)  # (out, in · bits / 8)
    points = unpack(as_bytes(zeros.array(), bits, outputs), bits).T.astype(np.int16) + less
    code, kept = with_zeros(bits, points)
    order = None if by_group is None else order_by_group(by_group, width, inputs)
    if order is not None:
        packed = pack(unpack(packed, bits)[:, order], bits)
    return CodedMatrix(
        packed,
        code,
        np.ascontiguousarray(numbers(scales).T),
        block=(1, width),
        zeros=None if kept is None else np.ascontiguousarray(kept),
        order=order,
    )
