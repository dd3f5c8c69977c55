"""Prompt lookup: speculative decoding whose guesses are copied from the text so far.

Generating a token reads every weight once; checking five tokens reads them once too. Where a text repeats
itself (code, summaries, quotations), the tokens that followed last time are a good guess:

    … the cat sat on the mat. The dog looked at the cat sat  →  guess: on the mat
                                             ───────────

The guess is read by the model after the newest token. Guessed tokens are kept as long as the model would have
chosen them, and the model's own choice after them is computed in the same pass; the first wrong token and
those after it are removed from the cache. The result is that of greedy decoding without guesses. (A product
of five rows sums in another order than one of one row: two tokens whose logits agree to six digits may change
places.) Leviathan et al. 2023, arXiv:2211.17192; Saxena 2023, prompt-lookup decoding.
"""

from collections.abc import Sequence

import numpy as np

LONGEST_MATCH = 3  # tokens that are searched for in the text so far; fewer where so many are not found


def look_up(ids: Sequence[int], most: int) -> list[int]:
    """Return the tokens that followed an earlier occurrence of the last few: at most ``most``, or none.

    A longer match is preferred to a shorter one, and a later occurrence to an earlier one.
    """
    text = np.asarray(ids)
    for length in range(min(LONGEST_MATCH, len(text) - 1), 0, -1):
        windows = np.lib.stride_tricks.sliding_window_view(text[:-1], length)
        places = np.flatnonzero((windows == text[-length:]).all(axis=-1))
        if len(places):
            start = int(places[-1]) + length
            return text[start : start + most].tolist()
    return []
