"""examples/next_thought.py: patches in torch and in NumPy are the same, learn, and see no later byte."""

import json
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from parity import assert_close
from scripts import import_script

import tinystar_np as ts

ROOT = Path(__file__).parents[1]
TEXT = ROOT / "docs" / "architectures.md"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return import_script(ROOT / "examples" / "next_thought.py", monkeypatch)


def small(script: ModuleType, P: int) -> torch.nn.Module:
    """A model in which every parameter is random, gains and biases too."""
    torch.manual_seed(0)
    model = script.PatchStar(ts.TinyStarConfig(hidden_size=32, num_layers=2, num_heads=4), P)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def letters(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=count)


@pytest.mark.parametrize("P", [1, 4, 6, 7])
def test_torch_and_numpy_compute_the_same(P: int, script: ModuleType, tmp_path: Path) -> None:
    reference = small(script, P)
    script.save_patches(reference, tmp_path)
    core = ts.load(tmp_path)[0]
    model, head = script.load(tmp_path)
    assert type(model) is ts.TinyStar
    assert model.vocab_size == 256**P
    exchanged = {name for name in vars(core) if type(vars(core)[name]) is not type(vars(model)[name])}
    assert exchanged == {"embedder"}
    patches = letters(12 * P).reshape(2, 6, P)
    with torch.no_grad():
        expected = reference(torch.from_numpy(patches)).numpy()
    model.head = partial(head.logits, patches=patches[:, 1:])
    ids = script.ids_of(patches)
    assert_close(model(ids[:, :-1]), expected, 1e-5)
    text = bytes(patches[1].ravel().tolist())
    assert_close(script.logits_of(model, head, text), expected[1].reshape(-1, 256), 1e-5)
    cache = model.new_cache(batch_size=2)
    found = []
    for begin, end in ((0, 1), (1, 4), (4, 5)):
        model.head = partial(head.logits, patches=patches[:, begin + 1 : end + 1])
        found.append(model(ids[:, begin:end], cache=cache))
    assert_close(np.concatenate(found, axis=1), expected, 1e-5)


def test_losses_are_those_of_the_bytes_after_the_first_patch(script: ModuleType) -> None:
    model = small(script, 4)
    rows = torch.from_numpy(letters(2 * 20).reshape(2, 20))
    with torch.no_grad():
        found = model.losses(rows)
        logits = model(rows.view(2, 5, 4)).reshape(2, 16, 256).double()
    expected = [[-logits[b, i].log_softmax(0)[rows[b, 4 + i]] for i in range(16)] for b in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_byte_depends_on_those_before_it_and_on_no_other(script: ModuleType) -> None:
    model, P = small(script, 4), 4
    row = letters(5 * P)

    def logits(row: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(row).view(1, -1, P)).reshape(-1, 256).numpy()

    before = logits(row)
    for at in range(len(row)):
        other = row.copy()
        other[at] = (other[at] + 1) % 256
        changed = np.abs(logits(other) - before).max(axis=-1) > 1e-6
        assert changed.tolist() == [byte > at for byte in range(P, len(row))], at


@pytest.mark.parametrize("P", [1, 6, 7])
def test_an_id_is_a_patch(P: int, script: ModuleType) -> None:
    patches = np.concatenate([letters(5 * P).reshape(5, P), np.full((1, P), 255), np.zeros((1, P), int)])
    ids = script.ids_of(patches)
    assert ids.tolist() == [int.from_bytes(bytes(patch.tolist()), "little") for patch in patches]
    assert ids.max() == 256**P - 1
    np.testing.assert_array_equal(script.bytes_of(ids, P), patches)


@pytest.mark.parametrize("P", [1, 6])
def test_what_is_written_is_what_torch_would_write(P: int, script: ModuleType, tmp_path: Path) -> None:
    """The likeliest byte, again and again, each found by the whole text read anew."""
    reference = small(script, P)
    script.save_patches(reference, tmp_path)
    model, head = script.load(tmp_path)
    model.head = partial(head.spell, choose=script.greedy)
    prompt = b"Once upon a time"
    found = b"".join(islice(script.continued(model, P, prompt), 4))
    text = b" " * (-len(prompt) % P) + prompt
    for _ in range(4 * P):
        rest = -len(text) % P or P  # the bytes that are missing in the last patch, of any value
        row = torch.tensor([*text, *bytes(rest)]).view(1, -1, P)
        with torch.no_grad():
            text += bytes([int(reference(row).reshape(-1, 256)[-rest].argmax())])
    assert found == text[-4 * P :]
    model.head = partial(head.spell, choose=script.drawn(0.8, seed=1))
    drawn = b"".join(islice(script.continued(model, P, prompt), 4))
    model.head = partial(head.spell, choose=script.drawn(0.8, seed=1))
    assert b"".join(islice(script.continued(model, P, prompt), 4)) == drawn
    assert drawn != found


def test_draws_follow_the_probabilities(script: ModuleType) -> None:
    logits = np.log(np.array([0.1, 0.2, 0.7]))
    drawn = script.drawn(1.0, seed=0)(np.broadcast_to(logits, (20000, 3)))
    assert np.abs(np.bincount(drawn) / 20000 - [0.1, 0.2, 0.7]).max() < 0.015
    cold = script.drawn(0.5, seed=0)(np.broadcast_to(logits, (20000, 3)))
    assert np.abs(np.bincount(cold) / 20000 - np.array([1, 4, 49]) / 54).max() < 0.015


def test_the_size_is_that_of_the_model_of_bytes(script: ModuleType) -> None:
    config = ts.TinyStarConfig(hidden_size=64, num_layers=4)
    model = script.patch_star(config, 6)
    size = script.parameters_of(script.TorchTinyStar(config))
    assert len(model.blocks) == 3
    assert abs(script.parameters_of(model) / size - 1) < 0.1


def test_thirty_steps(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, steps = script.seconds_of_step, iter([2.0, 1.0])
    # The model of patches is trained for as long as the other, in measured time.
    monkeypatch.setattr(script, "seconds_of_step", lambda *given: next(steps) * (measured(*given) > 0))
    sizes = [
        "--width=32",
        "--layers=2",
        "--heads=4",
        "--context=96",
        "--batch=8",
        "--steps=30",
        "--log-every=5",
    ]
    script.main(["--text", str(TEXT), "--out", str(tmp_path), *sizes])
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "results.json").read_text())
    assert list(record["facts"]) == ["bytes", "patches", "patches, longer"]
    for name, log in record["logs"].items():
        losses = [loss for _, loss in log["train"]]
        assert losses[-1] < losses[0] - 1
        assert losses[0] < np.log(256) + 0.3
        facts = record["facts"][name]
        assert 1 < facts["nats/byte, architectures"] < losses[0]
        if name != "patches":
            assert facts["logits differ from torch's by"] < 1e-5
    facts = record["facts"]["bytes"], record["facts"]["patches, longer"]
    assert facts[1]["bytes of cache a byte"] == facts[0]["bytes of cache a byte"] / 6 / 2  # one block of two
    # What was printed of the longer one is its loss in NumPy.
    model, head = script.load(tmp_path / "patches")
    ids = script.read_text([TEXT], "bytes", 0).held_out["architectures"].numpy()
    nats = []
    for begin in range(0, len(ids) - 96 + 1, 90):
        row = ids[begin : begin + 96]
        logits = script.logits_of(model, head, bytes(row.tolist())).astype(np.float64)
        nats += list(np.log(np.exp(logits).sum(-1)) - logits[np.arange(90), row[6:]])
    assert np.mean(nats) == pytest.approx(facts[1]["nats/byte, architectures"], abs=1e-4)
    assert f"{np.mean(nats):.5g}" in said
    assert len(said.split("At temperature 0.8:\n")[1]) > 100
