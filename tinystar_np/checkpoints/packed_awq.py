"""AWQ: whole numbers of 4 bits in groups of inputs, after weights that matter were made larger.

    NAME.qweight  int32 (in, out / 8)       codes, of 8 outputs in a word
    NAME.qzeros   int32 (groups, out / 8)   zero points, likewise
    NAME.scales   float (groups, out)

    W_oi = (q_oi − z_og) · s_og        g = i // group size

The outputs in a word are in the order 0, 2, 4, 6, 1, 3, 5, 7, from the lowest bits on: so a graphics card
can take two at a time apart. What made weights larger has been divided out of the layers before. When it is
loaded, the codes are put into the order in which a product reads them: that is a copy in memory.

Lin et al. 2023, arXiv:2306.00978. Format: AutoAWQ, version "gemm".
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.packed_gptq import CODES, SCALES, ZEROS
from tinystar_np.checkpoints.packed_groups import WORD, as_bytes, group_width, pack, unpack, with_zeros
from tinystar_np.checkpoints.packed_tensor import FLOATS, PackedTensor, Parts, damaged, numbers, rank
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.coded_matrix import CodedMatrix

BITS = 4
IN_A_WORD = WORD // BITS
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which output of eight is at each place of a word, from the lowest bits on."""


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether a ``quantization_config`` of this method is read here."""
    size = settings.get("group_size", settings.get("q_group_size"))
    return (
        settings.get("bits", settings.get("w_bit")) == BITS
        and str(settings.get("version", "gemm")).lower() == "gemm"
        and type(size) is int
        and (size == -1 or size >= 1)
    )


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    size = settings.get("group_size", settings.get("q_group_size"))
    assert isinstance(size, int)
    for name in parts:
        if not name.endswith(CODES):
            continue
        base = name.removesuffix(CODES)
        codes = parts.need(name, name, ("I32",))
        inputs, words = rank(codes, 2)
        outputs = words * IN_A_WORD
        width = group_width(size, inputs)
        groups = -(-inputs // width)
        if inputs % 2:
            raise damaged(codes, f"its {inputs} inputs do not fill bytes")
        scales = parts.need(base + SCALES, name, FLOATS, [(groups, outputs)])
        used = [codes, scales]
        zeros: StoredTensor | None = None
        if settings.get("zero_point", True):
            zeros = parts.need(base + ZEROS, name, ("I32",), [(groups, words)])
            used.append(zeros)
        read = partial(_read, codes, scales, zeros, width)
        yield PackedTensor(codes.path, base + ".weight", "AWQ 4 bits", (outputs, inputs), tuple(used), read)


def _read(
    codes: StoredTensor, scales: StoredTensor, zeros: StoredTensor | None, width: int, expert: int | None
) -> CodedMatrix:
    packed = pack(_by_outputs(codes.array()), BITS)
    points = np.full((1, 1), 1 << BITS - 1) if zeros is None else _by_outputs(zeros.array())
    code, kept = with_zeros(BITS, points)
    by_outputs = np.ascontiguousarray(numbers(scales).T)
    return CodedMatrix(packed, code, by_outputs, block=(1, width), zeros=kept)


def _by_outputs(words: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Take words apart: (n, out / 8) → (out, n), in order."""
    values = unpack(as_bytes(words, BITS, words.shape[1] * IN_A_WORD), BITS)
    in_order = np.empty_like(values)
    for place, output in enumerate(ORDER):
        in_order[:, output::IN_A_WORD] = values[:, place::IN_A_WORD]
    return np.ascontiguousarray(in_order.T)
