"""The answer of a comparison: faults planted in our layers, or in the reference's files, are named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import edit_config, random_ids, reference_model, save
from parity_cases import ROWS
from safetensors.numpy import load_file, save_file

from tinystar_np.layers.rope import Rotary
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.seeing.comparison.activation_kinds import Compared, activation_kind
from tinystar_np.seeing.comparison.rotation_kinds import base_of, read_rotation, rotation_kind
from tinystar_np.seeing.comparison.with_transformers import run_both

TOLERANCE = 1e-4
Fault = Callable[[Decoder], None]
ROTATING = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "mixtral",
    "olmo2",
    "gpt_neox",
    "cohere",
    "falcon",
)


def saved(model_type: str, tmp_path: Path, **config: Any) -> Path:
    keys = {**ROWS[model_type].config("plain"), **config}
    return save(reference_model(model_type, **keys), tmp_path / "model")


def answer(
    directory: Path, fault: Fault | None = None, against: Path | None = None, tokens: int = 40
) -> list[str]:
    model, _ = load(directory)
    if fault is not None:
        fault(model)
    return run_both(model, random_ids(tokens).tolist(), against or directory).answer(TOLERANCE).splitlines()


@pytest.mark.parametrize(
    "model_type", sorted(set(ROWS) - {"bloom", "mpt", "gpt2", "gpt_neo", "mamba", "mamba2", "rwkv", "xlstm"})
)
def test_rotated_queries_and_keys_are_compared_and_agree(model_type: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path)
    model, _ = load(directory)
    found = run_both(model, random_ids(40).tolist(), directory)
    tapped = {name for name in found.ours if name.endswith(("q_rotated", "k_rotated"))}
    compared = {name for name in found.pairs if name.endswith(("q_rotated", "k_rotated"))}
    # Normed after the rotation: the normed ones are compared.
    if model_type in ("llama4_text", "nanochat", "hunyuan_v1_dense", "hunyuan_v1_moe"):
        tapped.clear()
        assert "blocks.0.attention.q_norm" in found.pairs
    if model_type in ("ministral3", "qwen"):  # scaled after the rotation: the scaled ones are compared
        tapped -= {name for name in tapped if name.endswith("q_rotated")}
        assert "blocks.0.attention.q_scaled" in found.pairs
    if model_type == "jetmoe":  # keys are repeated there, and the queries of an expert stand together
        tapped.clear()
    if model_type == "falcon_h1":  # keys are multiplied before the rotation there, scores here
        tapped -= {name for name in tapped if name.endswith("k_rotated")}
    assert tapped <= compared
    assert not [row.name for row in found.differences if row.exceeds(TOLERANCE)]


@pytest.mark.parametrize("model_type", ROTATING)
def test_a_rope_base(model_type: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path)

    def fault(model: Decoder) -> None:
        rope = model.blocks[1].attention.rope
        J = len(rope.frequencies)
        slower = (5000.0 ** (-np.arange(J) / J)).astype(np.float32)
        model.blocks[1].attention.rope = Rotary(slower, interleaved=rope.interleaved)

    first, why = answer(directory, fault)
    assert first.startswith("first: blocks.1.attention.q_rotated, ")
    assert first.endswith("its inputs agree")
    assert "the base is about 100 in A, 5000 in B" in why


@pytest.mark.parametrize("model_type", ROTATING)
def test_the_other_rotary_layout(model_type: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path)

    def fault(model: Decoder) -> None:
        rope = model.blocks[0].attention.rope
        other = Rotary(rope.frequencies, interleaved=not rope.interleaved)
        model.blocks[0].attention.rope = other

    first, why = answer(directory, fault)
    assert first.startswith("first: blocks.0.attention.q_rotated, ")
    assert "the two halves of a head in " in why
    assert "neighbours in " in why


EPSILON = ("llama", "gemma2", "gpt2", "mistral", "gpt_neox", "phi", "bloom", "mixtral", "granite")


@pytest.mark.parametrize("model_type", EPSILON)
def test_an_epsilon(model_type: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path)

    def fault(model: Decoder) -> None:
        model.blocks[1].attention_norm.eps += 1e-2

    first, why = answer(directory, fault)
    assert first.startswith("first: blocks.1.attention_norm, ")
    assert "the epsilon; it is larger in B, by about 0.01" in why


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gemma3_text", "mixtral"])
def test_a_gain_off_by_one(model_type: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path)
    stored_less_one = model_type.startswith("gemma")

    def fault(model: Decoder) -> None:
        norm = model.blocks[1].attention_norm
        norm.gain = norm.gain + np.float32(-1 if stored_less_one else 1)

    first, why = answer(directory, fault)
    assert first.startswith("first: blocks.1.attention_norm, ")
    there, here = "AB" if stored_less_one else "BA"
    assert f"off by one: {there} multiplies by 1 + the stored gain, {here} by the gain itself" in why


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bloom", "mixtral", "phi", "starcoder2", "mpt"])
def test_a_scale(model_type: str, tmp_path: Path) -> None:
    def fault(model: Decoder) -> None:
        model.blocks[0].attention.scale *= 1.5

    first, why = answer(saved(model_type, tmp_path), fault)
    assert first.startswith("first: blocks.0.attention.probabilities, ")
    if model_type not in ("bloom", "mpt"):  # whose scores have slopes beside the products
        assert "scores are 1.5 times as large in B: the scale" in why


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen2", "phi3"])
def test_a_window(model_type: str, tmp_path: Path) -> None:
    def fault(model: Decoder) -> None:
        model.blocks[1].attention.window = 9

    keys = {"sliding_window": None} if model_type == "phi3" else {}
    first, why = answer(saved(model_type, tmp_path, **keys), fault)
    assert first.startswith("first: blocks.1.attention.probabilities, ")
    assert "A sees all tokens back, its own included, B 9 tokens: the window" in why


def test_a_window_that_is_too_large(tmp_path: Path) -> None:
    def fault(model: Decoder) -> None:
        model.blocks[0].attention.window = 6

    first, why = answer(saved("mistral", tmp_path), fault)  # 5
    assert first.startswith("first: blocks.0.attention.probabilities, ")
    assert "A sees 5 tokens back, its own included, B 6 tokens" in why


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mixtral", "gemma2"])
def test_heads_exchanged_in_the_reference(model_type: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path)
    reference = reference_model(model_type, **ROWS[model_type].config("plain"))
    other = save(reference, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    name = "model.layers.1.self_attn.k_proj.weight"
    w = tensors[name]
    tensors[name] = np.ascontiguousarray(w.reshape(2, -1, w.shape[1])[::-1].reshape(w.shape))
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    first, why = answer(directory, against=other)
    assert first.startswith("first: blocks.1.attention.k, ")
    assert "(model.layers.1.self_attn.k_proj); its inputs agree" in first
    assert why.startswith("model.layers.1.self_attn.k_proj.weight: heads 0 and 1 are exchanged")


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "mixtral"])
def test_a_gain_of_another_layer_in_the_reference(model_type: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path)
    other = save(reference_model(model_type, **ROWS[model_type].config("plain")), tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    one, two = (f"model.layers.{i}.input_layernorm.weight" for i in (0, 1))
    tensors[one], tensors[two] = tensors[two], tensors[one]
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    first, why = answer(directory, against=other)
    assert first.startswith("first: blocks.0.attention_norm, ")
    assert why.startswith(f"{one}: A's is blocks.1.attention_norm.gain of B")


def test_heads_exchanged_in_the_computation(tmp_path: Path) -> None:
    def fault(model: Decoder) -> None:
        layer = model.blocks[1].attention.q
        order = np.arange(32).reshape(4, 8)[[1, 0, 2, 3]].ravel()
        layer.weight = np.ascontiguousarray(layer.weight[:, order])

    first, why = answer(saved("llama", tmp_path), fault)
    assert first.startswith("first: blocks.1.attention.q, ")
    assert why == "its weights agree: heads 0 and 1 are exchanged (A: transformers, B: here)"


@pytest.mark.parametrize("model_type", ["qwen2", "starcoder2", "phi"])
def test_a_bias_that_is_not_added(model_type: str, tmp_path: Path) -> None:
    def fault(model: Decoder) -> None:
        model.blocks[0].attention.v.bias = None

    first, why = answer(saved(model_type, tmp_path), fault)
    assert first.startswith("first: blocks.0.attention.v, ")
    assert "the same vector is added at every token: a bias is missing" in why


def test_an_epsilon_between_the_files(tmp_path: Path) -> None:
    directory = saved("llama", tmp_path)
    other = save(reference_model("llama", **ROWS["llama"].config("plain")), tmp_path / "other")
    edit_config(other, rms_norm_eps=0.01)
    first, why = answer(directory, against=other)
    assert first.startswith("first: blocks.0.attention_norm, ")
    assert "gains agree" in why
    assert "larger in A, by about 0.01" in why


def test_one_token_is_warned_about_and_approves_a_wrong_base(tmp_path: Path) -> None:
    directory = saved("llama", tmp_path)
    other = save(reference_model("llama", **ROWS["llama"].config("plain")), tmp_path / "other")
    edit_config(other, rope_parameters={"rope_type": "default", "rope_theta": 7.0})
    model, _ = load(directory)
    found = run_both(model, [5], other)
    assert found.answer(TOLERANCE).startswith("All ")
    assert "rotary embedding" in found.unseen[0]
    found = run_both(model, random_ids(40).tolist(), other)
    assert "base is about 7 in A, 100 in B" in found.answer(TOLERANCE)
    assert found.unseen == []


@pytest.mark.parametrize(
    ("model_type", "keys", "words"),
    [
        ("mistral", {"sliding_window": 300}, "windows of 300 tokens are not reached by 40"),
        ("llama4_text", {"attention_chunk_size": 99}, "windows of 99"),
        ("gemma3_text", {"sliding_window": 64}, "windows of 64"),
    ],
)
def test_what_a_short_prompt_does_not_show(model_type: str, keys: Any, words: str, tmp_path: Path) -> None:
    directory = saved(model_type, tmp_path, **keys)
    model, _ = load(directory)
    (said,) = run_both(model, random_ids(40).tolist(), directory).unseen
    assert words in said


def rotated(x: np.ndarray, frequencies: np.ndarray, start: int = 0, interleaved: bool = False) -> np.ndarray:
    """Rotate (B, H, T, K) by the definition, as complex numbers."""
    J = len(frequencies)
    angles = np.arange(start, start + x.shape[2])[:, None] * frequencies
    pairs = (
        x[..., 0 : 2 * J : 2] + 1j * x[..., 1 : 2 * J : 2]
        if interleaved
        else x[..., :J] + 1j * x[..., J : 2 * J]
    )
    turned = pairs * np.exp(1j * angles)
    result = x.copy()
    if interleaved:
        result[..., 0 : 2 * J : 2], result[..., 1 : 2 * J : 2] = turned.real, turned.imag
    else:
        result[..., :J], result[..., J : 2 * J] = turned.real, turned.imag
    return result


@pytest.mark.parametrize("capped", ["A", "B"])
def test_a_cap_of_the_scores(capped: str, tmp_path: Path) -> None:
    sides = {"A": tmp_path / "a" / "model", "B": tmp_path / "b" / "model"}
    reference = reference_model("gemma2", **ROWS["gemma2"].config("plain"))
    for side, directory in sides.items():
        save(reference, directory)
        edit_config(directory, attn_logit_softcapping=20.0 if side == capped else 1e6)
    first, why = answer(sides["B"], against=sides["A"])
    assert first.startswith("first: blocks.0.attention.probabilities, ")
    other = "B" if capped == "A" else "A"
    assert f"large scores are smaller in {capped}: a soft cap, of about 20 if {other} has none" in why


def test_a_multiplier_of_the_embedding(tmp_path: Path) -> None:
    """The first norm hides it: what enters the first block is compared itself."""
    one, other = tmp_path / "one" / "model", tmp_path / "other" / "model"
    reference = reference_model("granite", **ROWS["granite"].config("plain"))
    for directory, multiplier in ((one, 3.0), (other, 1.5)):
        save(reference, directory)
        edit_config(directory, embedding_multiplier=multiplier)
    first, why = answer(other, against=one)
    assert first.startswith("first: embedding, ")
    assert "times 0.5 in B: a multiplier" in why


def test_what_differs_from_the_second_token_on_is_no_mask() -> None:
    """The first token sees itself alone, so that it agrees whatever is wrong with how tokens are mixed."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1, 4, 12, 16))
    b = a.copy()
    b[:, :, 1:] = rng.normal(size=(1, 4, 11, 16))
    assert activation_kind(Compared("blocks.0.mixer.scan", a, b, {})) == ""


def test_rotations_are_read_off() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 16)).astype(np.float32)
    frequencies = 10000.0 ** (-np.arange(8) / 8)
    for interleaved in (False, True):
        found = read_rotation(x, rotated(x, frequencies, interleaved=interleaved))
        assert found is not None
        assert found.interleaved == interleaved
        np.testing.assert_allclose(found.frequencies, frequencies, atol=1e-6)
        assert base_of(found.frequencies) == pytest.approx(10000, rel=0.01)
    plain = rotated(x, frequencies)
    assert rotation_kind(x, plain, plain) == ""
    assert rotation_kind(x, plain, x) == "not rotated in B"
    assert rotation_kind(x, x, plain) == "not rotated in A"
    assert rotation_kind(x, plain, rotated(x, frequencies, start=1)) == "positions are +1 in B"
    assert rotation_kind(x, plain, rotated(x, -frequencies)) == "B rotates in the opposite direction"
    assert rotation_kind(x, plain, np.float32(1.2) * plain).endswith("1.2 in B: the attention factor")
    scaled = np.where(np.arange(8) < 4, frequencies, frequencies / 8)
    assert "frequencies differ: another scaling" in rotation_kind(x, plain, rotated(x, scaled))
    assert rotation_kind(x, plain, np.random.default_rng(1).standard_normal(x.shape)) == ""


def test_kinds_of_activations_alone() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((1, 30, 12)).astype(np.float32)

    def kind(b: np.ndarray, name: str = "blocks.0.residual", a: np.ndarray = x) -> str:
        return activation_kind(Compared(name, a, b, {name: b}))

    assert kind(3 * x) == "times 3 in B: a multiplier or a scale"
    assert kind(x + random.standard_normal(12).astype(np.float32)).startswith("the same vector is added")
    assert kind(x * np.linspace(1, 2, 12, dtype=np.float32)).startswith(
        "each feature by a factor of its own, 1 to 2"
    )
    late = x.copy()
    late[:, 17:] = random.standard_normal((1, 13, 12))
    assert kind(late) == "the first 17 tokens agree: positions, a window or the mask"
    assert kind(random.standard_normal(x.shape)) == ""
    broken = x.copy()
    broken[0, 3, 3] = np.nan
    assert kind(broken) == "NaN or infinity in B"
    scores = random.standard_normal((1, 4, 10, 10))
    scores[..., ~np.tri(10, dtype=bool)] = -np.inf

    def softmax(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores)
        return powers / powers.sum(axis=-1, keepdims=True)

    def probabilities(b: np.ndarray) -> str:
        return kind(b, "blocks.0.attention.probabilities", softmax(scores))

    distance = np.arange(10)[:, None] - np.arange(10)
    slopes = np.array([0.5, 0.25, 0.125, 0.0625])[:, None, None]
    assert (
        probabilities(softmax(scores - slopes * distance)) == "scores differ by a slope with distance: ALiBi"
    )
    assert probabilities(softmax(2 * scores)) == "scores are 2 times as large in B: the scale"
    assert probabilities(softmax(random.standard_normal(scores.shape))).startswith("B sees later tokens")
    near = np.where(distance < 4, scores, -np.inf)
    assert probabilities(softmax(near)).startswith("A sees all tokens back, its own included, B 4 tokens")
