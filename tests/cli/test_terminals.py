"""What a stranger's text may do to a terminal (nothing), and what terminals, pipes and disks may do to us."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from terminals import TINYSTAR, Terminal, in_turn, on_terminal, save_scripted_model

import tinystar_np as ts
from tinystar_np.cli import streams
from tinystar_np.cli.main import tinystar
from tinystar_np.cli.terminal import say_table
from tinystar_np.cli.visible import visible
from tinystar_np.errors import InputError

ESC = "\x1b"
NASTY = (  # red, erase the screen, the window's title, a C1 sequence, over the line, back, bell, DEL, turned
    "a\x1b[31mred\x1b[2J\x1b]0;title\x07\u009b5mb\rover\x08\x7f\u202eltr\u2066\n\tend"
)
SHOWN = "a^[[31mred^[[2J^[]0;title^G<U+009B>5mb^Mover^H^?<U+202E>ltr<U+2066>\n\tend"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def run(*arguments: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    if "input" in given:
        del given["stdin"]
    return subprocess.run([sys.executable, "-c", TINYSTAR, *arguments], timeout=120, **given)


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize(
    "arguments", [("aks",), ("ask", "--max_tokens", "3", "hi"), ("ask", "-m", "storeis", "--offline", "hi")]
)
def test_errors_are_broken_between_words(columns: int, arguments: tuple[str, ...]) -> None:
    terminal = Terminal(*arguments, columns=columns, environment={"NO_COLOR": "1"})
    assert terminal.end() in (1, 2)
    terminal.close()
    lines = terminal.shown.replace("\r", "").rstrip("\n").split("\n")
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("error: ")
    piped = run(*arguments).stderr.decode()
    assert piped.split() == terminal.shown.split()  # the same words, none in two parts
    assert piped.count("\n") < len(lines) or max(map(len, piped.split("\n"))) <= columns


@pytest.fixture
def nasty_model(tmp_path: Path) -> Path:
    """A model that writes NASTY: of its bytes each is a token, so every sequence is spread over several."""
    save_scripted_model(tmp_path / "nasty", NASTY.encode())
    return tmp_path / "nasty"


# Spelling out.


def test_what_is_spelled_out() -> None:
    assert visible(NASTY) == SHOWN
    assert visible("\x00\x1f\x80\udcff\ud800") == "^@^_<U+0080><U+DCFF><U+D800>"
    for kept in ("", "Grüße, 日本 \U0001f600\n\tשלום\u200f e\u0301 \ufeff\u2028", "^[ <U+009B>"):
        assert visible(kept) == kept


def test_no_character_is_forgotten() -> None:
    """Of all there are, no control character is left but two, nor anything that turns its surroundings."""
    left = set(visible("".join(map(chr, range(sys.maxunicode + 1)))))
    assert {c for c in left if unicodedata.category(c) in ("Cc", "Cs")} == {"\n", "\t"}
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {c for c in left if unicodedata.bidirectional(c) in turning}
    assert len(left) == sys.maxunicode + 1 - 0x800 - 63 - 9


def test_tables_spell_out_what_is_in_them(capsys: Any) -> None:
    say_table(["name", "size"], [[NASTY, "1"], ["[red]b[/] :smile:", "2"]], Namespace(color="off"))
    table = capsys.readouterr().out
    assert not OBEYED.search(table)
    assert "a^[[31mred^[[2J^[]0;title^G<U+009B>5mb^Mover^H^?<U+202E>ltr<U+2066>" in table
    assert "[red]b[/] :smile:" in table  # nor does rich obey it


def test_every_command_prints_through_one_place() -> None:
    for path in Path(streams.__file__).parent.glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printing = [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]
        writing = [call for call in calls if isinstance(call, ast.Attribute) and call.attr == "write"]
        assert path.name == "streams.py" or not (printing or writing), path.name


# Text that a model writes.

GREEDY = ["--temperature", "0", "-n", "100", "-q"]


def test_a_terminal_shows_control_characters_and_does_not_obey(nasty_model: Path) -> None:
    ask = ["ask", "-m", str(nasty_model), *GREEDY]
    for extra in ([], ["--no-stream"]):
        assert on_terminal(*ask, *extra, "x") == (0, SHOWN + "\n")
    assert on_terminal(*ask, "--raw", "x") == (0, NASTY + "\n")
    code, shown = on_terminal(*ask, "--json", "x")
    assert code == 0
    assert json.loads(shown)["text"] == NASTY


def test_pipes_and_files_get_the_text_as_it_is(nasty_model: Path) -> None:
    done = run("ask", "-m", str(nasty_model), *GREEDY, "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, (NASTY + "\n").encode(), b"")
    done = run("chat", "-m", str(nasty_model), *GREEDY, input=b"hello\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, (NASTY + "\n").encode(), b"")


@pytest.mark.parametrize("raw", [True, False])
def test_answers_of_a_chat(raw: bool, nasty_model: Path) -> None:
    terminal = Terminal("chat", "-m", str(nasty_model), *GREEDY, *(["--raw"] if raw else []))
    place = terminal.wait_for("> ")
    terminal.type("hello\n")
    place = terminal.wait_for("hello\r\n", place)
    end = terminal.wait_for("\tend\r\n", place)
    assert terminal.shown[:end].replace("\r\n", "\n").endswith((NASTY if raw else SHOWN) + "\n")
    terminal.type("/exit\n")
    assert terminal.end() == 0
    terminal.close()


# Names and settings in a stranger's files.


def test_errors_are_spelled_out_wherever_they_go(talking_model: Path) -> None:
    """The name of a tensor too many, and that of the directory, which the message quotes."""
    directory = talking_model.rename(talking_model.with_name(f"a{ESC}[2J\rb\u202e"))
    tensors = load_file(directory / "model.safetensors")
    save_file(tensors | {f"h{ESC}]0;t\x07": np.zeros(3, "f4")}, directory / "model.safetensors")
    for verbose in ([], ["-v"]):
        arguments = ("ask", "-m", str(directory), *verbose, "hi")
        code, shown = on_terminal(*arguments, environment={"NO_COLOR": "1"})
        done = run(*arguments)
        for rc, text in ((code, shown), (done.returncode, done.stderr.decode())):
            assert rc == 1
            assert "a^[[2J^Mb<U+202E>" in text
            assert not OBEYED.search(text)
            assert ("Traceback" in text) == bool(verbose)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "model_type", NASTY),
        ("config.json", "activation_function", NASTY),
        ("config.json", "n_layer", NASTY),
        ("config.json", NASTY, 3),
        ("config.json", "torch_dtype", NASTY),
        ("generation_config.json", "eos_token_id", NASTY),
    ],
)
def test_settings(file: str, key: str, value: Any, talking_model: Path) -> None:
    raw = json.loads((talking_model / file).read_text())
    raw.pop("dtype", None)
    (talking_model / file).write_text(json.dumps(raw | {key: value}))
    if key == "torch_dtype":
        (talking_model / "model.safetensors").unlink()  # inspect then says the config's type
    commands = [["ask", "-n", "2", "-m", str(talking_model), "hi"], ["inspect", str(talking_model)]]
    environment = {"NO_COLOR": "1"}
    for code, shown, _ in in_turn(commands, talking_model, terminal=True, environment=environment):
        assert code in (0, 1)
        assert not OBEYED.search(shown)
        assert "Traceback" not in shown


def test_names_in_the_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / f"models--a--b{ESC}[31m" / "snapshots" / ("1234" * 10)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_text("")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("1234" * 10)
    arguments = ("models", "--cache-dir", str(tmp_path))
    code, shown = on_terminal(*arguments)
    assert code == 0
    assert not OBEYED.search(shown)
    assert "b^[[31m" in shown
    assert f"b{ESC}[31m".encode() in run(*arguments).stdout


def test_arguments(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        tinystar(["ask", f"--{ESC}[31m", "hi"])
    assert "there is no option --^[[31m.\n" in capsys.readouterr().err


# Colour, width, encoding.

CODES = {"chat": 1, "compare": 2}  # no chat template, a bad tolerance; the others succeed
COMMANDS = [
    ["ask", "-n", "3", "--stats", "Once"],
    ["inspect", "stories"],
    ["models"],
    ["experiments", "v0.2-modern", "v0.4-mqa", "--rounds", "0"],
    ["chat", "-m", "stories"],
    ["compare", "stories", "--dtype", "float32", "--tolerance", "-1", "Once"],
    ["--help"],
    ["ask", "--help"],
    ["experiments", "--help"],
]


@pytest.mark.parametrize("columns", [1, 20, 40])
def test_narrow_terminals(columns: int, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    for width in (str(columns), f"-{columns}", ""):
        monkeypatch.setenv("COLUMNS", width)
        for command in COMMANDS:
            try:
                code = tinystar(command)
            except SystemExit as leaving:
                code = leaving.code
            out, err = capsys.readouterr()
            assert code == CODES.get(command[0], 0)
            assert out or err
            assert "Traceback" not in err
    assert tinystar(["inspect", "stories"]) == 0


def test_a_terminal_one_column_wide(tmp_path: Path) -> None:
    for code, shown, _ in in_turn(COMMANDS[:4], tmp_path, terminal=True, columns=1):
        assert code == 0
        assert shown
        assert "Traceback" not in shown


def test_colour_is_for_terminals_that_have_it(tmp_path: Path) -> None:
    commands = COMMANDS[:4] + COMMANDS[5:6]
    coloured = [False, True, False, True, True]

    def has_colour(how: Any = {}, *extra: str, terminal: bool = True) -> list[bool]:  # noqa: B006
        done = in_turn([[*command, *extra] for command in commands], tmp_path, terminal, **how)
        assert len(done) == len(commands)
        assert all(out or err for _, out, err in done)
        return [ESC in out + err for _, out, err in done]

    assert has_colour() == coloured
    for environment in ({"NO_COLOR": "1"}, {"NO_COLOR": ""}, {"TERM": "dumb"}):
        assert not any(has_colour({"environment": environment}))
    assert not any(has_colour(terminal=False))
    assert has_colour({}, "--color", "on", terminal=False) == coloured
    assert not any(has_colour({}, "--color", "off"))


def test_each_stream_by_itself(tmp_path: Path) -> None:
    """Text into a file while errors go to the terminal, and the other way round."""
    commands = [["inspect", "stories"], ["inspect", "./nowhere"]]
    for stream, shown_of in (("stdout", [False, True]), ("stderr", [True, False])):
        done = in_turn(commands, tmp_path, terminal=True, **{stream: subprocess.DEVNULL})
        assert [code for code, _, _ in done] == [0, 1]
        assert [ESC in shown for _, shown, _ in done] == shown_of
        assert [bool(shown) for _, shown, _ in done] == shown_of


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C"},
    ],
)
def test_other_encodings(environment: dict[str, str], tmp_path: Path) -> None:
    save_scripted_model(tmp_path / "日本", "né 日".encode())
    env = {**os.environ, **environment}
    first, *others = in_turn(
        [["ask", "-m", str(tmp_path / "日本"), *GREEDY, "x"], *COMMANDS], tmp_path, env=env
    )
    assert first in ((0, "né 日\n", ""), (0, "n? ?\n", ""))
    for command, (code, _, err) in zip(COMMANDS, others, strict=True):
        assert code == CODES.get(command[0], 0), command
        assert "Traceback" not in err
    done = run("ask", "-m", str(tmp_path / "日本"), *GREEDY, "-", env=env, input="日".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() in ("\ufffd 日\n", "? ?\n")  # the prompt is bytes 1 to 3 of 7


# Pipes that are closed, disks that are full, streams that are not there.


def test_a_reader_who_has_left(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for code, _, err in in_turn(COMMANDS[:4] + COMMANDS[6:], tmp_path, stdout=writing):
        assert (code, err) == (0, "")
    for code, wanted in zip(
        in_turn([["ask", "-m", "./nowhere", "hi"], COMMANDS[0], ["ask", "--no"]], tmp_path, stderr=writing),
        (1, 0, 2),
        strict=True,
    ):
        assert code[0] == wanted
    assert run(*COMMANDS[0], stdout=writing).returncode == 0  # and nothing at exit
    os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_no_room_for_the_text(tmp_path: Path) -> None:
    commands = COMMANDS[:4] + COMMANDS[6:]
    with open("/dev/full", "w") as full:
        for code, _, err in in_turn(commands, tmp_path, stdout=full):
            assert code == 1
            assert err.splitlines()[-1].startswith(
                "error: stdout cannot be written (No space left on device)"
            )
            assert "Traceback" not in err
        for code, _, _ in in_turn(commands, tmp_path, stdout=full, stderr=full):
            assert code == 1
        for code, out, _ in in_turn(commands, tmp_path, stderr=full):
            assert code == 0
            assert out
        done = run(*COMMANDS[1], stdout=full)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_streams_that_are_not_there(closed: list[int], tmp_path: Path) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    commands = [*COMMANDS[:4], ["ask", "-n", "1"], ["chat", "-m", "stories"]]
    done = in_turn(commands, tmp_path, preexec_fn=close)
    assert [code for code, _, _ in done] == [0, 0, 0, 0, 1, 1]
    assert not any("Traceback" in err for _, _, err in done)
    if closed == [0]:
        assert "The prompt is empty" in done[4][2]


# Prompts.


def asked(*arguments: str, **how: Any) -> Any:
    done = run("ask", "-n", "1", "--json", *arguments, **how)
    assert b"Traceback" not in done.stderr
    return json.loads(done.stdout)["prompt"] if done.returncode == 0 else done.stderr.decode()


def test_prompts_on_stdin() -> None:
    assert asked(input=b"One\r\ntwo\r\n\r\n") == "One\ntwo"
    assert asked(input=b"\xef\xbb\xbfOne\n") == "One"
    assert asked(input="日本\ta\rb".encode()) == "日本\ta\rb"
    for empty in (b"", b"\n", b"\r\n", b"\xef\xbb\xbf"):
        assert asked(input=empty).startswith("error: The prompt is empty.")
    assert "not UTF-8 (byte 3)" in asked(input=b"abc\xff")
    assert "not UTF-8 (byte 0)" in asked(input="One".encode("utf-16"))


def test_prompts_that_are_too_long() -> None:
    """Ten megabytes are refused by their beginning; what has no end is not read to its end."""
    refusal = asked(input=b"Once upon a time. " * 600_000)
    assert "has 10800000 characters, of which the first 8192 are" in refusal
    assert "but the model holds 512. Shorten it." in refusal
    endless = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    assert "more than 67 MB" in asked(stdin=endless.stdout)
    endless.kill()
    endless.wait()
    assert endless.stdout is not None
    endless.stdout.close()


def test_a_long_text_of_few_tokens_is_cut_to_its_end(talking_model: Path) -> None:
    """Refused is only what has too many tokens, not what has many characters for each."""
    from tinystar_np.generation.prompt import CHARACTERS, encode_prompt

    model, _ = ts.load(talking_model)

    class LongTokens:
        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return [0] * (len(text) // 1000)

    text = "a" * 95_000
    assert len(text) > 16 * CHARACTERS * model.context_length
    assert encode_prompt(model, LongTokens(), text) == [0] * 95
    with pytest.raises(ts.TinyStarError, match="has 1000000 characters, of which the first 393216 are 393"):
        encode_prompt(model, LongTokens(), "a" * 1_000_000)


def test_conversations_that_are_too_long(nasty_model: Path) -> None:
    (nasty_model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    done = run("chat", "-m", str(nasty_model), input=b"a" * 10_000_000)
    assert done.returncode == 1
    assert b"error: The conversation has 10000000 characters" in done.stderr


def test_arguments_that_are_not_utf8(nasty_model: Path, tmp_path: Path) -> None:
    assert "The prompt is not UTF-8 (character 2)" in asked(os.fsdecode(b"ab\xff"))
    commands = [
        ["ask", "-m", os.fsdecode(b"ab\xff"), "hi"],
        ["ask", "-m", "a/b", "--offline", "--cache-dir", os.fsdecode(b"/ab\xff"), "hi"],
        ["ask", "-m", str(nasty_model), "--stop", os.fsdecode(b"\xff"), "x"],
        ["chat", "-m", str(nasty_model), "--system", os.fsdecode(b"\xff")],
        ["inspect", os.fsdecode(b"ab\xff")],
        ["experiments", os.fsdecode(b"ab\xff.yaml")],
        ["compare", "stories", os.fsdecode(b"ab\xff")],
        ["models", "--cache-dir", os.fsdecode(b"/ab\xff")],
    ]
    for code, _, err in in_turn(commands, tmp_path):
        assert code in (0, 1)
        assert "Traceback" not in err


def test_halves_of_surrogate_pairs(talking_model: Path, nasty_model: Path) -> None:
    model, tokenizer = ts.load(talking_model)
    assert tokenizer is not None
    for text in ("\ud800", "a\udcffb", "\udc00\ud800"):
        for call in (
            lambda text: tokenizer.encode(text),
            lambda text: ts.generate(model, tokenizer, text),
            lambda text: ts.generate(model, tokenizer, ["fine", text]),
            lambda text: next(iter(ts.stream(model, tokenizer, text))),
        ):
            with pytest.raises(InputError, match="half of a surrogate pair"):
                call(text)
    assert ts.generate(model, tokenizer, "\U00010400", max_new_tokens=1) is not None
    ts.generate(model, tokenizer, "fine", stop="\ud800", max_new_tokens=3)
    (talking_model / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    conversation = ts.Conversation(*ts.load(talking_model))
    with pytest.raises(InputError, match="half of a surrogate pair"):
        conversation.say("\ud800")
    assert list(conversation.say("fine", max_new_tokens=1))


def test_what_is_typed_in_another_encoding_does_not_end_a_conversation(nasty_model: Path) -> None:
    # readline itself leaves out such bytes; without it, as here, Python reads the line.
    terminal = Terminal("chat", "-m", str(nasty_model), *GREEDY, stdout=subprocess.PIPE)
    place = terminal.wait_for("> ")
    os.write(terminal.main, b"caf\xe9\n")
    place = terminal.wait_for("What was typed is not in the terminal's encoding.", place)
    place = terminal.wait_for("> ", place)
    terminal.type("hello\n")
    terminal.wait_for("> ", place)  # both at once would be a paste
    terminal.type("/exit\n")
    assert terminal.end() == 0
    assert terminal.process.stdout is not None
    assert terminal.process.stdout.read().decode() == NASTY + "\n"
    terminal.process.stdout.close()
    terminal.close()
