"""A conversation: the answers are those of reading everything anew, and nothing is read twice."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import conftest
import conversations
import numpy as np
import pytest
import tokenizers
from conversations import (
    CHATML,
    MESSAGES,
    RECURRENCE,
    REWRITING,
    SETTINGS,
    Counted,
    Scripted,
    ScriptedUnbending,
    Unbending,
    by_hand,
    common,
    prompt_of,
    stream,
    turn,
)
from tokenizers import decoders, normalizers
from tokenizers.models import BPE
from transformers import GraniteMoeHybridForCausalLM

import tinystar_np as ts
from tinystar_np.errors import ContextFullError, InputError, TokenizerError
from tinystar_np.generation import Conversation
from tinystar_np.generation import loop as generation_loop
from tinystar_np.generation import scheduler

talking = conversations.talking
_a_context_for_a_conversation = conversations._a_context_for_a_conversation


@pytest.mark.parametrize("system", [None, "Be kind."])
@pytest.mark.parametrize("template", [CHATML, REWRITING], ids=["adding", "rewriting"])
@pytest.mark.parametrize("kind", [Counted, Unbending])
def test_each_answer_is_that_to_the_whole_conversation(
    talking: Any, kind: type[Counted], template: str, system: str | None
) -> None:
    model, tokenizer = talking(template, kind)
    plain = model._model
    conversation = Conversation(model, tokenizer, system)
    messages = [] if system is None else [{"role": "system", "content": system}]
    answers, rng = set(), stream()
    for text in MESSAGES:
        messages.append({"role": "user", "content": text})
        wanted = by_hand(plain, prompt_of(tokenizer, messages), rng)
        pieces = list(conversation.say(text, **SETTINGS))
        assert [piece.token_id for piece in pieces] == wanted
        answer = "".join(piece.text for piece in pieces)
        assert answer == tokenizer.decode(wanted)
        messages.append({"role": "assistant", "content": answer})
        assert conversation.messages == messages
        answers.add(answer)
    assert len(answers) == len(MESSAGES)


@pytest.mark.parametrize("template", [CHATML, REWRITING], ids=["adding", "rewriting"])
def test_only_what_is_new_is_read(talking: Any, template: str) -> None:
    model, tokenizer = talking(template)
    conversation = Conversation(model, tokenizer)
    held: list[int] = []
    for text in MESSAGES:
        prompt = prompt_of(tokenizer, [*conversation.messages, {"role": "user", "content": text}])
        model.read.clear()
        new_ids = [piece.token_id for piece in conversation.say(text, **SETTINGS)]
        # Each token of the answer but the last is read once, when the next one is chosen.
        assert model.read == [len(prompt) - common(held, prompt), *[1] * (len(new_ids) - 1)]
        held = prompt + new_ids[:-1]
    assert model.read[0] < len(prompt) / 2


def test_a_state_that_cannot_be_cut_reads_the_last_answer_again(talking: Any) -> None:
    model, tokenizer = talking(REWRITING, Unbending)
    conversation = Conversation(model, tokenizer)
    kept = 0
    for index, text in enumerate(MESSAGES):
        messages = [*conversation.messages, {"role": "user", "content": text}]
        prompt = prompt_of(tokenizer, messages)
        model.read.clear()
        pieces = list(conversation.say(text, **SETTINGS))
        read = sum(model.read) - (len(pieces) - 1)
        assert read == len(prompt) - kept
        kept = len(prompt) - len("[a]<")  # a copy stands where the user's message ends
        assert len(conversation.read.copies) == min(index + 1, 2)
    assert 0 < read < len(prompt) / 2


def test_an_answer_that_is_left_is_kept_as_far_as_it_came(talking: Any) -> None:
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer)
    pieces = conversation.say("Hi", **SETTINGS)
    heard = "".join(next(pieces).text for _ in range(6))
    pieces.close()
    assert heard
    assert conversation.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": heard},
    ]
    prompt = prompt_of(tokenizer, [*conversation.messages, {"role": "user", "content": "go on"}])
    wanted = by_hand(model._model, prompt, deepcopy(conversation.rng))
    model.read.clear()
    assert [piece.token_id for piece in conversation.say("go on", **SETTINGS)] == wanted
    assert model.read[0] < len(prompt) - 5


@pytest.mark.parametrize(("kind", "template"), [(Counted, CHATML), (Unbending, REWRITING)])
@pytest.mark.parametrize("call", range(8))
def test_interrupted_anywhere_the_conversation_goes_on(
    talking: Any, kind: type[Counted], template: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C within the model: in the prompt, which is read in pieces, or in the answer."""
    monkeypatch.setattr(generation_loop, "PREFILL", 4)
    monkeypatch.setattr(scheduler, "PREFILL", 4)
    model, tokenizer = talking(template, kind)
    conversation = Conversation(model, tokenizer)
    list(conversation.say("Hi", **SETTINGS))
    before = list(conversation.messages)
    model.read.clear()
    model.interrupt_at = call
    heard = ""
    try:
        for piece in conversation.say("a longer message", **SETTINGS):
            heard += piece.text
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("it was not interrupted")
    if heard:
        before += turn("a longer message", heard)
    assert conversation.messages == before
    prompt = prompt_of(tokenizer, [*before, {"role": "user", "content": "and now"}])
    wanted = by_hand(model._model, prompt, deepcopy(conversation.rng))
    assert [piece.token_id for piece in conversation.say("and now", **SETTINGS)] == wanted


def test_a_prompt_that_is_held_already_reads_its_last_token(talking: Any) -> None:
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer)
    conversation.say("Hi", **SETTINGS).close()  # never begun: nothing is read or said
    assert (model.read, conversation.messages) == ([], [])
    prompt = prompt_of(tokenizer, [{"role": "user", "content": "Hi"}])
    conversation.read.hold(prompt, model.new_cache())
    model(np.array([prompt]), cache=conversation.read.cache)
    model.read.clear()
    wanted = by_hand(model._model, prompt, stream())
    assert [piece.token_id for piece in conversation.say("Hi", **SETTINGS)] == wanted
    assert model.read == [1] * len(wanted)


def test_reset(talking: Any) -> None:
    model, tokenizer = talking()
    conversation = Conversation(model, tokenizer, system="Be kind.")
    first = [piece.token_id for piece in conversation.say("Hi", **SETTINGS)]
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "Be kind."}]
    assert [piece.token_id for piece in conversation.say("Hi", **SETTINGS)] == first
    assert conversation.read.copies == []


def test_a_state_that_cannot_be_cut_goes_on_where_nothing_is_rewritten(talking: Any) -> None:
    model, tokenizer = talking(CHATML, ScriptedUnbending)
    model.script = tuple(tokenizer.encode("yes, "))
    conversation = Conversation(model, tokenizer)
    held = 0
    for count, text in enumerate(MESSAGES, 1):
        prompt = prompt_of(tokenizer, [*conversation.messages, {"role": "user", "content": text}])
        model.read.clear()
        new_ids = [piece.token_id for piece in conversation.say(text, max_new_tokens=7)]
        assert sum(model.read) == len(prompt) - held + len(new_ids) - 1
        held = len(prompt) + len(new_ids) - 1
        assert model.copies == count  # each turn makes one, and none was needed


def test_an_answer_ends_where_the_model_or_the_tokenizer_says(talking: Any, talking_model: Path) -> None:
    (talking_model / "tokenizer_config.json").write_text('{"eos_token": "!"}')
    model, tokenizer = talking(CHATML, Scripted)
    letters = tokenizer.encode("ok!?")
    for end_ids, said in (((256,), "ok"), ((letters[0],), ""), ((), "ok")):
        model.script, model.end_ids, model.read = tuple(letters), end_ids, []
        conversation = Conversation(model, tokenizer)
        pieces = list(conversation.say("Hello", max_new_tokens=20))
        assert "".join(piece.text for piece in pieces) == said
        assert pieces[-1].finish_reason == "end"
        assert conversation.messages[-1] == {"role": "assistant", "content": said}


def test_an_answer_is_a_text_of_its_own(talking: Any, talking_model: Path) -> None:
    """Its first word has no space in front, though it follows others in the prompt."""
    words = {word: id for id, word in enumerate(["<unk>", "▁", "▁yes", "▁no", "u", "a", ":"])}
    backend = tokenizers.Tokenizer(BPE(words, [], unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.save(str(talking_model / "tokenizer.json"))
    model, tokenizer = talking(CHATML, Scripted)
    model.script = (2, 3)
    conversation = Conversation(model, tokenizer)
    pieces = list(conversation.say("Yes or no?", max_new_tokens=3))
    assert [piece.text for piece in pieces] == ["yes", " no", " yes"]
    assert conversation.messages[-1]["content"] == "yes no yes"


def test_stop_texts_and_no_tokens(talking: Any) -> None:
    model, tokenizer = talking(CHATML, Scripted)
    model.script, model.end_ids = tuple(tokenizer.encode("one two")), ()
    conversation = Conversation(model, tokenizer)
    assert list(conversation.say("Hello", max_new_tokens=0)) == []
    assert conversation.messages == []
    pieces = list(conversation.say("Hello", stop="two"))
    assert "".join(piece.text for piece in pieces) == "one "
    assert conversation.messages[-1]["content"] == "one "


def test_a_stop_text_that_is_a_special_token(talking: Any, talking_model: Path) -> None:
    """As people set it for models whose end of text is another token than that of their template."""
    (talking_model / "tokenizer_config.json").write_text('{"eos_token": null}')  # else GPT-2's ends it
    model, tokenizer = talking(CHATML, Scripted)
    model.script, model.end_ids = tuple(tokenizer.encode("one\n<|endoftext|>two")), ()
    conversation = Conversation(model, tokenizer)
    for said, stop in (("one\n", "<|endoftext|>"), ("one", "\n<|endoftext|>")):
        model.read = []
        pieces = list(conversation.say("Hello", stop=stop, max_new_tokens=30))
        assert ("".join(piece.text for piece in pieces), pieces[-1].finish_reason) == (said, "stop")
        assert conversation.messages[-1]["content"] == said


def test_what_cannot_be(talking: Any, talking_model: Path) -> None:
    model, tokenizer = talking()
    with pytest.raises(TokenizerError, match="no tokenizer files"):
        Conversation(model, None)
    conversation = Conversation(model, tokenizer)
    with pytest.raises(InputError, match="temperature is -1"):
        conversation.say("Hi", temperature=-1)
    with pytest.raises(ContextFullError, match=r"conversation has 4\d\d tokens, but its context holds 400"):
        conversation.say("a" * 430)
    assert conversation.messages == []
    assert list(conversation.say("Hi", max_new_tokens=2))  # it goes on after an error
    (talking_model / "chat_template.jinja").unlink()
    with pytest.raises(TokenizerError, match=r"no chat template(.|\n)*tinystar ask"):
        Conversation(model, ts.load(talking_model)[1])


def test_with_a_real_recurrence(talking_model: Path) -> None:
    """Mamba2 and attention in one model: the state goes back to its copy, and answers stay the same."""
    reference = GraniteMoeHybridForCausalLM(RECURRENCE)
    conftest.randomise(reference)
    reference.save_pretrained(talking_model)
    (talking_model / "chat_template.jinja").write_text(REWRITING, encoding="utf-8")
    model, tokenizer = ts.load(talking_model)
    assert tokenizer is not None
    counted = Counted(model)
    conversation, rng = Conversation(counted, tokenizer), stream()
    for text in MESSAGES:
        prompt = prompt_of(tokenizer, [*conversation.messages, {"role": "user", "content": text}])
        wanted = by_hand(model, prompt, rng)
        counted.read.clear()
        assert [piece.token_id for piece in conversation.say(text, **SETTINGS)] == wanted
    assert sum(counted.read) - len(wanted) + 1 < len(prompt) / 2
