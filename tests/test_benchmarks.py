"""benchmarks/: it runs end to end on a tiny model, and llama.cpp gets the same model as everybody."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process import what lies in benchmarks/, as its scripts do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


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

    from tinystar_np.fast.threads import NAMED_IN

    for name in NAMED_IN:
        monkeypatch.setenv(name, "3")
    assert not set(NAMED_IN) & busy.users_environment().keys()


@pytest.mark.parametrize("shape", ["tiny", "tiny-llama"])
def test_llama_cpp_reads_the_same_model(
    shape: str, scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("gguf", "llama_cpp"):
        pytest.importorskip(package)
    checkpoint, engines = import_module("checkpoint"), import_module("engines")

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


@pytest.fixture
def transformers_engine(scripts: None, tmp_path: Path) -> Iterator[Any]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    checkpoint, engines = import_module("checkpoint"), import_module("engines")
    checkpoint.write("tiny", "float32", tmp_path)
    yield engines.Transformers(str(tmp_path), "float32", 1)
    torch.set_grad_enabled(True)


def test_transformers_is_measured_without_gradients(transformers_engine: Any) -> None:
    import torch

    assert not torch.is_grad_enabled()
    with_gradients = []
    transformers_engine.model.register_forward_pre_hook(
        lambda *_: with_gradients.append(torch.is_grad_enabled())
    )
    state, tokens = transformers_engine.prefill([[5, 17, 801]])
    transformers_engine.step(state, tokens)
    transformers_engine.generate([5, 17, 801], 3)
    assert with_gradients == [False] * 5


@pytest.mark.parametrize("call", ["prefill", "step", "generate"])
def test_transformers_is_not_measured_with_gradients(
    call: str, transformers_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    state, tokens = transformers_engine.prefill([[5, 17, 801]])
    given = {"prefill": ([[5, 17]],), "step": (state, tokens), "generate": ([5, 17], 3)}[call]
    torch.set_grad_enabled(True)
    monkeypatch.setattr(torch, "inference_mode", torch.enable_grad)
    model = transformers_engine.model
    monkeypatch.setattr(model, "generate", lambda ids, **_: model(ids))  # its own turns gradients off
    with pytest.raises(SystemExit, match="gradients on"):
        getattr(transformers_engine, call)(*given)


def sizes_of_a_token(model: Any, per_token: int) -> int:
    """Count the numbers of the matrices that a token is multiplied by: of equal experts the first ones."""
    tied = model.config.tie_word_embeddings
    return sum(
        prod(array.shape)
        for name, array in model.weights.items()
        if len(array.shape) == 2
        and "positions" not in name
        and (tied or not name.startswith("embedding."))
        and int((re.findall(r"experts\.(\d+)", name) or [0])[0]) < per_token
    )


SMALL = {
    "tied": ("gpt2", (2, 64, 2)),
    "joined": ("llama_like", ("llama", "LlamaForCausalLM", (1, 576, 9, 3, 300, 300))),
    "experts": ("olmoe", ((2, 64, 4, 4, 32, 300),)),
    "latent": ("deepseek_v2_lite", ((2, 64, 4, 4, 32, 300),)),
}
LATENT = {"moe_intermediate_size": 32, "kv_lora_rank": 16}


@pytest.mark.parametrize("kind", SMALL)
def test_the_floor_is_what_a_token_is_multiplied_by(
    kind: str, scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, floor, shapes = map(import_module, ("engines", "floor", "shapes"))
    make, sizes = SMALL[kind]
    shape = getattr(shapes, make)(*sizes, **(LATENT if kind == "latent" else {}))
    monkeypatch.setitem(shapes.SHAPES, kind, shape)
    import_module("checkpoint").write(kind, "float32", tmp_path)
    for engine in (engines.TinyStar, engines.TinyStarInMemory):
        one = engine(str(tmp_path), "float32", 1)
        state, tokens = one.prefill([[5, 17, 80], [1, 2, 3]])
        with floor.products_made() as products:
            one.step(state, tokens)
        assert {rows for rows, _ in products} <= {1, 2}  # two texts may choose different experts
        multiplied = sum(rows * prod(matrix.shape) for rows, matrix in products)
        per_token = shape.get("num_experts_per_tok", 1)
        assert multiplied == 2 * sizes_of_a_token(one.model, per_token)
        if kind == "joined":
            assert (576, (9 + 3 + 3) * 64) in [matrix.shape for _, matrix in products]
        with floor.products_made() as products:
            one.prefill([[5, 17, 80, 6]])
        assert products[0].rows == 4
        assert products[-1] == (1, one.model.head.weight)  # nobody asks for other logits
        found = floor.of_tokens(one, [[5, 17], [80, 2]], 3) | {"prompt": floor.of_prompt(one, [[5, 6]], 2)}
        assert [len(found[part]) for part in ("whole", "bare")] == [3, 3]
        assert [len(values) for values in found["prompt"].values()] == [2, 2]


def test_the_floor_from_end_to_end(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "run.py"),
        "--shape",
        "tiny",
        "--threads",
        "1",
        "--rounds",
        "2",
    ]
    command += ["--only", "floor", "--new", "3", "--prompt", "8", "--batch", "2", "--prefill", "9"]
    command += ["--theirs", "tinystar_np", "--workdir", str(tmp_path), "--json", str(tmp_path / "found.json")]
    env = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "bare products" in done.stdout
    assert "OPENBLAS_CORETYPE=Haswell" in done.stdout
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    engines = ("tinystar_np", "tinystar_np_in_memory")
    calls = ("a token of 2 texts", "a prompt of 9")
    assert [row["name"] for row in rows] == [f"{call}, {engine}" for call in calls for engine in engines]
    for row in rows:
        assert len(row["ours"]) == (2 if "prompt" in row["name"] else 3)
        assert row["ratios"] == [bare / whole for whole, bare in zip(row["ours"], row["theirs"], strict=True)]
