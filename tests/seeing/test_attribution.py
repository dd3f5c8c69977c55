"""Who wrote a token: parts of a logit sum to it in every model, and are those of NumPy written by hand."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import random_ids, reference_model, save
from parity_case import Case
from parity_cases import CASES
from smollm2 import smollm2_file

import tinystar_np as ts
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.models import ARCHITECTURES, model_class
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing.attribution import NEEDED, attribute, attribute_each
from tinystar_np.tap import tap

pytestmark = pytest.mark.usefixtures("one_blas_thread")

IDS = random_ids(20)
SUMS = [case for case in CASES if not model_class(case.model_type).WHY_NO_SUM]
VARIANTS = [
    pytest.param(case, name, id=f"{case.model_type}-{name}") for case in SUMS for name in case.all_variants
]
BY_HEAD = {"attention", "mixer"}


def recorded(model: Any, ids: Any = IDS) -> Any:
    with ts.record(*NEEDED, optional=True) as recording:
        model(ids)
    return recording


def check_sums(model: Any, recording: Any, tolerance: float = 1e-5) -> None:
    """The parts sum to logits and to differences of two, at the text's beginning, middle and end."""
    capped = "logits_before_cap" in recording
    logits = recording["logits_before_cap" if capped else "logits"][0].astype(np.float64)
    for position in (0, len(logits) // 2, -1):
        best, second = np.argsort(-logits[position])[:2]
        least = int(logits[position].argmin())
        pairs = ((int(best), None), (least, None), (int(best), int(second)), (least, int(best)))
        each = attribute_each(model, recording, position, pairs)
        for found, (token, other) in zip(each, pairs, strict=True):
            expected = logits[position, token] - (0 if other is None else logits[position, other])
            assert found.logit == pytest.approx(expected, rel=1e-6)
            assert found.before_cap == capped
            error = abs(found.values.sum() - expected)
            assert error <= tolerance * np.abs(logits[position]).max(), f"{token}, {other} at {position}"
            assert found.rounding == pytest.approx(expected - found.values.sum(), abs=1e-6)


@pytest.mark.parametrize(("case", "variant"), VARIANTS)
def test_the_parts_sum_to_the_logit(case: Case, variant: str, tmp_path: Path) -> None:
    """Every architecture with all its variants; every parameter is random, so none can be left out."""
    reference = reference_model(case.model_type, **copy.deepcopy(case.config(variant)))
    model = ts.load(save(reference, tmp_path), dtype="float32")[0]
    check_sums(model, recorded(model))


@pytest.mark.parametrize("case", [case for case in CASES if case not in SUMS], ids=lambda c: c.model_type)
def test_logits_that_are_no_sums(case: Case, tmp_path: Path) -> None:
    """The error says why."""
    reference = reference_model(case.model_type, **copy.deepcopy(case.config("plain")))
    model = ts.load(save(reference, tmp_path), dtype="float32")[0]
    with pytest.raises(InputError, match=re.escape(model.WHY_NO_SUM)):
        attribute(model, recorded(model), -1, 5)


def test_every_architecture_is_in_the_table() -> None:
    """So that the test above is of all of them; TinyStar has its own below."""
    assert {case.model_type for case in CASES} | {"tinystar"} == set(ARCHITECTURES)


TINY = [
    {"norm": norm, "norm_placement": placement, "parallel": parallel}
    for norm in ("rmsnorm", "layernorm", "none")
    for placement in ("pre", "sandwich", "post")
    for parallel in (False, True)
] + [
    {"positions": "learned"},
    {"positions": "sinusoidal"},
    {"positions": "relative"},
    {"positions": "alibi", "mask": "bidirectional"},
    {"attention": "mla", "attention_bias": True},
    {"attention": "complex"},
    {"attention": "mqa", "feed_forward": "mlp", "feed_forward_bias": True, "tie_word_embeddings": False},
]


@pytest.mark.parametrize("keys", TINY, ids=[" ".join(map(str, keys.values())) for keys in TINY])
def test_the_parts_sum_in_every_design_of_tinystar(keys: dict[str, Any]) -> None:
    """Post-norm as well: each norm of a sum is held at the scale that it had."""
    model = tiny(**keys)
    check_sums(model, recorded(model))


def tiny(**keys: Any) -> TinyStar:
    """A TinyStar with every parameter random."""
    config = TinyStarConfig(hidden_size=32, num_layers=3, num_heads=4, **keys)
    generator = np.random.default_rng(0)
    started = TinyStar(config).weights
    noise = {name: generator.standard_normal(w.shape, dtype=np.float32) for name, w in started.items()}
    return TinyStar(
        config,
        {name: (1 if name.endswith("gain") else 0) + np.float32(0.3) * noise[name] for name in started},
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_trained_and_packed(dtype: str) -> None:
    """The shipped model, whose matrices are unpacked by rows where they are packed."""
    model, tokenizer = ts.load("stories", dtype=dtype)
    check_sums(model, recorded(model, tokenizer.encode("Once upon a time there was a girl. Her name was")))


def test_stories260k(shared: Path) -> None:
    model, tokenizer = ts.load(shared / "checkpoints" / "stories260K")
    check_sums(model, recorded(model, tokenizer.encode("Once upon a time, there was a little girl")))


def test_smollm2() -> None:
    """A model of 30 layers as people use it, in 4 bits."""
    model, tokenizer = ts.load(smollm2_file())
    check_sums(model, recorded(model, tokenizer.encode("The capital of France is")), tolerance=1e-4)


def test_gpt2_by_hand(save_gpt2: Any) -> None:
    """Each part of a GPT-2, from its weights and the vectors that it added, without going backwards."""
    reference, directory = save_gpt2()
    model = ts.load(directory, dtype="float32")[0]
    w = {
        name.removeprefix("transformer."): p.detach().numpy().astype(np.float64)
        for name, p in reference.named_parameters()
    }
    with ts.record() as r:
        model(IDS)
    x = r["blocks.2.residual"][0, 11].astype(np.float64)
    scale = np.sqrt(x.var() + 1e-5)

    def share(vector: np.ndarray) -> float:
        return float((vector - vector.mean()) / scale * w["ln_f.weight"] @ w["wte.weight"][30])

    expected = {
        "embedding.tokens": share(w["wte.weight"][IDS[11]]),
        "embedding.positions": share(w["wpe.weight"][11]),
    }
    for i in range(3):
        for h in range(4):
            mixed = r[f"blocks.{i}.attention.mixed"][0, h, 11]
            rows = w[f"h.{i}.attn.c_proj.weight"][12 * h : 12 * (h + 1)]
            expected[f"blocks.{i}.attention head {h}"] = share(mixed @ rows)
        expected[f"blocks.{i}.attention bias"] = share(w[f"h.{i}.attn.c_proj.bias"])
        hidden = r[f"blocks.{i}.feed_forward.activation"][0, 11]
        expected[f"blocks.{i}.feed_forward"] = share(hidden @ w[f"h.{i}.mlp.c_proj.weight"])
        expected[f"blocks.{i}.feed_forward bias"] = share(w[f"h.{i}.mlp.c_proj.bias"])
    expected["final_norm bias"] = float(w["ln_f.bias"] @ w["wte.weight"][30])
    found = attribute(model, r, 11, 30)
    assert [part.name for part in found.parts] == list(expected)
    np.testing.assert_allclose(found.values, list(expected.values()), rtol=1e-4, atol=1e-4)

    against = attribute(model, r, 11, 30, 31)
    np.testing.assert_allclose(
        against.values, found.values - attribute(model, r, 11, 31).values, rtol=1e-4, atol=1e-5
    )


def test_experts_by_hand(tmp_path: Path) -> None:
    """Qwen2-MoE: each chosen expert times its router weight, and the shared one times its gate."""
    case = next(case for case in CASES if case.model_type == "qwen2_moe")
    reference = reference_model("qwen2_moe", **copy.deepcopy(case.config("plain")))
    model = ts.load(save(reference, tmp_path), dtype="float32")[0]
    with ts.record() as r:
        model(IDS)
    w = {name: np.asarray(array, dtype=np.float64) for name, array in model.weights.items()}
    last = len(model.blocks) - 1
    b = f"blocks.{last}.feed_forward"
    stream = r[f"blocks.{last}.residual"][0, -1].astype(np.float64)
    scale = np.sqrt((stream**2).mean() + model.config.rms_norm_eps)
    direction = w["final_norm.gain"] * w["head.weight"][:, 5] / scale
    x = r[f"blocks.{last}.feed_forward_norm"][0, -1].astype(np.float64)

    def feed_forward(name: str) -> np.ndarray:
        gate, up, down = (w[f"{name}.{part}.weight"] for part in ("gate", "up", "down"))
        z = x @ gate
        y: np.ndarray = (z / (1 + np.exp(-z)) * (x @ up)) @ down
        return y

    found = {p.name: p.value for p in attribute(model, r, -1, 5).parts if p.path == b}
    chosen, weights = r[f"{b}.chosen"][0, -1], r[f"{b}.weights"][0, -1]
    expected = {
        f"{b} expert {e}": weight * feed_forward(f"{b}.experts.{e}") @ direction
        for e, weight in zip(chosen, weights, strict=True)
    }
    gate = 1 / (1 + np.exp(-(x @ w[f"{b}.shared_gate.weight"])))
    expected[f"{b} shared"] = float((gate * feed_forward(f"{b}.shared")) @ direction)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_post_norm_by_hand() -> None:
    """One block without a final norm: the token's vector passes two norms, attention's result as well."""
    keys: dict[str, Any] = {"norm": "layernorm", "norm_placement": "post", "positions": "alibi"}
    config = TinyStarConfig(hidden_size=16, num_layers=1, num_heads=4, **keys)
    model = TinyStar(config)
    for name, array in model.weights.items():
        array += np.random.default_rng(len(name)).standard_normal(array.shape, dtype=np.float32)
    with ts.record() as r:
        model(IDS[:6])
    w = {name: np.asarray(array, dtype=np.float64) for name, array in model.weights.items()}
    terms = [r[name][0, 4].astype(np.float64) for name in ("embedding.tokens", "blocks.0.attention.out")]

    def normed(vector: np.ndarray, whole: np.ndarray, gain: np.ndarray) -> np.ndarray:
        result: np.ndarray = (vector - vector.mean()) / np.sqrt(whole.var() + 1e-5) * gain
        return result

    gain_1, bias_1, gain_2, bias_2 = (
        w[f"blocks.0.{branch}_post_norm.{part}"]
        for branch in ("attention", "feed_forward")
        for part in ("gain", "bias")
    )
    middle = sum(normed(t, terms[0] + terms[1], gain_1) for t in terms) + bias_1
    down = r["blocks.0.feed_forward.down"][0, 4]
    end = middle + down
    token = w["embedding.tokens.weight"][7]
    after = [normed(normed(t, terms[0] + terms[1], gain_1), end, gain_2) @ token for t in terms]
    found = attribute(model, r, 4, 7).by_layer()
    assert found["embedding.tokens"] == pytest.approx(after[0], rel=1e-4, abs=1e-4)
    assert found["blocks.0.attention"] == pytest.approx(after[1], rel=1e-4, abs=1e-4)
    assert found["blocks.0.attention_post_norm"] == pytest.approx(
        normed(bias_1, end, gain_2) @ token, rel=1e-4, abs=1e-4
    )
    assert found["blocks.0.feed_forward"] == pytest.approx(
        normed(down, end, gain_2) @ token, rel=1e-4, abs=1e-4
    )
    assert found["blocks.0.feed_forward_post_norm"] == pytest.approx(bias_2 @ token, rel=1e-4, abs=1e-4)


def test_the_forms_of_a_result() -> None:
    model = tiny()
    found = attribute(model, recorded(model), -1, 5, 9)
    sizes = [abs(part.value) for part in found.by_size()]
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(sizes) == sorted(np.abs(found.values))
    assert {path: heads.shape for path, heads in found.heads().items()} == {
        f"blocks.{i}.attention": (4,) for i in range(3)
    }
    np.testing.assert_array_equal(found.heads()["blocks.1.attention"], found.values[6:10])
    layers = found.by_layer()
    assert list(layers)[:3] == ["embedding.tokens", "blocks.0.attention", "blocks.0.feed_forward"]
    assert sum(layers.values()) == pytest.approx(found.values.sum())
    assert found.position == 19
    first, *lines = str(found).splitlines()
    assert first == f"logit of token 5 less that of 9 after position 19: {found.logit:.4f}"
    assert lines[0].split(maxsplit=1) == [f"{found.by_size()[0].value:+.4f}", found.by_size()[0].name]
    assert lines[-1].endswith(f"{len(found.parts) - 10} other parts together")
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(found.logit, abs=1e-3)


def test_what_is_changed_during_a_call_is_noticed() -> None:
    """A block that adds what has no name is refused with the numbers, at the block, and so is a head."""
    model = tiny()
    block = model.blocks[1]
    model.core = [model.blocks[0], Louder(block), model.blocks[2]]
    with pytest.raises(TinyStarError, match=r"blocks\.1\.residual: the parts add up to .*was recorded"):
        attribute(model, recorded(model), -1, 5)
    model = tiny()
    head = model.head
    model.head = lambda x: head(x) + 1
    with pytest.raises(InputError, match="The output layer is a function, not linear"):
        attribute(model, recorded(model), -1, 5)


class Louder:
    """A block that writes more into the stream than its parts."""

    def __init__(self, block: Any):
        self.block = block
        self.attention, self.feed_forward = block.attention, block.feed_forward
        self.new_state = block.new_state

    def __call__(self, x: np.ndarray, step: Any, state: Any) -> np.ndarray:
        y: np.ndarray = tap("residual", self.block(x, step, state) + np.float32(0.5))
        return y


def test_of_a_changed_model() -> None:
    """A recording inside an intervention is of the model as it ran then; one around it saw other numbers."""
    model = tiny()
    with ts.ablate("blocks.1.attention.mixed", heads=[2]):
        inside = recorded(model)
    check_sums(model, inside)
    assert attribute(model, inside, -1, 5).heads()["blocks.1.attention"][2] == 0
    with ts.record() as around, ts.ablate("blocks.1.attention.mixed", heads=[2]):
        model(IDS)
    with pytest.raises(TinyStarError, match="the logit: the parts add up to"):
        attribute(model, around, -1, 5)
    with ts.steer("blocks.1.residual", np.ones(32)):
        steered = recorded(model)
    with pytest.raises(TinyStarError, match=r"blocks\.1\.residual: the parts add up to"):
        attribute(model, steered, -1, 5)


def test_what_it_refuses() -> None:
    model = tiny()
    recording = recorded(model)
    for position, token, other, message in (
        (20, 5, None, "position 20 is outside the recorded text, 0 to 19"),
        (0, 256, None, "token id 256 is outside the vocabulary, 0 to 255"),
        (0, 5, -1, "token id -1 is outside"),
    ):
        with pytest.raises(InputError, match=message):
            attribute(model, recording, position, token, other)
    with ts.record("embedding", "logits", "final_norm", "blocks.*.residual*") as little:
        model(IDS)
    with pytest.raises(TinyStarError, match=r"(?s)blocks\.2\.residual: .*lacks taps of tinystar_np.*NEEDED"):
        attribute(model, little, 0, 5)
    with ts.record() as last:
        model(IDS, last_only=True)
    with pytest.raises(InputError, match="last_only"):
        attribute(model, last, 0, 5)
    with pytest.raises(InputError, match="of 2 texts at once"):
        attribute(model, recorded(model, random_ids(2, 5)), 0, 5)
    with pytest.raises(InputError, match="The recording lacks logits"):
        attribute(model, recorded_only(model, "embedding"), 0, 5)


def recorded_only(model: Any, *patterns: str) -> Any:
    with ts.record(*patterns) as recording:
        model(IDS)
    return recording


def test_several_tokens_at_once() -> None:
    model = tiny(positions="learned", attention_bias=True, norm="layernorm", norm_placement="sandwich")
    recording = recorded(model)
    pairs = [(5, None), (9, 5), (200, None), (0, 1)]
    for found, (token, other) in zip(attribute_each(model, recording, -2, pairs), pairs, strict=True):
        alone = attribute(model, recording, -2, token, other)
        assert (found.token, found.other, found.position) == (token, other, 18)
        assert found.logit == alone.logit
        assert [part.name for part in found.parts] == [part.name for part in alone.parts]
        np.testing.assert_allclose(found.values, alone.values, rtol=1e-5, atol=1e-6)
    assert attribute_each(model, recording, 0, []) == []
