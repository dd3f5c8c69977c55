"""The exercises of docs/kernels/sampling.md, solved."""

import numpy as np

import tinystar_np as ts
from tinystar_np.generation.sampling import draw, min_p, only, temperature, top_k, top_p


def test_what_is_left_of_four_tokens() -> None:
    logits = np.log(np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8], dtype=np.float32))

    def left(logits: np.ndarray) -> list[int]:
        return np.flatnonzero(np.isfinite(logits)).tolist()

    # The third and the fourth are equal: top_k has no reason to prefer one, and keeps both.
    assert left(top_k(logits, 3)) == [0, 1, 2, 3]
    # 1/2 is not enough, 1/2 + 1/4 is.
    assert left(top_p(logits, 0.7)) == [0, 1]
    # 0.3 of 1/2 is 0.15: an eighth is less, though two eighths together are as much as the second token.
    assert left(min_p(logits, 0.3)) == [0, 1]


def test_where_temperature_stands() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], dtype=np.float32))

    def left(logits: np.ndarray) -> int:
        return int(np.isfinite(logits).sum())

    # Temperature keeps the order, so the k largest are the same.
    assert left(top_k(temperature(logits, 2.0), 2)) == left(temperature(top_k(logits, 2), 2.0)) == 2
    # A flatter distribution needs more tokens for the same mass …
    assert left(top_p(temperature(logits, 2.0), 0.8)) == 4
    assert left(temperature(top_p(logits, 0.8), 2.0)) == 3
    # … and more of its tokens have a third of the largest: √(0.1 / 0.4) is 0.5, where 0.1 / 0.4 is 0.25.
    assert left(min_p(temperature(logits, 2.0), 0.33)) == 5
    assert left(temperature(min_p(logits, 0.33), 2.0)) == 3


def test_a_story_without_the_letter_e() -> None:
    model, tokenizer = ts.load("stories")
    assert tokenizer is not None
    allowed = np.array([id for id in range(model.vocab_size) if "e" not in tokenizer.token(id).lower()])
    rng = np.random.default_rng(0)
    ids = tokenizer.encode("Tom had a cat.")
    cache = model.new_cache()
    new = ids  # the whole prompt first, then one token at a time
    for _ in range(40):
        logits = model(new, cache=cache, last_only=True)[0]
        new = [draw(temperature(only(logits, allowed), 0.7), rng).token_id]
        ids = ids + new
    story = tokenizer.decode(ids)
    assert len(story) > len("Tom had a cat.") + 40
    assert "e" not in story.lower()
