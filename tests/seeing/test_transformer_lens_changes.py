"""Ablations, steering and patching maps, as ``transformer_lens`` gives them for the same models."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hooked import HOOKED, both, run_hooked
from parity import assert_close, random_ids

import tinystar_np as ts

CLEAN = random_ids(11, seed=1)
CORRUPTED = CLEAN.copy()
CORRUPTED[[3, 6]] = [17, 29]
RIGHT, WRONG = 5, 60


@pytest.fixture(scope="module", params=list(HOOKED))
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Ours and theirs."""
    return both(request.param, tmp_path_factory.mktemp(request.param))


def hooked(theirs: Any, ids: np.ndarray, hooks: list[Any]) -> np.ndarray:
    with torch.no_grad():
        logits = theirs.run_with_hooks(torch.from_numpy(ids)[None], fwd_hooks=hooks, prepend_bos=False)
    return logits[0].numpy()


def check(model: Any, opened: Any, theirs: np.ndarray) -> None:
    """Run ours inside an intervention, which makes a difference."""
    plain = model(CLEAN)
    with opened:
        found = model(CLEAN)
    assert np.abs(theirs - plain).max() > 1e-3 * np.abs(plain).max()
    assert_close(found, theirs, 1e-4)


@pytest.mark.parametrize(("layer", "heads"), [(0, [1]), (1, [0, 2]), (2, [3])])
def test_heads_taken_out(models: Any, layer: int, heads: list[int]) -> None:
    model, theirs = models

    def silence(z: torch.Tensor, hook: Any) -> torch.Tensor:  # (B, T, H, K)
        z = z.clone()
        z[:, :, heads] = 0
        return z

    expected = hooked(theirs, CLEAN, [(f"blocks.{layer}.attn.hook_z", silence)])
    check(model, ts.ablate(f"blocks.{layer}.attention.mixed", heads=heads), expected)


def test_a_head_at_its_mean(models: Any) -> None:
    model, theirs = models
    _, cache = run_hooked(theirs, CORRUPTED)
    mean = cache["blocks.1.attn.hook_z"].mean(dim=(0, 1))[2]

    def put(z: torch.Tensor, hook: Any) -> torch.Tensor:
        z = z.clone()
        z[:, :, 2] = mean
        return z

    with ts.record("blocks.1.attention.mixed") as recording:
        model(CORRUPTED)
    expected = hooked(theirs, CLEAN, [("blocks.1.attn.hook_z", put)])
    check(model, ts.ablate("blocks.1.attention.mixed", heads=2, mean_of=recording), expected)


def test_a_direction(models: Any) -> None:
    model, theirs = models
    direction = np.random.default_rng(0).normal(size=48).astype(np.float32)

    def add(x: torch.Tensor, hook: Any) -> torch.Tensor:
        x = x.clone()
        x[:, 4:] += 2.5 * torch.from_numpy(direction)
        return x

    expected = hooked(theirs, CLEAN, [("blocks.1.hook_resid_post", add)])
    opened = ts.steer("blocks.1.residual", direction, scale=2.5, positions=slice(4, None))
    check(model, opened, expected)


def patched_by_hooks(theirs: Any, point: str) -> np.ndarray:
    """Logit differences (L, T), each of a run with one activation of the clean run."""
    _, cache = run_hooked(theirs, CLEAN)

    def put(x: torch.Tensor, hook: Any, position: int) -> torch.Tensor:
        x = x.clone()
        x[:, position] = cache[hook.name][:, position]
        return x

    found = np.zeros((3, len(CLEAN)))
    for layer in range(3):
        for position in range(len(CLEAN)):
            name = f"blocks.{layer}.{point}"
            logits = hooked(theirs, CORRUPTED, [(name, partial(put, position=position))])
            found[layer, position] = logits[-1, RIGHT] - logits[-1, WRONG]
    return found


def test_the_maps(models: Any) -> None:
    """Of the stream, attention and feed-forward; theirs are of the stream before a block."""
    model, theirs = models
    patching = pytest.importorskip("transformer_lens.patching")
    clean, cache = run_hooked(theirs, CLEAN)
    corrupted, _ = run_hooked(theirs, CORRUPTED)

    def difference(logits: Any) -> Any:
        return logits[..., -1, RIGHT] - logits[..., -1, WRONG]

    best, worst = float(difference(clean)), float(difference(corrupted))

    def restored(logits: torch.Tensor) -> torch.Tensor:
        return (difference(logits)[0] - worst) / (best - worst)

    found = ts.patching(model, CLEAN, CORRUPTED, answer=(RIGHT, WRONG))
    assert (found.clean, found.corrupted) == pytest.approx((best, worst), abs=1e-4)
    points = ("hook_resid_post", "hook_attn_out", "hook_mlp_out")
    for values, point in zip(found.values, points, strict=True):
        expected = (patched_by_hooks(theirs, point) - worst) / (best - worst)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)
    ids = torch.from_numpy(CORRUPTED)[None]
    with torch.no_grad():
        stream = patching.get_act_patch_resid_pre(theirs, ids, cache, restored)
    np.testing.assert_allclose(found.values[0, :-1], stream.numpy()[1:], rtol=1e-4, atol=1e-4)
