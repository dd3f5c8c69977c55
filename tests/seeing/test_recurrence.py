"""Recurrences written out: matrix × inputs is the recorded output, and the scan itself by hand."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import random_ids
from parity_cases import CASES
from small_models import build, small_model

import tinystar_np
from tinystar_np.errors import InputError
from tinystar_np.kernels.delta_rule import delta_matrix, delta_rule
from tinystar_np.kernels.selective_scan import selective_matrix, selective_scan
from tinystar_np.kernels.ssm import ssm_matrix, ssm_scan
from tinystar_np.models import Decoder
from tinystar_np.seeing import record
from tinystar_np.seeing.recurrence import (
    mean_mixing,
    mixed_inputs,
    mixing_matrix,
    recurrent_layers,
    recurrent_size,
    scan_outputs,
    state_decay,
    state_norms,
)
from tinystar_np.tap import listen

pytestmark = pytest.mark.usefixtures("one_blas_thread")

RECURRENT = (
    "bamba",
    "falcon_h1",
    "falcon_mamba",
    "granitemoehybrid",
    "jamba",
    "mamba",
    "mamba2",
    "minimax",
    "nemotron_h",
    "olmo_hybrid",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_next",
    "zamba",
    "zamba2",
)
LENGTH = 150  # beyond the scans' own chunks of 64

FALCON_H1: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "mamba_d_ssm": 96,
    "mamba_n_heads": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "ssm_multipliers": [0.35, 0.55, 1.3, 0.8, 1.7],
}


SMALL = ("mamba 1", "mamba 2", "delta rule", "mamba 2 and attention", "experts, delta rule", "falcon_h1")


@cache
def small(name: str) -> Decoder:
    """One of each kind of recurrence, alone and in hybrids."""
    return build(name, FALCON_H1) if name == "falcon_h1" else small_model(name)


def recorded(model: Decoder, length: int = LENGTH) -> Any:
    with record("blocks.*.mixer.*", optional=True) as recording:
        model(random_ids(length))
    return recording


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()  # false for NaN too


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.model_type in RECURRENT], ids=lambda c: c.model_type
)
def test_matrix_times_inputs_is_the_scan_in_every_variant(case: Any) -> None:
    for variant in case.all_variants:
        model = build(case.model_type, case.config(variant))
        recording = recorded(model, 64)
        for layer in recurrent_layers(model):
            matrix = mixing_matrix(model, recording, layer)
            assert matrix.dtype == np.float32
            outputs = scan_outputs(model, recording, layer)
            assert_close(matrix @ mixed_inputs(model, recording, layer), outputs)
            assert outputs.size == recording[f"blocks.{layer}.mixer.scan"].size
            assert not np.triu(matrix, 1).any()


@pytest.mark.parametrize("name", SMALL)
def test_over_several_chunks_and_for_chosen_heads(name: str) -> None:
    model = small(name)
    recording = recorded(model)
    layers = recurrent_layers(model)
    assert layers
    for layer in layers:
        matrix, inputs = mixing_matrix(model, recording, layer), mixed_inputs(model, recording, layer)
        assert_close(matrix @ inputs, scan_outputs(model, recording, layer))
        some = [3, 0, 2]
        np.testing.assert_allclose(mixing_matrix(model, recording, layer, some), matrix[some], atol=1e-6)
        np.testing.assert_array_equal(mixed_inputs(model, recording, layer, some), inputs[some])
        absolute = np.abs(matrix)
        np.testing.assert_allclose(mean_mixing(model, recording, layer)[0], absolute.mean(axis=0), rtol=1e-4)
        halves = absolute.reshape(2, -1, LENGTH, LENGTH).mean(axis=1)
        np.testing.assert_allclose(mean_mixing(model, recording, layer, 2), halves, rtol=1e-4)


class Kept:
    """Keeps the array that it hears."""

    def catch(self, path: str, x: np.ndarray) -> np.ndarray:
        self.given = x.copy()
        return x


class Raised:
    """Adds 1 to the array that it hears at token 5."""

    def catch(self, path: str, x: np.ndarray) -> np.ndarray:
        raised = x.copy()
        raised[:, 5] += 1
        return raised


@pytest.mark.parametrize("name", [name for name in SMALL if name != "mamba 1"])
def test_a_change_of_one_input_moves_the_outputs_by_its_column(name: str) -> None:
    """In the model itself. Not in Mamba 1: there x makes Δ, B and C too, which a change moves as well."""
    model = small(name)
    recording = recorded(model, 20)
    layer = recurrent_layers(model)[0]
    matrix = mixing_matrix(model, recording, layer)
    path = f"blocks.{layer}.mixer"
    inputs = f"{path}.v" if f"{path}.v" in recording else f"{path}.x"
    changed = Kept()
    with listen(Raised(), inputs), listen(changed, f"{path}.scan"):
        model(random_ids(20))
    moved = (changed.given - recording[f"{path}.scan"]).reshape(20, len(matrix), -1)  # (T, H, P)
    for p in range(moved.shape[-1]):
        np.testing.assert_allclose(moved[..., p].T, matrix[:, :, 5], atol=2e-5 * np.abs(matrix).max())


def test_kernels_by_the_definitions() -> None:
    """Each matrix times random inputs, against the recurrence one token after the other, two rows."""
    rng = np.random.default_rng(0)
    B, T, H, P, G, N, F = 2, 40, 6, 5, 3, 4, 7

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    dt = np.abs(normal(B, T, H))
    A, D = -np.abs(normal(H)), normal(H)
    keys, queries, x = normal(B, T, G, N), normal(B, T, G, N), normal(B, T, H, P)
    wanted, _ = ssm_scan(x, dt, A, keys, queries, D)
    assert_close(ssm_matrix(dt, A, keys, queries, D) @ x.swapaxes(1, 2), wanted.swapaxes(1, 2))

    dt, A, D, x = np.abs(normal(B, T, F)), -np.abs(normal(N, F)), normal(F), normal(B, T, F)
    keys, queries = normal(B, T, N), normal(B, T, N)
    wanted, _ = selective_scan(x, dt, A, keys, queries, D)
    found = selective_matrix(dt, A, keys, queries, D) @ x.swapaxes(1, 2)[..., None]
    assert_close(found[..., 0], wanted.swapaxes(1, 2))

    keys, queries = normal(B, T, F, N), normal(B, T, F, N)  # each channel's own
    wanted, _ = selective_scan(x, dt, A, keys, queries, D)
    found = selective_matrix(dt, A, keys, queries, D) @ x.swapaxes(1, 2)[..., None]
    assert_close(found[..., 0], wanted.swapaxes(1, 2))

    q, k, v = normal(B, T, G, N), normal(B, T, G, N), normal(B, T, H, P)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    g, beta = -np.abs(normal(B, T, H)), rng.uniform(size=(B, T, H)).astype(np.float32)
    wanted, _ = delta_rule(q, k, v, g, beta)
    assert_close(delta_matrix(q, k, g, beta) @ v.swapaxes(1, 2), wanted.swapaxes(1, 2))


def test_a_strong_decay_neither_overflows_nor_is_nan() -> None:
    dt = np.full((1, 200, 1), 50, np.float32)
    one = np.ones((1, 200, 1, 1), np.float32)
    matrix = ssm_matrix(dt, np.array([-10], np.float32), one, one, np.zeros(1, np.float32))
    np.testing.assert_array_equal(matrix[0, 0], 50 * np.eye(200, dtype=np.float32))
    matrix = selective_matrix(
        dt, np.array([[-10]], np.float32), one[..., 0], one[..., 0], np.zeros(1, np.float32)
    )
    np.testing.assert_array_equal(matrix[0, 0], 50 * np.eye(200, dtype=np.float32))
    matrix = delta_matrix(one, one, -500 * one[..., 0], one[..., 0])
    np.testing.assert_array_equal(matrix[0, 0], np.eye(200, dtype=np.float32))


@pytest.mark.parametrize("name", SMALL)
def test_decay_and_states_are_those_of_the_cache(name: str) -> None:
    """The norm of the state after each token: the arrays that the model's own cache then holds."""
    model = small(name)
    ids = random_ids(12)
    with record("blocks.*.mixer.*") as recording:
        model(ids)
    cache = model.new_cache()
    norms: dict[int, list[np.ndarray]] = {layer: [] for layer in recurrent_layers(model)}
    for token in ids:
        model([int(token)], cache=cache)
        for layer, found in norms.items():
            state = cache.states[layer]
            arrays = state.arrays(1)
            array = next(value for key, value in arrays.items() if key.endswith(("ssm", "delta")))[0]
            axes = 0 if array.ndim == 2 else (1, 2)
            found.append(np.linalg.norm(array, axis=axes))
            size = recurrent_size(model, layer)
            assert size.shape == array.shape
            assert size.numbers == array.size
            own = [
                value
                for key, value in arrays.items()
                if key.split(".")[-1] in ("ssm", "delta", "convolution")
            ]
            assert size.nbytes == sum(value.nbytes for value in own)
    for layer, found in norms.items():
        assert_close(state_norms(model, recording, layer), np.stack(found, axis=1), 1e-4)
        decay = state_decay(model, recording, layer)
        assert decay.shape == state_norms(model, recording, layer).shape
        assert ((decay > 0) & (decay <= 1)).all()
        taps = {
            key.rpartition(".")[2]: value[0] for key, value in recording.items() if f"blocks.{layer}." in key
        }
        weights = model.weights
        if "decay" in taps:
            wanted = np.exp(taps["decay"]).T
        else:
            A = -np.exp(np.asarray(weights[f"blocks.{layer}.mixer.A_log"]))
            wanted = (
                np.exp(taps["time_step"][..., None] * A) if A.ndim == 2 else np.exp(taps["time_step"] * A)
            )
            wanted = wanted.mean(axis=-1).T if A.ndim == 2 else wanted.T
        np.testing.assert_allclose(decay, wanted, rtol=1e-5)


def test_errors_say_what_is_missing() -> None:
    model = small_model("mamba 2 and attention")
    with record("blocks.*.mixer.x", "blocks.*.mixer.scan") as recording:
        model(random_ids(5))
    with pytest.raises(InputError, match=r"Layer 1 has no recurrence.*: 0, 2\."):
        mixing_matrix(model, recording, 1)
    with pytest.raises(InputError, match=r"no blocks\.0\.mixer\.time_step.*ts\.record"):
        mixing_matrix(model, recording, 0)
    with pytest.raises(InputError, match=r"head 6: .* 0 to 5\."):
        mixed_inputs(model, recording, 0, [6])
    with pytest.raises(InputError, match="groups = 4 does not divide"):
        mean_mixing(model, recording, 0, 4)
    with record("blocks.*.mixer.*") as recording:
        model(random_ids(2, 5))
    with pytest.raises(InputError, match="of 2 texts"):
        mixing_matrix(model, recording, 0)
    with pytest.raises(InputError, match="that have one: none"):
        mixing_matrix(small_model("rope, groups"), recording, 0)


def test_every_recurrent_architecture_is_tested() -> None:
    """Those whose model files build one of the four layers."""
    folder = Path(tinystar_np.__file__).parent / "models"
    layers = re.compile("layers.(mamba1|mamba2|delta_net|lightning_attention) import")
    assert {file.stem for file in folder.glob("*.py") if layers.search(file.read_text())} == set(RECURRENT)
