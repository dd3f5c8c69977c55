"""The exercises of docs/three_letters.md, solved."""

from collections import Counter
from itertools import product

import numpy as np

import tinystar_np as ts
from tinystar_np.kernels.attention import attention


def test_answers_are_few() -> None:
    """An answer is fixed by where its Bs and its Cs begin: (7 · 8) / 2 = 28 ways.

    Most inputs lead to AABBCC: 6! / (2! · 2! · 2!) = 90 of them.
    """
    leading_to = Counter("".join(sorted(letters)) for letters in product("ABC", repeat=6))
    assert len(leading_to) == 7 * 8 // 2 == 28
    assert leading_to.most_common(1) == [("AABBCC", 90)]


def test_a_wrong_letter_does_not_mislead_it() -> None:
    model, tokenizer = ts.load("letters")
    written = ts.generate(model, tokenizer, "CABBACC", max_new_tokens=5, temperature=0)
    assert written == "ABBCC"  # the second letter of the right answer, and the others

    # So it is after every input, whatever stands first in the answer.
    given = np.array(list(product(range(3), repeat=6)))
    for first in range(3):
        logits = model(np.c_[given, np.full(len(given), first)])[:, -1]
        assert (logits.argmax(-1) == np.sort(given, axis=1)[:, 1]).all()


def test_a_head_that_counts() -> None:
    """Queries of 0 give equal scores, so equal weights: the result is the plain mean.

    A value has a 1 at its letter and 0 elsewhere: the mean is each letter's share.
    """
    letters = np.array([2, 0, 1, 1, 0, 2, 2])  # C A B B A C C
    values = np.eye(3, dtype=np.float32)[letters]  # (S, 3)
    query = np.zeros((1, 1, 4), dtype=np.float32)  # (H, T, K): one query of one head
    keys = np.ones((1, 7, 4), dtype=np.float32)  # any other keys would do
    shares = attention(query, keys, values[None], None, scale=0.5)
    np.testing.assert_allclose(shares[0, 0] * len(letters), [2, 2, 3], rtol=1e-6)
