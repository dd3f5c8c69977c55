"""examples/train_tinystar.py: losses fall, torch and NumPy agree, and the given run begins so."""

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, random_ids
from scripts import import_script
from tokenizers import Tokenizer

import tinystar_np as ts
from tinystar_np.models.tinystar_config import configuration_names

ROOT = Path(__file__).parents[1]
TEXT = ROOT / "docs" / "architectures.md"  # 66 kB that are always there

OTHERS: dict[str, dict[str, Any]] = {  # what no named configuration has
    "MLA with biases, no rotation": {"attention": "mla", "attention_bias": True, "positions": "learned"},
    "MLA in a window": {"attention": "mla", "mask": "sliding_window", "window_size": 5, "num_kv_heads": 4},
    "GeGLU with biases, untied": {
        "feed_forward": "geglu", "feed_forward_bias": True, "tie_word_embeddings": False,
        "positions": "none", "residual_scaled_init": False,
    },
    "two key heads, stretched RoPE": {
        "num_kv_heads": 2, "head_dim": 10, "rope_base": 500.0, "rope_scaling": 2.0, "norm": "layernorm",
    },
    "relu": {"feed_forward": "mlp", "activation": "relu", "expansion": 3.0, "norm_eps": 1e-3},
    "gelu_tanh": {"feed_forward": "mlp", "activation": "gelu_tanh"},
    "silu": {"feed_forward": "mlp", "activation": "silu"},
}  # fmt: skip
SIZES = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_positions": 24}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return import_script(ROOT / "examples" / "train_tinystar.py", monkeypatch)


def config_named(kind: str) -> ts.TinyStarConfig:
    if kind in OTHERS:
        return ts.TinyStarConfig(**SIZES | OTHERS[kind])
    named = ts.TinyStarConfig.named(kind).to_dict()
    window = {"window_size": 5} if named["window_size"] else {}
    return ts.TinyStarConfig.from_dict({**named, **SIZES, **window})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", [*configuration_names(), *OTHERS])
def test_torch_and_numpy_compute_the_same(
    kind: str, dtype: torch.dtype, script: ModuleType, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = script.TorchTinyStar(config_named(kind))
    with torch.no_grad():
        for parameter in model.parameters():  # gains and biases too, so that none is forgotten
            parameter.add_(0.2 * torch.randn_like(parameter))
    script.save(model, None, tmp_path, dtype)
    loaded, _ = ts.load(tmp_path)
    assert loaded.config == model.config
    ids = random_ids(2, 24)
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).numpy()
    assert_close(loaded(ids), expected, 1e-5)
    cache = loaded.new_cache(batch_size=2)
    pieces = [loaded(part, cache=cache) for part in np.split(ids, [1, 9, 20], axis=1)]
    assert_close(np.concatenate(pieces, axis=1), expected, 1e-5)
    assert script.difference(model, tmp_path, torch.from_numpy(ids[0])) < 1e-5


def test_what_is_not_in_the_script_is_refused(script: ModuleType) -> None:
    for choices in (
        {"attention": "complex"},
        {"mask": "bidirectional"},
        {"positions": "alibi"},
        {"norm": "none"},
        {"norm_placement": "sandwich"},
        {"parallel": True},
    ):
        ((key, value),) = choices.items()
        with pytest.raises(SystemExit, match=f"^{key} = {value!r} is not in this script"):
            script.TorchTinyStar(ts.TinyStarConfig(**SIZES | choices))


def trained(script: ModuleType, out: Path, *more: str, text: Path = TEXT) -> tuple[Any, Any, dict[str, Any]]:
    """Run the command, 30 steps on a tiny model; returns what it wrote."""
    sizes = ["--width=32", "--layers=1", "--heads=4", "--context=32", "--batch=8", "--steps=30"]
    logged = ["--log-every=5", "--measure-every=10"]
    script.main(["--text", str(text), "--out", str(out), *sizes, *logged, *more])
    return *ts.load(out), json.loads((out / "training.json").read_text())


def check_falls(log: dict[str, Any], vocabulary: int) -> None:
    steps, losses = zip(*log["train"], strict=True)
    assert steps == (5, 10, 15, 20, 25, 30)
    assert abs(losses[0] - math.log(vocabulary)) < 0.5  # it began with guesses
    assert losses[-1] < losses[0] - 0.7
    held_out = [next(iter(found.values())) for _, found in log["held_out"]]
    assert [step for step, _ in log["held_out"]] == [10, 20, 30]
    assert held_out[0][1] > held_out[1][1] > held_out[2][1]


@pytest.mark.parametrize("name", configuration_names())
def test_thirty_steps(
    name: str, script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer, log = trained(script, tmp_path, "--config", name, "--vocabulary", "300")
    check_falls(log, 300)
    said = capsys.readouterr().out
    assert said.count("·") > 3
    assert "nats/token: · in training, o held out" in said
    assert float(said.split("logits differ from torch's by ")[1].split()[0]) < 1e-5
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    text = TEXT.read_text(encoding="utf-8")[:200]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert model.end_ids == (tokenizer.encode("<|endoftext|>")[0],)
    # The directory's own loss on the held-out text is the one that was logged last and best.
    held = TEXT.read_text(encoding="utf-8")
    ids = [0, *tokenizer.encode(held[held.rfind("\n", 0, len(held) * 19 // 20) + 1 :]), 0]
    starts = range(0, len(ids) - 32, 32)
    starts = [starts[int(i)] for i in torch.linspace(0, len(starts) - 1, min(64, len(starts))).long()]
    rows = np.array([ids[start : start + 33] for start in starts])
    logits = model(rows[:, :-1]).astype(np.float64)
    chosen = np.take_along_axis(logits, rows[:, 1:, None], axis=-1)[..., 0]
    nats = (np.log(np.exp(logits).sum(-1)) - chosen).mean()
    assert abs(nats - log["held_out"][-1][1]["architectures"][0]) < 2e-3  # weights are rounded to float16


def test_other_texts_and_settings(script: ModuleType, tmp_path: Path) -> None:
    model, tokenizer, log = trained(script, tmp_path / "bytes", "--tokenizer", "bytes", "--dtype", "float32")
    check_falls(log, 256)
    per_token, per_byte = log["held_out"][-1][1]["architectures"]
    assert per_token == per_byte
    assert tokenizer.encode("né") == [110, 195, 169]
    assert ts.generate(model, tokenizer, "The ", max_new_tokens=5, seed=0)

    trained(script, tmp_path / "bpe", "--vocabulary", "300")
    given = tmp_path / "bpe" / "tokenizer.json"
    file = tmp_path / "mine.yaml"
    file.write_text("attention: mqa\nhidden_size: 16\nnum_layers: 3\nfeed_forward: geglu\n")
    command = ["--text", str(TEXT), "--out", str(tmp_path / "given"), "--context", "16", "--batch", "8"]
    command += ["--config", str(file), "--heads", "2", "--tokenizer", str(given), "--rows", "3"]
    script.main([*command, "--steps", "100", "--stop", "2", "--bfloat16"])
    model, tokenizer = ts.load(tmp_path / "given")
    c = model.config
    assert (c.hidden_size, c.num_layers, c.num_heads, c.attention, c.vocab_size) == (16, 3, 2, "mqa", 300)
    assert (tmp_path / "given" / "tokenizer.json").read_bytes() == given.read_bytes()
    assert json.loads((tmp_path / "given" / "training.json").read_text())["train"][-1][0] == 2


def test_rows_at_once_change_no_gradient(script: ModuleType) -> None:
    text = script.read_text([TEXT], "bytes", 0)
    losses = []
    for rows in (1, 3, 8):
        torch.manual_seed(0)
        model = script.TorchTinyStar(config_named("v0.2-modern"))
        plan = script.Plan(context=24, batch=8, rows=rows, steps=6, log_every=1)
        losses.append([loss for _, loss in script.train(model, text, plan).train])
    np.testing.assert_allclose(losses, [losses[0]] * 3, rtol=1e-5)


def test_texts_that_cannot_be_used(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("A line.\n" * 10)
    command = ["--text", str(tmp_path / "short.txt"), "--tokenizer", "bytes", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"^The text has 72 tokens, too few for a context of 64\.$"):
        script.main([*command, "--context", "64"])
    with pytest.raises(SystemExit, match=r"^short: 8 tokens are held out, too few for a context of 16\.$"):
        script.main([*command, "--context", "16", "--steps", "1"])
    Tokenizer.from_str(
        '{"version":"1.0","added_tokens":[],"model":{"type":"WordLevel","vocab":{"a b":0},"unk_token":"a b"}}'
    ).save(str(tmp_path / "words.json"))
    with pytest.raises(SystemExit, match=r"^The tokenizer is not byte-level: it has 'a b'\.$"):
        script.read_text([TEXT], str(tmp_path / "words.json"), 0)


def test_a_curve_shows_its_points(script: ModuleType) -> None:
    log = script.Log([(10, 4.0), (20, 2.0)], [(15, {"one": (2.0, 1.0), "two": (4.0, 1.0)})])
    top, *_, bottom, axis, numbers = script.curve(log, width=21, height=5).splitlines()[1:]
    assert top == f"  4.00 ┤{'·':>11}"
    assert script.curve(log, width=21, height=5).splitlines()[3] == f"  3.00 ┤{'o':>16}"
    assert bottom == f"  2.00 ┤{'·':>21}"
    assert numbers.split() == ["0", "20", "steps"]
    assert len(axis) == 8 + 21


# The given run.


@pytest.fixture
def given_run(shared: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that trained the seven designs on a GPU."""
    path = shared / "experiments" / "train_designs.py"
    if not path.exists():
        pytest.skip("the given run is not here")
    return import_script(path, monkeypatch)


def test_the_given_run_begins_so(script: ModuleType, given_run: ModuleType, shared: Path) -> None:
    """Its script, which wrote results.json, and this one: the same first weights, rows, rates and losses.

    At its own sizes a step takes seconds; the next test holds the losses of both equal in narrower models.
    """
    results = json.loads((shared / "experiments" / "results" / "results.json").read_text())
    settings, steps = results["settings"], results["plan"]["steps"]
    context, seed = settings["context"], 0
    text = script.prepared_text(shared / "experiments" / "data")
    theirs = given_run.Data(shared / "experiments" / "data", "cpu", context)
    assert text.held_out.keys() == theirs.held.keys()
    assert torch.equal(text.train, theirs.train)
    order = script.batches(len(text.train), context, settings["batch"], steps, seed)
    assert torch.equal(order, theirs.order(steps, settings["batch"], seed))
    plan = script.Plan(context, settings["batch"], 4, steps, rate=settings["lr"], seed=seed)
    warmup = max(min(settings["warmup"], steps // 10), 1)
    for step in (0, 50, warmup - 1, warmup, 500, steps - 1):
        assert plan.learning_rate(step) == pytest.approx(given_run.rate(step, steps, warmup, settings["lr"]))
    sizes = [f"--width={settings['hidden']}", f"--layers={settings['layers']}", f"--context={context}"]
    for name, design in results["designs"].items():
        args = script.arguments(["--data", "x", "--out", "x", "--config", name, *sizes])
        config = script.config_of(args, text)
        assert config == ts.TinyStarConfig.from_dict(design["config"])
        torch.manual_seed(seed)
        ours = script.TorchTinyStar(config)
        torch.manual_seed(seed)
        expected = given_run.Model(design["config"]).state_dict()
        assert ours.state_dict().keys() == expected.keys()
        for key, weight in ours.state_dict().items():
            assert torch.equal(weight, expected[key]), (name, key)


@pytest.mark.parametrize("name", configuration_names())
def test_both_scripts_have_the_same_losses(
    name: str, script: ModuleType, given_run: ModuleType, shared: Path
) -> None:
    ids = torch.from_numpy(np.load(shared / "experiments" / "data" / "held_out_novels.npy").astype(np.int64))
    config = given_run.config_of(name, 4096, 64, 1, 64)
    text = script.Text(ids[:40000], {"novels": ids[40000:42000]}, torch.ones(4096), None)
    plan = script.Plan(context=64, batch=8, rows=8, steps=40, stop=12, log_every=1, seed=3)
    torch.manual_seed(3)
    ours = script.TorchTinyStar(ts.TinyStarConfig.from_dict(config))
    found = [loss for _, loss in script.train(ours, text, plan).train]

    torch.manual_seed(3)
    theirs = given_run.Model(config)
    order = script.batches(len(text.train), 64, 8, 40, 3)
    optimiser = given_run.optimizer_of(theirs, 2e-3, "cpu")
    expected = []
    for step in range(12):
        loss = given_run.lm_loss(theirs, script.windows(text.train, order[step], 64))
        given_run.update(theirs, loss, optimiser, given_run.rate(step, 40, 4, 2e-3))
        expected.append(float(loss.detach()))
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    assert expected[-1] < expected[0] - 0.5
