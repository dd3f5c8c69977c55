"""Scoring many texts: equal to reading each alone, what they share read once, the same in any order."""

import random

import numpy as np
import pytest
from parity_case import VOCABULARY
from small_models import ATTENTION, DENSE, EXPERTS, build, small_model

from tinystar_np.errors import ContextFullError, InputError
from tinystar_np.generation.likelihoods import TOGETHER, End, likelihoods
from tinystar_np.generation.prefix_tree import Node, prefix_tree
from tinystar_np.kernels.softmax import log_softmax
from tinystar_np.models import Decoder


def made(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, length).tolist()


def questions() -> list[End]:
    """Choices after questions that follow the same examples; single tokens, loners, repeats."""
    examples, ends = made(0, 70), []
    for question in range(3):
        context = examples + made(10 + question, 30 + question)
        ends += [End(context + made(100 + 10 * question + n, n + 1), len(context)) for n in range(4)]
        ends += [End([*context, n], len(context)) for n in range(3)]  # one token: the same logits
    ends += [End(made(200 + n, 9 + n), 1) for n in range(5)]
    ends += [End(examples, 60), End(examples[:50], 1), ends[2], ends[-1]]
    return ends


def check_alone(model: Decoder, ends: list[End]) -> None:
    """Each is what the model says of its text, read by itself and without a cache."""
    found = likelihoods(model, ends)
    assert len(found) == len(ends)
    for (ids, start), (logprobs, greedy) in zip(ends, found, strict=True):
        logits = model(ids[:-1])[start - 1 :]
        expected = log_softmax(logits)[np.arange(len(ids) - start), ids[start:]]
        np.testing.assert_allclose(logprobs, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
        assert greedy == (logits.argmax(-1) == ids[start:]).all()


@pytest.mark.parametrize("name", [*DENSE, *EXPERTS])
def test_each_is_as_if_alone(name: str) -> None:
    check_alone(small_model(name), questions())


def test_where_rotations_depend_on_the_length() -> None:
    """The trained length lies between the shortest and the longest text, so nothing may be filled up."""
    dynamic = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0}
    config = {**ATTENTION, "max_position_embeddings": 64, "rope_parameters": dynamic}
    check_alone(build("llama", config), [*questions(), End(made(1, TOGETHER + 90), 40)])


@pytest.mark.parametrize("name", ["rope, groups", "window", "mamba 2"])
def test_texts_longer_than_one_call(name: str) -> None:
    long = made(1, 2 * TOGETHER + 90)
    ends = [End(long, TOGETHER + 3), End(long, len(long) - 1), End(long[: TOGETHER + 7], 1)]
    ends += [End([*long[: TOGETHER + 40], *made(n, 5)], TOGETHER + 42) for n in range(3)]
    check_alone(small_model(name), ends)


def test_greedy_ends_are_found() -> None:
    model = small_model("rope, groups")
    text = made(3, 40)
    for _ in range(3):
        text.append(int(model(text)[-1].argmax()))
    wrong = [*text[:-1], (text[-1] + 1) % VOCABULARY]
    found = likelihoods(model, [End(text, 40), End(text, 39), End(wrong, 40), End(text[:41], 40)])
    assert [each.greedy for each in found] == [True, False, False, True]


@pytest.mark.parametrize("name", ["rope, groups", "mamba 2", "experts"])
def test_the_order_of_texts_changes_no_bit(name: str) -> None:
    model, ends = small_model(name), questions()
    first = likelihoods(model, ends)
    order = list(range(len(ends)))
    random.Random(0).shuffle(order)
    seen = []
    again = likelihoods(model, [ends[i] for i in order], lambda i, likelihood: seen.append((i, likelihood)))
    for place, i in enumerate(order):
        np.testing.assert_array_equal(again[place].logprobs, first[i].logprobs)
    assert sorted(i for i, _ in seen) == list(range(len(ends)))
    assert all(again[i] is likelihood for i, likelihood in seen)


def test_what_texts_share_is_read_once() -> None:
    """A call reads few more tokens than the texts have, each counted where it first stands."""
    model, read = small_model("rope, groups"), []

    class Counting:
        context_length, end_ids, new_cache = None, (), model.new_cache

        def __call__(self, ids, **how):
            read.append(np.asarray(ids).shape)
            return model(ids, **how)

    examples, ends = made(0, 200), []
    for question in range(5):
        context = examples + made(10 + question, 100)
        ends += [End(context + made(100 + 10 * question + n, 4), len(context)) for n in range(4)]
    likelihoods(Counting(), ends)
    assert sum(rows * tokens for rows, tokens in read) == 200 + 5 * 100 + 20 * 3
    assert len(read) == 1 + 5 + 5


def test_the_tree() -> None:
    a, b, c = made(1, 30), made(2, 20), made(3, 25)
    texts = [a + b + [1], a + b + [2], a + c, b, a + b + [3, 4], b]
    root = prefix_tree(texts, [len(text) for text in texts], shortest=16, saved=30)
    (node,) = root.nodes
    assert (node.start, node.end, node.ids, node.reach) == (0, 30, a, 55)
    (inner,) = node.nodes
    assert (inner.start, inner.end, inner.ids, sorted(inner.texts)) == (30, 50, b, [0, 1, 4])
    assert (sorted(node.texts), sorted(root.texts)) == ([2], [3, 5])
    limited = prefix_tree(texts, [20] * len(texts), shortest=16, saved=30)
    assert [(node.end, sorted(node.texts)) for node in limited.nodes] == [(20, [0, 1, 2, 4])]
    apart = prefix_tree(texts, [0] * len(texts))
    assert (sorted(apart.texts), apart.nodes) == ([*range(6)], [])
    assert prefix_tree([], []) == Node(0, 0, (), 0)


def test_many_texts_that_each_go_on_from_another() -> None:
    text = made(1, 1500)
    root = prefix_tree([text[:n] for n in range(1, 1500)], list(range(1, 1500)))
    held, todo = [], [root]
    while todo:
        node = todo.pop()
        held += node.texts
        assert node is root or node.end - node.start >= 16
        todo += node.nodes
    assert sorted(held) == list(range(1499))


def test_what_cannot_be_scored() -> None:
    model = small_model("learned positions")
    for end in (End([1, 2], 0), End([1, 2], 2), End([1], 1)):
        with pytest.raises(InputError, match="needs a token"):
            likelihoods(model, [end])
    assert likelihoods(model, []) == []
    full = made(1, 1025)  # one token more than there are positions: the last one is not read
    assert likelihoods(model, [End(full, 1020)])[0].logprobs.shape == (5,)
    with pytest.raises(ContextFullError):
        likelihoods(model, [End([*full, 1], 1020)])
