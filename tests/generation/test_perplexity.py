"""A text's perplexity: the windows of the evaluation harness, and transformers' own loss in each of them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import ATTENTION, DENSE, FIXED, build, small_model
from smollm2 import smollm2_file, smollm2_reference

import tinystar_np as ts
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation import perplexity
from tinystar_np.generation.perplexity import (
    Perplexity,
    Window,
    check_windows,
    text_scores,
    to_score,
    usual_window,
    windows,
)
from tinystar_np.models import Decoder

PREFIX = -100


def harness_windows(tokens: list[int], longest: int, context: int) -> list[tuple[list[int], list[int]]]:
    """The rule of lm_eval.utils.get_rolling_token_windows, written anew: (read, predicted)."""
    each = longest - context + 1
    found = [([PREFIX, *tokens][: min(longest, len(tokens))], tokens[:longest])] if tokens else []
    for begin in range(longest, len(tokens), each):
        predicted = tokens[begin : begin + each]
        end = begin + len(predicted)
        found.append((tokens[end - longest - 1 : end - 1], predicted))
    return found


def test_the_rule_is_that_of_the_harness() -> None:
    """An example that its own tests have: 34 tokens in windows of 10, with one token of context."""
    found = harness_windows(list(range(34)), 10, 1)
    assert found[0] == ([PREFIX, *range(9)], [*range(10)])
    assert found[1] == ([*range(9, 19)], [*range(10, 20)])
    assert found[2] == ([*range(19, 29)], [*range(20, 30)])
    assert found[3] == ([*range(23, 33)], [*range(30, 34)])


@FIXED
@given(st.integers(0, 60), st.integers(1, 25), st.data())
def test_windows_are_those_of_the_harness(tokens: int, window: int, data: Any) -> None:
    stride = data.draw(st.integers(1, window))
    ids = [PREFIX, *range(tokens)]
    found = [
        (ids[each.start : each.end], ids[each.first : each.end + 1])
        for each in windows(tokens, window, stride)
    ]
    assert found == harness_windows(ids[1:], window, window - stride + 1)
    assert [id for _, predicted in found for id in predicted] == ids[1:]  # each is scored once


def all_scores(model: Decoder, ids: list[int], window: int, stride: int, top: int = 0) -> list[Any]:
    return [score for piece in text_scores(model, ids, window, stride, top) for score in piece]


@pytest.mark.parametrize("stride", [100, 35])
def test_smollm2_has_transformers_loss(stride: int, shared: Path) -> None:
    """Over text that it was not made from, window by window, with labels only where a window scores."""
    model, tokenizer = ts.load(smollm2_file(), "float32")
    assert tokenizer is not None
    assert usual_window(model) == 8192
    text = (shared / "corpora" / "wikitext-2" / "test.txt").read_text(encoding="utf-8")[:900]
    ids = to_score(model, tokenizer, text)
    assert ids[0] == tokenizer.backend.token_to_id("<|im_start|>")
    assert tokenizer.decode(ids[1:], skip_special_tokens=False) == text
    cut = list(windows(len(ids) - 1, 100, stride))
    assert len(cut) >= 3
    loss = 0.0
    for each in cut:
        read = torch.tensor([ids[each.start : each.end + 1]])
        labels = read.clone()
        labels[:, : each.first - each.start] = -100
        with torch.no_grad():
            mean = smollm2_reference()(read, labels=labels).loss
        loss += float(mean) * (each.end + 1 - each.first)
    scores = all_scores(model, ids, 100, stride)
    assert [score.token_id for score in scores] == ids[1:]
    nats = -sum(score.logprob for score in scores)
    assert nats / len(scores) == pytest.approx(loss / len(scores), abs=1e-5)


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0}
LENGTHS = {**ATTENTION, "max_position_embeddings": 20, "rope_parameters": DYNAMIC}


@pytest.mark.parametrize("name", [*DENSE, "rotations by length"])
def test_pieces_score_as_the_whole_window(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, with a cache, and few logits at a time: what one call for the whole window gives."""
    model = build("llama", LENGTHS) if name == "rotations by length" else small_model(name)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, 83).tolist()
    window, stride = 35, 13
    monkeypatch.setattr(perplexity, "PREFILL", 8)
    monkeypatch.setattr(perplexity, "MOST_LOGITS", 5 * model.vocab_size)
    pieces = list(text_scores(model, ids, window, stride, top=3))
    assert max(map(len, pieces)) <= 5
    found = [score for piece in pieces for score in piece]
    wanted = []
    for each in windows(len(ids) - 1, window, stride):
        logits = model(ids[each.start : each.end]).astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for i in range(each.first, each.end + 1):
            wanted.append((ids[i], logprobs[i - 1 - each.start]))
    assert [score.token_id for score in found] == [id for id, _ in wanted] == ids[1:]
    for score, (id, row) in zip(found, wanted, strict=True):
        assert score.logprob == pytest.approx(row[id], abs=1e-4)
        assert [logprob for _, logprob in score.top] == pytest.approx(sorted(row)[:-4:-1], abs=1e-4)


def test_logits_that_are_no_numbers(save_gpt2: Any) -> None:
    model, _ = ts.load(save_gpt2()[1])

    class Broken(type(model)):  # type: ignore[misc]
        def logits(self, x: Any) -> Any:
            return super().logits(x) * np.nan

    model.__class__ = Broken
    with pytest.raises(TinyStarError, match="not finite"):
        all_scores(model, [1, 2, 3], 8, 8)


def test_figures() -> None:
    found = Perplexity(nats=6 * math.log(2), tokens=3, words=2, bytes=12)
    assert found.nats_per_token == pytest.approx(2 * math.log(2))
    assert found.bits_per_byte == pytest.approx(0.5)
    assert found.per_token == pytest.approx(4)
    assert found.per_word == pytest.approx(8)
    assert Perplexity(1.0, 3, 0, 12).per_word == math.inf
    endless = Perplexity(1e4, 3, 2, 12)
    assert endless.per_word == math.inf
    assert endless.as_json()["perplexity_per_word"] is None
    assert endless.as_json()["nats"] == 1e4


def test_what_cannot_be(save_gpt2: Any, talking_model: Path) -> None:
    model, tokenizer = ts.load(talking_model)  # holds 96 tokens
    assert tokenizer is not None
    assert usual_window(model) == 96
    check_windows(model, 96, 1)
    for window, stride, says in (
        (0, 1, "window is 0"),
        (97, 1, "1 to 96"),
        (8, 9, "stride is 9"),
        (8, 0, "0"),
    ):
        with pytest.raises(InputError, match=says):
            check_windows(model, window, stride)
    with pytest.raises(InputError, match="empty"):
        to_score(model, tokenizer, "")
    assert to_score(model, tokenizer, "a") == [256, tokenizer.encode("a")[0]]
    assert list(windows(0, 5, 5)) == []
    assert list(windows(5, 5, 5)) == [Window(0, 1, 5)]
