"""benchmarks/: it runs end to end on a tiny model, and the floor is what a token is multiplied by."""

import argparse
import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinystar_np as ts
from tinystar_np.inspection.engines import EngineProcess
from tinystar_np.kernels.coded_matrix import CodedMatrix

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process import what lies in benchmarks/, as its scripts do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_from_end_to_end(tmp_path: Path) -> None:
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

    monkeypatch.setattr(busy, "STARTED_WITH", busy.STARTED_WITH | dict.fromkeys(NAMED_IN, "3"))
    assert not set(NAMED_IN) & busy.environment(None).keys()


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
    "joined": ("llama_like", ("llama", (1, 576, 9, 3, 300, 300))),
    "experts": ("llama_like", ("olmoe", (2, 64, 4, 4, 32, 300))),
    "latent": ("llama_like", ("deepseek_v2", (2, 64, 4, 4, 32, 300))),
}


@pytest.mark.parametrize("kind", SMALL)
def test_the_floor_is_what_a_token_is_multiplied_by(
    kind: str, scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines, floor, shapes = map(import_module, ("engines", "floor", "shapes"))
    make, sizes = SMALL[kind]
    latent = {**shapes.DEEPSEEK_V2, "moe_intermediate_size": 32, "kv_lora_rank": 16}
    shape = getattr(shapes, make)(*sizes) | {"experts": shapes.OLMOE, "latent": latent}.get(kind, {})
    monkeypatch.setitem(shapes.SHAPES, kind, shape)
    import_module("checkpoint").write(kind, "float32", tmp_path)
    for engine in (engines.TinyStar(str(tmp_path)), engines.TinyStarInMemory(str(tmp_path))):
        engine.load("float32", 1)
        cache = engine.model.new_cache(2)
        engine.model([[5, 17, 80], [1, 2, 3]], cache=cache)
        with floor.products_made() as products:
            engine.model([[4], [7]], cache=cache, last_only=True)
        assert {rows for rows, _ in products} <= {1, 2}  # two texts may choose different experts
        multiplied = sum(rows * prod(matrix.shape) for rows, matrix in products)
        per_token = shape.get("num_experts_per_tok", 1)
        assert multiplied == 2 * sizes_of_a_token(engine.model, per_token)
        if kind == "joined":
            assert (576, (9 + 3 + 3) * 64) in [matrix.shape for _, matrix in products]
        with floor.products_made() as products:
            engine.turn([[5, 17, 80, 6]], 0)
        assert max(rows for rows, _ in products) == 4
        assert products[-1] == (1, engine.model.head.weight)  # nobody asks for other logits
        assert [len(values) for values in engine.floor_of_tokens([[5, 17], [80, 2]], 3)] == [3, 3]
        assert [len(values) for values in engine.floor_of_prompt([[5, 6]], 2)] == [2, 2]


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


def test_packed_types_take_turns_with_float32() -> None:
    command = [sys.executable, str(BENCHMARKS / "packed.py"), "tiny", "Q8_0", "MXFP4", "--rounds", "1"]
    done = subprocess.run([*command, "--new", "2", "--prefill", "4"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("Q8_0", "MXFP4"):
        assert re.search(rf"tokens/s +{name} +float32 +ratio +range\ngenerate 2 .*\nread 4 ", done.stdout)


def test_a_checkpoint_in_mxfp4(scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 32, "num_local_experts": 4}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 300}
    shapes = import_module("shapes")
    monkeypatch.setitem(shapes.SHAPES, "oss", {"model_type": "gpt_oss", **sizes, **heads})
    import_module("checkpoint").write("oss", "mxfp4", tmp_path)
    model, _ = ts.load(tmp_path)
    assert isinstance(model.weights["blocks.0.feed_forward.experts.3.down.weight"], CodedMatrix)
    assert np.isfinite(model([1, 2, 3])).all()


def test_a_vision_encoder_beside_transformers(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "vision.py"), "--encoder", "tiny", "--images", "1", "3"]
    command += ["--rounds", "2", "--threads", "1", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    apart = re.search(r"vectors apart by (\S+) of the largest", done.stdout)
    assert apart is not None
    assert float(apart[1]) < 1e-5
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["an image", "3 images at once", "peak memory"]
    for row in rows:
        assert row["ratios"] == [b / a for a, b in zip(row["ours"], row["theirs"], strict=True)]
        assert len(row["ours"]) == (1 if row["unit"] == "GB" else 2)


def test_nothing_is_measured_of_another_encoder(
    scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = import_module("vision")
    vision.write("tiny", tmp_path / "tiny")
    ours, theirs = vision.Ours(str(tmp_path / "tiny")), vision.Theirs(str(tmp_path / "tiny"))
    for side in (ours, theirs):
        side.load("float32", 1)
    ours.model.final_norm.eps = 0.5
    monkeypatch.setattr(
        vision, "running", lambda name, *_: nullcontext(Asked({"Ours": ours}.get(name, theirs)))
    )
    options = argparse.Namespace(threads=1, images=[1], rounds=1, color="never", quiet=True)
    with pytest.raises(SystemExit, match="two different encoders"):
        vision.compare(options, tmp_path / "tiny")


class Asked:
    """A side of the benchmark in this process, asked as one in another is."""

    def __init__(self, side: Any) -> None:
        self.side = side

    def ask(self, method: str, **given: Any) -> Any:
        return getattr(self.side, method)(**given)


def test_openblas_is_told_how_long_to_wait_before_an_engine_imports_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(
        "import os\n"
        "TOLD = os.environ.get('OPENBLAS_THREAD_TIMEOUT')  # which NumPy's OpenBLAS reads as it is imported\n"
        "class Engine:\n"
        "    def __init__(self, directory): pass\n"
        "    def told(self): return TOLD\n"
    )
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(BENCHMARKS.parent)]))
    with EngineProcess(tmp_path, "own", "own:Engine") as engine:
        assert engine.ask("told") == "16"


@pytest.mark.usefixtures("scripts")
def test_forms_of_paged_attention_agree() -> None:
    script = import_module("paged")
    for batch in script.BATCHES[:2] + script.BATCHES[-3:]:
        tables, lengths, blocks = batch.tables()
        assert tables.max() < blocks
        assert (lengths <= tables.shape[1] * script.SIZE).all()
        draw = np.random.default_rng(0)
        k, v = (
            script.Paged(draw.standard_normal((2, blocks * script.SIZE, 8)), tables, lengths, script.SIZE)
            for _ in "kv"
        )
        q = draw.standard_normal((batch.rows, 4, 1, 8))
        expected, *others = (attend(q, k, v, 0.3) for attend in script.FORMS.values())
        for other in others:
            np.testing.assert_allclose(other, expected, atol=1e-6)
    found = script.measure("tiny", script.Batch(2, 40, shared=16), rounds=1)
    assert found.keys() == script.FORMS.keys()
    assert all(time > 0 for time in found.values())


def test_ranks_beside_one_process(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    command = [sys.executable, str(BENCHMARKS / "ranks.py"), "tiny-llama", "--rounds", "1", "--dtype", "int8"]
    command += ["--new", "2", "--prompt", "4", "--prefill", "8", "--batch", "2", "--wire"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "found.json")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    sides = ["one process", "one process, one thread", "layers, 2 ranks", "heads, 2 ranks"]
    tasks = ["decode", "decode, 2 at once", "prefill 8"]
    speeds = [row for row in rows if "speed" in row]
    assert [(row["task"], row["side"]) for row in speeds] == [
        (task, side) for task in tasks for side in sides
    ]
    for i, row in enumerate(speeds):
        assert row["ratio"] == [row["speed"][0] / speeds[i - i % 4]["speed"][0]]
    passed = [row for row in rows if "us" in row]
    assert [row["what"] for row in passed[:2]] == ["a message of 576 numbers", "a sum of 576 numbers"]
    assert all(min(row["us"]) > 0 for row in passed)
