"""``tinystar bench``: what it measures, how the figures follow from the turns, and transformers beside it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parity import save
from transformers import LlavaConfig
from vision_parity import IMAGE, TEXT, VISION, whole_model

import tinystar_np as ts
from tinystar_np.cli import bench
from tinystar_np.cli.main import tinystar
from tinystar_np.inspection import speed
from tinystar_np.inspection.engine_process import Transformers
from tinystar_np.inspection.engines import TinyStarEngine
from tinystar_np.inspection.speed import Task, by_turns, bytes_per_token
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig

SHORT = ["--rounds", "2", "--new", "3", "--batch", "1", "2"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "load_warning", lambda: None)
    monkeypatch.setattr(speed, "BARE", (1, 64))


def run(capsys: Any, *arguments: str, code: int = 0) -> tuple[str, str]:
    assert tinystar(["bench", *arguments]) == code
    out, err = capsys.readouterr()
    return out, err


def test_output(talking_model: Path, capsys: Any) -> None:
    out, err = run(capsys, str(talking_model), *SHORT)
    assert err == ""
    title, table, notes = out.split("\n\n")
    assert title.startswith(f"{talking_model}: ")
    head, *rows = table.splitlines()
    assert head.split() == ["tokens/s", "tinystar_np", "float32"]
    # The model has 96 places: of the default lengths only one fits.
    names = ["prefill 64", "decode", "decode, 2 at once", "peak memory"]
    assert [row.split("  ")[0] for row in rows] == names
    assert len({len(line) for line in (head, *rows)}) == 1
    assert "GB/s" in notes
    assert "The weights are " in notes
    assert ", 32 bits each." in notes
    assert "Decode reaches " in notes
    assert "medians (lowest–highest) of 2 rounds" in notes


def test_json(talking_model: Path, capsys: Any) -> None:
    found = json.loads(run(capsys, str(talking_model), *SHORT, "--json")[0])
    assert {"processor", "cores", "threads", "numpy"} <= found["machine"].keys()
    assert found["ratios"] == {}
    (ours,) = found["engines"]
    assert (ours["name"], ours["dtype"]) == ("tinystar_np", "float32")
    assert ours["peak_bytes"] > found["weight_bytes"] > 0
    assert found["bits_per_weight"] == 32
    assert set(ours["tokens_per_second"]) == {"prefill 64", "decode", "decode, 2 at once"}
    measured = [*ours["tokens_per_second"].values(), found["bandwidth_bytes_per_second"]]
    for spread in [*measured, found["share_of_bandwidth"]]:
        assert len(spread["rounds"]) == 2
        assert 0 < spread["lowest"] <= spread["median"] <= spread["highest"]


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4.0), ("bfloat16", 2.0), ("int8", 1.0)])
def test_bytes_of_weights_that_a_token_reads(dtype: str, size: float, talking_model: Path) -> None:
    model, _ = ts.load(talking_model, dtype)
    width, layers, vocabulary = 48, 3, 257
    numbers = layers * 12 * width**2 + vocabulary * width  # tokens and positions are looked up
    assert numbers * size <= bytes_per_token(model) <= numbers * size * 1.15  # int8 has scales
    assert speed.weight_type(model) == dtype


class Clock:
    """An engine whose turns take as long as they are told to."""

    def __init__(self, name: str, log: list[Any], *seconds: float):
        self.name, self.log, self.seconds = name, log, list(seconds)

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        self.log.append((self.name, len(ids), len(ids[0]), new))
        return self.seconds[0], self.seconds.pop(0) * 2

    def peak(self) -> int:
        self.log.append((self.name, "peak"))
        return 7


def test_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    limits = iter((1000.0, 500.0))
    monkeypatch.setattr(bench, "bandwidth", lambda matrices: (log.append("bare"), next(limits))[1])
    engines: Any = [Clock("a", log, 9, 9, 1, 2, 4, 5), Clock("b", log, 9, 9, 2, 1, 4, 10)]
    prefill, decode = Task(1, 100, 0), Task(2, 10, 6)
    found = bench.measure(engines, [prefill, decode], 50, 2, lambda words: None)
    warming_up = [("a", 1, 16, 0), ("b", 1, 16, 0), ("a", 2, 10, 4), ("b", 2, 10, 4)]
    turns = [("a", 1, 100, 0), ("b", 1, 100, 0), ("a", 2, 10, 6), ("b", 2, 10, 6)]
    assert log == [*warming_up, *turns, ("a", "peak"), ("b", "peak"), "bare", *turns, "bare"]
    assert [speed.values for speed in found.speeds[prefill]] == [(100 / 1, 100 / 4), (100 / 2, 100 / 4)]
    assert [speed.values for speed in found.speeds[decode]] == [(12 / 4, 12 / 10), (12 / 2, 12 / 20)]
    assert found.ratio(prefill).values == (2.0, 1.0)
    assert found.ratio(decode).values == (0.5, 2.0)
    assert found.share(decode, 100.0).values == pytest.approx((300 / 1000, 120 / 500))
    assert found.peaks == [7, 7]


def test_engines_of_one_round_get_the_same_prompts() -> None:
    seen: dict[str, list[Any]] = {"a": [], "b": []}

    class Reader(Clock):
        def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
            seen[self.name].append(ids)
            return 1.0, 1.0

    by_turns({"": Task(2, 20, 0).turns([Reader("a", []), Reader("b", [])], 50)}, rounds=3)
    assert seen["a"] == seen["b"]
    assert seen["a"][1] != seen["a"][2]


def test_what_takes_long_gets_fewer_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def takes(seconds: float) -> Any:
        def turn() -> float:
            clock[0] += seconds
            return seconds

        return turn

    found = by_turns({"long": [takes(20), takes(10)], "short": [takes(1)]}, rounds=3, enough=14)
    assert found == {"long": [[20], [10]], "short": [[1, 1, 1]]}


def test_our_turn_is_greedy_generation(talking_model: Path) -> None:
    model, _ = ts.load(talking_model)
    seen: list[list[int]] = []

    class Watched:
        def new_cache(self, *arguments: Any, **others: Any) -> Any:
            return model.new_cache(*arguments, **others)

        def __call__(self, ids: Any, **others: Any) -> Any:
            logits = model(ids, **others)
            seen.append(logits[:, -1].argmax(axis=-1).tolist())
            return logits

    prompts = [[5, 9, 100, 3], [80, 7, 7, 41]]
    assert min(TinyStarEngine(Watched()).turn(prompts, 6)) > 0  # type: ignore[arg-type]
    for row, prompt in enumerate(prompts):
        expected = ts.generate_ids(model, prompt, max_new_tokens=7, temperature=0.0)
        assert [tokens[row] for tokens in seen][: len(expected)] == expected


def test_beside_transformers(talking_model: Path, capsys: Any) -> None:
    arguments = [str(talking_model), *SHORT, "--against", "transformers", "--dtype", "int8", "-q"]
    out, err = run(capsys, *arguments)
    assert err == ""
    head, *rows = out.split("\n\n")[1].splitlines()
    assert " ".join(head.split()) == "tokens/s tinystar_np int8 transformers float32 times as fast"
    assert len(rows) == 4
    found = json.loads(run(capsys, *arguments, "--json")[0])
    assert {"torch", "transformers"} <= found["machine"].keys()
    ours, theirs = found["engines"]
    assert [(one["name"], one["dtype"]) for one in (ours, theirs)] == [
        ("tinystar_np", "int8"),
        ("transformers", "float32"),
    ]
    assert theirs["peak_bytes"] > 50e6
    for name, ratio in found["ratios"].items():
        pairs = zip(*(one["tokens_per_second"][name]["rounds"] for one in (ours, theirs)), strict=True)
        assert ratio["rounds"] == pytest.approx([a / b for a, b in pairs])


def test_a_model_that_sees_beside_transformers(tmp_path: Path, capsys: Any) -> None:
    """LLaVA is no AutoModelForCausalLM there; its text part is measured by its whole model."""
    config = LlavaConfig(
        text_config={**TEXT, "model_type": "llama"},
        vision_config={**VISION, "model_type": "clip_vision_model"},
        image_token_index=IMAGE,
    )
    save(whole_model(config), tmp_path)
    capsys.readouterr()
    out, _ = run(capsys, str(tmp_path), *SHORT, "--against", "transformers", "-q")
    assert len(out.split("\n\n")[1].splitlines()) == 5


def test_what_transformers_cannot_load_is_said(tmp_path: Path, capsys: Any) -> None:
    TinyStar(TinyStarConfig(hidden_size=32, num_layers=1, num_heads=4)).save(tmp_path)
    out, err = run(capsys, str(tmp_path), *SHORT, "--against", "transformers", code=1)
    assert out == ""
    assert f"{tmp_path}: transformers cannot run this model: " in err
    assert len(err.splitlines()) == 1
    assert len(err) < 800


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_transformers(
    missing: str, talking_model: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    out, err = run(capsys, str(talking_model), "--against", "transformers", code=1)
    assert out == ""
    assert f"needs {missing}, which is not installed" in err
    assert "pip install 'tinystar_np[bench]'" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--rounds", "0"], 2, ["--rounds 0", "1 or more"]),
        (["--batch", "4", "0"], 2, ["--batch 0", "1 or more"]),
        (["--prefill", "64", "97"], 2, ["--prefill 97", "96 tokens"]),
        (["--new", "96"], 2, ["--new 96", "96 tokens"]),
    ],
)
def test_errors(
    arguments: list[str],
    code: int,
    words: list[str],
    talking_model: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("measured before the arguments were checked")

    monkeypatch.setattr(bench, "measure", never)
    out, err = run(capsys, str(talking_model), *arguments, code=code)
    assert out == ""
    assert err.startswith("error: ")
    for word in words:
        assert word in err


def test_the_longest_prompts_fit(talking_model: Path, capsys: Any) -> None:
    out, _ = run(
        capsys, str(talking_model), "--new", "95", "--prefill", "96", "--rounds", "1", "--batch", "1"
    )
    assert "prefill 96" in out
    assert "one round" in out


@pytest.fixture
def transformers_engine(talking_model: Path) -> Iterator[Transformers]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    threads = torch.get_num_threads()
    engine = Transformers(str(talking_model))
    engine.load("float32", 1)
    yield engine
    torch.set_grad_enabled(True)
    torch.set_num_threads(threads)


def test_transformers_is_measured_without_gradients(transformers_engine: Transformers) -> None:
    import torch

    with_gradients = []
    transformers_engine.model.register_forward_pre_hook(
        lambda *_: with_gradients.append(torch.is_grad_enabled())
    )
    assert min(transformers_engine.turn([[5, 17, 80]], 1)) > 0
    assert transformers_engine.generate([5, 17, 80], 3) > 0
    assert with_gradients == [False] * 5


def test_transformers_is_not_measured_with_gradients(
    transformers_engine: Transformers, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    torch.set_grad_enabled(True)
    monkeypatch.setattr(torch, "inference_mode", torch.enable_grad)
    model = transformers_engine.model
    monkeypatch.setattr(model, "generate", lambda ids, **_: model(ids))  # its own turns gradients off
    for call in (lambda: transformers_engine.turn([[5]], 0), lambda: transformers_engine.generate([5], 2)):
        with pytest.raises(RuntimeError, match="gradients"):
            call()
