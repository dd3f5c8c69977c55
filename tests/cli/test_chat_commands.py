"""The commands of `tinystar chat`, from a pipe: what is sent, what is not, and what they change."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from terminals import TINYSTAR

import tinystar_np as ts
from tinystar_np.cli.chat_commands import COMMANDS
from tinystar_np.cli.chat_texts import edited
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import InputError
from tinystar_np.generation import Conversation
from tinystar_np.generation.saved_conversation import read_conversation, save_conversation

TEMPLATE = """\
{%- for message in messages -%}
{{ message.role[0] }}:{{ message.content }};
{%- endfor -%}
{%- if add_generation_prompt %}a:{% endif %}"""
SHORT = {"temperature": 0, "max_new_tokens": 6}
GREEDY = ["--temperature", "0", "-n", "6"]


@pytest.fixture
def chat(talking_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command on a text from a pipe: the answers, and what was written to stderr."""
    (talking_model / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")

    def run(text: str, *options: str, code: int = 0) -> tuple[list[str], str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
        assert tinystar(["chat", "-m", str(talking_model), *options]) == code
        out, err = capsys.readouterr()
        return out.split("\n")[:-1], err

    run.model = ts.load(talking_model)  # type: ignore[attr-defined]
    run.directory = talking_model  # type: ignore[attr-defined]
    return run


def said(conversation: Conversation, *messages: str, **settings: Any) -> list[str]:
    settings = {**SHORT, **settings}
    return ["".join(p.text for p in conversation.say(text, **settings)) for text in messages]


def flat(answers: list[str]) -> list[str]:
    return "\n".join(answers).split("\n")


def test_many_lines_are_one_message(chat: Any) -> None:
    for text, message in {
        '"""one\n two\n"""\n': "one\n two",
        '"""one"""\n': "one",
        '"""\n one\n\ntwo"""  \n': " one\n\ntwo",
        "one\\\ntwo\\\nthree\n": "one\ntwo\nthree",
        "one\\": "one\\",
        "//help\n": "/help",
        '"""/help"""\n': "/help",
        '"""/a\n//b"""\n': "/a\n//b",
    }.items():
        if len(message) < 20 and not text.endswith("\\"):
            assert chat(text, *GREEDY, "-q")[0] == flat(said(Conversation(*chat.model), message))


def test_the_whole_of_a_pipe_is_one_message(chat: Any) -> None:
    wanted = flat(said(Conversation(*chat.model), "Hi\n/exit\nyou"))
    for option in ("--whole", "-"):
        assert chat("Hi\n/exit\nyou\n", *GREEDY, "-q", option)[0] == wanted


def test_one_question(chat: Any) -> None:
    """It is answered and nothing else is read; a slash is its own."""
    for question in ("Hi you", "/usr/bin?"):
        wanted = flat(said(Conversation(*chat.model, "Short!"), question))
        found, err = chat("", *GREEDY, "--system", "Short!", *question.split())
        assert found == wanted
        assert err == "Cut off after 6 tokens (--max-tokens).\n"
    both = ["chat", "-m", str(chat.directory), *GREEDY, "-q", "Hi", "you"]
    done = subprocess.run(
        [sys.executable, "-c", TINYSTAR, *both], input="a\nb\n", capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:-1] == flat(said(Conversation(*chat.model), "Hi you\n\na\nb"))
    assert chat("", "   ", code=1) == ([], "error: The question is empty.\n")


def test_an_unknown_command_is_not_sent(chat: Any) -> None:
    found, err = chat("/hlep me\nHi\n", *GREEDY, code=1)
    assert found == []
    assert err.startswith(
        "error: There is no command /hlep. Did you mean /help? //hlep sends it as a message."
    )
    assert all(name in err for name in COMMANDS)


def test_help_names_every_command(chat: Any) -> None:
    found, err = chat("/help\n")
    assert found == []
    for name, command in COMMANDS.items():
        assert re.search(rf"^(/\w+, )*{name}\b", err, re.MULTILINE)
        assert command.words.split()[0] in err
    for end in ("/exit", "/quit", "/bye"):
        assert chat(f"{end}\n/unknown\n") == ([], "")


def test_settings_are_changed(chat: Any) -> None:
    conversation = Conversation(*chat.model)
    wanted = said(conversation, "a", max_new_tokens=3)
    wanted += said(conversation, "b", max_new_tokens=3, temperature=2.0, seed=5, top_k=7, min_p=0.01)
    wanted += said(conversation, "c", max_new_tokens=3, temperature=2.0, seed=5, stop=wanted[1][1])
    text = "/set max_tokens 3\na\n/set temp 2\n/set seed 5\n/set top-k 7\n/set min_p 0.01\nb\n"
    text += f"/set top_k 0\n/set min_p 0\n/set stop {wanted[1][1]}\nc\n"
    found, err = chat(text, "--temperature", "0", "--top-k", "0", "--top-p", "1")
    assert found == flat(wanted)
    assert "top-k: 7" in err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set heat 3", "no setting heat"),
        ("/set temperatur 3", "Did you mean temperature"),
        ("/set temperature hot", "must be a number"),
        ("/set temperature -1", "temperature is -1"),
        ("/set temperature nan", "temperature is nan"),
        ("/set top_k 1.5", "whole number"),
        ("/set frequency_penalty 3", "frequency_penalty is 3"),
        ("/set logit_bias 5", "token ids and numbers: 50=-5 7=3"),
        ("/set logit_bias 5=101", "logit_bias is 101"),
        ("/set top_k -1", "whole number"),
        ("/set context 97", "context is 97"),
        ("/set when_full slide", "'stop' or 'shift'"),
        ("/set prompt_lookup 3", "temperature is 0.8"),
        ("/undo", "no message yet"),
        ("/retry", "no message yet"),
        ("/continue", "no message yet"),
        ("/save", "Which file"),
        ("/load /nowhere/at/all.json", "there is no such file"),
        ('"""never closed', "never ends"),
    ],
)
def test_what_cannot_be(line: str, message: str, chat: Any) -> None:
    found, err = chat(f"{line}\n", code=1)
    assert found == []
    assert err.startswith("error: ")
    assert message in err


def test_biases_of_a_conversation(chat: Any, tmp_path: Path) -> None:
    """Set, shown, saved and loaded."""
    conversation = Conversation(*chat.model)
    given = {"logit_bias": {101: 4.5, 32: -100}, "presence_penalty": 1.5}
    wanted = said(conversation, "a", **given)
    file = tmp_path / "saved.json"
    text = f"/set logit-bias 101=4.5 32=-100\n/set presence_penalty 1.5\na\n/show\n/save {file}\n"
    found, err = chat(text, *GREEDY)
    assert found == flat(wanted)
    assert re.search(r"presence_penalty\s+1.5,\s+logit_bias\s+101=4.5\s+32=-100", err)
    save_conversation(conversation, tmp_path / "other.json", settings={**SHORT, **given})
    for each in (file, tmp_path / "other.json"):
        assert [*read_conversation(each).settings["logit_bias"]] == [[101, 4.5], [32, -100.0]]
    wanted = said(conversation, "b", **given)
    wanted += said(conversation, "c", presence_penalty=1.5)
    found, _ = chat(f"/load {file}\nb\n/set logit_bias off\nc\n")
    assert found == flat(wanted)


def test_show(chat: Any) -> None:
    (chat.directory / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": 256}')
    _, err = chat("/system Be kind.\nHi\n/show\n", *GREEDY, "--seed", "7")
    shown = {line[:12].strip(): line[12:] for line in err.splitlines() if line[:1].strip()}
    assert shown["messages"] == "3"
    assert shown["system"] == "Be kind."
    assert shown["settings"].startswith("temperature 0.0, max_tokens 6, top_k 40")
    assert "seed 7" in err
    assert shown["model's own"] == "temperature 0.6"
    assert shown["history"] == "off"
    assert "float32" in err
    # Up to the last token, which is not read: u:Hi;a:…
    assert f"{len('s:Be kind.;u:Hi;a:') + 6} of 96 tokens" in shown["context"]


def test_system(chat: Any) -> None:
    conversation = Conversation(*chat.model)
    wanted = said(conversation, "a")
    conversation.system = "Be kind."
    wanted += said(conversation, "b")
    conversation.system = "Be\nshort."
    wanted += said(conversation, "c")
    conversation.system = None
    wanted += said(conversation, "d")
    text = 'a\n/system Be kind.\nb\n/system """Be\nshort."""\nc\n/system off\n/system\nd\n'
    found, err = chat(text, *GREEDY)
    assert found == flat(wanted)
    assert "system: Be kind." in err
    assert "There is no system message." in err


def test_undo_retry_continue(chat: Any) -> None:
    settings = {"temperature": 2.0, "seed": 5, "top_k": 40, "top_p": 0.95}
    conversation = Conversation(*chat.model)
    wanted = said(conversation, "a", **settings)
    for again in (conversation.answer_again, conversation.continue_answer):
        wanted.append("".join(piece.text for piece in again(max_new_tokens=6, **settings)))
    conversation.undo()
    wanted += said(conversation, "b", **settings)
    found, err = chat("a\n/retry\n/continue\n/undo\nb\n", "--temp", "2", "--seed", "5", "-n", "6")
    assert found == flat(wanted)
    assert len(set(wanted)) == 4
    assert "Forgotten, with its answer: a" in err


def test_stats(chat: Any) -> None:
    _, err = chat("/stats\nHi\n/stats\nyou\n", *GREEDY, "-q", "--stats")
    lines = [line.split()[:2] for line in err.splitlines()]
    first, second = len("u:Hi;a:"), len(";u:you;a:") + 1  # the last token of an answer is not read
    wanted = [["prompt", str(first)], ["answer", "5"], ["context", str(first + 6)]]
    assert lines[:7] == [["context", "0"], *wanted, *wanted]
    assert lines[7:] == [["prompt", str(second)], ["answer", "5"], ["context", str(first + second + 11)]]


def test_a_full_context_is_never_silent(chat: Any) -> None:
    talk = "\n".join(["one message", "another message", "and a third", "x", "y", "z", "end"])
    _, err = chat(talk, *GREEDY, "--context", "60", code=1)
    assert "nearly full" in err or "The context is full" in err
    assert "holds 60" in err
    assert "--when-full shift" in err
    _, err = chat(f"{'x' * 40}\n{'y' * 40}\n", *GREEDY, "--context", "60", code=1)  # full without a warning
    assert "nearly" not in err
    assert "its context holds 60" in err
    assert "--when-full shift goes on" in err
    found, err = chat(talk, *GREEDY, "--context", "60", "--when-full", "shift")
    assert len(re.findall(r"full\. From here on the .* left out \(\d+ tokens\), and \d+ tokens", err)) > 1
    conversation = Conversation(*chat.model, context=60, when_full="shift", on_shift=lambda shift: None)
    assert found == flat(said(conversation, *talk.split("\n")))


def test_saved_and_resumed(chat: Any, tmp_path: Path) -> None:
    """It goes on as if it had not been left: with its settings, its random numbers, and its cache."""
    file = tmp_path / "talk 1.json"
    options = ["--temp", "2", "--seed", "5", "-n", "6", "--system", "日本"]
    whole, _ = chat("a\nb\nc\nd\n", *options)
    read: list[int] = []
    for cache in ("", " --cache"):
        first, err = chat(f"a\nb\n/save {file}{cache}\n", *options)
        assert f"Saved: {file}" in err
        saved = json.loads(file.read_text())
        assert [message["role"] for message in saved["messages"]] == ["system", *["user", "assistant"] * 2]
        assert '    {"role": "system", "content": "日本"},\n' in file.read_text()
        assert (tmp_path / "talk 1.cache.safetensors").exists() == bool(cache)
        rest, err = chat("c\n/stats\nd\n", "--resume", str(file))
        assert first + rest == whole
        read.append(int(re.search(r"prompt +(\d+) tokens", err)[1]))  # type: ignore[index]
        found, err = chat(f"x\n/load {file}\nc\nd\n", "-n", "4")  # an option counts more
        assert found[-2:] != rest
        assert "5 messages, the last" in err
    assert read[1] < read[0] / 1.5
    # A cache of another conversation is not used, and that is said.
    (tmp_path / "talk 1.cache.safetensors").write_bytes(b"something else")
    rest, err = chat("c\nd\n", "--resume", str(file))
    assert first + rest == whole
    assert "is not the cache of this conversation: it is read again" in err
    (tmp_path / "talk 1.cache.safetensors").unlink()
    rest, err = chat("c\nd\n", "--resume", str(file))
    assert first + rest == whole
    assert "read again" in err


def test_what_is_no_conversation_is_not_to_be_deleted(chat: Any, tmp_path: Path) -> None:
    """It is the user's own file, and may be anything."""
    file = tmp_path / "notes.txt"
    for text in ("no JSON", "[1]", '{"a": 1, "a": 2}', '{"a": 1}'):
        file.write_text(text)
        for given in (("", "--resume", str(file)), (f"/load {file}\n",)):
            _, err = chat(*given, code=1)
            assert "notes.txt" in err
            assert "messages" in err
            assert "Delete" not in err
            assert "download" not in err


def test_a_model_in_the_place_of_the_question_is_pointed_out(
    chat: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``ollama run MODEL`` has it; here the words are the question."""
    import tinystar_np.cli.chat as command

    monkeypatch.setattr(command, "DEFAULT_MODEL", str(chat.directory))
    _, err = chat("", *GREEDY, "stories")
    assert "tinystar chat -m stories" in err
    _, err = chat("", *GREEDY, "hello")
    assert "tinystar chat -m" not in err


def test_retry_without_a_message(chat: Any) -> None:
    _, err = chat("/retry\n", *GREEDY, code=1)
    assert "no message yet" in err
    assert "temperature" not in err


def test_questions_one_by_one(chat: Any, tmp_path: Path) -> None:
    """Each in a process of its own: together they are one conversation."""
    file = tmp_path / "talk.json"
    wanted = said(Conversation(*chat.model), "a", "b", temperature=2.0, seed=5, top_k=40, top_p=0.95)
    found = chat("", "--temp", "2", "--seed", "5", "-n", "6", "--save", str(file), "a")[0]
    found += chat("", "--resume", str(file), "--save", str(file), "b")[0]
    assert found == flat(wanted)
    assert len(json.loads(file.read_text())["messages"]) == 4
    # What is there stays where it is something else, and nothing is asked.
    found, err = chat("", "--save", str(chat.directory / "config.json"), "a", code=1)
    assert found == []
    assert "no saved conversation" in err
    # An error later on: what was said until then is saved.
    chat("a\n/unknown\n", *GREEDY, "--save", str(tmp_path / "other.json"), code=1)
    assert len(json.loads((tmp_path / "other.json").read_text())["messages"]) == 2


def test_a_conversation_written_by_hand(chat: Any, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    file.write_text(json.dumps({"messages": messages, "other": 1}))
    conversation = Conversation(*chat.model)
    conversation.messages = list(messages)
    assert chat("you\n", *GREEDY, "--resume", str(file))[0] == flat(said(conversation, "you"))


DAMAGES: dict[str, Any] = {
    "nothing": lambda saved: saved.clear(),
    "no list": lambda saved: saved.update(messages={"role": "user"}),
    "another role": lambda saved: saved.update(messages=[{"role": "tool", "content": "x"}]),
    "no text": lambda saved: saved.update(messages=[{"role": "user", "content": None}]),
    "system last": lambda saved: saved["messages"].append({"role": "system", "content": "x"}),
    "answer first": lambda saved: saved["messages"].insert(0, {"role": "assistant", "content": "x"}),
    "another format": lambda saved: saved.update(format="conversation 9"),
    "settings": lambda saved: saved.update(settings={"temperature": -1}),
    "unknown settings": lambda saved: saved.update(settings={"heat": 1}),
    "no settings": lambda saved: saved.update(settings=[1]),
    "left out": lambda saved: saved.update(left_out=99),
    "left out a question": lambda saved: saved.update(left_out=1),
    "a name": lambda saved: saved.update(model=3),
    "state": lambda saved: saved["random"].update(state=-1),
    "no state": lambda saved: saved.update(random={}),
    "seed": lambda saved: saved["random"].update(seed="x"),
    "tokens": lambda saved: saved.update(cache={"tokens": "x", "sha256": "y"}),
    "no tokens": lambda saved: saved.update(cache=[]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(damage: str, chat: Any, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    chat(f"a\n/save {file} --cache\n", "-n", "3")
    saved = json.loads(file.read_text())
    DAMAGES[damage](saved)
    file.write_text(json.dumps(saved))
    found, err = chat("b\n", "--resume", str(file), code=1)
    assert found == []
    assert err.startswith(f"error: {file}: ")
    assert len(err.splitlines()) <= 2


def test_nothing_else_is_overwritten(chat: Any) -> None:
    config = chat.directory / "config.json"
    before = config.read_bytes()
    _, err = chat(f"/save {config}\n", code=1)
    assert "no saved conversation. Choose another name." in err
    assert config.read_bytes() == before


def test_the_text_of_files_stands_before_the_next_message(chat: Any, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("first\nlines\n", encoding="utf-8")
    (tmp_path / "two words.txt").write_text("ähm", encoding="utf-8")
    text = f"/read {tmp_path}/one.txt\n/read {tmp_path}/two words.txt\nAnd then?\nno\n"
    out, err = chat(text, *GREEDY)
    wanted = said(Conversation(*chat.model), "first\nlines\n\nähm\n\nAnd then?", "no")
    assert out == flat(wanted)
    assert "11 characters stand before the next message." in err
    out, _ = chat(f"/read {tmp_path}/one.txt\n/reset\nno\n", *GREEDY)
    assert out == flat(said(Conversation(*chat.model), "no"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "there is no such file"),
        ("latin", b"\xe4", "latin is not UTF-8 (byte 0)"),
        ("", None, "Which file?"),
    ],
)
def test_files_that_cannot_be_read(
    name: str, content: bytes | None, message: str, chat: Any, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    path = tmp_path / name if name else ""
    out, err = chat(f"/read {path}\nno\n", *GREEDY, code=1)
    assert message in err
    assert out == []


def test_an_editor_needs_a_terminal(chat: Any) -> None:
    assert "/edit needs a terminal" in chat("/edit\n", code=1)[1]


def test_an_editor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    editor = tmp_path / "my editor"
    editor.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[1], 'a').write(' 日本\\nmore\\n')\n")
    editor.chmod(0o700)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"'{editor}'")
    assert edited("begun") == "begun 日本\nmore"
    monkeypatch.setenv("VISUAL", "false")
    with pytest.raises(InputError, match="ended with code 1: nothing is sent"):
        edited("")
    monkeypatch.setenv("VISUAL", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"cannot be started \(No such file or directory\)\. Set EDITOR"):
        edited("")


def test_the_guide_names_every_command_and_option() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "chat.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"`{name}" in guide
    for option in (
        "--whole",
        "--resume",
        "--save",
        "--context",
        "--when-full",
        "--no-history",
        "--model-settings",
    ):
        assert option in guide
