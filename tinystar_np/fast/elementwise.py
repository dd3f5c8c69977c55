"""Norms, softmax, activations and rotary embedding, with fewer calls and fewer passes over memory.

For one token each NumPy call lasts longer than its arithmetic, so norms and softmax are written in few calls,
and in ufunc methods (``np.add.reduce``) rather than functions that reach them through some Python: that saves
a sixth of the time of one token's norm. For a prompt each temporary of (T, F) numbers is a pass over memory,
so results are written in place, a block at a time that stays in cache, divided among threads.

``activate``, ``gated_activation`` and ``gated_rms_norm`` may overwrite their first argument.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tinystar_np.fast.remembered import remembered
from tinystar_np.fast.threads import divided, slices
from tinystar_np.kernels.activations import Activation, gelu_tanh, quick_gelu, silu
from tinystar_np.kernels.softmax import log_softmax

__all__ = [
    "activate",
    "gated_activation",
    "gated_rms_norm",
    "layer_norm",
    "log_softmax",
    "rms_norm",
    "rotary_embedding",
    "softmax",
    "unit_vectors",
]

BLOCK = 131_072  # numbers: 512 KB of float32, so that a block and its temporary stay in cache
NORM_BLOCK = 65_536  # numbers of a gated norm, which has two more temporaries
NARROWEST_ROW = 512  # numbers that count as one token when work is divided among threads


def layer_norm(x: NDArray, gain: NDArray | None, bias: NDArray | None, eps: float) -> NDArray:
    """Bring each vector of the last axis to mean 0 and variance 1, then apply ``gain`` and ``bias``."""
    width = x.dtype.type(x.shape[-1])
    y = x - np.add.reduce(x, axis=-1, keepdims=True) / width
    variance = np.vecdot(y, y)[..., None] / width
    y *= 1 / np.sqrt(variance + x.dtype.type(eps))  # one division per row; products are faster
    if gain is not None:
        y *= gain
    if bias is not None:
        y += bias
    return y


def rms_norm(x: NDArray, gain: NDArray, eps: float) -> NDArray:
    """Scale each vector of the last axis to unit root mean square, then by ``gain``."""
    mean_square = np.vecdot(x, x)[..., None] / x.dtype.type(x.shape[-1])
    y = x * (1 / np.sqrt(mean_square + x.dtype.type(eps)))  # one division per row; products are faster
    y *= gain
    return y


def gated_rms_norm(
    x: NDArray, gate: NDArray, gain: NDArray, eps: float, groups: int = 1, norm_first: bool = False
) -> NDArray:
    """Multiply by the activated gate, then norm, or the other way round; x may be overwritten."""
    rows, gates = x.reshape(-1, x.shape[-1]), gate.reshape(-1, x.shape[-1])
    by_group = gain.reshape(groups, -1)
    size = max(NORM_BLOCK // rows.shape[1], 1)

    def work(some: slice) -> None:
        for start in range(some.start, some.stop, size):
            block = slice(start, min(start + size, some.stop))
            activated = silu(gates[block])
            y = rows[block] if norm_first else activated * rows[block]
            parts = y.reshape(len(y), groups, -1)
            normed = rms_norm(parts, by_group, eps).reshape(y.shape)
            rows[block] = normed * activated if norm_first else normed

    divided(work, _shares(rows))
    return rows.reshape(x.shape)


def _shares(rows: NDArray) -> list[slice]:
    """Divide rows among threads, where that is worth it."""
    return slices(len(rows), min(len(rows), rows.size // NARROWEST_ROW))


def unit_vectors(x: NDArray, eps: float = 1e-6) -> NDArray:
    """Scale each vector of the last axis to length 1."""
    return x * (1 / np.sqrt(np.vecdot(x, x)[..., None] + x.dtype.type(eps)))


def softmax(x: NDArray, sink: NDArray | None = None) -> NDArray:
    """Compute the softmax over the last axis."""
    largest = np.maximum.reduce(x, axis=-1, keepdims=True, initial=np.finfo(x.dtype).min)
    if sink is not None:
        largest = np.maximum(largest, sink)
    weights = x - largest
    np.exp(weights, out=weights)
    total = np.add.reduce(weights, axis=-1, keepdims=True)
    if sink is not None:
        total += np.exp(sink - largest)
    np.maximum(total, 1, out=total)
    weights /= total
    return weights


def activate(x: NDArray, activation: Activation) -> NDArray:
    """Apply an activation; x may be overwritten."""
    return _in_blocks(x, None, activation)


def gated_activation(gate: NDArray, up: NDArray, activation: Activation) -> NDArray:
    """Multiply each feature by its activated gate; the gate may be overwritten."""
    return _in_blocks(gate, up, activation)


def _in_blocks(x: NDArray, up: NDArray | None, activation: Activation) -> NDArray:
    quick = QUICK.get(activation, activation)
    if x.size <= BLOCK:
        y = quick(x)
        return y if up is None else np.multiply(y, up, out=y)
    rows = x.reshape(-1, x.shape[-1])  # a view, also of one half of a fused product
    factors = None if up is None else up.reshape(rows.shape)
    size = max(1, BLOCK // max(1, rows.shape[1]))

    def work(some: slice) -> None:
        for start in range(some.start, some.stop, size):
            block = slice(start, min(start + size, some.stop))
            if factors is None:
                rows[block] = quick(rows[block])
            else:
                np.multiply(quick(rows[block]), factors[block], out=rows[block])

    divided(work, _shares(rows))
    return rows.reshape(x.shape)


def _gelu_tanh(x: NDArray) -> NDArray:
    """GELU by the tanh approximation, all in one array: x (c + 0.044715 c x²) inside."""
    scale = math.sqrt(2 / math.pi)
    y = x * x
    y *= x.dtype.type(0.044715 * scale)
    y += x.dtype.type(scale)
    y *= x
    np.tanh(y, out=y)
    y += x.dtype.type(1)
    y *= x
    y *= x.dtype.type(0.5)
    return y


def _sigmoid_gate(slope: float) -> Activation:
    """Make the function x · sigmoid(slope · x), all in one array: ½ x (1 + tanh(½ slope x))."""

    def gate(x: NDArray) -> NDArray:
        y = x * x.dtype.type(slope / 2)
        np.tanh(y, out=y)
        y += x.dtype.type(1)
        y *= x
        y *= x.dtype.type(0.5)
        return y

    return gate


QUICK: dict[Activation, Activation] = {
    gelu_tanh: _gelu_tanh,
    quick_gelu: _sigmoid_gate(1.702),
    silu: _sigmoid_gate(1),
}


def rotary_embedding(x: NDArray, cos: NDArray, sin: NDArray, interleaved: bool = False) -> NDArray:
    """Rotate the pairs of each vector; tables are prepared once and used by all layers.

    Half-split: y = x · (cos, cos) + swapped(x) · (−sin, sin), where swapping the halves of x is only another
    view of it: three calls, where the definition takes nine. Interleaved: a pair of neighbours in memory is a
    complex number of NumPy's: one call.
    """
    width = 2 * cos.shape[-1]
    y = np.empty(x.shape, x.dtype)
    if width < x.shape[-1]:
        y[..., width:] = x[..., width:]
    rotated = y[..., :width]
    if interleaved:
        table = _complex_table(cos, sin)
        if x.strides[-1] != x.itemsize:  # a complex number's two parts must lie side by side
            x = np.ascontiguousarray(x)
        np.multiply(x[..., :width].view(table.dtype), table, out=rotated.view(table.dtype))
    else:
        both_cos, both_sin = _tables_of_halves(cos, sin)
        head = x[..., :width]
        halves = (*x.shape[:-1], 2, width // 2)  # splitting the last axis never copies
        np.multiply(head.reshape(halves)[..., ::-1, :], both_sin, out=rotated.reshape(halves))
        rotated += head * both_cos
    return y


@remembered
def _tables_of_halves(cos: NDArray, sin: NDArray) -> tuple[NDArray, NDArray]:
    """Return (cos, cos) (..., 2J) and (−sin, sin) (..., 2, J)."""
    return np.concatenate((cos, cos), axis=-1), np.stack((-sin, sin), axis=-2)


@remembered
def _complex_table(cos: NDArray, sin: NDArray) -> NDArray[np.complexfloating]:
    """Return cos + i sin (..., J)."""
    table = np.empty(cos.shape, np.result_type(cos.dtype, np.complex64))
    table.real, table.imag = cos, sin
    return table
