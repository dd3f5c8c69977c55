"""Coded matrices of each kind, with any codes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import INT8, Code, whole_numbers
from tinystar_np.kernels.mxfp4 import E2M1
from tinystar_np.kernels.packed import PackedMatrix


def _normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def coded_matrices(inputs: int, outputs: int) -> Iterator[PackedMatrix]:
    """One coded matrix of each kind, with blocks that do not fit its sides."""
    draw = np.random.default_rng([inputs, outputs])

    def coded(code: Code, height: int, width: int, **given: Any) -> CodedMatrix:
        codes = draw.integers(0, 256, (outputs, -(-inputs * code.bits // 8)), dtype=np.uint8)
        columns = codes.shape[1] * 8 // code.bits
        grid = (-(-outputs // height), -(-columns // width))
        shared = {name: _normal(grid, i) for i, name in enumerate(("zeros", "biases")) if name in given}
        scales = given.get("scales", _normal(grid, 3) * np.float32(0.1))
        order = draw.permutation(columns) if "order" in given else None
        return CodedMatrix(codes, code, scales, block=(height, width), **shared, order=order, transposed=True)

    yield coded(E2M1, 1, 32)
    yield coded(whole_numbers(4), 1, 8, zeros=True)
    yield coded(whole_numbers(4), 1, 128, zeros=True, order=True)
    yield coded(whole_numbers(8), 1, 64, biases=True).part(slice(1, None))
    yield coded(INT8, 1, inputs)
    yield coded(INT8, 128, 100)
    yield coded(INT8, 5, 100).part(slice(3, outputs - 2))
    yield coded(whole_numbers(8, 128), outputs, inputs)
    yield coded(Code(4, E2M1.numbers, high_first=True), 1, 16).T
