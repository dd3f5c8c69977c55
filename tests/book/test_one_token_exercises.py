"""The exercises of docs/one_token.md, solved."""

import numpy as np

import tinystar_np as ts


def test_the_first_token_takes_its_own_value() -> None:
    """It sees only itself, so its one weight is 1, and a mean of one value is that value."""
    model, tokenizer = ts.load("stories")
    with ts.record() as taps:
        model(tokenizer.encode("The cat sat"))
    for i in range(6):
        shares = taps[f"blocks.{i}.attention.probabilities"]  # (B, H, T, S)
        assert (shares[:, :, 0] == [1, 0, 0]).all()
        v, mixed = taps[f"blocks.{i}.attention.v"], taps[f"blocks.{i}.attention.mixed"]  # (B, H, T, K)
        np.testing.assert_allclose(mixed[:, :, 0], v[:, :, 0], rtol=1e-6)
        assert abs(mixed[:, :, 1] - v[:, :, 1]).max() > 0.1  # the second token takes from two


def test_changes_travel_to_the_right_only() -> None:
    model, tokenizer = ts.load("stories")

    def changed_rows(one: str, other: str) -> list[bool]:
        difference = model(tokenizer.encode(one)) - model(tokenizer.encode(other))  # (T, V)
        return (abs(difference).max(axis=-1) > 1e-3).tolist()

    # A token is seen by itself and by later ones: the last by no other, the first by all.
    assert changed_rows("The cat sat", "The cat ran") == [False, False, True]
    assert changed_rows("The cat sat", "A cat sat") == [True, True, True]


def test_a_loop_that_writes() -> None:
    model, tokenizer = ts.load("stories")
    ids = tokenizer.encode("The cat sat")

    cache, new, written = model.new_cache(), ids, []
    for _ in range(10):
        logits = model(new, cache=cache)  # the prompt, and after that one token at a time
        new = [int(logits[-1].argmax())]
        written += new

    assert written == ts.generate_ids(model, ids, max_new_tokens=10, temperature=0)
    assert cache.lengths.tolist() == [3 + 10 - 1]  # the last token was written, and never read
