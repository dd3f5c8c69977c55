"""Turns of a conversation that are gone back to: continued, answered again, forgotten."""

from copy import deepcopy
from typing import Any

import conversations
import numpy as np
import pytest
from conversations import CHATML, REWRITING, SETTINGS, Counted, Scripted, Unbending, by_hand, prompt_of, turn

from tinystar_np.errors import InputError
from tinystar_np.generation import Conversation

talking = conversations.talking
_a_context_for_a_conversation = conversations._a_context_for_a_conversation


def ids_of(pieces: Any) -> list[int]:
    return [piece.token_id for piece in pieces]


def test_answers_are_drawn_from_one_stream(talking: Any) -> None:
    """The same message in the same circumstances gets another answer, with a seed too."""
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer)
    first = ids_of(conversation.say("Hi", **SETTINGS))
    conversation.undo()
    assert ids_of(conversation.say("Hi", **SETTINGS)) != first
    # Another seed begins another stream, and the old one again from its beginning.
    conversation.undo()
    other = ids_of(conversation.say("Hi", **{**SETTINGS, "seed": 4}))
    assert other == by_hand(model._model, prompt_of(tokenizer, turn("Hi", "")[:1]), np.random.default_rng(4))
    conversation.undo()
    assert ids_of(conversation.say("Hi", **SETTINGS)) == first
    # Greedy answers draw nothing.
    before = deepcopy(conversation.rng)
    list(conversation.say("Hi", temperature=0, max_new_tokens=5))
    assert conversation.rng is not None
    assert before is not None
    assert conversation.rng.random() == before.random()


@pytest.mark.parametrize("template", [CHATML, REWRITING], ids=["adding", "rewriting"])
@pytest.mark.parametrize("kind", [Counted, Unbending])
def test_a_continued_answer_is_the_one_that_was_not_cut_off(
    talking: Any, kind: type[Counted], template: str
) -> None:
    model, tokenizer = talking(template, kind)
    whole = Conversation(model, tokenizer)
    parts = Conversation(model, tokenizer)
    for text in ("Hi", "日本?"):
        wanted = list(whole.say(text, max_new_tokens=18, temperature=0))
        found = list(parts.say(text, max_new_tokens=5, temperature=0))
        model.read.clear()
        for count in (1, 12):
            assert found[-1].finish_reason == "length"
            found += parts.continue_answer(max_new_tokens=count, temperature=0)
        if kind is Counted:  # nothing is read twice
            assert model.read == [1] * 13
        assert ids_of(found) == ids_of(wanted)
        assert parts.messages == whole.messages


def test_a_continued_answer_is_drawn_as_the_whole_one(talking: Any) -> None:
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer)
    found = ids_of(conversation.say("Hi", seed=3, max_new_tokens=6))
    found += ids_of(conversation.continue_answer(seed=3, max_new_tokens=8))
    assert found == by_hand(model._model, prompt_of(tokenizer, turn("Hi", "")[:1]), conversations.stream())


def test_an_answer_whose_tokens_are_not_known_is_continued_as_text(talking: Any) -> None:
    """As one that was read from a file: what the template writes up to its end."""
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer)
    conversation.messages = turn("Hi", "well, ")
    pieces = list(conversation.continue_answer(max_new_tokens=6, temperature=0))
    begun = prompt_of(tokenizer, conversation.messages[:1]) + tokenizer.encode("well, ")
    assert ids_of(pieces) == by_hand(model._model, begun, None, 6)
    said = "".join(piece.text for piece in pieces)
    assert conversation.messages == turn("Hi", "well, " + said)


def test_a_new_answer_takes_the_place_of_the_last(talking: Any) -> None:
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer)
    list(conversation.say("Hi", **SETTINGS))
    first = list(conversation.say("and?", **SETTINGS))
    prompt = prompt_of(tokenizer, conversation.messages[:3])
    wanted = by_hand(model._model, prompt, deepcopy(conversation.rng))
    model.read.clear()
    again = list(conversation.answer_again(**SETTINGS))
    assert ids_of(again) == wanted != ids_of(first)
    assert model.read == [1] * len(again)  # the message itself is not read again
    assert len(conversation.messages) == 4
    assert conversation.messages[-1]["content"] == "".join(piece.text for piece in again)
    conversation.answer_again(**SETTINGS).close()  # never begun: the answer stays
    assert conversation.messages[-1]["content"] == "".join(piece.text for piece in again)


def test_the_last_turn_is_forgotten(talking: Any) -> None:
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer, "Be kind.")
    list(conversation.say("Hi", temperature=0, max_new_tokens=6))
    before, tokens = list(conversation.messages), conversation.tokens
    list(conversation.say("and?", temperature=0, max_new_tokens=6))
    assert conversation.tokens > tokens
    assert conversation.undo() == "and?"
    assert conversation.messages == before
    assert conversation.tokens == len(
        tokenizer.encode(tokenizer.chat_template.render(before, add_generation_prompt=False))
    )
    assert conversation.undo() == "Hi"
    assert conversation.messages == before[:1]
    for method in (conversation.undo, conversation.answer_again, conversation.continue_answer):
        with pytest.raises(InputError, match="no message yet"):
            method()


def test_another_system_message(talking: Any) -> None:
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer)
    list(conversation.say("Hi", temperature=0, max_new_tokens=6))
    for system in ("Be kind.", "Be short.", None):
        conversation.system = system
        given = [] if system is None else [{"role": "system", "content": system}]
        assert conversation.messages[: len(given)] == given
        assert [message["role"] for message in conversation.messages[len(given) :]][:2] == [
            "user",
            "assistant",
        ]
        prompt = prompt_of(tokenizer, [*conversation.messages, {"role": "user", "content": "no"}])
        wanted = by_hand(model._model, prompt, None, 6)
        assert ids_of(conversation.say("no", temperature=0, max_new_tokens=6)) == wanted
        assert conversation.system == system


def test_an_answer_that_ended_is_continued_without_its_end(talking: Any) -> None:
    model, tokenizer = talking(CHATML, Scripted)
    end = next(iter(model.end_ids))
    model.script = (*tokenizer.encode("ab"), end, *tokenizer.encode("cd"), end)
    conversation = Conversation(model, tokenizer)
    list(conversation.say("Hi", max_new_tokens=9))
    list(conversation.continue_answer(max_new_tokens=9))
    assert conversation.messages[-1]["content"] == "abcd"
