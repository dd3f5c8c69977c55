"""Undoing what llama.cpp's conversion does to weights: each step here is the way back from one of its steps.

Most of them only choose rows, in another order or one expert's of all. The rows of a matrix in few bits stay
as they are then, and the matrix can stay packed. The others compute with numbers, of small tensors.

    llama.cpp's step                                          the way back
    q and k: the two halves of a head become pairs            unpermuted
    q, k and v, mixed by heads (BLOOM, GPT-NeoX, Falcon):     by_head, by_group
      all queries, then all keys, then all values
    gate and up, one below the other: two tensors             joined
    gate and up, in turns (gpt-oss): two tensors              in_turns
    (in, out) is transposed (GPT-2; experts of gpt-oss)       transposed, in_turns_transposed
    gains g of Gemma: g + 1                                   minus_one
    A_log of Mamba: −exp(A_log)                               log_of_minus, log_of_minus_column
    an axis of length 1 is left out (convolutions, a gate)     with_middle_axis, one_row
    a norm in groups, a number per head: another shape        flat
    up-projection of latents: keys' transposed, and values'   up_of_latents

Source: conversion/*.py and gguf-py of https://github.com/ggml-org/llama.cpp, MIT.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Heads(NamedTuple):
    """How many heads: of queries H, of keys and values G, and how wide each is, K."""

    queries: int
    keys: int
    width: int


class Undo(NamedTuple):
    """A way back.

    of          (tensors of the file, heads) → the tensor that was converted
    by_rows     whether it only moves rows, so that numbers in a row may be in packed form
    transposed  whether what ``of`` returns lies transposed in its last two axes
    in_turns    whether its rows are those of the tensors in turns, so that matrices need not be copied
    """

    of: Callable[[Sequence[NDArray], Heads], NDArray]
    by_rows: bool = True
    transposed: bool = False
    in_turns: bool = False


def _unpermuted(tensors: Sequence[NDArray], heads: Heads) -> NDArray:
    (tensor,) = tensors
    pairs = tensor.reshape(-1, heads.width // 2, 2, *tensor.shape[1:])
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def _by_head(tensors: Sequence[NDArray], heads: Heads) -> NDArray:
    (tensor,) = tensors
    one_after_another = tensor.reshape(3, -1, heads.width, *tensor.shape[1:])
    return one_after_another.swapaxes(0, 1).reshape(tensor.shape)


def _by_group(tensors: Sequence[NDArray], heads: Heads) -> NDArray:
    (tensor,) = tensors
    H, G, K = heads
    parts = tensor[: H * K], tensor[H * K : (H + G) * K], tensor[(H + G) * K :]
    grouped = [part.reshape(G, -1, K, *tensor.shape[1:]) for part in parts]
    return np.concatenate(grouped, axis=1).reshape(tensor.shape)


def _joined(tensors: Sequence[NDArray], heads: Heads) -> NDArray:
    return np.concatenate(tensors, axis=-2)


def _in_turns(tensors: Sequence[NDArray], heads: Heads) -> NDArray:
    experts, width, *rest = tensors[0].shape
    return np.stack(tensors, axis=2).reshape(experts, 2 * width, *rest)


def _up_of_latents(tensors: Sequence[NDArray], heads: Heads) -> NDArray:
    keys, values = tensors  # (H, R, K), (H, U, R)
    both = np.concatenate([keys.swapaxes(1, 2), values], axis=1)  # (H, K+U, R)
    return both.reshape(-1, both.shape[-1])


def _log_of_minus(tensors: Sequence[NDArray], heads: Heads) -> NDArray:
    with np.errstate(divide="ignore", invalid="ignore"):  # a damaged file's NaN is seen where it is used
        return np.log(-tensors[0])


as_it_is = Undo(lambda tensors, heads: tensors[0])
unpermuted = Undo(_unpermuted)
by_head = Undo(_by_head)
by_group = Undo(_by_group)
joined = Undo(_joined)
in_turns = Undo(_in_turns, by_rows=False)  # of biases, which have no rows
transposed = Undo(lambda tensors, heads: tensors[0], transposed=True)
in_turns_transposed = Undo(_in_turns, transposed=True, in_turns=True)

up_of_latents = Undo(_up_of_latents, by_rows=False)
minus_one = Undo(lambda tensors, heads: tensors[0] - np.float32(1), by_rows=False)
log_of_minus = Undo(_log_of_minus, by_rows=False)
log_of_minus_column = Undo(lambda tensors, heads: _log_of_minus(tensors, heads).reshape(-1), by_rows=False)
with_middle_axis = Undo(lambda tensors, heads: tensors[0].reshape(len(tensors[0]), 1, -1), by_rows=False)
one_row = Undo(lambda tensors, heads: tensors[0].reshape(1, -1), by_rows=False)
flat = Undo(lambda tensors, heads: tensors[0].reshape(-1), by_rows=False)
