"""`tinystar chat` at a terminal: pastes, keys, the history over sessions, and what the screen shows."""

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from terminals import TINYSTAR, Terminal

import tinystar_np as ts
from tinystar_np.cli.chat_history import MOST, History, history_file
from tinystar_np.generation import Conversation

TEMPLATE = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}a:"
PASTE, PASTED = "\x1b[200~", "\x1b[201~"
UP, CLEAR = "\x1b[A", "\x15"


@pytest.fixture
def directory(talking_model: Path) -> Path:
    (talking_model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return talking_model


@pytest.fixture
def start(directory: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Start a chat at a terminal, with a history of the test's own."""
    started = []

    def begin(*options: str, **how: Any) -> Terminal:
        environment = {
            "TINYSTAR_NP_HISTORY": str(tmp_path / "state" / "history"),
            **how.pop("environment", {}),
        }
        arguments = ("chat", "-m", str(directory), "--temperature", "0", "-n", "3", *options)
        terminal = Terminal(*arguments, environment=environment, **how)
        started.append(terminal)
        terminal.wait_for("> ")
        time.sleep(0.2)  # until readline listens
        return terminal

    yield begin
    for terminal in started:
        terminal.close()


def leave(terminal: Terminal) -> str:
    """Press Ctrl-D; returns all that was shown."""
    terminal.type("\x04")
    assert terminal.end() == 0
    return terminal.shown.replace("\r\n", "\n")


def saved(terminal: Terminal, file: Path) -> list[str]:
    """Save the conversation, end it, and return what was asked in it."""
    terminal.type(f"/save {file}\r")
    terminal.wait_for("> ", terminal.wait_for("Saved"))
    time.sleep(0.2)
    leave(terminal)
    messages = json.loads(file.read_text())["messages"]
    return [message["content"] for message in messages if message["role"] == "user"]


def say(terminal: Terminal, text: str) -> None:
    place = len(terminal.shown)
    terminal.type(text)
    terminal.wait_for("Cut off", place)
    terminal.wait_for("> ", place)
    time.sleep(0.1)


def test_the_greeting(start: Any) -> None:
    shown = leave(start())
    greeting = " ".join(shown.split(" \x1b")[0].split())
    assert "/model: float32, 102 K parameters, context of 96 tokens /help lists the commands" in greeting
    plain = leave(start(environment={"NO_COLOR": "1"}))
    assert "\x1b[2m" in shown
    assert "\x1b[2m" not in plain
    assert leave(start("-q")).startswith("\x1b[?2004h> ")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_paste_is_one_message(term: str, start: Any, tmp_path: Path) -> None:
    """Whatever it holds: marks of other messages and commands are text like any other."""
    terminal = start("--context", "96", environment={"TERM": term})
    say(terminal, f"{PASTE}a\n/exit\nb\\{PASTED}\r")
    say(terminal, f"x {PASTE}/y\nz{PASTED} t\r")
    assert saved(terminal, tmp_path / "talk.json") == ["a\n/exit\nb\\", "x /y\nz t"]


def test_many_lines_are_typed(start: Any, tmp_path: Path) -> None:
    terminal = start()
    place = len(terminal.shown)
    terminal.type('"""a\r')
    place = terminal.wait_for("... ", place)
    terminal.type("b\r")
    place = terminal.wait_for("... ", place)
    say(terminal, 'c"""\r')
    terminal.type("d\\\r")
    terminal.wait_for("... ", len(terminal.shown) - 1)
    say(terminal, "e\r")
    assert saved(terminal, tmp_path / "talk.json") == ["a\nb\nc", "d\ne"]


def press_ctrl_c(terminal: Terminal, text: str) -> None:
    """Press Ctrl-C until something is shown, "" for the end.

    Python overlooks a signal between readline's prompt and its waiting until the next; people are slower.
    """
    place = len(terminal.shown)
    for _ in range(30):
        terminal.type("\x03")
        until = time.monotonic() + 3
        with suppress(AssertionError):
            while text not in terminal.shown[place:] or not text:
                if not terminal.read(until):
                    return
            time.sleep(0.3)
            return


def test_ctrl_c_discards_what_was_typed(start: Any) -> None:
    """A line, or several; where nothing is typed it ends."""
    terminal = start()
    terminal.type("half a line")
    terminal.wait_for("half a line")
    press_ctrl_c(terminal, "> ")
    place = len(terminal.shown)
    terminal.type('"""one\r')
    terminal.wait_for("... ", place)
    press_ctrl_c(terminal, "> ")
    say(terminal, "Hi\r")
    press_ctrl_c(terminal, "")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown


def test_ctrl_c_stops_a_command_and_nothing_else(start: Any, tmp_path: Path) -> None:
    """As the reading of a large file, from a disk that is far away."""
    slow = "import time, tinystar_np.cli.chat_commands as c"
    slow += "; c.read_file = lambda path: print('…', flush=True) or time.sleep(60)"
    terminal = start(program=f"{slow}; {TINYSTAR}")
    say(terminal, "one\r")
    place = len(terminal.shown)
    terminal.type("/read far.txt\r")
    terminal.wait_for("…", place)
    terminal.type("\x03")
    place = terminal.wait_for("/read was stopped.", place)
    terminal.wait_for("> ", place)
    say(terminal, "two\r")
    assert saved(terminal, tmp_path / "talk.json") == ["one", "two"]


def test_without_readline(start: Any, tmp_path: Path) -> None:
    """Lines that are there at once were pasted; but not those that were typed while nobody asked."""
    terminal = start(program=f"import sys; sys.modules['readline'] = None; {TINYSTAR}")
    say(terminal, "one\ntwo\n/exit\n")
    say(terminal, "three\r")
    assert saved(terminal, tmp_path / "talk.json") == ["one\ntwo\n/exit", "three"]


def test_an_unknown_command_goes_on(start: Any, tmp_path: Path) -> None:
    terminal = start()
    terminal.type("/ext\r")
    terminal.wait_for("Did you mean /exit?")
    place = terminal.wait_for("/bye")
    terminal.wait_for("> ", place)
    time.sleep(0.1)
    say(terminal, "//ext\r")
    assert saved(terminal, tmp_path / "talk.json") == ["/ext"]


def test_tab_completes(start: Any, directory: Path) -> None:
    terminal = start()
    terminal.type("/sh\t")
    terminal.wait_for("/show ")
    terminal.type(f"{CLEAR}/set temp\t")
    terminal.wait_for("/set temperature ")
    terminal.type(f"{CLEAR}/load {directory}/chat_t\t")
    terminal.wait_for(f"{directory}/chat_template.jinja"[-30:])
    terminal.type(CLEAR)
    leave(terminal)


def test_the_history_goes_over_sessions(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    before = os.umask(0)
    try:
        terminal = start()
        say(terminal, "first\r")
        say(terminal, f"{PASTE}two\nlines{PASTED}\r")
        say(terminal, f"{PASTE}two\nlines{PASTED}\r")  # once more: kept once
        leave(terminal)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.read_text() == '"first"\n"two\\nlines"\n'
    terminal = start()
    say(terminal, f"{UP}{UP}\r")
    say(terminal, f"{UP}{UP}\r")
    assert saved(terminal, tmp_path / "talk.json") == ["first", "two\nlines"]


@pytest.mark.parametrize("how", ["setting", "option"])
def test_the_history_is_switched_off(how: str, start: Any, tmp_path: Path) -> None:
    off = {"environment": {"TINYSTAR_NP_HISTORY": "off", "HOME": str(tmp_path), "XDG_STATE_HOME": None}}
    terminal = start(**off) if how == "setting" else start("--no-history")
    say(terminal, "first\r")
    say(terminal, f"{UP}\r")  # in this session it is there
    assert saved(terminal, tmp_path / "talk.json") == ["first", "first"]
    assert {path.name for path in tmp_path.iterdir()} == {"model", "talk.json"}


def test_a_history_that_cannot_be_kept_is_said_once(start: Any, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")  # a file where its directory should be
    terminal = start()
    say(terminal, "first\r")
    say(terminal, "second\r")
    assert leave(terminal).count("What is typed is not kept") == 1


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TINYSTAR_NP_HISTORY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert history_file() == tmp_path / ".local" / "state" / "tinystar_np" / "chat_history"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "here"))
    assert history_file() == tmp_path / "here" / "tinystar_np" / "chat_history"
    for off in ("off", ""):
        monkeypatch.setenv("TINYSTAR_NP_HISTORY", off)
        assert history_file() is None


def test_a_long_history_is_cut_and_a_damaged_one_read(tmp_path: Path) -> None:
    file = tmp_path / "history"
    lines = [f"{i}" for i in range(2 * MOST + 5)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + 'no json\n3\n""\n')
    file.chmod(0o644)
    history = History(file)
    assert history.entries == lines[-MOST:]
    history.add("new")
    assert file.read_text().splitlines() == [json.dumps(line) for line in [*lines[-MOST:], "new"]]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b'"a"\n\xff\xfe\n"b"\n"c')
    assert History(file).entries == ["a", "b"]


@pytest.mark.parametrize("columns", [40, 80])
def test_what_commands_show_fits_the_terminal(columns: int, start: Any) -> None:
    terminal = start(columns=columns)
    place = len(terminal.shown)
    for command, last in (("/help", "stops an"), ("/show", "history"), ("/stats", "context"), ("/x", "/bye")):
        terminal.type(f"{command}\r")
        place = terminal.wait_for(last, place)
        place = terminal.wait_for("> ", place)
        time.sleep(0.1)
    shown = leave(terminal)
    shown = shown.replace("\x1b[2m", "").replace("\x1b[0m", "").replace("\x1b[?2004h", "")
    lines = [line for line in shown.split("\n") if "/" not in line.strip()[1:] and "error" not in line]
    assert len(lines) > 20
    assert max(map(len, lines)) <= columns


def test_an_answer_on_a_redirected_stdout(directory: Path, tmp_path: Path) -> None:
    """The prompt then goes to stderr, and the answers alone into the file."""
    file = tmp_path / "answers"
    with file.open("w") as stdout:
        terminal = Terminal("chat", "-m", str(directory), "--temperature", "0", "-n", "3", stdout=stdout)
        terminal.wait_for("> ")
        terminal.type("Hi\n")
        place = terminal.wait_for("Cut off")
        terminal.wait_for("> ", place)
        # Without readline a paste is what is there at once.
        terminal.type("a\nb\n")
        place = terminal.wait_for("Cut off", place)
        terminal.wait_for("> ", place)
        terminal.type("\x04")
        assert terminal.end() == 0
        terminal.close()
    conversation = Conversation(*ts.load(directory))
    wanted = ""
    for text in ("Hi", "a\nb"):
        wanted += "".join(p.text for p in conversation.say(text, temperature=0, max_new_tokens=3)) + "\n"
    assert file.read_text() == wanted
