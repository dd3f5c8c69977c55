"""A conversation that fills its context: it stops, or goes on exactly as the shorter conversation does."""

from pathlib import Path
from typing import Any

import conftest
import conversations
import numpy as np
import pytest
from conversations import CHATML, RECURRENCE, REWRITING, Counted, Unbending, prompt_of, stream
from transformers import AutoModelForCausalLM, Gemma3TextConfig

import tinystar_np as ts
from tinystar_np.errors import ContextFullError, InputError
from tinystar_np.generation import Conversation, SamplingOptions, sample
from tinystar_np.generation.full_context import Shift

talking = conversations.talking
_a_context_for_a_conversation = conversations._a_context_for_a_conversation

CONTEXT = 90
TEXTS = ["Hi", "and then?", "日本?", "no", "a little longer", "yes"]


class Reference:
    """A conversation by hand: the model reads everything anew for each token, and random numbers go on."""

    def __init__(self, model: Any, tokenizer: Any, system: str | None, **sampling: float) -> None:
        self.options = SamplingOptions(**sampling)  # type: ignore[arg-type]
        self.model, self.tokenizer, self.rng = model, tokenizer, stream()
        self.system = [] if system is None else [{"role": "system", "content": system}]
        self.turns: list[list[dict[str, str]]] = []
        self.shifts: list[tuple[int, int]] = []  # messages, tokens

    def prompt(self) -> list[int]:
        return prompt_of(self.tokenizer, self.system + [message for turn in self.turns for message in turn])

    def fit(self, answer: list[int]) -> list[int]:
        """Leave out oldest turns if the context is full, until a quarter of it is free."""
        ids = self.prompt() + answer
        if len(ids) <= CONTEXT:
            return ids
        messages = 0
        while len(self.turns) > 1 and len(self.prompt() + answer) > CONTEXT - CONTEXT // 4:
            messages += len(self.turns.pop(0))
        if messages:
            self.shifts.append((messages, len(ids) - len(self.prompt() + answer)))
        return self.prompt() + answer

    def say(self, text: str, count: int) -> list[int]:
        self.turns.append([{"role": "user", "content": text}])
        answer: list[int] = []
        while len(answer) < count:
            ids = self.fit(answer)
            if len(ids) > CONTEXT:
                break
            logits = self.model(np.array(ids), last_only=True)[-1]
            answer.append(sample(logits, ids, self.options, self.rng, generated=answer))
            if answer[-1] in self.model.end_ids:
                break
        self.turns[-1].append({"role": "assistant", "content": self.tokenizer.decode(answer)})
        return answer


@pytest.mark.parametrize(
    ("kind", "template", "system", "hard", "sampling"),
    [
        (Counted, CHATML, None, False, {}),
        (Counted, CHATML, None, False, {"frequency_penalty": 2.0, "presence_penalty": -1.0}),
        (Counted, REWRITING, "Be kind.", True, {"presence_penalty": 2.0}),
        (Unbending, CHATML, "Be kind.", False, {}),
        (Unbending, REWRITING, None, True, {}),
    ],
)
def test_after_a_shift_the_answer_is_that_to_the_shorter_conversation(
    request: Any,
    kind: type[Counted],
    template: str,
    system: str | None,
    hard: bool,
    sampling: dict[str, Any],
    monkeypatch: Any,
) -> None:
    """Both between two answers and within one, for a limit of the user's and for one of the model's."""
    load = request.getfixturevalue("talking") if not hard else _with_positions(request, monkeypatch)
    model, tokenizer = load(template, kind)
    reference = Reference(model._model, tokenizer, system, **sampling)
    shifts: list[Shift] = []
    conversation = Conversation(
        *(model, tokenizer, system),
        context=None if hard else CONTEXT,
        when_full="shift",
        on_shift=shifts.append,
    )
    within = 0
    for text in TEXTS:
        before = len(shifts)
        pieces = []
        for piece in conversation.say(text, max_new_tokens=20, seed=3, **sampling):
            pieces.append(piece)
            within += len(shifts) > before and len(pieces) > 1
            assert conversation.read.cache is not None
            assert conversation.read.cache.lengths[0] <= CONTEXT
        assert [piece.token_id for piece in pieces] == reference.say(text, 20)
        assert all(piece.finish_reason is None for piece in pieces[:-1])
        assert "".join(piece.text for piece in pieces) == reference.turns[-1][-1]["content"]
    assert [(shift.messages, shift.tokens) for shift in shifts] == reference.shifts
    assert len(shifts) > 2
    assert within
    assert conversation.left_out == sum(shift.messages for shift in shifts)
    asked = [message["content"] for message in conversation.messages if message["role"] == "user"]
    assert asked == TEXTS  # nothing is lost of the conversation itself
    assert conversation.system == system
    assert conversation.tokens <= CONTEXT + 1


def _with_positions(request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    request.getfixturevalue("_a_context_for_a_conversation")
    monkeypatch.setitem(conftest.SMALL_GPT2, "n_positions", CONTEXT)
    return request.getfixturevalue("talking")


WINDOW = Gemma3TextConfig(
    vocab_size=257,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    sliding_window=16,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    eos_token_id=256,
)


@pytest.mark.parametrize("config", [WINDOW, RECURRENCE], ids=["window", "recurrence"])
@pytest.mark.parametrize("template", [CHATML, REWRITING], ids=["adding", "rewriting"])
def test_states_that_cannot_be_cut(config: Any, template: str, talking_model: Path) -> None:
    """Windows that let go of their beginning, and recurrences, which mix everything into one state."""
    reference = AutoModelForCausalLM.from_config(config)
    conftest.randomise(reference)
    reference.save_pretrained(talking_model)
    (talking_model / "chat_template.jinja").write_text(template, encoding="utf-8")
    model, tokenizer = ts.load(talking_model)
    by_hand = Reference(model, tokenizer, "Be kind.")
    shifts: list[Shift] = []
    conversation = Conversation(
        *(model, tokenizer, "Be kind."), context=CONTEXT, when_full="shift", on_shift=shifts.append
    )
    for text in TEXTS:
        found = [piece.token_id for piece in conversation.say(text, max_new_tokens=20, seed=3)]
        assert found == by_hand.say(text, 20)
    assert len(shifts) == len(by_hand.shifts) > 1


def test_turns_that_were_left_out_come_back(talking: Any) -> None:
    """Where later ones are forgotten, the last that remains is answered, though it was left out before."""
    model, tokenizer = talking()
    conversation = Conversation(
        *(model, tokenizer, "Be kind."), context=CONTEXT, when_full="shift", on_shift=lambda shift: None
    )
    for text in TEXTS:
        list(conversation.say(text, max_new_tokens=20, seed=3))
    assert conversation.left_out > 2
    while len(conversation.messages) > 3:
        conversation.undo()
        left = conversation.messages[:1] + conversation.messages[1 + conversation.left_out :]
        assert conversation.tokens == len(prompt_of(tokenizer, left)) - len("[a]")
    assert conversation.left_out == 0
    prompt = prompt_of(tokenizer, conversation.messages[:2])
    found = [piece.token_id for piece in conversation.answer_again(max_new_tokens=5, temperature=0)]
    assert found == conversations.by_hand(model._model, prompt, None, 5)


def test_what_is_read_again_is_said(talking: Any) -> None:
    model, tokenizer = talking()
    told: list[tuple[Shift, int]] = []
    conversation = Conversation(
        *(model, tokenizer, "Be kind."),
        context=CONTEXT,
        when_full="shift",
        on_shift=lambda shift: told.append((shift, len(model.read))),
    )
    for text in TEXTS:
        list(conversation.say(text, max_new_tokens=20, seed=3))
    assert told
    for shift, call in told:
        assert model.read[call] == shift.again  # the next call reads just these
        assert str(shift.tokens) in str(shift)
        assert str(shift.again) in str(shift)


def test_it_is_never_silent(talking: Any) -> None:
    conversation = Conversation(*talking(), context=60, when_full="shift")
    list(conversation.say("Hello there", max_new_tokens=20, seed=3))
    with pytest.warns(UserWarning, match="2 oldest messages are left out"):
        list(conversation.say("and a longer message", max_new_tokens=20, seed=3))


def test_guesses_stop_at_the_context(talking: Any) -> None:
    """Prompt lookup reads several tokens at once, but none that has no place."""
    model, tokenizer = talking()
    answers = []
    for guesses in (0, 5):
        conversation = Conversation(
            *(model, tokenizer), context=CONTEXT, when_full="shift", on_shift=lambda shift: None
        )
        said = []
        for text in TEXTS:
            settings: dict[str, Any] = {"temperature": 0, "prompt_lookup_num_tokens": guesses}
            said += [p.token_id for p in conversation.say(text, max_new_tokens=60, **settings)]
            assert conversation.read.cache is not None
            assert conversation.read.cache.lengths[0] <= CONTEXT
        answers.append(said)
    assert answers[0] == answers[1]


def test_a_single_turn_that_fills_the_context(talking: Any) -> None:
    for when_full in ("stop", "shift"):
        model, tokenizer = talking()
        conversation = Conversation(model, tokenizer, context=40, when_full=when_full)  # type: ignore[arg-type]
        with pytest.raises(ContextFullError, match=r"conversation has 6\d tokens, but its context holds 40"):
            conversation.say("a" * 60)
        pieces = list(conversation.say("Hi", max_new_tokens=100, seed=3))
        assert pieces[-1].finish_reason == "context"
        assert conversation.tokens == 41  # the last one is never read
    conversation.when_full = "stop"
    with pytest.raises(ContextFullError, match="holds 40"):
        conversation.say("Hi")


def test_what_cannot_be(talking: Any) -> None:
    model, tokenizer = talking()
    for context in (0, -1, 401):
        with pytest.raises(InputError, match=f"context is {context}"):
            Conversation(model, tokenizer, context=context)
    with pytest.raises(InputError, match="when_full is 'slide'"):
        Conversation(model, tokenizer, when_full="slide")  # type: ignore[arg-type]
