"""What the compressed-tensors package writes (vLLM's llm-compressor): integers, FP8 and FP4 of linear layers.

    "pack-quantized"         NAME.weight_packed        int32 (out, in · bits / 32), codes of 4 or 8 bits
                             NAME.weight_shape         (out, in)
                             NAME.weight_zero_point    int32 (out · bits / 32, groups), packed downwards
                             NAME.weight_g_idx         int32 (in,), the group of each column ("actorder")
    "int-quantized"          NAME.weight               int8 (out, in)
    "float-quantized"        NAME.weight               F8_E4M3 (out, in)
    "naive-quantized"        the one or the other
    "nvfp4-pack-quantized"   NAME.weight_packed        uint8 (out, in / 2), codes of E2M1
                             NAME.weight_scale         F8_E4M3 (out, in / 16)
                             NAME.weight_global_scale  one float, by which scales are divided
    "mxfp4-pack-quantized"   the same, with exponents uint8 (out, in / 32)

NAME.weight_scale has one number, or one for each output, group of columns or block. Packed integers are
stored without sign: 0 is 2^(bits − 1). Which layers are packed, the tensors say; the settings name the sizes
of groups. Activations that others round ("input_activations") stay float32. Source:
https://github.com/vllm-project/compressed-tensors, ``compressors``.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.compressed_tensors import FORMAT, MXFP4_FORMAT
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.checkpoints.packed_groups import (
    BITS,
    as_bytes,
    in_words,
    order_by_group,
    pack,
    unpack,
    with_zeros,
)
from tinystar_np.checkpoints.packed_tensor import (
    FLOATS,
    PackedTensor,
    Parts,
    damaged,
    numbers,
    rank,
    scaled,
)
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import INT8, Code, whole_numbers
from tinystar_np.kernels.float8 import E4M3
from tinystar_np.kernels.mxfp4 import BLOCK, E2M1, E8M0

FORMATS = (
    FORMAT,
    "pack-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    MXFP4_FORMAT,
    "mixed-precision",
)
KEYS = {
    "quant_method",
    "format",
    "quantization_status",
    "config_groups",
    "ignore",
    "version",
    "global_compression_ratio",
    "kv_cache_scheme",
    "sparsity_config",
}
"""Keys that are read, or do not matter here; others must be empty, such as "transform_config"."""
KINDS = (("int", 4), ("int", 8), ("float", 8), ("float", 4))
WEIGHT, PACKED, SCALE = ".weight", ".weight_packed", "_scale"
NVFP4_BLOCK = 16


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether a ``quantization_config`` of this method is read here."""
    groups = settings.get("config_groups")
    sparsity = settings.get("sparsity_config") or {"format": "dense"}
    return (
        not any(value for key, value in settings.items() if key not in KEYS)
        and settings.get("format") in FORMATS
        and settings.get("quantization_status", "compressed") == "compressed"
        and isinstance(sparsity, Mapping)
        and sparsity.get("format") == "dense"
        and isinstance(groups, Mapping)
        and bool(groups)
        and all(_is_known(group) for group in groups.values())
    )


def _is_known(group: object) -> bool:
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping) or not isinstance(group, Mapping):
        return False
    return (
        (weights.get("type", "int"), weights.get("num_bits", 8)) in KINDS
        and not weights.get("dynamic")
        and group.get("format") in (*FORMATS, None)
        and all(min(sides) >= 1 for sides in _blocks(weights))
    )


def _blocks(weights: Mapping[str, object]) -> Iterator[tuple[int, int]]:
    """Yield rows and columns of the blocks that the settings of some layers' weights name."""
    size, block = weights.get("group_size"), weights.get("block_structure")
    if type(size) is int and size != -1:
        yield 1, size
    if isinstance(block, Sequence) and [type(side) for side in block] == [int, int]:
        yield block[0], block[1]


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    groups = settings["config_groups"]
    assert isinstance(groups, Mapping)
    blocks = sorted({block for group in groups.values() for block in _blocks(group["weights"])})
    for name in parts:
        codes = parts[name]
        if name.endswith(PACKED):
            base = name.removesuffix(PACKED) + WEIGHT
            make = _integers if codes.element_type == "I32" else _floats
            yield make(parts, name, base, blocks)
        elif name.endswith(WEIGHT) and codes.element_type in ("I8", "F8_E4M3"):
            scales = parts.need(name + SCALE, name, FLOATS)
            code, zeros = E4M3, None
            if codes.element_type == "I8":
                code = INT8
                if name + "_zero_point" in parts:
                    zeros = parts.need(name + "_zero_point", name, ("I8",))
            yield scaled(codes, scales, code, name, blocks=blocks, zeros=zeros)


def _integers(parts: Parts, name: str, base: str, blocks: Sequence[tuple[int, int]]) -> PackedTensor:
    """Return the packed tensor of "pack-quantized"."""
    codes = parts[name]
    rows, words = rank(codes, 2)
    shape_part = parts.need(base + "_shape", name, ("I64", "I32"), [(2,)])
    rows_said, columns = (int(size) for size in shape_part.array())
    bits = next((b for b in BITS if columns > 0 and in_words(columns, b) == words), None)
    if rows_said != rows or bits is None or columns * bits % 8:
        said = shown((rows_said, columns))
        raise damaged(codes, f"its shape is {codes.shape}, but {shown(shape_part.name)} says {said} codes")
    scales = parts.need(base + SCALE, name, FLOATS)
    sizes_fitting = (w for h, w in blocks if h == 1 and scales.shape == (rows, -(-columns // w)))
    size = min(next(sizes_fitting, columns), columns)
    grid_by_rows = (rows, -(-columns // size))
    if scales.shape not in (grid_by_rows, (rows,), (1,), ()):
        sizes = ", ".join(str(w) for h, w in blocks if h == 1) or "none"
        raise damaged(
            scales, f"its shape is {shown(scales.shape)}, for {(rows, columns)} weights in groups of {sizes}"
        )
    height = 1 if prod(scales.shape) == prod(grid_by_rows) else rows
    grid = (-(-rows // height), -(-columns // size))
    used = [codes, shape_part, scales]
    zeros: StoredTensor | None = None
    if base + "_zero_point" in parts:
        shapes = [grid, (in_words(rows, bits), grid[1])]
        zeros = parts.need(base + "_zero_point", name, ("I32", "I8"), shapes)
        used.append(zeros)
    by_group: StoredTensor | None = None
    if base + "_g_idx" in parts:
        by_group = parts.need(base + "_g_idx", name, ("I32", "I64"), [(columns,)])
        used.append(by_group)
    read = partial(_read_integers, codes, scales, zeros, by_group, bits, columns, (height, size))
    return PackedTensor(codes.path, base, f"{bits}-bit integers", (rows, columns), tuple(used), read)


def _read_integers(
    codes: StoredTensor,
    scales: StoredTensor,
    zeros: StoredTensor | None,
    by_group: StoredTensor | None,
    bits: int,
    columns: int,
    block: tuple[int, int],
    expert: int | None,
) -> CodedMatrix:
    packed = as_bytes(codes.array(), bits, columns)
    rows = len(packed)
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    middle = 1 << bits - 1
    code, points = whole_numbers(bits, middle), None
    if zeros is not None:
        code, points = with_zeros(bits, _zero_points(zeros, bits, grid))
    order = None if by_group is None else order_by_group(by_group, block[1], columns)
    if order is not None:
        packed = pack(unpack(packed, bits)[:, order], bits)
    return CodedMatrix(packed, code, numbers(scales).reshape(grid), block=block, zeros=points, order=order)


def _zero_points(zeros: StoredTensor, bits: int, grid: tuple[int, int]) -> NDArray[np.integer]:
    """Return zero points as the unsigned codes are counted, (rows, groups)."""
    found = zeros.array()
    if zeros.element_type == "I8":
        return found.astype(np.int16) + (1 << bits - 1)
    # Packed downwards: a word holds the zero points of neighbouring rows.
    return unpack(as_bytes(found.T, 8, found.shape[0] * 4), bits)[:, : grid[0]].T


def _floats(parts: Parts, name: str, base: str, blocks: Sequence[tuple[int, int]]) -> PackedTensor:
    """Return the packed tensor of NVFP4 or MXFP4."""
    codes = parts.need(name, name, ("U8",))
    rows, width = rank(codes, 2)
    columns = 2 * width
    if base + "_global_scale" in parts:
        grid = (rows, -(-columns // NVFP4_BLOCK))
        scales = parts.need(base + SCALE, name, ("F8_E4M3",), [grid])
        whole = parts.need(base + "_global_scale", name, ("F32",), [(1,), ()])
        kind, used, size = "NVFP4", [codes, scales, whole], NVFP4_BLOCK
    else:
        grid = (rows, -(-columns // BLOCK))
        scales = parts.need(base + SCALE, name, ("U8", "F8_E8M0"), [grid])
        kind, used, size = "MXFP4", [codes, scales], BLOCK

    def read(expert: int | None) -> CodedMatrix:
        scale_code = E8M0
        if kind == "NVFP4":
            scale_code = Code(8, E4M3.numbers / np.float32(whole.array().reshape(-1)[0]))
        return CodedMatrix(codes.array(), E2M1, scales.array(), block=(1, size), scale_code=scale_code)

    return PackedTensor(codes.path, base, kind, (rows, columns), tuple(used), read)
