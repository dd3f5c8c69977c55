"""Prompt lookup: guess the next tokens from what the text already says, and check them all in one pass.

Generating a token reads every weight once; checking five tokens reads them once too. Where a text repeats
itself (code, summaries, quotations), the words that followed last time are a good guess:

    … the cat sat on the mat. The dog looked at the cat sat  →  guess: on the mat
                                             ───────────

The guess goes through the model after the newest token. As far as the model itself would have chosen each
guessed token it is kept, and the model's own next choice comes for free; what follows the first wrong one is
taken out of the cache. The result is what greedy decoding gives without guesses: a token is only ever the
model's own choice. (A product of five rows sums in another order than one of one row: two tokens whose logits
agree to six digits may change places.) Leviathan et al. 2023, arXiv:2211.17192; Saxena 2023, prompt-lookup
decoding.
"""

from collections.abc import Sequence

import numpy as np

LONGEST_MATCH = 3  # tokens that must have occurred before; fewer where so many have not


def look_up(ids: Sequence[int], most: int) -> list[int]:
    """Return what followed when the last few tokens occurred before: at most ``most`` tokens, or none.

    A match of three tokens goes before one of two, and a later occurrence before an earlier one.
    """
    text = np.asarray(ids)
    for length in range(min(LONGEST_MATCH, len(text) - 1), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(text[:-1], length)
        places = np.flatnonzero((windows == text[-length:]).all(axis=-1))
        if len(places):
            start = int(places[-1]) + length
            return text[start : start + most].tolist()
    return []
