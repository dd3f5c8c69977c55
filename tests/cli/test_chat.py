"""`tinystar chat` as a person uses it: from a pipe, and at a terminal with Ctrl-C and Ctrl-D."""

import io
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from terminals import Terminal

import tinystar_np as ts
from tinystar_np.cli.main import tinystar
from tinystar_np.generation import Conversation

TEMPLATE = """\
{%- for message in messages -%}
{{ message.role[0] }}:{{ message.content }};
{%- endfor -%}
{%- if add_generation_prompt %}a:{% endif %}"""
GREEDY = ["--temperature", "0", "-n", "8", "-q"]


@pytest.fixture
def chatting_model(talking_model: Path) -> Path:
    """A small model that speaks in bytes, with a context of 96 of them, and a template."""
    (talking_model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return talking_model


def feed(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def answers(directory: Path, *messages: str, system: str | None = None, **settings: Any) -> str:
    conversation = Conversation(*ts.load(directory), system=system)
    settings = {"temperature": 0, "max_new_tokens": 8, **settings}
    said = ["".join(piece.text for piece in conversation.say(text, **settings)) for text in messages]
    return "".join(f"{answer}\n" for answer in said)


def test_lines_from_a_pipe_are_turns(
    chatting_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = answers(chatting_model, "Hello", "and 日本?")
    assert wanted != answers(chatting_model, "Hello") + answers(chatting_model, "and 日本?")
    for text in ("Hello\n\n  \n and 日本? \r\n", "Hello\nand 日本?", "Hello\nand 日本?\n/exit\nnot read\n"):
        feed(monkeypatch, text)
        assert tinystar(["chat", "-m", str(chatting_model), *GREEDY]) == 0
        assert capsys.readouterr() == (wanted, "")


def test_reset_begins_anew(chatting_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "Hello\n/reset\nHello\n")
    assert tinystar(["chat", "-m", str(chatting_model), *GREEDY]) == 0
    assert capsys.readouterr().out == 2 * answers(chatting_model, "Hello")


def test_system_message_and_settings(
    chatting_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"temperature": 2.0, "seed": 5, "top_k": 0, "top_p": 0.9, "max_new_tokens": 10}
    wanted = answers(chatting_model, "a", "b", system="Short!", **settings)
    assert wanted != answers(chatting_model, "a", "b", **settings)
    feed(monkeypatch, "a\nb\n")
    flags = ["--temp", "2", "--seed", "5", "--top-k", "0", "--top-p", "0.9", "-n", "10", "-q"]
    assert tinystar(["chat", "-m", str(chatting_model), "--system", "Short!", *flags]) == 0
    assert capsys.readouterr().out == wanted


def test_notes_say_why_an_answer_ended(
    chatting_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "Hello\n")
    assert tinystar(["chat", "-m", str(chatting_model), "--temperature", "0", "-n", "8"]) == 0
    assert "Cut off after 8 tokens" in capsys.readouterr().err
    feed(monkeypatch, "Hello\n")
    assert tinystar(["chat", "-m", str(chatting_model), "--temperature", "0", "-n", "500"]) == 0
    assert "context is full" in capsys.readouterr().err


def test_a_model_without_a_template(
    talking_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "Hello\n")
    assert tinystar(["chat", "-m", str(talking_model)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no chat template" in err
    assert "tinystar ask" in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"Hello\nabc\xff\n", "not UTF-8 \\(byte 3\\)"),
        ("x" * 100, "conversation has 10. tokens, but its context holds 96"),
    ],
)
def test_a_failure_in_a_pipe_ends_it(
    text: str | bytes, message: str, chatting_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    feed(monkeypatch, text)
    assert tinystar(["chat", "-m", str(chatting_model), *GREEDY]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert re.search(message, err)


def test_usage(capsys: Any) -> None:
    assert tinystar(["chat", "-m", "stories", "--temperature", "-1"]) == 2
    assert "temperature is -1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tinystar(["chat", "--help"])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("/reset", "/exit", "Ctrl-C", "Ctrl-D", "--system"))


SLOW = (  # from the second answer on: a person could stop it
    "import itertools, sys, time, tinystar_np.models.gpt2 as g; from tinystar_np.cli.main import tinystar;"
    "plain, calls = g.GPT2.__call__, itertools.count();"
    "wait = lambda: next(calls) > 11 and time.sleep(0.4);"
    "g.GPT2.__call__ = lambda *a, **k: (wait(), plain(*a, **k))[1]; sys.exit(tinystar())"
)


@pytest.fixture
def terminal(chatting_model: Path) -> Iterator[Terminal]:
    arguments = ("chat", "-m", str(chatting_model), "--temperature", "0", "-n", "12")
    made = Terminal(*arguments, program=SLOW, environment={"TERM": "dumb"})
    yield made
    made.close()


def test_a_conversation_at_a_terminal(terminal: Terminal) -> None:
    """Two turns; the second is stopped by Ctrl-C; an empty one; Ctrl-D ends."""
    place = terminal.wait_for("> ")
    terminal.type("Hi\n")
    place = terminal.wait_for("Cut off after 12 tokens", place)
    place = terminal.wait_for("> ", place)
    terminal.type("go on\n")
    place = terminal.wait_for("go on\r\n", place)
    time.sleep(1)  # some tokens of the answer, of twelve that take 5 s
    terminal.type("\x03")
    place = terminal.wait_for("> ", place)
    assert "Cut off" not in terminal.shown[terminal.shown.index("go on") :]
    terminal.type("\n/reset\n")
    place = terminal.wait_for("A new conversation.", place)
    place = terminal.wait_for("> ", place)
    terminal.type("\x04")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_ctrl_c_where_one_types_ends(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    # Python overlooks a signal between readline's prompt and its waiting until the next; people are slower.
    for _ in range(30):
        terminal.type("\x03")
        with suppress(subprocess.TimeoutExpired):
            terminal.process.wait(timeout=1)
            break
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_a_failure_at_a_terminal_does_not_end_the_conversation(terminal: Terminal) -> None:
    place = terminal.wait_for("> ")
    terminal.type("x" * 100 + "\n")
    place = terminal.wait_for("its context holds 96", place)
    place = terminal.wait_for("/reset begins", place)
    terminal.wait_for("> ", place)
    terminal.type("/exit\n")
    assert terminal.end() == 0
