"""The exercises of docs/kernels/cache.md, solved."""

import numpy as np

import tinystar_np as ts
from tinystar_np.inspection.hollow import hollow_model


def test_the_cache_of_gpt2() -> None:
    # Keys and values, of 12 layers and 12 heads, 64 numbers of 4 bytes each.
    of_a_token = 2 * 12 * 12 * 64 * 4
    assert of_a_token == 73_728
    gpt2 = hollow_model({"model_type": "gpt2"})  # its config alone
    assert gpt2.new_cache(1, capacity=1024).nbytes == 1024 * of_a_token == 75_497_472  # 75 MB
    weights = 4 * gpt2.parameters  # 498 MB
    # Six and a half full contexts: for one text the weights of GPT-2 are always the larger part.
    assert 6 < weights / (1024 * of_a_token) < 7


def test_what_a_window_holds() -> None:
    config = ts.TinyStarConfig(num_layers=4, hidden_size=64, mask="sliding_window", window_size=256)
    model = ts.TinyStar(config)
    ids = np.random.default_rng(0).integers(256, size=1000)
    cache = model.new_cache()
    last = model(ids, cache=cache, last_only=True)
    # 256 places, whatever was read: position p lies in place p mod 256.
    assert cache.states[0].arrays(1000)["keys"].shape[2] == 256
    assert 999 % 256 == 231
    # A layer reaches 255 tokens back, four layers 4 · 255 = 1020: the first token still counts.
    other = ids.copy()
    other[0] = (ids[0] + 1) % 256
    assert not np.array_equal(model(other, last_only=True), last)
    # With three layers it would not: 765 tokens back from the last one is after it.
    shallow = ts.TinyStar(ts.TinyStarConfig(**{**vars(config), "num_layers": 3}))
    assert np.array_equal(shallow(other, last_only=True), shallow(ids, last_only=True))


def test_three_endings_of_one_beginning() -> None:
    model, tokenizer = ts.load("stories")
    assert tokenizer is not None
    beginning = tokenizer.encode("Tom looked into the box and saw a")
    endings = [tokenizer.encode(word) for word in (" cat", " ball", " bird")]  # one token each
    cache = model.new_cache()
    model(beginning, cache=cache, last_only=True)  # read once
    three = cache.select([0, 0, 0])
    logits = model(endings, cache=three)[:, -1]  # (3, V)
    for row, ending in zip(logits, endings, strict=True):
        np.testing.assert_allclose(row, model(beginning + ending)[-1], atol=1e-3)
    assert cache.lengths.tolist() == [len(beginning)]  # the original is as it was
    assert three.lengths.tolist() == [len(beginning) + 1] * 3
