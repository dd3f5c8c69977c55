"""Texts shared by ranks of which each has the whole model: what one process gives, whoever reads them."""

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from thread_ranks import Rooms, copied

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.generation import copied as following
from tinystar_np.generation.perplexity import scores_of_texts, to_score
from tinystar_np.generation.scores import TokenScore, for_other_ranks, of_other_rank
from tinystar_np.models import Decoder
from tinystar_np.ranks import dealt
from tinystar_np.text import Tokenizer

PROMPTS = [
    "Once upon a time",
    "The sun",
    "Tom and Sue went to the park. They",
    "Lily",
    "A dog",
    "Once upon a time, there was a little girl named",
    "The boy said",
]
TEXTS = [
    " ".join(PROMPTS) * 3,
    "The end.",
    "Tom had a red ball. He liked to play with it all day long in the big park. " * 2,
]


def loaded() -> tuple[Decoder, Tokenizer]:
    model, tokenizer = ts.load("stories")
    assert tokenizer is not None
    return model, tokenizer


@pytest.fixture(scope="module")
def alone() -> tuple[Decoder, Tokenizer]:
    return loaded()


@pytest.fixture(params=[2, 3])
def shared(request: pytest.FixtureRequest) -> tuple[Decoder, Tokenizer, Rooms]:
    model, tokenizer = loaded()
    return model, tokenizer, copied(model, loaded, request.param)


def test_things_are_dealt_out() -> None:
    assert dealt([5, 5, 5, 5, 2], 2) == [[0, 2, 4], [1, 3]]
    assert dealt([1, 9, 3, 4], 2) == [[1], [0, 2, 3]]
    assert dealt([7], 3) == [[0], [], []]
    assert dealt([], 2) == [[], []]
    costs = np.random.default_rng(0).integers(1, 100, 200).tolist()
    shares = dealt(costs, 7)
    assert sorted(itertools.chain(*shares)) == list(range(200))
    assert all(share == sorted(share) for share in shares)
    sums = [sum(costs[i] for i in share) for share in shares]
    assert max(sums) - min(sums) <= max(costs)


@pytest.mark.parametrize(
    "how", [{"temperature": 0}, {"seed": 3, "temperature": 0.9}, {"seed": 5, "stop": "."}]
)
def test_prompts_are_continued_as_in_one_process(
    alone: tuple[Decoder, Tokenizer], shared: tuple[Decoder, Tokenizer, Rooms], how: dict[str, Any]
) -> None:
    expected = ts.generate(*alone, PROMPTS, max_new_tokens=25, **how)
    assert ts.generate(*shared[:2], PROMPTS, max_new_tokens=25, **how) == expected
    assert len(set(expected)) == len(PROMPTS)


def test_ids_without_texts(
    alone: tuple[Decoder, Tokenizer], shared: tuple[Decoder, Tokenizer, Rooms]
) -> None:
    ids = [alone[1].encode(text) for text in PROMPTS]
    expected = ts.generate_ids(alone[0], ids, max_new_tokens=9, temperature=0)
    assert ts.generate_ids(shared[0], ids, max_new_tokens=9, temperature=0) == expected


def test_one_prompt_none_and_no_tokens(shared: tuple[Decoder, Tokenizer, Rooms]) -> None:
    model, tokenizer, _ = shared
    assert ts.generate(model, tokenizer, [], max_new_tokens=3) == []
    assert ts.generate(model, tokenizer, PROMPTS, max_new_tokens=0) == [""] * len(PROMPTS)
    one = ts.generate(model, tokenizer, PROMPTS[0], max_new_tokens=5, temperature=0)
    assert ts.generate(model, tokenizer, PROMPTS[:2], max_new_tokens=5, temperature=0)[0] == one
    with pytest.raises(InputError, match="Prompt 1 is empty"):
        ts.generate_ids(model, [[5], []])


@pytest.mark.parametrize(("window", "stride"), [(16, 16), (16, 5), (512, 512)])
@pytest.mark.parametrize("top", [0, 3])
def test_texts_are_scored_as_in_one_process(
    alone: tuple[Decoder, Tokenizer],
    shared: tuple[Decoder, Tokenizer, Rooms],
    window: int,
    stride: int,
    top: int,
) -> None:
    """The same pieces in the same order, to the last bit."""
    ids = [to_score(*alone, text) for text in TEXTS]
    expected = list(scores_of_texts(alone[0], ids, window, stride, top))
    assert list(scores_of_texts(shared[0], ids, window, stride, top)) == expected
    assert [i for i, _ in expected] == sorted(i for i, _ in expected)
    for i, its in enumerate(ids):
        assert [score.token_id for j, piece in expected if j == i for score in piece] == its[1:]


def test_what_nobody_waits_for_ends(
    shared: tuple[Decoder, Tokenizer, Rooms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rank 0 stops in the middle, so do the others, and what is asked next is answered."""
    model, tokenizer, rooms = shared
    begun, plain = [], following.scores_of_rank
    slowly = threading.Event()

    def scores(*how: Any) -> Iterator[Any]:
        for each in plain(*how):
            begun.append(each)
            slowly.wait(0.02)
            yield each

    monkeypatch.setattr(following, "scores_of_rank", scores)
    ids = [to_score(model, tokenizer, text) for text in TEXTS]
    wanted = len(list(scores_of_texts(model, ids, 2, 1)))
    slowly.set()
    begun.clear()
    slowly.clear()
    pieces = scores_of_texts(model, ids, 2, 1)
    next(pieces)
    pieces.close()
    stopped = len(begun)
    assert stopped < wanted // 2
    time.sleep(0.1)
    assert len(begun) == stopped
    found = ts.generate(model, tokenizer, PROMPTS, max_new_tokens=4, temperature=0)
    assert found[0] == ts.generate(model, tokenizer, PROMPTS[0], max_new_tokens=4, temperature=0)
    assert all(rooms.queues[rank, 0].empty() for rank in range(1, rooms.size))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_another_rank(shared: tuple[Decoder, Tokenizer, Rooms]) -> None:
    model, tokenizer, rooms = shared
    rooms.followers[0].model.head = lambda x: 1 / 0
    with pytest.raises(RuntimeError, match="another rank failed: ZeroDivisionError"):
        ts.generate(model, tokenizer, PROMPTS, max_new_tokens=200, temperature=0)


def test_scores_for_other_ranks_are_whole() -> None:
    scores = [TokenScore(4, -0.25, ((4, -0.25), (1, -2.0))), TokenScore(2, -1.5, ((3, -0.5), (2, -1.5)))]
    assert of_other_rank(for_other_ranks(scores), [4, 2]) == scores
