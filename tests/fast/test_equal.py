"""Every name in ``fast`` gives what its kernel gives, on a table of inputs."""

import copy
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from block_matrices import random_block_matrix
from coded_matrices import coded_matrices
from masks import last_queries, with_groups

import tinystar_np.fast.linear as fast_linear
import tinystar_np.fast.packed as fast_packed
from tinystar_np import fast
from tinystar_np.fast import threads
from tinystar_np.fast.remembered import remembered
from tinystar_np.kernels.activations import ACTIVATIONS
from tinystar_np.kernels.bfloat16 import to_bfloat16
from tinystar_np.kernels.block_types import BLOCK_TYPES
from tinystar_np.kernels.delta_rule import unit_vectors
from tinystar_np.kernels.int8 import quantise
from tinystar_np.kernels.masks import Mask
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns
from tinystar_np.kernels.mlstm import Memory
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix, PackedMatrix, TernaryMatrix
from tinystar_np.kernels.paged_attention import Paged
from tinystar_np.kernels.ternary import pack

Case = tuple[tuple[Any, ...], dict[str, Any]]
Machine = Callable[[pytest.MonkeyPatch], None]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def case(*arguments: Any, **named: Any) -> Case:
    return arguments, named


def matrices(inputs: int, outputs: int) -> Iterator[np.ndarray | PackedMatrix]:
    """One matrix in every order and type."""
    weight = normal(inputs, outputs)
    yield from (weight, np.asfortranarray(weight), np.repeat(weight, 2, axis=1)[:, ::2])
    yield Bfloat16Matrix(to_bfloat16(weight))
    yield Bfloat16Matrix(to_bfloat16(np.ascontiguousarray(weight.T)), transposed=True)
    yield Int8Matrix(*quantise(weight.T))
    yield Int8Matrix(*quantise(weight), table=True)
    yield Int8Matrix(*quantise(weight.T), table=True).T


def matmul() -> Iterator[Case]:
    for shape in ((1, 1), (33, 7), (513, 770)):
        for weight in matrices(*shape):
            for vectors in ((), (1,), (1, 1), (2,), (2, 3), (12,), (13,), (49,), (200,), (0,)):
                yield case(normal(*vectors, shape[0]), weight)
    for shape in ((32, 7), (34, 40), (512, 1200)):
        for matrix in coded_matrices(*shape):
            for vectors in ((1,), (2, 3), (13,), (200,), (0,)):
                yield case(normal(*vectors, matrix.shape[0]), matrix)
    for element_type in BLOCK_TYPES:
        for outputs, inputs in ((71, 512), (40, 4096)):
            blocks = random_block_matrix(element_type, outputs, inputs)
            for vectors in ((), (1,), (2, 3), (200,), (0,)):
                yield case(normal(*vectors, inputs), blocks)
            yield case(normal(3, outputs), blocks.T)
    for outputs, inputs in ((40, 33), (7, 5), (1200, 512)):
        values = np.random.default_rng(outputs).integers(-1, 2, (outputs, inputs))
        matrix = TernaryMatrix(pack(values), 0.3, outputs, transposed=True)
        for vectors in ((), (1,), (2, 3), (200,), (0,)):
            yield case(normal(*vectors, inputs), matrix)
            yield case(normal(*vectors, outputs), matrix.T)
    parts = [random_block_matrix("MXFP4", 40, 64) for _ in range(2)]
    for vectors in ((), (1,), (2, 3), (200,), (0,)):
        yield case(normal(*vectors, 64), MatrixInTurns(parts))
        yield case(normal(*vectors, 80), MatrixInTurns(parts).T)
    wide = random_block_matrix("Q4_K", 40, 1024)
    for columns in (slice(200, 700), slice(900, 1024)):
        for vectors in ((), (1,), (2, 3), (200,), (0,)):
            cut = wide.part(columns=columns)
            yield case(normal(*vectors, cut.columns), cut)
            yield case(normal(*vectors, 40), cut.T)


def matmul_each() -> Iterator[Case]:
    widths = (600, 200, 200)
    apart = [normal(512, width) for width in widths]
    laid = fast.layout.side_by_side(apart)
    assert laid[0] is not apart[0]
    for x in (normal(1, 1, 512), normal(2, 3, 512)):
        for weights in (apart, laid, laid[::-1], laid[:2], [*laid[:2], apart[2]], [laid[0]] * 3):
            yield case(x, weights)
        yield case(x, [*apart, Int8Matrix(*quantise(normal(9, 512)))])


def embedding() -> Iterator[Case]:
    coded = (matrix.T for matrix in coded_matrices(6, 11))
    for table in (*matrices(11, 6), *(table for table in coded if table.shape[0] == 11)):
        for ids in ([], [3], [[0, 10, 10], [2, 1, 0]]):
            yield case(np.array(ids, dtype=np.int64), table)


def layer_norm() -> Iterator[Case]:
    for x in (normal(1, 1, 768), normal(2, 5, 33), normal(7)):
        gain, bias = normal(x.shape[-1], seed=1), normal(x.shape[-1], seed=2)
        for given in ((gain, bias), (gain, None), (None, None)):
            yield case(x, *given, 1e-5)


def rms_norm() -> Iterator[Case]:
    for x in (normal(1, 1, 768), normal(2, 5, 33), normal(7), normal(2, 3, 4, 8)):
        yield case(x, normal(x.shape[-1], seed=1), 1e-6)


def gated_rms_norm() -> Iterator[Case]:
    for shape in ((1, 1, 24), (2, 700, 24), (2, 600, 1200), (2, 3, 4, 24)):
        for groups in (1, 4):
            for norm_first in (False, True):
                gain = normal(shape[-1], seed=2)
                yield case(normal(*shape), normal(*shape, seed=1), gain, 0.01, groups, norm_first)
    wide = normal(2, 9, 60)
    yield case(wide[:, -1:, :20], wide[:, -1:, 20:40], normal(20), 0.01)


def unit_vectors_cases() -> Iterator[Case]:
    yield case(normal(2, 3, 4, 8))
    yield case(np.zeros((2, 4), np.float32))


def softmax() -> Iterator[Case]:
    x = np.array([[0, 1, 2], [1000, 1000, -np.inf], [-np.inf] * 3], dtype=np.float32)
    for given in (x, normal(2, 3, 4, 50), normal(1)):
        yield case(given)
        yield case(given, normal(*given.shape[:-1], 1))


def log_softmax() -> Iterator[Case]:
    yield case(normal(2, 50))


def activate() -> Iterator[Case]:
    for activation in ACTIVATIONS.values():
        yield case(normal(2, 3, 100), activation)
    for shape in ((1, 1, 5), (2, 600, 1000), (3, 70_000), (2, 140_000), (9,)):
        yield case(normal(*shape), ACTIVATIONS["gelu_new"])
    yield case(normal(2, 600, 1000)[..., :400], ACTIVATIONS["silu"])


def gated_activation() -> Iterator[Case]:
    for name in ("silu", "gelu_new", "linear"):
        for shape in ((1, 1, 10), (2, 600, 1000), (2, 3, 140_000)):
            both = normal(*shape)
            half = shape[-1] // 2
            yield case(both[..., :half], both[..., half:], ACTIVATIONS[name])


def rotary_embedding() -> Iterator[Case]:
    for x in (normal(2, 3, 5, 8), normal(1, 1, 1, 8), normal(2, 5, 3, 8).transpose(0, 2, 1, 3)):
        T = x.shape[2]
        for pairs in (4, 3, 1):
            for rows in ((), (len(x), 1)):
                angles = normal(*rows, T, pairs)
                for interleaved in (False, True):
                    yield case(x, np.cos(angles), np.sin(angles), interleaved)


def masks() -> Iterator[tuple[int, int, Mask | None]]:
    """T, S and a mask: one token, few and many; windows, chunks, both ways; rows at different lengths."""
    for t, s in ((1, 1), (1, 9), (5, 9), (70, 70), (100, 800), (600, 600)):  # 800 keys are two blocks
        yield t, s, None
        for window in (None, 1, 40):
            yield t, s, last_queries(t, s, window)
            yield t, s, last_queries(t, s, window, causal=False)
        for chunk in (1, 30, 500):
            yield t, s, Mask(np.arange(s - t, s), np.arange(s), chunk=chunk)
            yield t, s, Mask(np.arange(s - t, s), np.arange(s), 20, chunk)
    for t in (1, 90):
        start = np.array([3, 20])  # two rows, one behind the other
        queries = start[:, None] + np.arange(t)
        yield t, 20 + t, Mask(queries, np.arange(20 + t))
        yield t, 20 + t, Mask(queries, np.arange(20 + t), chunk=25)
        earlier = start[:, None] + np.arange(-15, t)  # negative ones stand for nothing
        yield t, 15 + t, Mask(queries, earlier, window=16)
    yield from masks_with_groups()
    yield 400, 2100, None  # more keys than are taken at once where all are visible, and more queries
    shuffled = np.random.default_rng(0).permutation(100)  # as in the places of a window
    yield 1, 100, Mask(np.array([99]), shuffled, window=60)
    yield 70, 100, Mask(np.arange(30, 100), shuffled)


def masks_with_groups() -> Iterator[tuple[int, int, Mask]]:
    """Images of several lengths, alone, in a row, and cut by a cache; prefixes; both kinds of window."""
    images = [(0, 1), (3, 66), (69, 20), (650, 90), (790, 10)]
    for t, s in ((1, 90), (70, 70), (120, 800)):
        for runs in (images, [(0, s - 10)]):
            for causal in (True, False):
                for window, chunk in ((None, None), (20, None), (80, None), (20, 50)):
                    rules = Mask(np.arange(s - t, s), np.arange(s), window, chunk, causal)
                    yield t, s, with_groups(rules, runs)
                    yield t, s, with_groups(rules, runs, groups_in_window=True)
    start = np.array([3, 20])  # two rows, each with images of its own
    queries, earlier = start[:, None] + np.arange(90), start[:, None] + np.arange(-15, 90)
    for keys in (np.arange(110), earlier):  # negative ones stand for nothing, of whatever group
        for window in (None, 16):
            yield 90, keys.shape[-1], with_groups(Mask(queries, keys, window), [(25, 40), (70, 9)])
    whole = Mask(np.arange(90), np.arange(90))
    for place, group in ((20, -1), (60, 0)):  # a group with a hole, and one in two places
        torn = with_groups(whole, [(10, 30)])
        torn.key_groups[place] = group
        yield 90, 90, torn
    hidden = Mask(np.arange(90), np.arange(-10, 80))
    yield 90, 90, hidden._replace(query_groups=np.zeros(90, int), key_groups=np.zeros(90, int))
    yield (
        90,
        90,
        with_groups(whole, [(10, 30)])._replace(key_groups=np.full(90, -1)),
    )  # no key is of the group
    yield 90, 90, whole._replace(query_groups=np.array([-1, -2] * 45), key_groups=np.array([-2, -1] * 45))


def attention() -> Iterator[Case]:
    for t, s, mask in masks():
        for heads, groups in ((4, 2), (3, 1), (2, 2)):
            q, k, v = normal(2, heads, t, 8), normal(2, groups, s, 8), normal(2, groups, s, 6, seed=1)
            yield case(q, k, v, mask, scale=0.3)
        q, k, v = normal(2, 4, t, 8), normal(2, 2, s, 8), normal(2, 2, s, 6, seed=1)
        for bias in (normal(4, s), normal(2, 4, s), normal(1, 4, t, s)):
            yield case(q, k, v, mask, scale=0.3, bias=bias, soft_cap=2.0, sinks=normal(4))
    yield case(normal(2, 100, 8), normal(2, 100, 8), normal(2, 100, 8), last_queries(100, 100), scale=1.0)


def attention_scores() -> Iterator[Case]:
    q, k = normal(2, 4, 3, 8), normal(2, 2, 9, 8)
    yield case(q, k, scale=0.3)
    yield case(q, k, scale=0.3, bias=normal(4, 9), soft_cap=2.0)
    yield case(q, k, scale=0.3, bias=normal(1, 4, 3, 9))


def attention_probabilities() -> Iterator[Case]:
    for t, s, mask in masks():
        yield case(normal(2, 3, t, s), mask)
        yield case(normal(2, 3, t, s), mask, normal(3))


def attention_mean() -> Iterator[Case]:
    yield case(normal(2, 4, 3, 9), normal(2, 2, 9, 8))


def relative_attention() -> Iterator[Case]:
    for t, s, mask in masks():
        if mask is not None:
            q, k, v = normal(2, 4, t, 8), normal(2, 2, s, 8), normal(2, 2, s, 6, seed=1)
            for furthest in (0, 3, 200):
                tables = normal(2 * furthest + 1, 8), normal(2 * furthest + 1, 6)
                yield case(q, k, v, mask, *tables, scale=0.3, bias=normal(4, s))


def latent_attention() -> Iterator[Case]:
    for t, s, mask in masks():
        for rotated in (0, 4):
            q, memory = normal(2, 3, t, 5 + rotated), normal(2, 1, s, 16 + rotated)
            for bias in (None, normal(3, s)):
                yield case(q, memory, normal(3, 16, 5), normal(3, 16, 7), mask, scale=0.3, bias=bias)


def best_keys() -> Iterator[Case]:
    for t, s, mask in masks():
        for k in (1, 3):
            if k <= s and mask is not None:
                yield case(normal(2, t, s), mask, k)


def index_scores() -> Iterator[Case]:
    for t, s in ((1, 1), (1, 300), (7, 20), (600, 900)):
        yield case(normal(2, 5, t, 6), normal(2, 1, s, 6), normal(2, 5, t))


def sparse_latent_attention() -> Iterator[Case]:
    for t, s, mask in masks():
        q, memory = normal(2, 3, t, 9), normal(2, 1, s, 20)
        for k in (1, 3):
            if k <= s and mask is not None:
                chosen = fast.best_keys(normal(2, t, s), mask, k)
                yield case(q, memory, normal(3, 16, 5), normal(3, 16, 7), mask, chosen, scale=0.3)


def paged_batches() -> Iterator[tuple[int, np.ndarray, np.ndarray, int]]:
    """Size of a block, tables, lengths, and how many blocks there are, which no row has all of."""
    draw = np.random.default_rng(0)
    for size, blocks in ((1, 30), (4, 40), (40, 12)):
        for rows in (1, 2, 7):
            room = min(blocks, 9)
            scattered = np.stack([draw.permutation(blocks)[:room] for _ in range(rows)])
            neighbours = draw.integers(0, blocks - room, (rows, 1)) + np.arange(room)
            common = scattered.copy()  # some rows begin alike, some of them for longer, some are the same
            common[: rows // 2 + 1, :5] = common[0, :5]
            common[: rows // 3 + 1, :8] = common[0, :8]
            for tables in (scattered, neighbours, common):
                yield size, tables, draw.integers(1, room * size + 1, rows), blocks
            yield size, common, np.full(rows, room * size), blocks


def paged(size: int, tables: np.ndarray, lengths: np.ndarray, pool: np.ndarray) -> Paged:
    """Keys or values in a pool, in which all that no row has is infinite."""
    t = np.arange(tables.shape[1] * size)
    held = (tables[:, t // size] * size + t % size)[t < lengths[:, None]]
    hidden = np.setdiff1d(np.arange(pool.shape[1]), held)
    pool[:, hidden] = np.inf
    beyond = np.arange(tables.shape[1]) >= -(-lengths[:, None] // size)
    return Paged(pool, np.where(beyond, -7, tables), lengths, size)


def gathered() -> Iterator[Case]:
    for size, tables, lengths, blocks in paged_batches():
        keys = paged(size, tables, lengths, normal(2, blocks * size, 5))
        for first in (0, 3, int(lengths.max()) - 1):
            yield case(keys, min(first, int(lengths.max()) - 1))


def paged_attention() -> Iterator[Case]:
    for size, tables, lengths, blocks in paged_batches():
        rows, longest, places = len(lengths), int(lengths.max()), blocks * size
        for t in {1, min(3, int(lengths.min()))}:
            for heads, groups in ((4, 2), (3, 1), (2, 2)):
                q = normal(rows, heads, t, 8)
                k = paged(size, tables, lengths, normal(groups, places, 8))
                v = paged(size, tables, lengths, normal(groups, places, 6, seed=1))
                v = v._replace(tables=k.tables)
                for limits in ({}, {"window": 5}, {"chunk": 7}, {"window": 40, "chunk": 64}):
                    yield case(q, k, v, scale=0.3, **limits)
                    yield case(q, k, v, scale=0.3, soft_cap=2.0, sinks=normal(heads), **limits)
                    for bias in (normal(heads, longest), normal(rows, heads, longest)):
                        yield case(q, k, v, scale=0.3, bias=bias, **limits)
                yield case(q, k, v, scale=0.3, window=5, bias=normal(1, heads, t, longest), soft_cap=2.0)


def paged_latent_attention() -> Iterator[Case]:
    for size, tables, lengths, blocks in paged_batches():
        for t in {1, min(3, int(lengths.min()))}:
            for rotated in (0, 4):
                q = normal(len(lengths), 3, t, 5 + rotated)
                memory = paged(size, tables, lengths, normal(1, blocks * size, 16 + rotated))
                for given in ({}, {"window": 5}, {"chunk": 7, "bias": normal(3, int(lengths.max()))}):
                    yield case(q, memory, normal(3, 16, 5), normal(3, 16, 7), scale=0.3, **given)


def mixture() -> Iterator[Case]:
    experts = [lambda x, e=e: np.tanh(x) * np.float32(e + 1) for e in range(7)]
    for tokens in (0, 1, 40):
        chosen = np.argsort(normal(tokens, 7), axis=-1)[:, :3]
        for weigh_inputs in (False, True):
            yield case(normal(tokens, 6), chosen, normal(tokens, 3), experts, weigh_inputs)


def chosen_outputs() -> Iterator[Case]:
    experts = [lambda x, e=e: np.tanh(x[:, :4]) * np.float32(e + 1) for e in range(7)]
    for tokens, k in ((1, 1), (1, 3), (40, 3), (3, 7)):
        chosen = np.argsort(normal(tokens, 7), axis=-1)[:, :k]
        yield case(normal(tokens, k, 6), chosen, experts)


def causal_convolution() -> Iterator[Case]:
    for length in (1, 3, 200):
        for width in (1, 4):
            x, weight = normal(2, length, 600), normal(width, 600)
            yield case(x, weight)
            yield case(x, weight, normal(600), normal(2, width - 1, 600))


def ssm_inputs(length: int) -> tuple[np.ndarray, ...]:
    """x, dt, A, B, C, D: two rows, four heads in two groups."""
    steps, rates = np.exp(1.5 * normal(2, length, 4) - 2), -np.exp(normal(4) + 1)
    B, C = normal(2, length, 2, 5, seed=1), normal(2, length, 2, 5, seed=2)
    return normal(2, length, 4, 3), steps, rates, B, C, normal(4)


def ssm_scan() -> Iterator[Case]:
    for length in (1, 2, 64, 65, 600):
        yield case(*ssm_inputs(length))
        yield case(*ssm_inputs(length), normal(2, 4, 3, 5, seed=3))


def selective_inputs(length: int) -> tuple[np.ndarray, ...]:
    steps, rates = np.exp(normal(2, length, 6) - 2), -np.exp(normal(3, 6) + 1)
    B, C = normal(2, length, 3, seed=1), normal(2, length, 3, seed=2)
    return normal(2, length, 6), steps, rates, B, C, normal(6)


def selective_scan() -> Iterator[Case]:
    for length in (1, 2, 60):
        yield case(*selective_inputs(length))
        yield case(*selective_inputs(length), normal(2, 3, 6, seed=3))
        for groups in (1, 2, 6):
            B, C = normal(2, length, groups, 3, seed=1), normal(2, length, groups, 3, seed=2)
            x, steps, rates, _, _, D = selective_inputs(length)
            yield case(x, steps, rates, B, C, D, normal(2, 3, 6, seed=3))


def delta_inputs(length: int) -> tuple[np.ndarray, ...]:
    """q, k, v, g, beta: two rows, four heads in two groups."""
    q, k = unit_vectors(normal(2, length, 2, 8)), unit_vectors(normal(2, length, 2, 8, seed=1))
    fading, beta = np.abs(normal(2, length, 4)), 1 / (1 + np.exp(normal(2, length, 4, seed=1)))
    return q, k, normal(2, length, 4, 6), -fading, beta


def delta_rule() -> Iterator[Case]:
    for length in (1, 2, 64, 65, 600):
        yield case(*delta_inputs(length))
        yield case(*delta_inputs(length), normal(2, 4, 8, 6, seed=3))


def lightning_attention() -> Iterator[Case]:
    slopes = np.array([0, 0.3, 20], dtype=np.float32)
    for length in (1, 2, 64, 65, 200):
        given = (normal(2, length, 3, 8), normal(2, length, 3, 8, seed=1), normal(2, length, 3, 6), slopes)
        yield case(*given)
        yield case(*given, normal(2, 3, 8, 6, seed=3))


def rg_lru() -> Iterator[Case]:
    for length in (1, 60):
        x, gate, log_a = (
            normal(2, length, 6),
            np.tanh(normal(2, length, 6)) ** 2,
            -np.exp(normal(2, length, 6)),
        )
        begins = np.zeros((2, length), bool)
        yield case(x, gate, log_a, begins, normal(2, 6))
        begins[:, 0] = True
        yield case(x, gate, log_a, begins)


def channel_delta_rule() -> Iterator[Case]:
    for length in (1, 2, 16, 17, 100):
        q, k, v, _, beta = delta_inputs(length)
        (batch, T, H), K = beta.shape, k.shape[-1]
        q, k = (np.repeat(x, H // x.shape[2], axis=2) for x in (q, k))
        g = -np.exp(normal(batch, T, H, K, seed=7))
        yield case(q, k, v, g, beta)
        yield case(q, k, v, g, beta, normal(batch, H, K, v.shape[-1], seed=3))


def quantise_cases() -> Iterator[Case]:
    zeros = normal(5, 70_000)
    zeros[2] = 0
    for weight in (normal(300, 1000), normal(1, 1), zeros, normal(20, 30).T):
        yield case(weight)
        yield case(weight[:, :1], weight)


def to_bfloat16_cases() -> Iterator[Case]:
    odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40], dtype=np.float32)
    for x in (normal(300, 1000), odd, normal(20, 30).T, normal(0, 3)):
        yield case(x)


def mlstm() -> Iterator[Case]:
    for length in (1, 30, 100):
        wide = (*normal(2, 2, length, 3, 4), normal(2, length, 3, 5), *normal(2, 2, length, 3))
        yield case(*wide)
        yield case(*wide, Memory(normal(2, 3, 4, 6), normal(2, 3)), 1e-4)


def wkv() -> Iterator[Case]:
    for length in (1, 30):
        given = (*normal(2, 2, length, 6), -np.exp(normal(6)), normal(6, seed=1))
        yield case(*given)
        yield case(*given, normal(2, 3, 6, seed=2) ** 2)


CASES = {
    "activate": activate,
    "attention": attention,
    "attention_mean": attention_mean,
    "attention_probabilities": attention_probabilities,
    "attention_scores": attention_scores,
    "best_keys": best_keys,
    "causal_convolution": causal_convolution,
    "chosen_outputs": chosen_outputs,
    "channel_delta_rule": channel_delta_rule,
    "delta_rule": delta_rule,
    "embedding": embedding,
    "gated_activation": gated_activation,
    "gated_rms_norm": gated_rms_norm,
    "gathered": gathered,
    "index_scores": index_scores,
    "latent_attention": latent_attention,
    "lightning_attention": lightning_attention,
    "layer_norm": layer_norm,
    "log_softmax": log_softmax,
    "matmul": matmul,
    "matmul_each": matmul_each,
    "mixture": mixture,
    "mlstm": mlstm,
    "paged_attention": paged_attention,
    "paged_latent_attention": paged_latent_attention,
    "quantise": quantise_cases,
    "relative_attention": relative_attention,
    "rg_lru": rg_lru,
    "rms_norm": rms_norm,
    "rotary_embedding": rotary_embedding,
    "selective_scan": selective_scan,
    "softmax": softmax,
    "sparse_latent_attention": sparse_latent_attention,
    "ssm_scan": ssm_scan,
    "to_bfloat16": to_bfloat16_cases,
    "unit_vectors": unit_vectors_cases,
    "wkv": wkv,
}
OVERWRITES = {"activate", "gated_activation", "gated_rms_norm"}
"""Their first argument; all others leave what they are given as it was."""
EXACT = {"quantise", "to_bfloat16", "embedding"}


def test_no_name_is_left_out() -> None:
    assert set(CASES) == set(fast.KERNELS) == set(fast.__all__) - {"KERNELS"}
    for name, kernel in fast.KERNELS.items():
        assert kernel.__module__.startswith("tinystar_np.kernels")
        assert callable(getattr(fast, name))


def arrays_in(result: Any) -> list[Any]:
    """What a kernel returned: one array, several, or a state of several among them."""
    if not isinstance(result, tuple | list):
        return [result]
    return [array for part in result for array in arrays_in(part)]


def products_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fast_linear, fast_packed):
        monkeypatch.setattr(module, "blas_multiplies_directly", lambda: True)


def products_of_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fast_linear, fast_packed):
        monkeypatch.setattr(module, "blas_multiplies_directly", lambda: False)


def more_threads_than_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads._machine(), "threads", 3)


def this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pass


MACHINES: dict[str, list[Machine]] = {
    "matmul": [products_directly, products_of_copies, more_threads_than_parts],
    "attention": [more_threads_than_parts],
    "ssm_scan": [more_threads_than_parts],
    "delta_rule": [more_threads_than_parts],
    "gated_activation": [more_threads_than_parts],
}
"""Other machines, on which a name gives the same. What its kernel gives takes longest, and serves for all."""


@pytest.mark.parametrize("name", CASES)
def test_equal_to_its_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("matmul"):  # small matrices have several parts, and so many threads
        monkeypatch.setattr(fast_packed, "BLOCK", 6000)
        monkeypatch.setattr(fast_packed, "LARGEST_BLOCK", 24_000)
        monkeypatch.setattr(fast_packed, "PART", 3000)
        monkeypatch.setattr(fast_packed, "LARGEST_PART", 12_000)
        monkeypatch.setattr(fast_packed, "LEAST_BLOCKS", 1000)
        monkeypatch.setattr(fast_linear, "LEAST_WEIGHTS", 1000)
        monkeypatch.setattr(fast_packed, "LEAST_PACKED", 1000)
    kernel = fast.KERNELS[name]
    for arguments, named in CASES[name]():
        before = copy.deepcopy([a for a in arguments if isinstance(a, np.ndarray)])
        with threads.at_most(1):  # of many small products, in which more wait for each other
            expected = kernel(*arguments, **named)
        for machine in (this_one, *MACHINES.get(name, ())):
            with monkeypatch.context() as changed:
                machine(changed)
                check_equal(name, arguments, named, expected, machine.__name__)
        for array, kept in zip([a for a in arguments if isinstance(a, np.ndarray)], before, strict=True):
            np.testing.assert_array_equal(array, kept)


def check_equal(name: str, arguments: Any, named: dict[str, Any], expected: Any, machine: str) -> None:
    own = (arguments[0].copy("K"), *arguments[1:]) if name in OVERWRITES else arguments
    found = getattr(fast, name)(*own, **named)
    for one, other in zip(arrays_in(found), arrays_in(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        largest = np.abs(np.where(np.isfinite(other), other, 0)).max(initial=0)
        tolerance = 0 if name in EXACT else 2e-5 * max(1, largest)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=machine)


@pytest.mark.parametrize("dies", ["first", "second"])
def test_what_is_remembered_is_forgotten_with_its_arrays(dies: str) -> None:
    made = []

    @remembered
    def scaled_sum(first: np.ndarray, second: np.ndarray, n: int) -> np.ndarray:
        made.append(n)
        return n * (first + second)

    x, y, same = np.ones(3), np.ones(3), np.ones(3)
    assert scaled_sum(x, y, 1) is scaled_sum(x, y, 1)
    assert scaled_sum(x, y, 2) is not scaled_sum(x, y, 1)
    assert scaled_sum(same, y, 1) is not scaled_sum(x, y, 1)
    assert scaled_sum(x, same, 1) is not scaled_sum(x, y, 1)
    assert made == [1, 2, 1, 1]
    result = weakref.ref(scaled_sum(x, y, 1))
    if dies == "first":
        del x
    else:
        del y
    assert result() is None
