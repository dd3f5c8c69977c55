# ruff: noqa
"""Temporary."""

import numpy as np

from tinystar_np.kernels.attention import attention_mean, attention_probabilities, attention_scores
from tinystar_np.kernels.masks import visible
from tinystar_np.kernels.norms import gated_rms_norm, layer_norm, rms_norm
from tinystar_np.layers_old.products import product


def matmul(x, weight):
    rows = x.reshape(-1, x.shape[-1])
    y = product(rows, weight) if isinstance(weight, np.ndarray) else weight.product(rows)
    return y.reshape(*x.shape[:-1], -1)


def matmul_each(x, weights):
    return [matmul(x, w) for w in weights]


def embedding(ids, table):
    return table[ids] if isinstance(table, np.ndarray) else table.rows(ids)


def activate(x, activation):
    return activation(x)


def gated_activation(gate, up, activation):
    return activation(gate) * up


def attention(q, k, v, mask, *, scale, bias=None, soft_cap=None, sinks=None):
    scores = attention_scores(q, k, scale, bias, soft_cap)
    return attention_mean(attention_probabilities(scores, visible(mask), sinks), v)


from tinystar_np.kernels.experts import grouped_mixture


def mixture(x, chosen, weights, experts, weigh_inputs=False):
    return grouped_mixture(x, chosen, weights, experts, weigh_inputs)
