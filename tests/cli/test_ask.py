"""The commands as a person uses them: what goes to stdout, what to stderr, and the exit code."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import terminals
import torch
from safetensors.torch import load_file, save_file

import tinystar_np as ts
from tinystar_np.cli.main import ask_gpt2, tinystar

GREEDY = ["--temperature", "0", "-n", "12"]


def command(*arguments: str) -> list[str]:
    program = "import sys; from tinystar_np.cli.main import tinystar; sys.exit(tinystar())"
    return [sys.executable, "-c", program, *arguments]


@pytest.fixture
def expected(talking_model: Path) -> str:
    model, tokenizer = ts.load(talking_model)
    return ts.generate(model, tokenizer, "Once upon", temperature=0, max_new_tokens=12)


def test_text_alone_goes_to_stdout(talking_model: Path, expected: str, capsys: Any) -> None:
    for extra in ([], ["--no-stream"]):
        assert ask_gpt2(["-m", str(talking_model), *GREEDY, *extra, "Once upon"]) == 0
        out, err = capsys.readouterr()
        assert (out, err) == (expected + "\n", "")


def test_words_without_quotes(talking_model: Path, expected: str, capsys: Any) -> None:
    assert tinystar(["ask", "-m", str(talking_model), *GREEDY, "Once", "upon"]) == 0
    assert capsys.readouterr().out == expected + "\n"


def test_json(talking_model: Path, expected: str, capsys: Any) -> None:
    assert tinystar(["ask", "-m", str(talking_model), *GREEDY, "--json", "Once upon"]) == 0
    result = json.loads(capsys.readouterr().out)
    model, tokenizer = ts.load(talking_model)
    ids = ts.generate_ids(model, tokenizer.encode("Once upon"), temperature=0, max_new_tokens=12)
    assert result["text"] == expected
    assert result["prompt"] == "Once upon"
    assert [token["id"] for token in result["tokens"]] == ids
    assert all(token["logprob"] <= 0 for token in result["tokens"])
    assert result["finish_reason"] in ("length", "end")


def test_seed_and_settings_reach_the_sampler(talking_model: Path, capsys: Any) -> None:
    model, tokenizer = ts.load(talking_model)
    settings = {"temperature": 3.0, "top_k": 100, "top_p": 0.9, "min_p": 0.001, "typical_p": 0.95, "seed": 7}
    settings |= {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "max_new_tokens": 20}
    settings |= {"frequency_penalty": 1.5, "presence_penalty": -0.5}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items() if "max" not in name]
    assert tinystar(["ask", "-m", str(talking_model), *flags, "-n", "20", "Hello"]) == 0
    wanted = ts.generate(model, tokenizer, "Hello", **settings)
    assert capsys.readouterr().out == wanted + "\n"
    flags += ["--logit-bias", "101=4.5", "--logit-bias=32=-100"]
    assert tinystar(["ask", "-m", str(talking_model), *flags, "-n", "20", "Hello"]) == 0
    biased = ts.generate(model, tokenizer, "Hello", **settings, logit_bias={101: 4.5, 32: -100})
    assert capsys.readouterr().out == biased + "\n" != wanted + "\n"


def test_stop(talking_model: Path, expected: str, capsys: Any) -> None:
    stop = expected[5:7]
    assert tinystar(["ask", "-m", str(talking_model), *GREEDY, "--stop", stop, "Once upon"]) == 0
    assert capsys.readouterr().out == expected[: expected.index(stop)] + "\n"


def test_statistics_go_to_stderr(talking_model: Path, expected: str, capsys: Any) -> None:
    assert tinystar(["ask", "-m", str(talking_model), *GREEDY, "--stats", "Once upon"]) == 0
    out, err = capsys.readouterr()
    assert out == expected + "\n"
    lines = {line.split()[0]: line for line in err.splitlines()}
    assert list(lines) == ["load", "prompt", "generation", "bandwidth", "weights", "memory"]
    assert lines["weights"].endswith("MB, 32 bits each (float32)")
    assert "   11 tokens" in err
    # 3 blocks of 12 D² weights, and the output layer, of four bytes each.
    assert f" {4 * (3 * 12 * 48**2 + 257 * 48) / 1e6:.2f} MB per token" in lines["bandwidth"]
    assert re.search(r"\d% of the \d+\.\d GB/s", lines["bandwidth"])


def test_statistics_of_other_types_and_of_one_token(talking_model: Path, capsys: Any) -> None:
    for dtype, size in (("bfloat16", 2), ("int8", 1)):
        arguments = ["ask", "-m", str(talking_model), *GREEDY, "--dtype", dtype, "--stats", "Once upon"]
        assert tinystar(arguments) == 0
        said = capsys.readouterr().err
        bits = re.search(r"weights .* MB, ([\d.]+) bits each \((\w+)\)", said)
        assert bits
        assert bits[2] == dtype
        assert 8 * size < float(bits[1]) < 8 * size + 3  # vectors stay float32, and there are scales
        found = re.search(r"([\d.]+) MB per token", said)
        weights = 3 * 12 * 48**2 + 257 * 48
        assert found
        assert size * weights <= float(found[1]) * 1e6 + 5e3 <= (size + 0.3) * weights  # scales are few
    assert tinystar(["ask", "-m", str(talking_model), "-n", "1", "--stats", "Once upon"]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["load", "prompt", "weights", "memory"]


SHORT_PIECES = (
    "import tinystar_np.cli.ask as a, tinystar_np.generation.scheduler as s; a.PREFILL = s.PREFILL = 16; "
)


def test_a_long_prompt_shows_how_far_it_is(talking_model: Path) -> None:
    ask = ["ask", "-m", str(talking_model), "--temperature", "0", "-n", "3"]
    long, short = "a" * 50, "a" * 32
    code, plain = terminals.on_terminal(*ask, long)
    assert code == 0
    code, shown = terminals.on_terminal(*ask, long, program=SHORT_PIECES + terminals.TINYSTAR)
    assert code == 0
    steps = re.findall(r"\rreading the prompt (\d+)/50\x1b\[K", shown)
    assert steps == ["0", "16", "32", "48"]
    assert shown.endswith("\r\x1b[K" + plain)  # it is gone before the text comes
    for quiet in ([*ask, short], [*ask, "-q", long]):
        assert "reading" not in terminals.on_terminal(*quiet, program=SHORT_PIECES + terminals.TINYSTAR)[1]


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@pytest.mark.parametrize("dash", [["-"], []])
def test_prompt_from_stdin(
    dash: list[str], talking_model: Path, expected: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"Once upon\n")
    assert tinystar(["ask", "-m", str(talking_model), *GREEDY, *dash]) == 0
    assert capsys.readouterr().out == expected + "\n"


def test_context_that_fills_up_is_said(talking_model: Path, capsys: Any) -> None:
    arguments = ["ask", "-m", str(talking_model), "--temperature", "0", "-n", "500", "a" * 90]
    assert tinystar(arguments) == 0
    assert "context of 96 tokens is full" in capsys.readouterr().err
    assert tinystar([*arguments, "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--temperature", "-1"],
        ["--temperature", "nan"],
        ["--top-p", "1.5"],
        ["--top-k", "-3"],
        ["--max-tokens", "-1"],
        ["--stop", ""],
        ["--repetition-penalty", "0"],
        ["--frequency-penalty", "-2.5"],
        ["--presence-penalty", "nan"],
        ["--logit-bias", "5=101"],
    ],
)
def test_usage_errors(arguments: list[str], capsys: Any) -> None:
    assert tinystar(["ask", *arguments, "hi"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    name = arguments[0].lstrip("-").replace("-", "_").replace("max_tokens", "max_new_tokens")
    assert f"error: {name} is" in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--top-k", "many"],
        ["--nonsense"],
        ["--dtype", "int3"],
        ["--logit-bias", "x=1"],
        ["--logit-bias", "5"],
    ],
)
def test_usage_errors_that_the_parser_finds(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        tinystar(["ask", *arguments, "hi"])
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert re.search(r"\nHelp: tinystar( ask)? --help\n$", err)
    assert len(err.splitlines()) == 2


def pickle_only(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def truncated(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def wrong_shape(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors["transformer.h.0.ln_1.weight"] = torch.ones(47)
    save_file(tensors, directory / "model.safetensors")


def unknown_type(directory: Path) -> None:
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | {"model_type": "parrot"}))


def no_config(directory: Path) -> None:
    (directory / "config.json").unlink()


def no_tokenizer(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("damage", "prompt", "message"),
    [
        (lambda directory: None, "", "prompt is empty"),
        (lambda directory: None, "a" * 97, "97 tokens.*96"),
        (pickle_only, "hi", "pytorch_model.bin"),
        (truncated, "hi", "model.safetensors"),
        (wrong_shape, "hi", r"transformer.h.0.ln_1.weight.*\(47,\).*\(48,\)"),
        (unknown_type, "hi", "model_type 'parrot'"),
        (no_config, "hi", "config.json"),
        (no_tokenizer, "hi", "no tokenizer"),
    ],
)
def test_failures_are_plain_lines(
    damage: Any, prompt: str, message: str, talking_model: Path, capfd: Any
) -> None:
    damage(talking_model)
    assert tinystar(["ask", "-m", str(talking_model), prompt]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 2
    assert re.search(message, err)
    assert tinystar(["ask", "-m", str(talking_model), "-v", prompt]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_missing_directory(tmp_path: Path, capsys: Any) -> None:
    assert tinystar(["ask", "-m", str(tmp_path / "nowhere"), "hi"]) == 1
    err = capsys.readouterr().err
    assert "nowhere" in err
    assert len(err.splitlines()) <= 2


def test_stdin_that_is_not_utf8(talking_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"abc\xff")
    assert tinystar(["ask", "-m", str(talking_model)]) == 1
    assert "not UTF-8 (byte 3)" in capsys.readouterr().err


def test_colour_only_where_asked(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["ask", "-m", str(tmp_path / "nowhere"), "hi"]
    for flag, coloured in (("auto", False), ("on", True), ("off", False)):
        tinystar([*arguments, "--color", flag])
        assert ("\x1b[31m" in capsys.readouterr().err) == coloured


def on_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    """Run with stdin, stdout and stderr on a terminal; return what it shows."""
    main, side = pty.openpty()
    process = subprocess.Popen(arguments, stdin=side, stdout=side, stderr=side, env=os.environ | environment)
    os.close(side)
    shown = b""
    while True:
        try:
            data = os.read(main, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    process.wait()
    os.close(main)
    return shown.decode()


def test_terminal(tmp_path: Path) -> None:
    assert "usage:" in on_terminal(command("ask"), {"TERM": "xterm"})
    nowhere = command("ask", "-m", str(tmp_path / "nowhere"), "hi")
    assert "\x1b[31merror" in on_terminal(nowhere, {"TERM": "xterm"})
    assert "\x1b[" not in on_terminal(nowhere, {"TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b[" not in on_terminal(nowhere, {"TERM": "dumb"})


def test_a_closed_pipe_ends_quietly(talking_model: Path) -> None:
    process = subprocess.Popen(
        command("ask", "-m", str(talking_model), "-n", "80", "--temperature", "0", "Hello"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_interruption_keeps_what_was_printed(talking_model: Path) -> None:
    """Ctrl-C once the first character is out; the program would otherwise wait for a second model call."""
    slow = (
        "import sys, time, tinystar_np.models.gpt2 as g; from tinystar_np.cli.main import tinystar;"
        "plain = g.GPT2.__call__;"
        "g.GPT2.__call__ = lambda *a, **k: (time.sleep(0.2), plain(*a, **k))[1]; sys.exit(tinystar())"
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            slow,
            "ask",
            "-m",
            str(talking_model),
            "-n",
            "60",
            "--temperature",
            "0",
            "Hello",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    first = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate()
    assert process.returncode == 130
    assert first + rest
    assert b"Traceback" not in err
