"""Weights packed by their definition into words of 32 bits, for the tests of formats that do so."""

import torch

Packed = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""The float32 weights (out, in) that parts stand for, and the parts by the ends of their names."""


def in_words(values: torch.Tensor, bits: int, order: list[int] | None = None) -> torch.Tensor:
    """Pack along the last axis: place i of a word, counted from its lowest bits, has its number order[i]."""
    each = 32 // bits
    grouped = values.long().reshape(*values.shape[:-1], -1, each)
    words = torch.zeros(grouped.shape[:-1], dtype=torch.long)
    for place, which in enumerate(order or range(each)):
        words |= grouped[..., which] << (place * bits)
    return torch.where(words >= 2**31, words - 2**32, words).int()


def mlx(weight: torch.Tensor, bits: int, size: int, kind: torch.dtype) -> Packed:
    """As MLX stores it: whole numbers in groups of inputs, with a scale and a least number."""
    blocks = weight.reshape(len(weight), -1, size)
    low, high = blocks.amin(2), blocks.amax(2)
    scales, biases = ((high - low) / (2**bits - 1)).to(kind), low.to(kind)
    codes = torch.round((blocks - biases.float()[..., None]) / scales.float()[..., None])
    codes = codes.clamp(0, 2**bits - 1)
    wide = codes * scales.float()[..., None] + biases.float()[..., None]
    words = in_words(codes.reshape(weight.shape), bits).view(torch.uint32)
    return wide.reshape(weight.shape), {"weight": words, "scales": scales, "biases": biases}
