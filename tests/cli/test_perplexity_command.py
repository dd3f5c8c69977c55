"""``tinystar perplexity``: its table, its JSON, its page, and what it refuses."""

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from terminals import on_terminal

import tinystar_np as ts
from tinystar_np.cli.main import tinystar
from tinystar_np.kernels.softmax import log_softmax

TEXT = "Once upon a time there was a little girl.\nShe had a dog, né Rex.\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def by_hand(window: int = 512, stride: int = 512) -> float:
    """The surprise of the text, a pass for each window."""
    model, tokenizer = ts.load("stories")
    ids = [0, *tokenizer.encode(TEXT)]
    nats, end = 0.0, 0
    while end + 1 < len(ids):
        known, end = end, min(end + (stride if end else window), len(ids) - 1)
        begin = max(0, end - window)
        rows = log_softmax(model(ids[begin:end]))
        nats -= sum(float(rows[i - 1 - begin][ids[i]]) for i in range(known + 1, end + 1))
    return nats


def test_the_table(file: Path, capsys: Any) -> None:
    assert tinystar(["perplexity", str(file)]) == 0
    out, err = capsys.readouterr()
    tokens = len(ts.load("stories")[1].encode(TEXT))
    nats, size, words = by_hand(), len(TEXT.encode()), len(TEXT.split())
    assert [line.split() for line in out.splitlines()] == [
        ["bits", "per", "byte", f"{nats / math.log(2) / size:.4f}"],
        ["nats", "per", "token", f"{nats / tokens:.4f}"],
        ["perplexity", f"{math.exp(nats / tokens):.2f}", "per", "token"],
        [f"{math.exp(nats / words):.2f}", "per", "word"],
    ]
    assert err == f"{tokens} tokens, {words} words, {size} bytes; 1 window of at most 512 tokens\n"


def test_json_and_stdin(file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tinystar(["perplexity", "--json", str(file), "--window", "12", "--stride", "5"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert (found["window"], found["stride"]) == (12, 5)
    assert found["windows"] == 1 + math.ceil((found["tokens"] - 12) / 5)
    assert found["nats"] == pytest.approx(by_hand(12, 5), rel=1e-5)
    assert found["nats"] != pytest.approx(by_hand(), rel=1e-3)
    assert found["bits_per_byte"] == pytest.approx(found["nats"] / math.log(2) / found["bytes"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode()), encoding="utf-8"))
    assert tinystar(["perplexity", "--json", "-", "--window", "12", "--stride", "5"]) == 0
    assert json.loads(capsys.readouterr().out) == {**found, "file": "-"}


def test_the_page(file: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    assert tinystar(["perplexity", str(file), "--window", "16", "--page", str(page), "--json"]) == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    data = json.loads(page.read_text("utf-8").split('type="application/json">')[1].split("</script>")[0])
    assert "".join(data["texts"]) == TEXT
    assert sum(data["bits"]) * math.log(2) == pytest.approx(figures["nats"], rel=1e-3)
    assert data["figures"]["nats"] == figures["nats"]
    assert data["windows"] == [*range(0, figures["tokens"], 16)]
    assert all(len(top) == 5 for top in data["top"])
    assert f"{page}: {figures['tokens']} tokens, " in err
    monkeypatch.setattr("tinystar_np.cli.perplexity.MOST_TOKENS", 7)
    assert tinystar(["perplexity", str(file), "--page", str(page), "-q"]) == 0
    data = json.loads(page.read_text("utf-8").split('type="application/json">')[1].split("</script>")[0])
    assert len(data["texts"]) == 7


def test_progress_on_a_terminal(file: Path) -> None:
    code, shown = on_terminal("perplexity", str(file), "--window", "8")
    assert code == 0
    tokens = len(ts.load("stories")[1].encode(TEXT))
    told = re.findall(rf"(\d+)/{tokens} tokens, \d+\.\d{{3}} nats each\x1b\[K", shown)
    assert [int(count) for count in told] == [*range(8, tokens, 8), tokens]
    assert on_terminal("perplexity", str(file), "-q")[1].count("/") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--window", "0"], 2, "--window 0: it must be a number, 1 or more"),
        (["--stride", "-3"], 2, "--stride -3: it must be a number, 1 or more"),
        (["--window", "513"], 1, "it must be from 1 to 512, the model's context"),
        (["--window", "8", "--stride", "9"], 1, "it must be from 1 to the window, 8"),
        (["--page", "/nowhere/at/all.html"], 2, "there is no directory /nowhere/at"),
    ],
)
def test_what_cannot_be(arguments: list[str], code: int, says: str, file: Path, capsys: Any) -> None:
    assert tinystar(["perplexity", str(file), *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err


def test_files_that_are_no_texts(tmp_path: Path, capsys: Any) -> None:
    bad = tmp_path / "bad.txt"
    for content, says in ((b"", "The text is empty"), (b"a\xff", "is not UTF-8 (byte 1)")):
        bad.write_bytes(content)
        assert tinystar(["perplexity", str(bad)]) == 1
        assert says in capsys.readouterr().err
    assert tinystar(["perplexity", str(tmp_path / "none.txt")]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert tinystar(["perplexity", str(tmp_path)]) == 1
    assert "this is no file with a text" in capsys.readouterr().err


def test_a_model_without_a_tokenizer(talking_model: Path, file: Path, capsys: Any) -> None:
    (talking_model / "tokenizer.json").unlink()
    assert tinystar(["perplexity", "-m", str(talking_model), str(file)]) == 1
    assert "has no tokenizer files, so it cannot read a text" in capsys.readouterr().err


def test_several_files(file: Path, capsys: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("The sun is big. The sun is red.", encoding="utf-8")
    assert tinystar(["perplexity", "--json", str(file), str(other), "--window", "12"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for path, its in zip((file, other), found, strict=True):
        assert tinystar(["perplexity", "--json", str(path), "--window", "12"]) == 0
        assert json.loads(capsys.readouterr().out) == its
    assert tinystar(["perplexity", str(file), str(other), "--window", "12"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()[-3:]]
    for row, its in zip(rows, found, strict=False):
        assert row[:3] == [its["file"], str(its["tokens"]), f"{its['bits_per_byte']:.4f}"]
    nats, tokens, size = (sum(its[name] for its in found) for name in ("nats", "tokens", "bytes"))
    assert rows[2][:4] == ["all", str(tokens), f"{nats / math.log(2) / size:.4f}", f"{nats / tokens:.4f}"]
    assert f"{tokens} tokens" in err


def test_what_several_files_cannot_have(file: Path, capsys: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert tinystar(["perplexity", str(file), str(file), "--page", str(page)]) == 2
    assert "a page shows one text, and 2 files are given" in capsys.readouterr().err
    assert tinystar(["perplexity", "-", "-"]) == 2
    assert "- is given twice" in capsys.readouterr().err
    empty = tmp_path / "empty.txt"
    empty.write_text("", encoding="utf-8")
    assert tinystar(["perplexity", str(file), str(empty)]) == 1
    assert f"{empty}: The text is empty" in capsys.readouterr().err
