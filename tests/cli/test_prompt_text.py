"""Words and the text of a pipe or a file make one prompt; and the settings that a model recommends."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from terminals import TINYSTAR, Terminal, on_terminal
from transformers import GenerationConfig

import tinystar_np as ts
from tinystar_np.cli.main import tinystar
from tinystar_np.generation.model_settings import read_model_settings

GREEDY = ["--temperature", "0", "-n", "12"]
BOTH = "Sum up:\n\none\ntwo"


def ask(*arguments: str, **streams: Any) -> tuple[str, str]:
    """Run the command in a process of its own: the prompt that it had, and what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", TINYSTAR, "ask", *GREEDY, "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **streams,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return result["prompt"], done.stderr


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        (["Sum up:"], BOTH),
        (["Sum", "up:"], BOTH),
        (["Sum up:", "-"], BOTH),
        (["-", "In short:"], "one\ntwo\n\nIn short:"),
        (["-"], "one\ntwo"),
        ([], "one\ntwo"),
        (["a", "-", "b"], "a - b\n\none\ntwo"),
    ],
)
def test_a_pipe_and_words_are_joined(words: list[str], prompt: str) -> None:
    assert ask(*words, input="one\ntwo\n") == (prompt, "")


def test_other_kinds_of_stdin(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("one\ntwo\n")
    with file.open() as opened:
        assert ask("Sum up:", stdin=opened)[0] == BOTH
    assert ask("Sum up:", stdin=subprocess.DEVNULL)[0] == "Sum up:"
    assert ask("Sum up:", input="")[0] == "Sum up:"
    closed = subprocess.run(
        f"'{sys.executable}' -c '{TINYSTAR}' ask --json -n 1 'Sum up:' <&-",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(closed.stdout)["prompt"] == "Sum up:"
    code, shown = on_terminal("ask", *GREEDY, "--json", "Sum up:")
    assert code == 0
    assert json.loads(shown)["prompt"] == "Sum up:"


def test_a_pipe_that_stays_silent_is_said() -> None:
    reading, writing = os.pipe()
    terminal = Terminal("ask", *GREEDY, "Sum up:", stdin=reading)
    os.close(reading)
    terminal.wait_for("Waiting for the text on stdin, too; `< /dev/null` says that there is none.")
    os.write(writing, b"one\n")
    os.close(writing)
    assert terminal.end() == 0
    terminal.close()


TEMPLATE = "{{ messages[0].content }}"


def test_ask_says_that_the_model_answers(talking_model: Path, capsys: Any) -> None:
    arguments = ["ask", "-m", str(talking_model), *GREEDY, "Once upon"]
    assert tinystar(arguments) == 0
    plain = capsys.readouterr()
    assert plain.err == ""
    (talking_model / "chat_template.jinja").write_text(TEMPLATE)
    assert tinystar(arguments) == 0
    said = capsys.readouterr()
    assert said.out == plain.out
    assert said.err.count("\n") == 1
    assert f"tinystar chat -m {talking_model}" in said.err
    assert tinystar([*arguments, "-q"]) == 0
    assert capsys.readouterr().err == ""
    (talking_model / "chat_template.jinja").write_bytes(b"\xff")  # hinders no one
    assert tinystar(arguments) == 0
    assert capsys.readouterr() == plain


NAMED = {"do_sample": True, "temperature": 3.0, "top_p": 0.7, "repetition_penalty": 1.3, "eos_token_id": 256}


def recommend(directory: Path, **named: Any) -> None:
    (directory / "generation_config.json").write_text(json.dumps(named))


def test_the_models_settings_are_used_on_request(talking_model: Path, capsys: Any) -> None:
    recommend(talking_model, **NAMED)
    model, tokenizer = ts.load(talking_model)

    def shown(*options: str) -> str:
        assert tinystar(["ask", "-m", str(talking_model), "-n", "20", "--seed", "5", *options, "Once"]) == 0
        return str(capsys.readouterr().out)

    def made(**settings: Any) -> str:
        settings = {"max_new_tokens": 20, "seed": 5, **settings}
        return ts.generate(model, tokenizer, "Once", **settings) + "\n"

    usual = {"temperature": 0.8, "top_k": 40, "top_p": 0.95}
    own = {"temperature": 3.0, "top_p": 0.7, "repetition_penalty": 1.3}
    assert shown() == made(**usual)
    assert shown("--model-settings") == made(**own) != made(**usual)
    # An option counts more, even with the value that it would have without being named.
    assert shown("--model-settings", "--top-k", "40") == made(**own, top_k=40)
    assert shown("--model-settings", "--top-p", "0.95") == made(**{**own, "top_p": 0.95})
    assert shown("--model-settings", "--temp", "0") == made(**{**own, "temperature": 0})


def test_settings_are_read_as_transformers_reads_the_file(talking_model: Path) -> None:
    recommend(talking_model, **NAMED, top_k=7, min_p=0.1, typical_p=0.9, no_repeat_ngram_size=3)
    config = GenerationConfig.from_pretrained(talking_model)
    found = read_model_settings(talking_model)
    assert len(found) == 7
    assert found == {name: getattr(config, name) for name in found}


def test_what_a_file_does_not_name(talking_model: Path, capsys: Any) -> None:
    recommend(talking_model, do_sample=False, temperature=0.6, top_p=None)
    assert read_model_settings(talking_model) == {"temperature": 0.0}
    recommend(talking_model, top_p=0.5)  # taken to mean drawing
    found = read_model_settings(talking_model)
    assert (found["temperature"], found["top_k"], found["top_p"]) == (1.0, 0, 0.5)
    recommend(talking_model, repetition_penalty=1.2)
    assert read_model_settings(talking_model) == {"repetition_penalty": 1.2}
    for nothing in (lambda: recommend(talking_model, eos_token_id=256), (talking_model / NAME).unlink):
        nothing()
        assert read_model_settings(talking_model) == {}
        assert tinystar(["ask", "-m", str(talking_model), "--model-settings", *GREEDY, "Once"]) == 0
        assert "recommends no settings" in capsys.readouterr().err


NAME = "generation_config.json"


def test_settings_in_a_gguf_file(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    for named in (True, False):
        writer = gguf.GGUFWriter(str(tmp_path / "model.gguf"), "llama")
        if named:
            writer.add_float32(gguf.Keys.General.SAMPLING_TEMP, 0.5)
            writer.add_int32(gguf.Keys.General.SAMPLING_TOP_K, 20)
            writer.add_float32(gguf.Keys.General.SAMPLING_MIN_P, 0.125)
            writer.add_float32(gguf.Keys.General.SAMPLING_PENALTY_REPEAT, 1.25)
        writer.add_tensor("token_embd.weight", np.zeros((2, 32), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        off = {"top_p": 1.0, "typical_p": 1.0}
        wanted = {"temperature": 0.5, "top_k": 20, "min_p": 0.125, "repetition_penalty": 1.25, **off}
        assert read_model_settings(tmp_path / "model.gguf") == (wanted if named else {})


def test_a_value_that_cannot_be(talking_model: Path, capsys: Any) -> None:
    for named in ({"temperature": -1}, {"top_k": "many"}, {"top_p": [0.5]}, {"min_p": 1e999}):
        recommend(talking_model, do_sample=True, **named)
        assert tinystar(["ask", "-m", str(talking_model), *GREEDY, "Once"]) == 0  # nobody asked for it
        capsys.readouterr()
        assert tinystar(["ask", "-m", str(talking_model), "--model-settings", "-n", "2", "Once"]) == 1
        err = capsys.readouterr().err
        assert f"{NAME}: {next(iter(named))} is" in err
        assert len(err.splitlines()) <= 2


OF_IMAGES = ["PIL", "tinystar_np.vision.processor", "tinystar_np.vision.reading"]


@pytest.mark.parametrize(
    ("command", "without"),
    [
        (
            "ask",
            [
                "tinystar_np.generation.conversation",
                "tinystar_np.cli.chat",
                "readline",
                "difflib",
                *OF_IMAGES,
            ],
        ),
        ("chat", ["readline", "tinystar_np.inspection.speed", "tinystar_np.cli.ask", *OF_IMAGES]),
    ],
)
def test_only_what_is_needed_is_imported(command: str, without: list[str], talking_model: Path) -> None:
    (talking_model / "chat_template.jinja").write_text(TEMPLATE)
    arguments = [command, "-m", str(talking_model), *GREEDY, "Hi"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", TINYSTAR, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tinystar_np.generation.loop" in imported
    assert not imported.intersection(without)
