"""The exercises of docs/kernels/tokenizers.md, solved."""

from collections import Counter
from itertools import pairwise

import tinystar_np as ts
from tinystar_np.text.joining import join


def test_three_words_by_six_merges() -> None:
    merges = [("l", "o"), ("lo", "w"), ("e", "r"), ("w", "er"), ("n", "e"), ("ne", "w")]

    def cut(word: str) -> list[str]:
        return join(word, lambda a, b: merges.index((a, b)) if (a, b) in merges else None)[0]

    # "lo w" is before "w er": when its turn comes, the w is already gone.
    assert cut("lower") == ["low", "er"]
    # "e r" is before "n e", and "w er" before "ne w", so the w goes to the right.
    assert cut("newer") == ["ne", "wer"]
    assert cut("wer") == ["wer"]


def test_where_a_text_may_be_cut() -> None:
    _, tokenizer = ts.load("stories")
    assert tokenizer is not None

    def same(left: str, right: str) -> bool:
        return tokenizer.encode(left) + tokenizer.encode(right) == tokenizer.encode(left + right)

    assert same("Tom saw", " a butterfly.")  # a word begins with its space, and is cut by itself
    assert not same("Tom saw ", "a butterfly.")  # the space is a token of its own, and "a" has none
    assert not same("Tom saw a butt", "erfly.")  # "butterfly" is one token


def test_merges_are_learnt_by_counting() -> None:
    text = "the cat sat on the mat the fat cat sat on the hat and that was that"
    words = Counter(" " + word for word in text.split())
    cuts = {word: list(word) for word in words}
    merges: list[tuple[str, str]] = []
    for _ in range(12):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(cuts[word]):
                pairs[pair] += times
        merges.append(pairs.most_common(1)[0][0])
        rank = {pair: place for place, pair in enumerate(merges)}
        cuts = {word: join(word, lambda a, b, rank=rank: rank.get((a, b)))[0] for word in words}

    assert merges[0] == ("a", "t")  # in cat, sat, mat, fat, hat and that: nine times
    assert cuts[" the"] == [" the"]
    # A word that it has never seen is cut into what it has learnt, and nothing is lost.
    parts, _ = join(" chat", lambda a, b: merges.index((a, b)) if (a, b) in merges else None)
    assert "".join(parts) == " chat"
    assert len(parts) < len(" chat")
    # Fewer tokens than letters.
    letters = sum(len(word) * times for word, times in words.items())
    tokens = sum(len(cuts[word]) * times for word, times in words.items())
    assert tokens < letters / 2
