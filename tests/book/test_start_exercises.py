"""The exercises of docs/start.md, solved."""

import numpy as np

import tinystar_np as ts


def test_logits_of_twelve_tokens() -> None:
    """12 · 2048 = 24,576 numbers of 4 bytes, 98,304 in all.

    The 2048 of the last row score the next token.
    """
    model, tokenizer = ts.load("stories")
    ids = tokenizer.encode("Once upon a time there was a little girl named Lily.")
    with ts.record("logits") as taps:
        model(ids)
    assert taps["logits"].size == 12 * 2048 == 24_576
    assert taps["logits"][0, -1].size == 2048
    assert taps["logits"].nbytes == 4 * 24_576 == 98_304


def test_capitals_are_other_tokens() -> None:
    """Many stories begin with "Once", which is a token; "once" is put together of two."""
    model, tokenizer = ts.load("stories")
    large, small = "Once upon a time", "once upon a time"
    assert len(tokenizer.encode(large)) == 4
    assert [tokenizer.decode([id]) for id in tokenizer.encode(small)][:2] == ["on", "ce"]
    # Other tokens give other vectors and scores: the stories begin alike and part later.
    one = ts.generate(model, tokenizer, large, max_new_tokens=24, temperature=0)
    other = ts.generate(model, tokenizer, small, max_new_tokens=24, temperature=0)
    assert one != other
    assert one.startswith(", there was a little girl")
    assert other.startswith(", there was a little girl")


def test_a_head_that_looks_at_the_first_token() -> None:
    model, tokenizer = ts.load("stories")

    def weight_on_the_first(text: str) -> dict[tuple[int, int], float]:
        with ts.record("blocks.*.attention.probabilities") as taps:
            model(tokenizer.encode(text))
        # Of each layer (H, T, S)
        weights = [taps[f"blocks.{i}.attention.probabilities"][0] for i in range(6)]
        return {(i, h): weights[i][h, 1:, 0].mean() for i in range(6) for h in range(6)}

    girl = weight_on_the_first("Once upon a time there was a little girl named Lily.")
    dog = weight_on_the_first("Tom had a big dog. The dog liked to play in the park.")
    for found in (girl, dog):
        assert max(found, key=found.__getitem__) == (2, 5)
    assert girl[2, 5] > 2 * np.mean(list(girl.values()))
