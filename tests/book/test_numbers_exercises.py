"""The exercises of docs/kernels/numbers.md, solved."""

import numpy as np

import tinystar_np as ts
from tinystar_np.kernels.bfloat16 import from_bfloat16, to_bfloat16
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.codes import Code
from tinystar_np.kernels.int8 import dequantise, quantise
from tinystar_np.kernels.mxfp4 import dequantise as from_mxfp4
from tinystar_np.kernels.mxfp4 import to_mxfp4
from tinystar_np.kernels.softmax import log_softmax
from tinystar_np.models import Decoder


def test_a_block_of_mxfp4() -> None:
    weights = np.zeros((1, 32), dtype=np.float32)
    weights[0, :4] = 12, 5, -1, 0.2
    codes, exponents = to_mxfp4(weights)
    # 12 is 1.5 · 2³, and 3 − 2 + 127 = 128: the scale is 2¹ = 2.
    assert exponents.tolist() == [[128]]
    # In steps of it: 6 (code 7), 2.5, −0.5 (code 1, with the sign 8 + 1 = 9), 0.1 (code 0).
    # 2.5 lies in the middle of 2 (code 4) and 3 (code 5): the even code wins.
    # Two codes to a byte, the first in the low half.
    assert codes[0, :2].tolist() == [7 | 4 << 4, 9 | 0 << 4]
    assert from_mxfp4(codes, exponents)[0, :4].tolist() == [12, 4, -1, 0]


def test_eight_bits_and_eight_bits() -> None:
    w = np.random.default_rng(0).normal(size=(64, 1024)).astype(np.float32)
    of_bfloat16 = np.abs(from_bfloat16(to_bfloat16(w)) - w)
    of_int8 = np.abs(dequantise(*quantise(w)) - w)
    # int8 has equal steps: its error is the same for small weights and for large ones. That of bfloat16
    # shrinks with the weight, and most weights are small beside the largest of a thousand.
    assert of_int8.mean() > 3 * of_bfloat16.mean()
    large = np.abs(w) > 0.8 * np.abs(w).max(axis=1, keepdims=True)
    assert 0.5 < of_int8[large].mean() / of_bfloat16[large].mean() < 2


def test_a_model_of_minus_one_zero_and_one() -> None:
    ternary = Code(4, np.array([0, 1, -1] + [0] * 13, dtype=np.float32))  # four bits, of which two are used

    def rounded(w: np.ndarray) -> CodedMatrix:
        """Store (in, out) as rows (out, in) of codes, two to a byte, the first in the low half."""
        rows = w.T
        scales = np.abs(rows).mean(axis=1, keepdims=True)
        codes = np.where(np.abs(rows) < scales / 2, 0, np.where(rows > 0, 1, 2)).astype(np.uint8)
        both = codes[:, ::2] | codes[:, 1::2] << 4
        return CodedMatrix(both, ternary, scales, block=(1, rows.shape[1]), transposed=True)

    model, tokenizer = ts.load("stories")
    assert tokenizer is not None
    small = rounded(np.array([[0.5, -2], [-0.5, 0.1]], dtype=np.float32))  # columns are outputs
    np.testing.assert_allclose(small.rows(slice(None)), [[0.5, -0.5], [-1.05, 0]], rtol=1e-6)

    matrices = {n: rounded(w) for n, w in model.weights.items() if w.ndim == 2 and n.startswith("blocks")}
    other = type(model)(model.config, {**model.weights, **matrices})
    ids = tokenizer.encode("Once upon a time there was a little girl named Lily. She loved to play.")

    def loss(model: Decoder) -> float:
        return float(-log_softmax(model(ids[:-1]))[np.arange(len(ids) - 1), ids[1:]].mean())

    # Badly: the loss is about twice as high, and what it writes is hardly a story. It knows far more than
    # nothing all the same: if all 2048 tokens were equally likely, the loss would be 7.6. Models that are
    # trained with such weights from the beginning can be good (arXiv:2402.17764).
    assert loss(model) + 0.5 < loss(other) < np.log(2048) / 2
