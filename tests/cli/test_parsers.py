"""The hand on the command line: -m and words in any order, what was mistyped, help, completion."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tinystar_np.cli.completion import PROGRAMS
from tinystar_np.cli.main import tinystar
from tinystar_np.cli.parsers import COMMANDS, tinystar_parser
from tinystar_np.errors import HubError
from tinystar_np.loading import load

QUIET = ["--temperature", "0", "-n", "5"]


def run(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    """Run the command: exit code, stdout, stderr."""
    try:
        code = tinystar(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


CALLED = "there is no option {}. It is called {} here."
MEANT = "there is no option {}. Did you mean {}?"
DTYPES = "There are: auto, float32, bfloat16 and int8."
MISTYPED: dict[str, str] = {  # the line: the error
    "ask --temprature 1 hi": MEANT.format("--temprature", "--temperature"),
    "inspect stories --chek": MEANT.format("--chek", "--check"),
    "ask hi --max-new-tokens=3": CALLED.format("--max-new-tokens", "--max-tokens"),
    "ask --n-predict 3 hi": CALLED.format("--n-predict", "--max-tokens"),
    "chat --repeat-penalty 2": CALLED.format("--repeat-penalty", "--repetition-penalty"),
    "chat --stop-sequences x": CALLED.format("--stop-sequences", "--stop"),
    "ask --n-gpu-layers 9 hi": "there is no option --n-gpu-layers. Everything runs on the processor.",
    "ask --zzz hi": "there is no option --zzz.",
    "inspect a b c": "'b' is one word too many. Put a text with spaces in quotation marks.",
    "ask --dtype half hi": f"there is no --dtype 'half'. {DTYPES}",
    "ask --dtype bf16 hi": f"there is no --dtype 'bf16'. Did you mean bfloat16? {DTYPES}",
    "models gema2": "there is no architecture 'gema2'. Did you mean gemma2 or gemma or gemma3?",
}


@pytest.mark.parametrize(("line", "error"), MISTYPED.items())
def test_mistyped_options(line: str, error: str, capsys: Any) -> None:
    arguments = line.split()
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err == f"error: {error}\nHelp: tinystar {arguments[0]} --help\n"


def test_a_mistyped_command(capsys: Any) -> None:
    code, _, err = run(capsys, "insepct", "stories")
    assert code == 2
    assert err.startswith("error: there is no command 'insepct'. Did you mean inspect? There are: ask, ")
    assert err.endswith("\nHelp: tinystar --help\n")


def test_a_model_as_word_and_as_option(capsys: Any) -> None:
    as_word = run(capsys, "inspect", "stories", "--json")
    assert as_word[0] == 0
    assert run(capsys, "inspect", "-m", "stories", "--json") == as_word
    assert run(capsys, "inspect", "--json", "stories") == as_word
    assert run(capsys, "inspect", "--model=stories", "--json") == as_word


def test_the_words_after_the_model_move_up(capsys: Any, tmp_path: Path) -> None:
    code, out, err = run(capsys, "convert", "--dtype", "int8", "-m", "stories", str(tmp_path / "new"))
    assert (code, err) == (0, "")
    assert out.startswith(str(tmp_path / "new"))
    assert load(tmp_path / "new")[0].parameters == load("stories")[0].parameters


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["inspect"], "No model is given. `tinystar models` lists those on this disk; stories is one."),
        (["inspect", "stories", "-m", "stories"], "The model is given twice: as 'stories' and by -m."),
        (
            ["compare", "stories", "Once", "-m", "stories"],
            "The model is given twice: as 'stories' and by -m.",
        ),
        (["convert", "stories", "--dtype", "int8"], "The directory is missing."),
    ],
)
def test_words_that_are_missing_or_too_many(arguments: list[str], error: str, capsys: Any) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err == f"error: {error}\nHelp: tinystar {arguments[0]} --help\n"


def test_words_and_options_in_any_order(capsys: Any) -> None:
    wanted = run(capsys, "ask", *QUIET, "-m", "stories", "Once upon a time")
    assert wanted[0] == 0
    assert run(capsys, "ask", "Once", "upon", *QUIET, "a", "time", "-m", "stories") == wanted
    dashes = run(capsys, "ask", *QUIET, "-m", "stories", "--", "--once")
    assert dashes[0] == 0
    assert dashes[1]


def test_help_as_a_command(capsys: Any) -> None:
    assert run(capsys, "help") == run(capsys, "--help")
    for name in COMMANDS:
        assert run(capsys, "help", name) == run(capsys, name, "--help")
    shown = run(capsys, "help")[1]
    assert all(re.search(rf"^    {name}\s", shown, re.MULTILINE) for name in COMMANDS)
    assert "Did you mean inspect?" in run(capsys, "help", "inspct")[2]


def test_python_dash_m() -> None:
    run = [sys.executable, "-m", "tinystar_np", "--version"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tinystar_np ")


def test_a_mistyped_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--Tiny-Model" / "snapshots" / ("a" * 40)
    shutil.copytree(Path(str(load("stories")[1].path)).parent, snapshot)  # type: ignore[union-attr]
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    for name, meant in [
        ("storys", "stories"),
        ("Stroies", "stories"),
        ("someone/tiny-modell", "someone/Tiny-Model"),
        ("tiny-model", "someone/Tiny-Model"),
        ("another/Tiny-Model", "someone/Tiny-Model"),
    ]:
        with pytest.raises(HubError, match=rf"\nDid you mean {meant}\? "):
            load(name, offline=True)
    with pytest.raises(HubError) as raised:
        load("owner/quite-another", offline=True)
    assert "Did you mean" not in str(raised.value)


def test_a_mistyped_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_model").mkdir()
    with pytest.raises(HubError, match=rf"there is no such .*\nDid you mean {tmp_path}/my_model\?"):
        load(tmp_path / "my_modle")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError, match=r"\nDid you mean \./my_model\?$"):
        load("./my-model/")
    with pytest.raises(HubError, match=r"A model of the hub is named owner/model"):
        load("./else")


def test_the_shipped_model_is_not_removed(capsys: Any) -> None:
    assert run(capsys, "remove", "--yes", "stories") == (
        *(1, ""),
        "error: stories is part of this package, and goes with it.\n",
    )
    assert load("stories")[0].parameters > 0


def test_a_model_of_a_package_is_not_removed(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes with the package, whose files are pip's."""
    (tmp_path / "llm_small" / "small.gguf").parent.mkdir()
    (tmp_path / "llm_small" / "small.gguf").write_bytes(b"GGUF")
    about = tmp_path / "llm_small-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-small\nVersion: 1\n")
    (about / "RECORD").write_text("llm_small/small.gguf,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, err = run(capsys, "remove", "--yes", "small")
    assert (code, out) == (1, "")
    assert "small is part of an installed package, and goes with it (pip uninstall)" in err
    assert (tmp_path / "llm_small" / "small.gguf").exists()


# Completion


def completed(line: str, program: str = "tinystar") -> list[str]:
    """What a shell is answered at the end of a line, by a process as shells start it."""
    name = program.replace("-", "_")
    code = f"import sys; sys.argv = [{program!r}]; from tinystar_np.cli.main import {name}; {name}()"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    return [word.strip() for word in done.stdout.splitlines()]


def test_what_is_completed() -> None:
    pytest.importorskip("argcomplete")
    assert completed("tinystar insp") == ["inspect"]
    assert set(COMMANDS) <= set(completed("tinystar "))
    assert completed("tinystar ask --temper") == ["--temperature"]
    assert completed("tinystar ask -m stor") == ["stories"]
    assert "stories" in completed("tinystar inspect st")
    assert completed("tinystar ask --dtype b") == ["bfloat16"]
    assert completed("ask-gpt2 --top-", "ask-gpt2") == ["--top-k", "--top-p"]
    assert completed("tinystar help ins") == ["inspect"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, capsys: Any, tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    code, script, err = run(capsys, "completion", shell)
    assert (code, err) == (0, "")
    assert all(program in script for program in PROGRAMS)
    if shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(script)
        check = ["--no-execute"] if shell == "fish" else ["-n"]
        subprocess.run([shell, *check, file], check=True)


def test_in_bash_itself(capsys: Any, tmp_path: Path) -> None:
    """The script is loaded and the function called that bash calls at a press of Tab."""
    pytest.importorskip("argcomplete")
    if not shutil.which("bash") or not shutil.which("tinystar"):
        pytest.skip("bash or the command tinystar is missing")
    script = run(capsys, "completion", "bash")[1]
    (tmp_path / "script").write_text(script)
    press = """
        source "$1"
        COMP_LINE='tinystar ask --rep'; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
        COMP_WORDS=(tinystar ask --rep); COMP_CWORD=2
        _python_argcomplete tinystar --rep ask
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", press, "bash", tmp_path / "script"], capture_output=True, text=True)
    assert done.stdout.split() == ["--repetition-penalty"], done.stderr


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    code, _, err = run(capsys, "completion", "bash")
    assert code == 1
    assert err.startswith("error: Completion needs the package argcomplete.\n")
    assert err.endswith("pip install 'tinystar_np[completion]'\n")


def test_every_command_that_takes_a_model_takes_dash_m() -> None:
    commands = next(
        action for action in tinystar_parser()._actions if action.dest == "==SUPPRESS==" or action.choices
    )
    without = set()
    for name, parser in commands.choices.items():  # type: ignore[union-attr]
        parser.declare()
        if not any("-m" in action.option_strings for action in parser._actions):
            without.add(name)
    assert without == {"models", "diff", "experiments", "completion", "help"}
