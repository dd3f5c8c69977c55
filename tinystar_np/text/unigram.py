"""The unigram language model: of all ways to cut a text into pieces, the likeliest.

Every piece has a probability of its own, whatever stands beside it, and a cut has the product of its pieces':

    best(0) = 0
    best(e) = max over pieces text[s:e] of  best(s) + score(text[s:e])        score = log probability

That is Viterbi's algorithm on a row of characters: one pass, each place remembering where its best last piece
begins. A character that no piece has costs 10 more than the unlikeliest piece. Kudo 2018, arXiv:1804.10959.
"""

from collections.abc import Mapping

import numpy as np

UNKNOWN_PENALTY = 10.0


def likeliest_pieces(text: str, scores: Mapping[str, float], lowest: float, longest: int) -> list[str]:
    """Cut a text into the likeliest pieces.

    text     prepared: spaces are ▁
    scores   {piece: the logarithm of its probability}
    lowest   the lowest score of an ordinary piece
    longest  the most characters that a piece has

    Returns the pieces, which together are the text; single characters need not be in the vocabulary.
    """
    unknown = float(np.float32(lowest - UNKNOWN_PENALTY))
    best = [0.0] + [-np.inf] * len(text)
    begin = [0] * (len(text) + 1)
    for start in range(len(text)):
        for end in range(start + 1, min(start + longest, len(text)) + 1):
            score = scores.get(text[start:end])
            if score is None:
                if end > start + 1:
                    continue
                score = unknown
            # Sums in float32, as in sentencepiece: their rounding decides between equally likely cuts.
            total = float(np.float32(best[start] + score))
            if total > best[end]:
                best[end], begin[end] = total, start
    pieces = []
    end = len(text)
    while end:
        pieces.append(text[begin[end] : end])
        end = begin[end]
    return pieces[::-1]
