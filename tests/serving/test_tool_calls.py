"""Calls of tools in answers, in the forms of the families: the same however the answer comes in pieces."""

import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tool_templates import ANSWERS, BERN, CALL, EXAMPLES, HERMES, ONE, OTHER, WEATHER, ZURICH, Answer

from tinystar_np.errors import InputError
from tinystar_np.generation.loop import Piece, Row
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.serving.tool_calls import (
    ToolCall,
    ToolCallReader,
    as_openai,
    family_for_tools,
    family_of,
    tool_variables,
)
from tinystar_np.serving.tool_families import FAMILIES, ToolFamily
from tinystar_np.serving.tool_json import json_calls
from tinystar_np.text import ChatTemplate, Tokenizer

FILE = Path("chat_template.jinja")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": "Rain?"}


def template_of(name: str) -> ChatTemplate:
    return ChatTemplate(EXAMPLES[name].template, TOKENS, FILE)


def family(name: str) -> ToolFamily:
    found = family_of(EXAMPLES[name].template)
    assert found is not None
    return found


def read(
    name: str, pieces: Iterable[str], names: Sequence[str] = ("weather",), **settings: Any
) -> tuple[str, list[ToolCall]]:
    reader = ToolCallReader(family(name), names, **settings)
    content, calls = "", []
    for piece in pieces:
        more, new = reader.push(piece)
        content, calls = content + more, calls + new
    more, new = reader.flush()
    assert reader.calls == len(calls + new)
    return content + more, calls + new


def arguments(calls: Sequence[ToolCall]) -> list[str]:
    assert [call.index for call in calls] == list(range(len(calls)))
    assert len({call.id for call in calls}) == len(calls)
    return [call.arguments for call in calls]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_template_shows_its_family(name: str) -> None:
    assert family(name).name == EXAMPLES[name].family
    assert family_for_tools(template_of(name)).name == EXAMPLES[name].family
    text = template_of(name).render([USER], **tool_variables([WEATHER]))
    assert "The weather of a city." in text


def test_the_template_for_tools_is_the_one_that_counts() -> None:
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    both = ChatTemplate({"default": plain, "tool_use": HERMES}, TOKENS, FILE)
    assert family_for_tools(both).name == "Hermes and Qwen"
    assert family_of(ChatTemplate({"default": plain, "rag": HERMES}, TOKENS, FILE)) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "takes no tools"),
        # The templates of DeepSeek-R1's distillates write calls, but no tools.
        ("{{ messages[0].content }}<｜tool▁call▁begin｜>", "takes no tools"),
        ("{{ tools | tojson }}", "form of its calls is not known here.$"),
        ("{{ tools | tojson }}<|start|>assistant<|channel|>", "not known here: the channels of gpt-oss"),
        ("{{ tools | tojson }}<tool_call>\n<function=name>", "not known here: .*Qwen3-Coder"),
        ("{{ tools | tojson }}<tool_call>name\n<arg_key>", "not known here: .*GLM"),
    ],
)
def test_templates_without_tools_or_of_unknown_form(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        family_for_tools(ChatTemplate(source, TOKENS, FILE))


def test_no_mark_begins_another() -> None:
    for each in FAMILIES:
        for mark in each.opening:
            assert not any(other.startswith(mark) for other in each.opening if other != mark)


@pytest.mark.parametrize("answer", ANSWERS)
def test_calls_and_content(answer: Answer) -> None:
    name, text, content, wanted = answer
    found, calls = read(name, [text])
    assert (found, arguments(calls)) == (content, wanted)
    assert all(call.name == "weather" for call in calls)
    assert calls or found == text


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_same_however_it_is_cut(answer: Answer) -> None:
    name, text, content, wanted = answer
    rng = random.Random(text)
    cuts = [[i] for i in range(len(text) + 1)]
    cuts += [sorted(rng.choices(range(len(text) + 1), k=rng.randint(2, 12))) for _ in range(40)]
    cuts.append(list(range(len(text))))  # character by character
    for places in cuts:
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        found, calls = read(name, pieces)
        assert (found, arguments(calls)) == (content, wanted), pieces


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_however_it_is_cut_when_random_and_damaged(name: str) -> None:
    rng = random.Random(name)
    marks = [*sorted(family(name).marks), "<think>", "</think>", ONE, OTHER, BERN, "weather"]
    for _ in range(400):
        parts = rng.choices(
            [*marks, " ", "\n", "a", "{", "[", "}", "]", '"', ",", ";", ":", "é", "```json\n"], k=9
        )
        text = "".join(part[: rng.randint(1, len(part))] if rng.random() < 0.3 else part for part in parts)
        whole = read(name, [text])
        places = sorted(rng.choices(range(len(text) + 1), k=4))
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        for cut in (pieces, list(text)):
            content, calls = read(name, cut)
            assert content == whole[0], cut
            assert arguments(calls) == arguments(whole[1]), cut
        if not whole[1]:
            assert whole[0] == text


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_template_writes_is_read(name: str) -> None:
    """The calls of an earlier turn, as the template writes them, are those that were given to it."""
    example, template = EXAMPLES[name], template_of(name)
    given = [
        ("weather", BERN),
        ("weather", ZURICH),
        ("f-2", '{"x": {"y": [1, 2.5, null, "\\"}]</tool_call>"]}}'),
    ]
    for content in (None, "I look.") if example.with_content else (None,):
        for several in (given, given[:1]) if example.several else (given[:1], given[2:]):
            ids = [f"{i:09d}" for i in range(len(several))]
            calls = [
                {"id": id, "type": "function", "function": {"name": called, "arguments": text}}
                for id, (called, text) in zip(ids, several, strict=True)
            ]
            turn = [USER, {"role": "assistant", "content": content, "tool_calls": calls}]
            asked = template.render([USER], **tool_variables([WEATHER]))
            written = template.render(turn, add_generation_prompt=False, **tool_variables([WEATHER]))
            start = re.escape(asked.rstrip("\n"))
            match = re.fullmatch(rf"{start}(.*){re.escape(example.end)}", written, re.DOTALL)
            assert match is not None
            found, read_back = read(name, list(match[1]), names=("weather", "f-2"))
            assert found.strip() == (content or "")
            assert [(call.name, json.loads(call.arguments)) for call in read_back] == [
                (called, json.loads(text)) for called, text in several
            ]
            # And the ids that are made here are such as the template takes, with results.
            named = [{**call, "id": new.id} for call, new in zip(calls, read_back, strict=True)]
            results = [{"role": "tool", "tool_call_id": call["id"], "content": "Sun."} for call in named]
            turn = [USER, {"role": "assistant", "content": content, "tool_calls": named}, *results]
            text = template.render(turn, **tool_variables([WEATHER]))
            assert text.count("Sun.") == len(several)


def test_content_comes_as_soon_as_it_cannot_be_a_mark() -> None:
    reader = ToolCallReader(family("Qwen3"))
    texts = ["Hi", " there", "\n", "<", "tool", "box", "<tool_", "call", ">", ONE[:-1]]
    contents = [reader.push(text).content for text in texts]
    assert contents == ["Hi", " there", "", "", "", "\n<toolbox", "", "", "", ""]
    content, (call,) = reader.push("}")  # complete: it does not wait for the closing mark
    assert (content, call.index, call.name, call.arguments) == ("", 0, "weather", BERN)
    assert reader.push("</tool_call>") == reader.flush() == ("", [])


def test_what_cannot_become_a_call_is_not_kept_back() -> None:
    for name, text in (
        ("Qwen3", "<tool_call> and"),
        ("Qwen3", '<tool_call>{"a": word, and more'),
        ("Llama 3.1", "{x | x > 0} is a set"),
        ("Llama 3.1", '{"answer": 42} is'),
        ("Ministral 3", "[TOOL_CALLS]" + 400 * "x"),
        ("DeepSeek-V3", CALL + 400 * "x"),
    ):
        reader = ToolCallReader(family(name))
        assert "".join(reader.push(letter).content for letter in text) == text


def test_one_call_alone() -> None:
    text = f"A <tool_call>{ONE}</tool_call>\n<tool_call>{OTHER}</tool_call> more"
    for pieces in ([text], list(text)):
        content, calls = read("Qwen3", pieces, parallel=False)
        assert (content, arguments(calls)) == ("A", [BERN])
    content, calls = read("Granite 3", [f"<|tool_call|>[{ONE}, {OTHER}]"], parallel=False)
    assert (content, arguments(calls)) == ("", [BERN])
    reader = ToolCallReader(family("Qwen3"), parallel=False)
    reader.push(f"<tool_call>{ONE[:-1]}")
    assert not reader.done
    reader.push("}")
    assert reader.done


def test_as_openai_writes_calls() -> None:
    _, calls = read("Qwen3", [f"<tool_call>{ONE}</tool_call><tool_call>{OTHER}</tool_call>"])
    message = as_openai(calls)
    assert message[1] == {
        "id": calls[1].id,
        "type": "function",
        "function": {"name": "weather", "arguments": ZURICH},
    }
    assert as_openai(calls, stream=True) == [{"index": i, **each} for i, each in enumerate(message)]
    assert all(re.fullmatch("call_[0-9a-f]{24}", call.id) for call in calls)
    _, calls = read("Mistral 7B", [f"[TOOL_CALLS][{ONE}]"])
    assert re.fullmatch("[A-Za-z0-9]{9}", calls[0].id)


def test_every_text_of_a_call_can_be_sent() -> None:
    _, calls = read("Qwen3", ['<tool_call>{"name": "weather", "arguments": {"a": "\\ud800"}}</tool_call>'])
    assert json.loads(arguments(calls)[0]) == {"a": "\ud800"}
    arguments(calls)[0].encode()
    half = '<tool_call>{"name": "\\udfff", "arguments": {}}</tool_call>'
    assert read("Qwen3", [half]) == (half, [])
    deep = "<tool_call>" + '{"name": "f", "arguments": {"a": ' + "[" * 100_000
    assert read("Qwen3", [deep]) == (deep, [])
    digits = '<tool_call>{"name": "f", "arguments": {"a": ' + "1" * 5000 + "}}"
    assert read("Qwen3", [digits]) == (digits, [])


LETTERS = ["a", "é", "\\n", '\\"', "\\u00e9", "\\ud83d\\ude00", "{", "]", "\\\\"]
VALUES = ["true", "false", "null", "0", "-1", "12.5", "-3.25e-10", "123456789012345678901234567890"]


def random_json(rng: random.Random, depth: int = 0) -> str:
    """Write a random JSON value, with white space where it may stand."""
    space = "".join(rng.choices(" \n\t", k=rng.choice([0, 0, 0, 1, 20])))
    kind = rng.choice(["object", "list", "text", "other"] if depth < 3 else ["text", "other"])
    if kind == "text":
        value = f'"{"".join(rng.choices(LETTERS, k=5))}"'
    elif kind == "other":
        value = rng.choice(VALUES)
    else:
        inner = [random_json(rng, depth + 1) for _ in range(rng.randint(0, 3))]
        if kind == "object":
            inner = [f'{space}"k{i}"{space}:{each}' for i, each in enumerate(inner)]
        first, last = "{}" if kind == "object" else "[]"
        value = first + ",".join(inner) + space + last
    return space + value + space


def test_no_beginning_of_a_call_is_given_up() -> None:
    rng = random.Random(5)
    for _ in range(150):
        text = f' {{"name": "f", "arguments": {{"x":{random_json(rng)}}}}}'
        for end in range(len(text)):
            assert json_calls(text[:end]) is None, text[:end]
        found = json_calls(text + " and more")
        assert found is not None
        assert found.end == len(text)
        assert json.loads(found.calls[0].arguments) == json.loads(text)["arguments"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """One of bytes, in which the marks are special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    marks = ["</s>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<other>"]
    backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    return Tokenizer(backend, tmp_path)


def generated(tokenizer: Tokenizer, text: str, stop: Sequence[str] = ()) -> list[Piece]:
    """Generate a text's tokens, one by one, as the engine does."""
    end = tokenizer.encode("</s>")[0]
    options = SamplingOptions(temperature=0.0, max_new_tokens=1000, stop=list(stop))
    row = Row(0, tokenizer.encode("Rain?"), tokenizer, options, [end], None)
    pieces = []
    for id in tokenizer.encode(text + "</s>"):
        pieces.append(row.step(np.eye(261, dtype=np.float32)[id]))
        if pieces[-1].finish_reason:
            break
    return pieces


NEW = f"[TOOL_CALLS]weather[ARGS]{BERN}"


@pytest.mark.parametrize(
    ("name", "text", "stop", "content", "wanted"),
    [
        ("Ministral 3", f"Yes é.{NEW}{NEW}", [], "Yes é.", [BERN, BERN]),
        ("Mistral 7B", f"[TOOL_CALLS] [{ONE}]", [], "", [BERN]),
        ("Llama 3.1", f"<|python_tag|>{ONE}", [], "", [BERN]),
        # A stop string keeps text back that came before a mark.
        ("Ministral 3", f"Yes!{NEW}", ["!!", "!w"], "Yes!", [BERN]),
        ("Ministral 3", f"Yes!<other>{NEW}", ["!!", "r[AR"], "Yes![TOOL_CALLS]weathe", []),
        ("Ministral 3", f"Yes!!{NEW}", ["!!"], "Yes", []),
        ("Ministral 3", "Yes[TOOL_CALLS]", [], "Yes[TOOL_CALLS]", []),
    ],
)
def test_marks_that_are_special_tokens(
    name: str, text: str, stop: list[str], content: str, wanted: list[str], tokenizer: Tokenizer
) -> None:
    pieces = generated(tokenizer, text, stop)
    assert not any("[" in piece.text and "TOOL" in piece.text for piece in pieces)
    reader = ToolCallReader(family(name), ["weather"], tokenizer, after=tokenizer.encode("Rain?"))
    found, calls = "", []
    for piece in pieces:
        more, new = reader.push(piece.text, piece.token_id)
        found, calls = found + more, calls + new
    more, new = reader.flush()
    assert (found + more, arguments(calls + new)) == (content, wanted)


def test_a_prompt_that_ends_within_reasoning(tokenizer: Tokenizer) -> None:
    text = f"Perhaps <tool_call>{ONE}</tool_call>\n</think>\n<tool_call>{OTHER}</tool_call>"
    for pieces in ([text], list(text)):
        for end in ("<think>", "<think>\n"):
            after = tokenizer.encode(f"Rain?{end}")
            content, calls = read("Qwen3", pieces, tokenizer=tokenizer, after=after)
            assert content == f"Perhaps <tool_call>{ONE}</tool_call>\n</think>"
            assert arguments(calls) == [ZURICH]
        content, calls = read("Qwen3", pieces, tokenizer=tokenizer, after=tokenizer.encode("<think></think>"))
        assert arguments(calls) == [BERN, ZURICH]
