"""A prompt that follows what a cache holds: read once, continued often."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinystar_np as ts
from tinystar_np.errors import ContextFullError, InputError


@pytest.fixture
def loaded(talking_model: Path) -> Any:
    return ts.load(talking_model)


def test_the_same_as_the_whole_text(loaded: Any, tmp_path: Path) -> None:
    model, tokenizer = loaded
    long, question = "A long text that is read once. ", "And what then?"
    cache = model.new_cache()
    model(tokenizer.encode(long), cache=cache, last_only=True)
    cache.save(tmp_path / "long.cache")
    settings = {"max_new_tokens": 20, "temperature": 0.0}
    expected = ts.generate(model, tokenizer, long + question, **settings)
    for _ in range(2):
        again = model.load_cache(tmp_path / "long.cache")
        assert ts.generate(model, tokenizer, question, cache=again, **settings) == expected
    copy = cache.copy()
    pieces = list(ts.stream(model, tokenizer, question, cache=copy, **settings))
    assert "".join(piece.text for piece in pieces) == expected
    assert copy.lengths.tolist() == [len(long) + len(question) + 19]  # the last token is never read
    ids = ts.generate_ids(model, tokenizer.encode(question), cache=cache, **settings)
    assert ids == [piece.token_id for piece in pieces]


def test_the_context_counts_what_the_cache_holds(loaded: Any) -> None:
    model, tokenizer = loaded  # holds 96 tokens
    cache = model.new_cache()
    model(np.ones(90, dtype=int), cache=cache)
    with pytest.raises(ContextFullError, match="7 tokens, 90 are in the cache, but the model holds 96"):
        ts.generate(model, tokenizer, "1234567", cache=cache)
    pieces = list(ts.stream(model, tokenizer, "1234", cache=cache, max_new_tokens=50))
    assert len(pieces) <= 3
    if len(pieces) == 3:
        assert pieces[-1].finish_reason in ("context", "end")


def test_one_prompt_only(loaded: Any) -> None:
    model, tokenizer = loaded
    with pytest.raises(InputError, match="2 prompts and a cache of 1 rows"):
        ts.generate(model, tokenizer, ["a", "b"], cache=model.new_cache())
    with pytest.raises(InputError, match="1 prompts and a cache of 2 rows"):
        ts.generate_ids(model, [1], cache=model.new_cache(2))
