"""Prompt lookup: the same greedy text in fewer passes, and a clear word where it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import reference_model, save

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.generation.lookup import look_up


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1, 2]),
        ([1, 2, 3, 9, 2, 3, 8, 1, 2, 3], [9, 2, 3, 8]),  # three tokens go before two
        ([2, 3, 9, 2, 3, 8, 7, 2, 3], [8, 7, 2, 3]),  # later before earlier
        ([5, 6, 7, 8, 7], [8, 7]),  # one token will do
        ([1, 2, 3], []),
        ([4, 4], [4]),
        ([4], []),
    ],
)
def test_what_is_guessed(ids: list[int], expected: list[int]) -> None:
    assert look_up(ids, 4) == expected


class Counting:
    """A model that counts its passes and the tokens in them."""

    def __init__(self, model: Any):
        self.model, self.passes, self.tokens = model, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, ids: Any, **settings: Any) -> Any:
        self.passes += 1
        self.tokens += np.size(ids)
        return self.model(ids, **settings)


@pytest.mark.parametrize("most", [1, 2, 5, 30])
def test_the_same_text_in_fewer_passes(most: int, shared: Path) -> None:
    """A trained model that repeats itself, and one drawn at random that seldom does."""
    model, tokenizer = ts.load(shared / "checkpoints" / "stories260K")
    for prompt in ("Once upon a time", "Lily found a red ball. Lily found a red"):
        settings = {"max_new_tokens": 150, "temperature": 0.0}
        expected = list(ts.stream(model, tokenizer, prompt, **settings))
        counting: Any = Counting(model)
        found = list(ts.stream(counting, tokenizer, prompt, **settings, prompt_lookup_num_tokens=most))
        assert [p.token_id for p in found] == [p.token_id for p in expected]
        assert [p.text for p in found] == [p.text for p in expected]
        assert [p.finish_reason for p in found] == [p.finish_reason for p in expected]
        np.testing.assert_allclose([p.logprob for p in found], [p.logprob for p in expected], atol=1e-4)
        assert counting.passes == len(expected) - sum(piece.guessed for piece in found)
        assert counting.passes < 0.95 * len(expected)
        assert counting.tokens > len(expected)


@pytest.mark.parametrize("penalty", [{}, {"repetition_penalty": 1.3}, {"frequency_penalty": 0.02}], ids=str)
def test_random_models_to_the_end_of_their_context(penalty: dict[str, float], save_gpt2: Any) -> None:
    model, _ = ts.load(save_gpt2()[1])  # holds 96 tokens
    for seed in range(5):
        prompt = np.random.default_rng(seed).integers(0, 20, 40).tolist()
        settings = {"max_new_tokens": 90, "temperature": 0.0, **penalty}
        expected = ts.generate_ids(model, prompt, **settings)
        cache = model.new_cache()
        found = ts.generate_ids(model, prompt, **settings, prompt_lookup_num_tokens=7, cache=cache)
        assert found == expected
        assert cache.lengths.tolist() == [len(prompt) + len(found) - 1]


def test_whoever_stops_listening_finds_the_cache_as_long_as_the_text(shared: Path) -> None:
    model, tokenizer = ts.load(shared / "checkpoints" / "stories260K")
    for heard in range(1, 40):
        cache = model.new_cache()
        prompt = "Lily found a red ball. Lily found a red"
        pieces = ts.stream(
            model,
            tokenizer,
            prompt,
            temperature=0.0,
            prompt_lookup_num_tokens=8,
            cache=cache,
            max_new_tokens=60,
        )
        for _ in range(heard):
            next(pieces)
        assert cache.lengths[0] >= len(tokenizer.encode(prompt)) + heard - 1
        rest = [piece.token_id for piece in pieces]
        assert len(rest) == 60 - heard


def test_what_cannot_be(tmp_path: Path, save_gpt2: Any) -> None:
    windowed, _ = ts.load(
        save(
            reference_model(
                "mistral",
                hidden_size=48,
                intermediate_size=80,
                num_hidden_layers=2,
                num_attention_heads=6,
                num_key_value_heads=2,
                sliding_window=8,
            ),
            tmp_path / "mistral",
        )
    )
    with pytest.raises(InputError, match="cannot be used with this model"):
        ts.generate_ids(windowed, [1, 2, 3], temperature=0.0, prompt_lookup_num_tokens=5)
    model, _ = ts.load(save_gpt2()[1])
    with pytest.raises(InputError, match="temperature is 1, and must be 0"):
        ts.generate_ids(model, [1, 2, 3], temperature=1, prompt_lookup_num_tokens=5)
    with pytest.raises(InputError, match="one prompt at a time"):
        ts.generate_ids(model, [[1], [2]], temperature=0.0, prompt_lookup_num_tokens=5)
    with pytest.raises(InputError, match="prompt_lookup_num_tokens is -1"):
        ts.generate_ids(model, [1], temperature=0.0, prompt_lookup_num_tokens=-1)
