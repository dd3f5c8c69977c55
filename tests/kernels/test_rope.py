"""Rotary positions: the definition, the forms that run, the layer, all against transformers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CohereConfig, GPTNeoXConfig, LlamaConfig
from transformers.models.cohere import modeling_cohere
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama

from tinystar_np import fast
from tinystar_np.cache import Step
from tinystar_np.kernels.rope import (
    default_frequencies,
    dynamic_frequencies,
    linear_frequencies,
    llama3_frequencies,
    longrope_frequencies,
    proportional_frequencies,
    rotary_angles,
    rotary_embedding,
    yarn_attention_factor,
    yarn_frequencies,
)
from tinystar_np.layers.rope import FrequenciesByLength, Rotary


def random_heads(*shape: int, seed: int = 0) -> np.ndarray:
    """Heads as projections leave them: (B, T, H, K) in memory, seen as (B, H, T, K)."""
    B, H, T, K = shape
    return np.random.default_rng(seed).standard_normal((B, T, H, K), dtype=np.float32).transpose(0, 2, 1, 3)


def step(*start: int, length: int) -> Step:
    return Step(np.array(start, dtype=np.int64), length)


def same(found: np.ndarray, expected: Any, tolerance: float = 0.0) -> None:
    expected = np.asarray(expected)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1, np.abs(expected).max())


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("pairs", [1, 3, 4])
def test_definition(interleaved: bool, pairs: int) -> None:
    """One complex number at a time, in float64."""
    x = random_heads(2, 3, 5, 8)
    angles = np.random.default_rng(1).uniform(-9, 9, (5, pairs)).astype(np.float32)
    found = rotary_embedding(x, np.cos(angles), np.sin(angles), interleaved)
    expected = np.array(x)
    for t in range(5):
        for j in range(pairs):
            first, second = (2 * j, 2 * j + 1) if interleaved else (j, pairs + j)
            z = (x[..., t, first] + 1j * x[..., t, second].astype(np.float64)) * np.exp(
                1j * float(angles[t, j])
            )
            expected[..., t, first], expected[..., t, second] = z.real, z.imag
    same(found, expected, 1e-6)
    np.testing.assert_array_equal(found[..., 2 * pairs :], x[..., 2 * pairs :])


@pytest.mark.parametrize("interleaved", [False, True])
def test_only_the_distance_counts(interleaved: bool) -> None:
    q, k = random_heads(1, 2, 1, 16), random_heads(1, 2, 1, 16, seed=1)
    rope = Rotary(default_frequencies(16, 100.0), interleaved=interleaved)

    def product(at: int, distance: int) -> np.ndarray:
        return (rope(q, step(at, length=1)) * rope(k, step(at - distance, length=1))).sum(axis=-1)

    np.testing.assert_allclose(product(9, 7), product(500, 7), atol=1e-3)
    assert np.abs(product(9, 7) - product(9, 6)).min() > 1e-2
    np.testing.assert_allclose(product(9, 0), (q * k).sum(axis=-1), atol=1e-5)


@pytest.mark.parametrize("pairs", [1, 3, 4])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("length", [1, 5])
def test_the_forms_that_run_give_the_definition(pairs: int, rows: int, length: int) -> None:
    """Whole heads and parts of them, rows at the same positions and at their own."""
    x = random_heads(2, 3, length, 8)
    before = x.copy()
    angles = np.random.default_rng(1).uniform(-9, 9, (rows, 1, length, pairs)).astype(np.float32)
    angles = angles[0, 0] if rows == 1 else angles
    cos, sin = np.cos(angles), np.sin(angles)

    halves = fast.rotary_embedding(x, cos, sin)
    same(halves, rotary_embedding(x, cos, sin))
    neighbours = fast.rotary_embedding(x, cos, sin, interleaved=True)
    same(neighbours, rotary_embedding(x, cos, sin, interleaved=True), 3e-7)
    same(fast.rotary_embedding(np.asfortranarray(x), cos, sin, interleaved=True), neighbours, 3e-7)

    assert halves.flags.c_contiguous
    assert neighbours.flags.c_contiguous
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(x, halves)
    assert not np.shares_memory(x, neighbours)
    if pairs > 1:  # of one pair that lies at the front both layouts are the same
        assert np.abs(halves - neighbours).max() > 0.1


def test_half_split_as_llama_does() -> None:
    """At positions up to 100 000: the turning to the last bit, cosines and sines to their last but one."""
    config = LlamaConfig(hidden_size=128, num_attention_heads=2, max_position_embeddings=131072)
    theirs = modeling_llama.LlamaRotaryEmbedding(config)
    rope = Rotary(theirs.inv_freq.numpy())
    q, k = random_heads(1, 2, 700, 64), random_heads(1, 1, 700, 64, seed=1)
    for start in (0, 1000, 99_300):
        ids = torch.arange(start, start + 700)[None]
        tables = theirs(torch.zeros(1), ids)
        expected = modeling_llama.apply_rotary_pos_emb(torch.from_numpy(q), torch.from_numpy(k), *tables)
        same(rope(q, step(start, length=700)), expected[0], 2e-7)
        same(rope(k, step(start, length=700)), expected[1], 2e-7)
        cos, sin = (table[0, :, :32].numpy() for table in tables)
        same(fast.rotary_embedding(q, cos, sin), expected[0])


def test_parts_of_heads_as_neox_does() -> None:
    config = GPTNeoXConfig(
        hidden_size=96,
        num_attention_heads=2,
        rope_parameters={"partial_rotary_factor": 0.25, "rope_theta": 40},
    )
    theirs = modeling_gpt_neox.GPTNeoXRotaryEmbedding(config)
    q, k = random_heads(1, 2, 20, 48), random_heads(1, 2, 20, 48, seed=1)
    tables = theirs(torch.zeros(1), torch.arange(20)[None])
    expected = modeling_gpt_neox.apply_rotary_pos_emb(torch.from_numpy(q), torch.from_numpy(k), *tables)
    rope = Rotary(default_frequencies(12, 40.0))
    same(rope(q, step(0, length=20)), expected[0], 1e-6)
    same(rope(k, step(0, length=20)), expected[1], 1e-6)
    np.testing.assert_array_equal(rope(q, step(0, length=20))[..., 12:], q[..., 12:])


def test_interleaved_as_cohere_does() -> None:
    theirs = modeling_cohere.CohereRotaryEmbedding(CohereConfig(hidden_size=64, num_attention_heads=2))
    q, k = random_heads(1, 2, 20, 32), random_heads(1, 1, 20, 32, seed=1)
    tables = theirs(torch.zeros(1), torch.arange(7, 27)[None])
    expected = modeling_cohere.apply_rotary_pos_emb(torch.from_numpy(q), torch.from_numpy(k), *tables)
    rope = Rotary(theirs.inv_freq.numpy(), interleaved=True)
    same(rope(q, step(7, length=20)), expected[0], 3e-7)
    same(rope(k, step(7, length=20)), expected[1], 3e-7)


def test_interleaved_parts_of_heads_as_gptj_does() -> None:
    q = random_heads(1, 2, 20, 32)
    sin, cos = modeling_gptj.create_sinusoidal_positions(40, 16)[None, 7:27].split(8, dim=-1)
    turning = torch.from_numpy(q[..., :16]).transpose(1, 2)  # GPT-J's heads come after the tokens here
    expected = modeling_gptj.apply_rotary_pos_emb(turning, sin, cos).transpose(1, 2).numpy()
    found = Rotary(default_frequencies(16, 10000.0), interleaved=True)(q, step(7, length=20))
    same(found[..., :16], expected, 1e-6)
    np.testing.assert_array_equal(found[..., 16:], q[..., 16:])


@pytest.mark.parametrize("interleaved", [False, True])
def test_rows_at_their_own_positions(interleaved: bool) -> None:
    rope = Rotary(default_frequencies(8, 10.0), interleaved=interleaved)
    x = random_heads(3, 2, 4, 8)
    found = rope(x, step(5, 0, 90, length=4))
    for b, start in enumerate((5, 0, 90)):
        same(found[b : b + 1], rope(x[b : b + 1], step(start, length=4)), 3e-7)
    last = rope(x[:, :, -1:], step(5, 0, 90, length=4).for_last_token().queries)
    same(last, found[:, :, -1:], 3e-7)


def dynamic(length: int) -> np.ndarray:
    return dynamic_frequencies(8, 10.0, 2.0, 6, length)


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_piece_turns_by_the_length_of_its_whole_text(interleaved: bool) -> None:
    rope = Rotary(FrequenciesByLength(dynamic), interleaved=interleaved)
    x = random_heads(3, 2, 4, 8)
    texts, starts = np.array([9, 30, 94]), np.array([5, 5, 90])
    found = rope(x, Step(starts, 4, texts))
    for b, (start, text) in enumerate(zip(starts, texts, strict=True)):
        alone = Rotary(dynamic(text), interleaved=interleaved)(x[b : b + 1], step(start, length=4))
        same(found[b : b + 1], alone, 3e-7)
    same(rope(x[:, :, -1:], Step(starts, 4, texts).for_last_token().queries), found[:, :, -1:], 3e-7)
    together = Step(
        np.array([5, 5, 5]), 4, np.array([9, 30, 30])
    )  # at one position, in texts of other lengths
    same(rope(x, together)[1:2], found[1:2], 3e-7)
    same(rope(x, together)[0:1], found[0:1], 3e-7)


def test_lengths_that_count() -> None:
    lengths = np.array([1, 5, 6, 7, 50])
    assert FrequenciesByLength(dynamic).rotation_length(lengths).tolist() == lengths.tolist()
    bounded = FrequenciesByLength(dynamic, shortest=6, longest=7)
    assert bounded.rotation_length(lengths).tolist() == [6, 6, 6, 7, 7]
    for length in lengths:
        np.testing.assert_array_equal(bounded(length), dynamic(min(max(length, 6), 7)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_frequencies_by_the_length_of_each_row(interleaved: bool) -> None:
    rope = Rotary(FrequenciesByLength(dynamic), interleaved=interleaved)
    x = random_heads(3, 2, 4, 8)
    found = rope(x, step(5, 0, 90, length=4))
    for b, start in enumerate((5, 0, 90)):
        alone = Rotary(dynamic(start + 4), interleaved=interleaved)(x[b : b + 1], step(start, length=4))
        same(found[b : b + 1], alone, 3e-7)
    last = rope(x[:, :, -1:], step(5, 0, 90, length=4).for_last_token().queries)
    same(last, found[:, :, -1:], 3e-7)
    assert (
        np.abs(found[2] - Rotary(dynamic(1), interleaved=interleaved)(x, step(90, length=4))[2]).max() > 0.1
    )


def test_tables_are_made_once_a_call_and_not_kept_beyond() -> None:
    lengths = []

    def frequencies(length: int) -> np.ndarray:
        lengths.append(length)
        return dynamic(length)

    rope, other = (Rotary(FrequenciesByLength(frequencies)) for _ in range(2))
    x = random_heads(1, 2, 3, 8)
    call = step(4, length=3)
    first, second = rope(x, call), rope(x[:, :1], call)
    assert lengths == [7]
    same(second, first[:, :1])
    other(x, call)
    rope(x, step(7, length=3))
    assert lengths == [7, 7, 10]


def test_attention_factor_lengthens() -> None:
    x = random_heads(1, 2, 3, 8)
    for interleaved in (False, True):
        plain = Rotary(default_frequencies(4, 10.0), interleaved=interleaved)(x, step(3, length=3))
        longer = Rotary(default_frequencies(4, 10.0), attention_factor=1.3, interleaved=interleaved)
        found = longer(x, step(3, length=3))
        same(found[..., :4], plain[..., :4] * np.float32(1.3), 3e-7)
        np.testing.assert_array_equal(found[..., 4:], x[..., 4:])  # what does not turn keeps its length


def test_angles() -> None:
    frequencies = default_frequencies(8, 10000.0)
    assert frequencies.dtype == np.float32
    np.testing.assert_allclose(frequencies, [1, 0.1, 0.01, 0.001], rtol=1e-7)
    angles = rotary_angles(np.array([0, 3, 100_000]), frequencies)
    same(angles, [[0, 0, 0, 0], [3, 0.3, 0.03, 0.003], [100_000, 10_000, 1000, 100]], 1e-7)


def test_rules_at_their_ends() -> None:
    """What each rule is for, in numbers that need no reference."""
    base = 10000.0
    plain = default_frequencies(64, base)
    np.testing.assert_array_equal(linear_frequencies(64, base, 4.0), plain / 4)
    np.testing.assert_array_equal(dynamic_frequencies(64, base, 4.0, 100, 100), plain)
    stretched = dynamic_frequencies(64, base, 4.0, 100, 200) / plain
    assert stretched[0] == 1
    np.testing.assert_allclose(
        stretched[-1], 1 / (4 * 2 - 3), rtol=1e-5
    )  # the slowest pair by the whole stretch
    yarn = yarn_frequencies(64, base, 4.0, 2048) / plain
    np.testing.assert_array_equal(yarn[:5], 1)
    np.testing.assert_allclose(yarn[-5:], 1 / 4, rtol=1e-6)
    assert (np.diff(yarn) <= 1e-7).all()
    llama3 = llama3_frequencies(64, base, 8.0, 1.0, 4.0, 512) / plain
    waves = 2 * math.pi / plain
    np.testing.assert_array_equal(llama3[waves < 512 / 4], 1)
    np.testing.assert_array_equal(llama3[waves > 512], 1 / 8)
    between = llama3[(waves > 512 / 4) & (waves < 512)]
    assert len(between) >= 3
    assert ((between > 1 / 8) & (between < 1)).all()
    np.testing.assert_allclose(
        longrope_frequencies(4, base, [2.0, 5.0]), default_frequencies(4, base) / [2, 5]
    )
    np.testing.assert_array_equal(
        proportional_frequencies(64, base, 0.25), np.where(np.arange(32) < 8, plain, 0)
    )
    assert yarn_attention_factor(1.0) == 1
    assert yarn_attention_factor(math.e) == pytest.approx(1.1)
    assert yarn_attention_factor(math.e, 2.0, 1.0) == pytest.approx(1.2 / 1.1)
