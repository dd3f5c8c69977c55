"""bitsandbytes: NF4 and FP4 in blocks of 64 weights, and the 8 bits of LLM.int8().

4 bits, of a matrix (out, in) whose rows follow each other, two codes in a byte, the first in the upper half:

    NAME.weight                  uint8 (out · in / 2, 1)
    NAME.weight.quant_map        float32 (16,), the numbers of the codes
    NAME.weight.absmax           float32 (blocks,), the largest size in each block
    NAME.weight.quant_state.bitsandbytes__nf4    JSON in bytes: shape, block size, type; or …__fp4

    W = map[q] · absmax_b

NF4's sixteen numbers divide a bell curve into parts of equal weight; FP4's are a float's. Quantised twice,
absmax is in 8 bits itself, and NAME.weight has also ``nested_quant_map`` (256,) and ``nested_absmax``:

    absmax_b = nested_map[a_b] · nested_absmax_c + offset        c: 256 blocks

8 bits:  NAME.weight  int8 (out, in)      NAME.SCB  float32 (out,)      W_oi = q_oi · SCB_o / 127

Dettmers et al. 2023, arXiv:2305.14314 and 2022, arXiv:2208.07339. Which inputs LLM.int8() computes more
exactly is decided as it runs; here all activations are float32.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import parse_json_object
from tinystar_np.checkpoints.packed_tensor import PackedTensor, Parts, damaged, numbers
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import INT8, Code

WEIGHT = ".weight"
STATE = ".quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")
LARGEST_FLOAT = float(np.finfo(np.float32).max)
LARGEST_STATE = 4096  # bytes of JSON; it has a few keys
ABOUT_LAYOUT = ".weight_format"
"""How the weights of 8 bits lie: 0, by rows, in every file."""


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether a ``quantization_config`` of this method is read here: the tensors say all there is."""
    return True


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    for name in parts:
        if not name.endswith(WEIGHT):
            continue
        kind = next((kind for kind in KINDS if name + STATE + kind in parts), None)
        if kind is not None:
            yield _in_4_bits(parts, name, kind)
        elif parts[name].element_type == "I8":
            yield _in_8_bits(parts, name)


def _in_8_bits(parts: Parts, name: str) -> PackedTensor:
    codes = parts[name]
    if len(codes.shape) != 2:
        raise damaged(codes, f"it has {len(codes.shape)} axes, but a packed matrix has 2")
    base = name.removesuffix(WEIGHT)
    largest = parts.need(base + ".SCB", name, ("F32",), [codes.shape[:1]])
    used = [codes, largest]
    if base + ABOUT_LAYOUT in parts:
        layout = parts.need(base + ABOUT_LAYOUT, name, ("U8",), [(), (1,)])
        if layout.array().any():
            raise damaged(layout, "it is not 0, which stands for rows")
        used.append(layout)

    def read(expert: int | None) -> CodedMatrix:
        scales = largest.array()[:, None] / np.float32(127)
        return CodedMatrix(codes.array().view(np.uint8), INT8, scales, block=(1, codes.shape[1]))

    return PackedTensor(codes.path, name, "LLM.int8", codes.shape, tuple(used), read)


class _State(NamedTuple):
    """What the JSON says: the shape, weights in a block, and of scales that are packed as well the same."""

    shape: tuple[int, int]
    block: int
    nested_block: int
    offset: float


def _in_4_bits(parts: Parts, name: str, kind: str) -> PackedTensor:
    codes = parts.need(name, name, ("U8",))
    state_part = parts.need(name + STATE + kind, name, ("U8",))
    state = _state(state_part)
    rows, columns = state.shape
    count = rows * columns
    if columns % 2 or codes.shape not in ((count // 2, 1), (1, count // 2), (count // 2,)):
        raise damaged(codes, f"its shape is {codes.shape}, but its state says {state.shape} weights")
    blocks = -(-count // state.block)
    table = parts.need(name + ".quant_map", name, ("F32",), [(16,)])
    absmax = parts.need(name + ".absmax", name, ("F32", "U8"), [(blocks,)])
    used = [codes, state_part, table, absmax]
    if absmax.element_type == "U8":
        nested = -(-blocks // state.nested_block)
        used.append(parts.need(name + ".nested_quant_map", name, ("F32",), [(256,)]))
        used.append(parts.need(name + ".nested_absmax", name, ("F32",), [(nested,)]))
    read = partial(_read, state, used)
    return PackedTensor(codes.path, name, kind.upper(), state.shape, tuple(used), read)


def _state(part: StoredTensor) -> _State:
    """Read the JSON; raises CheckpointError where it is none, or has other values than it can."""
    if len(part.shape) != 1 or part.shape[0] > LARGEST_STATE:
        raise damaged(part, f"its shape is {part.shape}, but it is JSON of some bytes")
    said = parse_json_object(part.array().tobytes(), part.path)
    shape = said.get("shape")
    block, nested = said.get("blocksize", 0), said.get("nested_blocksize", 256)
    offset = said.get("nested_offset", 0.0)
    whole = isinstance(shape, list) and len(shape) == 2
    sizes = [*shape, block, nested] if isinstance(shape, list) else []
    if not whole or not all(type(size) is int and 1 <= size < 1 << 32 for size in sizes):
        raise damaged(part, "its shape and blocksize are no sizes of a matrix and its blocks")
    if type(offset) not in (int, float) or not abs(offset) <= LARGEST_FLOAT:
        raise damaged(part, "its nested_offset is no number")
    assert isinstance(shape, list)
    return _State((shape[0], shape[1]), block, nested, float(offset))


def _read(state: _State, used: list[StoredTensor], expert: int | None) -> CodedMatrix:
    codes, _, table, absmax, *nested = used
    rows, columns = state.shape
    scales = numbers(absmax)
    if nested:
        of_scales, largest = (part.array() for part in nested)
        largest_of_each = largest[np.arange(len(scales)) // state.nested_block]
        scales = of_scales[scales] * largest_of_each + np.float32(state.offset)
    # Where blocks go on from one row to the next, columns are divided so that each part is in one block.
    width = gcd(columns, state.block)
    by_part = scales[np.arange(rows * columns // width) * width // state.block]
    code = Code(4, _exact(table), high_first=True)
    packed = codes.array().reshape(rows, columns // 2)
    return CodedMatrix(packed, code, by_part.reshape(rows, -1), block=(1, width))


def _exact(table: StoredTensor) -> NDArray[np.float32]:
    return np.array(table.array())
