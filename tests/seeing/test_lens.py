"""The logit lens: against NumPy written by hand, at the end of all architectures, in short as in full."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import random_ids, reference_model, save
from parity_case import Case
from parity_cases import CASES

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing import lens
from tinystar_np.seeing.lens import lens_by_layer, logit_lens, read_lens

IDS = random_ids(17)


@pytest.fixture
def gpt2(save_gpt2: Any) -> Any:
    return ts.load(save_gpt2()[1], dtype="float32")[0]


def recorded(model: Any, *patterns: str, ids: np.ndarray = IDS) -> Any:
    with ts.record(*patterns) as recording:
        model(ids)
    return recording


@pytest.mark.parametrize("case", [pytest.param(case, id=case.model_type) for case in CASES])
def test_the_last_layer_says_the_logits(case: Case, tmp_path: Path) -> None:
    """Factors and soft caps of logits, norms with offsets and without parameters: all of them are in it."""
    reference = reference_model(case.model_type, **copy.deepcopy(case.config("plain")))
    model = ts.load(save(reference, tmp_path), dtype="float32")[0]
    recording = recorded(model)
    found = logit_lens(model, recording)
    assert found.shape == (len(model.blocks) + 1, 17, model.vocab_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[-1], recording["logits"][0], rtol=1e-5, atol=1e-6)
    assert np.abs(found[-2] - found[-1]).max() > 1e-3  # earlier layers say something else


def test_earlier_layers_by_hand(gpt2: Any, save_gpt2: Any) -> None:
    """GPT-2's final norm and output layer, written out, on what each block leaves."""
    weights = {name: p.detach().numpy() for name, p in save_gpt2()[0].named_parameters()}
    gain, bias, table = (weights[f"transformer.{n}"] for n in ("ln_f.weight", "ln_f.bias", "wte.weight"))
    recording = recorded(gpt2)
    streams = [recording["embedding"], *(recording[f"blocks.{i}.residual"] for i in range(3))]
    for x, found in zip(streams, lens_by_layer(gpt2, recording, [3, -1]), strict=True):
        x = x[0, [3, 16]].astype(np.float64)
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + bias
        np.testing.assert_allclose(found, normed @ table.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 500, 1 << 24])
def test_in_short(gpt2: Any, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Probabilities, ranks and the likeliest tokens are those of the whole lens, in pieces of any size."""
    monkeypatch.setattr(lens, "AT_ONCE", at_once)
    recording = recorded(gpt2)
    whole = logit_lens(gpt2, recording, [2, 5, -1]).astype(np.float64)
    tokens = np.array([7, 100, 3])
    found = read_lens(gpt2, recording, [2, 5, -1], tokens=tokens, top=4)
    assert found.positions.tolist() == [2, 5, 16]
    p = np.exp(whole) / np.exp(whole).sum(-1, keepdims=True)
    for n, token in enumerate(tokens):
        np.testing.assert_allclose(found.logits[:, n], whole[:, n, token], rtol=1e-5)
        np.testing.assert_allclose(found.probabilities[:, n], p[:, n, token], rtol=1e-4)
        sorted_ids = np.argsort(-whole[:, n], axis=-1)
        assert found.ranks[:, n].tolist() == [1 + list(row).index(token) for row in sorted_ids]
        np.testing.assert_array_equal(found.top_ids[:, n], sorted_ids[:, :4])
        np.testing.assert_allclose(
            found.top_probabilities[:, n], -np.sort(-p[:, n], axis=-1)[:, :4], rtol=1e-4
        )
    np.testing.assert_allclose(
        np.exp(found.top_logits[..., 0] - found.top_logits[..., 1]),
        found.top_probabilities[..., 0] / found.top_probabilities[..., 1],
        rtol=1e-4,
    )


def test_the_token_that_is_followed(gpt2: Any) -> None:
    """Without one it is what the model itself would say; one id is followed at all positions."""
    recording = recorded(gpt2, "embedding", "blocks.*.residual", "logits")
    found = read_lens(gpt2, recording)
    np.testing.assert_array_equal(found.tokens, recording["logits"][0].argmax(-1))
    assert (found.ranks[-1] == 1).all()
    assert (found.ranks[0] > 1).any()
    np.testing.assert_array_equal(found.top_ids[-1, :, 0], found.tokens)
    assert read_lens(gpt2, recording, tokens=9).tokens.tolist() == [9] * 17


def test_a_listener_hears_nothing_of_it(gpt2: Any) -> None:
    recording = recorded(gpt2)
    with ts.record() as other:
        logit_lens(gpt2, recording)
    assert len(other) == 0


def test_a_model_without_a_final_norm() -> None:
    """The stream of a post-norm model is normed already, and is read as it is."""
    model = TinyStar(TinyStarConfig(hidden_size=32, num_layers=2, num_heads=4, norm_placement="post"))
    recording = recorded(model)
    found = logit_lens(model, recording)
    np.testing.assert_allclose(found[-1], recording["logits"][0], rtol=1e-5, atol=1e-6)
    expected = recording["blocks.0.residual"][0] @ model.weights["embedding.tokens.weight"].T
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)


def test_what_it_refuses(gpt2: Any) -> None:
    recording = recorded(gpt2)
    for positions, tokens, message in (
        ([17], None, "position 17 is outside the recorded text, 0 to 16"),
        ([-18], None, "position -18 is outside"),
        ([], None, "positions is empty"),
        ([3], 211, "token id 211 is outside the vocabulary, 0 to 210"),
        ([3], [1, 2], "tokens must be one id, or 1"),
    ):
        with pytest.raises(InputError, match=message):
            read_lens(gpt2, recording, positions, tokens=tokens)
    with pytest.raises(InputError, match="top = 212, but it must be from 1 to 211"):
        read_lens(gpt2, recording, top=212)
    with pytest.raises(InputError, match=r"The recording lacks blocks\.0\.residual"):
        logit_lens(gpt2, recorded(gpt2, "embedding", "logits"))
    with pytest.raises(InputError, match="The recording lacks embedding"):
        logit_lens(gpt2, recorded(gpt2, "blocks.*.residual"))
    with pytest.raises(InputError, match="The recording is of 2 texts at once"):
        logit_lens(gpt2, recorded(gpt2, ids=random_ids(2, 5)))
    with pytest.raises(InputError, match=r"positions is a list, such as \[3\]"):
        logit_lens(gpt2, recording, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"A recording is wanted, .* found None"):
        logit_lens(gpt2, None)  # type: ignore[arg-type]
