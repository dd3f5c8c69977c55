"""``tinystar look``: the terminal, JSON, the page, and wrong arguments."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from parity import reference_model, save
from small_models import ATTENTION
from terminals import on_terminal

from tinystar_np.cli.main import tinystar

PROMPT = "Once upon a time there was a little"


def test_the_essentials(capsys: Any) -> None:
    assert tinystar(["look", PROMPT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{PROMPT}→ girl"
    layers = [line for line in lines if line.startswith("layer ") and "‘" in line and "█" in line][:6]
    assert [line.split()[1] for line in layers] == list("012345")
    assert all(line.count("‘") == 5 for line in layers)
    start = next(i for i, line in enumerate(lines) if line.startswith("Who wrote"))
    writers = lines[start + 2 : start + 12]
    assert len(writers) == 10
    values = [float(re.findall(r"[+−]\d+\.\d+", line)[0].replace("−", "-")) for line in writers]
    assert [abs(value) for value in values] == sorted((abs(value) for value in values), reverse=True)
    for line in writers:
        assert line.count("‘") == (3 if " head " in line else 0)
    assert lines[-1].startswith("47 others add")


def test_json_has_all_of_it(capsys: Any) -> None:
    assert tinystar(["look", "--json", "-n", "2", PROMPT]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["texts"][:2] == ["Once", " upon"]
    assert len(found["layers"]) == 7
    assert len(found["layers"][0]["likeliest"]) == 5
    assert abs(sum(writer["value"] for writer in found["writers"]) - found["difference"]) < 1e-3


def test_the_page(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda uri: not opened.append(uri))
    page = tmp_path / "page.html"
    assert tinystar(["look", PROMPT, "-o", str(page), "--open"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert str(page) in err
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert opened == [page.as_uri()]
    data = page.read_text(encoding="utf-8").split('type="application/json">')[1].split("</script>")[0]
    assert len(json.loads(data)["sampler"]) == 12
    monkeypatch.setattr("webbrowser.open", lambda uri: False)
    assert tinystar(["look", PROMPT, "-n", "0", "-q", "-o", str(page), "--open"]) == 1
    assert f"{page}: no browser could be started" in capsys.readouterr().err


def test_the_page_on_stdout(capfdbinary: Any) -> None:
    assert tinystar(["look", PROMPT, "-n", "0", "-o", "-"]) == 0
    out, err = capfdbinary.readouterr()
    assert out.startswith(b"<!doctype html>")
    assert not err
    assert tinystar(["look", PROMPT, "-o", "-", "--json"]) == 2


@pytest.mark.parametrize("columns", [40, 50, 80])
def test_a_terminal(columns: int) -> None:
    """No line is longer than the terminal is wide, and no token is broken."""
    code, text = on_terminal("look", "Once upon a time, in a small village", "-q", columns=columns)
    assert code == 0
    text = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", text)
    lines = text[text.index("What it would say") :].splitlines()
    assert max(map(len, lines)) <= columns + 2  # the last one is a sentence
    assert all(line.count("‘") == line.count("’") for line in lines)
    assert text.count("█") == 0 if columns < 60 else text.count("█") > 50


def test_a_model_of_few_parts(tmp_path: Path, capsys: Any) -> None:
    save(
        reference_model("llama", **{**ATTENTION, "num_hidden_layers": 1, "num_attention_heads": 2}), tmp_path
    )
    assert tinystar(["look", "-m", str(tmp_path), "--ids", "5,9,2"]) == 0
    assert re.search(r"\nAll together [+−]\d", capsys.readouterr().out)


def test_ids_for_a_model_without_tokenizer(shared: Path, capsys: Any) -> None:
    model = str(shared / "checkpoints" / "gpt-nano-sort")
    assert tinystar(["look", "-m", model, "--ids", "2,1,0,2,1,0"]) == 0
    assert capsys.readouterr().out.startswith("210210→0\n")
    assert tinystar(["look", "-m", model, "210"]) == 1
    assert "token ids" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ids", "a,b"], "token ids must be whole numbers"),
        (["-o", "nowhere/page.html", "x"], "there is no directory"),
        (["--temperature", "-1", "x"], "temperature"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, capsys: Any) -> None:
    assert tinystar(["look", *arguments]) == 2
    assert words in capsys.readouterr().err
