"""The lens and the parts of a logit, as ``transformer_lens`` gives them for the same models."""

from typing import Any

import numpy as np
import pytest
from hooked import HOOKED, both, run_hooked
from parity import random_ids

import tinystar_np as ts

IDS = random_ids(15)


@pytest.fixture(scope="module", params=list(HOOKED))
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Our model and its recording of a text, and what transformer_lens remembers of the same."""
    model, theirs = both(request.param, tmp_path_factory.mktemp(request.param))
    with ts.record() as recording:
        model(IDS)
    logits, cache = run_hooked(theirs, IDS)
    np.testing.assert_allclose(recording["logits"][0], logits, rtol=1e-4, atol=1e-4)
    return model, recording, cache


def test_the_stream_is_divided_alike(runs: Any) -> None:
    """What each layer adds, and the embedding."""
    _, recording, cache = runs
    stack, labels = cache.decompose_resid(return_labels=True)
    ours = {"embed": "embedding.tokens", "pos_embed": "embedding.positions"}
    for i in range(3):
        ours |= {
            f"{i}_attn_out": f"blocks.{i}.attention.out",
            f"{i}_mlp_out": f"blocks.{i}.feed_forward.down",
        }
    assert set(labels) >= {"embed", "2_attn_out", "2_mlp_out"}
    for label, theirs in zip(labels, stack, strict=True):
        np.testing.assert_allclose(recording[ours[label]], theirs.numpy(), rtol=1e-4, atol=1e-4)


def test_the_lens(runs: Any) -> None:
    model, recording, cache = runs
    theirs = cache.logit_lens(positions=None).readout.values[:, 0].numpy()
    np.testing.assert_allclose(ts.logit_lens(model, recording), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("token", "other"), [(5, 9), (9, 100), (200, None), (1, None)])
def test_the_parts_of_a_logit(runs: Any, token: int, other: int | None) -> None:
    """Each head, layer and embedding at each position; they count all attention biases as one."""
    model, recording, cache = runs
    stack, labels = cache.get_full_resid_decomposition(expand_neurons=False, return_labels=True)
    theirs = cache.logit_attrs(stack, tokens=token, incorrect_tokens=other)[:, 0].detach()  # (parts, T)
    for position in range(15):
        found = ts.attribute(model, recording, position, token, other)
        layers = found.by_layer()
        ours = {"embed": layers["embedding.tokens"], "pos_embed": layers.get("embedding.positions", 0.0)}
        for i in range(3):
            for h, value in enumerate(found.heads()[f"blocks.{i}.attention"]):
                ours[f"L{i}H{h}"] = float(value)
            ours[f"{i}_mlp_out"] = layers[f"blocks.{i}.feed_forward"]
        biases = [part.value for part in found.parts if part.name.endswith("attention bias")]
        ours["bias"] = sum(biases)
        for label, value in zip(labels, theirs[:, position], strict=True):
            assert ours[label] == pytest.approx(float(value), rel=1e-4, abs=1e-5), (label, position)
