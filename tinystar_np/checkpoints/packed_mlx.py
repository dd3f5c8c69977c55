"""MLX, Apple's: whole numbers of 4 or 8 bits in groups of inputs, with a scale and a least number.

    NAME.weight  uint32 (out, in · bits / 32)   codes, the first in the lowest bits
    NAME.scales  float (out, groups)
    NAME.biases  float (out, groups)

    W_oi = q_oi · s_og + b_og        g = i // group size

config.json says {"quantization": {"group_size": 64, "bits": 4}}, often under "quantization_config" as well,
and has under a layer's name what is different there. Of its modes, "affine" is this one; with "mxfp4" scales
are exponents (kernels/mxfp4.py) and there are no biases. Source: https://github.com/ml-explore/mlx,
``mlx.core.quantize``. Embeddings are packed too.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from tinystar_np.checkpoints.packed_groups import BITS, WORD, as_bytes
from tinystar_np.checkpoints.packed_tensor import FLOATS, PackedTensor, Parts, damaged, numbers, rank
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import whole_numbers
from tinystar_np.kernels.mxfp4 import BLOCK, E2M1, E8M0

WEIGHT = ".weight"
MODES = ("affine", "mxfp4")


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether these settings, which name no method, are MLX's and of the kinds that are read here."""
    own = [settings, *(value for value in settings.values() if isinstance(value, Mapping))]
    return all(_is_known({**settings, **each}) for each in own)


def _is_known(settings: Mapping[str, object]) -> bool:
    bits, size, mode = settings.get("bits"), settings.get("group_size"), settings.get("mode", "affine")
    if type(bits) is not int or bits not in BITS or type(size) is not int or size < 1 or mode not in MODES:
        return False
    return mode == "affine" or (bits, size) == (4, BLOCK)


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    for name in parts:
        if not name.endswith(WEIGHT) or parts[name].element_type != "U32":
            continue
        base = name.removesuffix(WEIGHT)
        own = settings.get(base)
        said = {**settings, **own} if isinstance(own, Mapping) else settings
        bits, size = said["bits"], said["group_size"]
        assert isinstance(bits, int)
        assert isinstance(size, int)
        codes = parts[name]
        rows, words = rank(codes, 2)
        columns = words * WORD // bits
        if columns % size:
            raise damaged(codes, f"its {columns} columns are not divided by groups of {size}")
        grid = [(rows, columns // size)]
        if said.get("mode", "affine") == "affine":
            scales = parts.need(base + ".scales", name, FLOATS, grid)
            biases = parts.need(base + ".biases", name, FLOATS, grid)
            read = partial(_read, codes, scales, biases, bits, size)
            used = [codes, scales, biases]
            kind = f"MLX {bits} bits"
        else:
            scales = parts.need(base + ".scales", name, ("U8",), grid)
            read, used, kind = partial(_read_mxfp4, codes, scales), [codes, scales], "MXFP4"
        yield PackedTensor(codes.path, name, kind, (rows, columns), tuple(used), read)


def _read(
    codes: StoredTensor, scales: StoredTensor, biases: StoredTensor, bits: int, size: int, expert: int | None
) -> CodedMatrix:
    packed = as_bytes(codes.array(), bits, codes.shape[1] * WORD // bits)
    return CodedMatrix(packed, whole_numbers(bits), numbers(scales), block=(1, size), biases=numbers(biases))


def _read_mxfp4(codes: StoredTensor, scales: StoredTensor, expert: int | None) -> CodedMatrix:
    packed = as_bytes(codes.array(), 4, codes.shape[1] * 8)
    return CodedMatrix(packed, E2M1, scales.array(), block=(1, BLOCK), scale_code=E8M0)
