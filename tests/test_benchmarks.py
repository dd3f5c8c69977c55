"""benchmarks/: it runs end to end on a tiny model, and llama.cpp gets the same model as everybody."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = [
        sys.executable,
        str(BENCHMARKS / "run.py"),
        "--shape",
        "tiny",
        "--rounds",
        "1",
        "--threads",
        "1",
    ]
    command += ["--ours", "tinystar_np:int8", "--theirs", "tinystar_np", "--workdir", str(tmp_path)]
    command += ["--only", "decode", "generate", "--new", "4", "--prompt", "8", "--batch", "1", "2"]
    command += ["--json", str(tmp_path / "found.json")]
    command += ["--plot", str(tmp_path / "picture.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "times better" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["about"]["model"] == "tiny"
    names = ["decode 4 tokens after 8", "peak memory of that", "decode 2 × 4 tokens after 8"]
    assert [row["name"] for row in found["rows"]] == [*names, "generate 4 tokens after 8"]
    for row in found["rows"]:
        assert len(row["ours"]) == len(row["theirs"]) == len(row["ratios"]) == 1
        better = (
            row["theirs"][0] / row["ours"][0] if row["unit"] == "GB" else row["ours"][0] / row["theirs"][0]
        )
        assert row["ratio"] == pytest.approx(better)
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_beside_busy_neighbours(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--shape", "tiny", "--rounds", "1"]
    command += ["--only", "busy", "--new", "2", "--prompt", "4", "--theirs", "tinystar_np:int8"]
    command += ["--workdir", str(tmp_path), "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads((tmp_path / "found.json").read_text())["rows"]}
    sides = ("tinystar_np", "tinystar_np with one thread", "tinystar_np int8")
    loads = ("one busy process", "two", "one that copies memory")
    kept = [f"{side}, beside {busy}" for side in sides for busy in loads]
    against = [f"than {other}, beside {busy}" for other in sides[1:] for busy in ("nobody", *loads)]
    assert list(rows) == kept + against
    for busy in loads:  # the same runs stand in both tables
        assert rows[f"than {sides[1]}, beside {busy}"]["ours"] == rows[f"{sides[0]}, beside {busy}"]["ours"]
        assert rows[f"than {sides[1]}, beside {busy}"]["theirs"] == rows[f"{sides[1]}, beside {busy}"]["ours"]


def test_neighbours_are_busy_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import busy  # type: ignore[import-not-found]

    started: list[Any] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            started.append(self)

    monkeypatch.setattr(busy.subprocess, "Popen", Watched)
    with busy.neighbours(busy.NEIGHBOURS["two"]):
        assert [each.poll() for each in started] == [None, None]
    assert all(each.returncode for each in started)
    with pytest.raises(SystemExit, match="has ended"), busy.neighbours(["pass"]):
        pass


def test_who_may_choose_names_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import busy  # type: ignore[import-not-found]

    from tinystar_np.threads import NAMED_IN

    for name in NAMED_IN:
        monkeypatch.setenv(name, "3")
    assert not set(NAMED_IN) & busy.users_environment().keys()


@pytest.mark.parametrize("shape", ["tiny", "tiny-llama"])
def test_llama_cpp_reads_the_same_model(shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("gguf", "llama_cpp"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import checkpoint  # type: ignore[import-not-found]
    import engines  # type: ignore[import-not-found]

    # Large enough that attention looks somewhere: at 0.02 it would not matter how q and k are laid out.
    def numbers(ours: str, drawn: np.ndarray) -> np.ndarray:
        return 1 + 0.3 * drawn if ours.endswith("gain") else 0.2 * drawn

    monkeypatch.setattr(checkpoint, "numbers", numbers)
    checkpoint.write(shape, "float32", tmp_path)
    ours: Any = engines.TinyStar(str(tmp_path), "float32", 1)
    theirs: Any = engines.LlamaCpp(str(tmp_path), "float32", 1)
    ids = [5, 17, 23000, 801, 17, 64, 9999, 3]
    assert theirs.generate(ids, 12) == ours.generate(ids, 12)
    assert len(set(ours.generate(ids, 12))) > 6  # it does not say the same over and over
    _, token = theirs.prefill([ids])
    assert token == ours.prefill([ids])[1]
    logits = theirs._llama._ctx.get_logits()
    reached = np.ctypeslib.as_array(logits, shape=(ours.model.vocab_size,))
    expected = ours.model([ids], last_only=True)[0, -1]
    # llama.cpp keeps keys and values in float16, and looks GELU up in a table of float16.
    assert np.abs(reached - expected).max() < 3e-3 * np.abs(expected).max()
    # Narrow files are of the same model, too.
    assert engines.LlamaCpp(str(tmp_path), "int8", 1).prefill([ids])
