"""MXFP4 as gpt-oss has it: the experts' matrices (kernels/mxfp4.py).

    NAME_blocks   uint8 (E, out, in / 32, 16)   32 codes in 16 bytes, the first in the lower half
    NAME_scales   uint8 (E, out, in / 32)       their exponents

NAME itself would be (E, in, out): experts are stored transposed. Attention, router and embedding stay
bfloat16. Source: transformers, ``integrations/mxfp4.py``.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from tinystar_np.checkpoints.packed_tensor import PackedTensor, Parts, damaged, rank
from tinystar_np.checkpoints.safetensors_file import StoredTensor
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.mxfp4 import BLOCK, E2M1, E8M0

CODES, EXPONENTS = "_blocks", "_scales"
SETTINGS = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}
"""The ``quantization_config`` of the published models."""


def accepts(settings: Mapping[str, object]) -> bool:
    """Say whether a ``quantization_config`` of this method is read here: the tensors say all there is."""
    return True


def packed_tensors(parts: Parts, settings: Mapping[str, object]) -> Iterator[PackedTensor]:
    """Find the packed tensors; raises CheckpointError for parts that do not fit each other."""
    for name in parts:
        if not name.endswith(CODES):
            continue
        codes = parts.need(name, name, ("U8",))
        experts, outputs, blocks, width = rank(codes, 4)
        if width != BLOCK // 2:
            raise damaged(codes, f"its blocks have {width} bytes, but in MXFP4 they have {BLOCK // 2}")
        base = name.removesuffix(CODES)
        exponents = parts.need(base + EXPONENTS, name, ("U8",), [codes.shape[:3]])
        shape = (experts, blocks * BLOCK, outputs)
        read = partial(_read, codes, exponents)
        yield PackedTensor(codes.path, base, "MXFP4", shape, (codes, exponents), read)


def _read(codes: StoredTensor, exponents: StoredTensor, expert: int | None) -> CodedMatrix:
    assert expert is not None
    by_rows = codes.array()[expert].reshape(codes.shape[1], -1)
    return CodedMatrix(
        by_rows,
        E2M1,
        exponents.array()[expert],
        block=(1, BLOCK),
        scale_code=E8M0,
        transposed=True,
    )
