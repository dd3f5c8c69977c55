"""Two models side by side: every kind of damage is found and named, in several architectures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import edit_config, reference_model, save
from parity_cases import ROWS
from safetensors.numpy import load_file, save_file

import tinystar_np as ts
from tinystar_np.checkpoints.weight_table import expand, known_as
from tinystar_np.conversion import convert
from tinystar_np.errors import InputError
from tinystar_np.seeing.comparison.configs import differing_keys
from tinystar_np.seeing.comparison.models import ModelDifference

pytestmark = pytest.mark.usefixtures("one_blas_thread")

Change = Callable[[np.ndarray], np.ndarray]
LLAMA_LIKE = ("llama", "qwen2", "qwen3", "mistral", "mixtral", "gemma2", "granite", "olmo2", "smollm3")


class Pair:
    """A small model, and a copy of its files that can be damaged."""

    def __init__(self, tmp_path: Path, model_type: str, variant: str = "plain", **config: Any) -> None:
        keys = {**ROWS[model_type].config(variant), **config}
        reference = reference_model(model_type, **keys)
        self.a = save(reference, tmp_path / "a")
        self.b = save(reference, tmp_path / "b")
        self.tensors = load_file(self.b / "model.safetensors")

    def name(self, end: str) -> str:
        """The one tensor whose name ends so."""
        (found,) = [name for name in self.tensors if name.endswith(end)]
        return found

    def change(self, end: str, change: Change) -> None:
        name = self.name(end)
        self.tensors[name] = np.ascontiguousarray(change(self.tensors[name]))

    def diff(self) -> ModelDifference:
        save_file(self.tensors, self.b / "model.safetensors", metadata={"format": "pt"})
        return ts.diff(self.a, self.b)


def one_kind(found: ModelDifference) -> str:
    assert len(found.tensors) == 1
    assert found.tensors[0].kind in found.answer
    return found.tensors[0].kind


def first_of(found: ModelDifference) -> str:
    assert found.first is not None
    assert found.answer.startswith(f"first: {found.first.name}, ")
    return found.first.name


def heads_of(K: int, order: list[int]) -> Change:
    return lambda w: w.reshape(-1, K, *w.shape[1:])[order].reshape(w.shape)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "falcon_h1", "deepseek_v2", "mamba2"])
def test_the_same_model_is_equal(model_type: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)
    found = pair.diff()
    assert not found.differs
    assert found.compared > 10
    assert len(found.activations) > 10
    assert all(row.error == 0 for row in found.activations)
    assert found.answer.startswith("no difference: ")


@pytest.mark.parametrize("model_type", LLAMA_LIKE)
def test_two_heads_exchanged_in_one_k(model_type: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)
    rows = pair.tensors[pair.name("layers.1.self_attn.k_proj.weight")].shape[0]
    pair.change("layers.1.self_attn.k_proj.weight", heads_of(rows // 2, [1, 0]))
    found = pair.diff()
    assert one_kind(found) == "heads 0 and 1 are exchanged"
    assert found.tensors[0].name == "blocks.1.attention.k.weight"
    assert first_of(found) == "blocks.1.attention.k"


@pytest.mark.parametrize("model_type", sorted(ROWS))
def test_a_factor_in_every_architecture(model_type: str, tmp_path: Path) -> None:
    """In the last block, in a matrix that is a tensor of its own."""
    pair = Pair(tmp_path, model_type)
    model, _ = ts.load(pair.a)
    last = f"blocks.{len(model.blocks) - 1}."
    rows = [row for row in expand(model.WEIGHTS, model.config).values() if row.ours.startswith(last)]
    whole = [row for row in rows if row.is_matrix and not row.part and row.expert is None]
    names = {known_as(name, model.PREFIX, model.OTHER_NAMES): name for name in pair.tensors}
    row = next(row for row in whole if row.theirs in names)
    name = names[row.theirs]
    pair.change(name, lambda w: np.float32(1.25) * w)
    found = pair.diff()
    assert one_kind(found) == "times 1.25"
    assert found.tensors[0].name == row.ours
    assert first_of(found).startswith(last)


def test_tinystar_models() -> None:
    config = {"hidden_size": 32, "num_layers": 2, "num_heads": 4}
    a, b = (ts.TinyStar(ts.TinyStarConfig(**config, positions=positions)) for positions in ("rope", "alibi"))
    assert not ts.diff(a, a).differs
    assert ts.diff(a, b).keys["positions"] == ("rope", "alibi")


def test_heads_of_other_tensors(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")  # 4 heads of 8, 2 of keys
    pair.change("layers.0.self_attn.q_proj.weight", heads_of(8, [2, 0, 3, 1]))
    assert one_kind(pair.diff()) == "heads are in another order: 2, 0, 3, 1"
    pair = Pair(tmp_path, "llama")
    pair.change("layers.0.self_attn.o_proj.weight", lambda w: heads_of(8, [0, 3, 2, 1])(w.T).T)
    assert one_kind(pair.diff()) == "heads 1 and 3 are exchanged"
    pair = Pair(tmp_path, "qwen2")
    pair.change("layers.0.self_attn.q_proj.bias", heads_of(8, [1, 2, 3, 0]))
    assert one_kind(pair.diff()) == "heads are shifted by 1"


@pytest.mark.parametrize(("model_type", "end"), [("gpt2", "h.0.attn.c_attn.weight")])
def test_q_k_v_of_one_tensor(model_type: str, end: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)  # 4 heads of 8; the file has a column for each output
    pair.change(end, lambda w: w.reshape(32, 3, 4, 8).transpose(0, 2, 1, 3).reshape(32, 96))
    assert one_kind(pair.diff()).startswith("q, k and v follow each other head by head")
    pair = Pair(tmp_path, model_type)
    pair.change(end, lambda w: w.reshape(32, 12, 8)[:, [0, 1, 2, 3, 5, 4, *range(6, 12)]].reshape(32, 96))
    found = pair.diff()
    assert one_kind(found) == "k: heads 0 and 1 are exchanged"
    assert first_of(found) == "blocks.0.attention.qkv"


def test_bloom_by_head_and_neox(tmp_path: Path) -> None:
    for model_type in ("bloom", "gpt_neox"):  # whose files have q, k and v by head
        pair = Pair(tmp_path, model_type)
        pair.change("0.self_attention.query_key_value.weight" if model_type == "bloom" else
                    "0.attention.query_key_value.weight",
                    lambda w: w.reshape(4, 3, 8, 32).transpose(1, 0, 2, 3).reshape(96, 32))  # fmt: skip
        assert one_kind(pair.diff()).startswith("all q, all k and all v follow each other")


EPSILONS = {
    "llama": "rms_norm_eps",
    "gpt2": "layer_norm_epsilon",
    "gemma2": "rms_norm_eps",
    "cohere": "layer_norm_eps",
    "mamba": "layer_norm_epsilon",
    "phi": "layer_norm_eps",
    "mixtral": "rms_norm_eps",
}


@pytest.mark.parametrize("model_type", EPSILONS)
def test_an_epsilon(model_type: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)
    edit_config(pair.b, **{EPSILONS[model_type]: 1e-3})
    found = pair.diff()
    assert list(found.keys) == [EPSILONS[model_type]]
    assert found.tensors == []
    assert first_of(found) in ("blocks.0.attention_norm", "blocks.0.mixer_norm")
    assert f"{EPSILONS[model_type]} is " in found.answer
    assert "and 0.001 in B" in found.answer


@pytest.mark.parametrize("model_type", [*LLAMA_LIKE, "gpt_neox", "cohere", "deepseek_v3", "falcon"])
@pytest.mark.parametrize("spelling", ["old", "new"])
def test_a_rope_base(model_type: str, spelling: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)
    rope = json.loads((pair.b / "config.json").read_text())["rope_parameters"]
    if spelling == "old":
        called = {key: ROWS[model_type].renamed.get(key, key) for key in rope}
        kept = {called[key]: value for key, value in rope.items() if key != "rope_type"}
        edit_config(pair.b, rope_parameters=None, **kept)
        assert not pair.diff().keys
        edit_config(pair.b, **{called["rope_theta"]: 5000.0})
    else:
        edit_config(pair.b, rope_parameters={**rope, "rope_theta": 5000.0})
    found = pair.diff()
    assert found.keys == {"rope_theta": (100.0, 5000.0)}
    assert first_of(found).endswith(".attention.q_rotated")
    assert "rope_theta is 100.0 in A and 5000.0 in B" in found.answer


@pytest.mark.parametrize("model_type", [*LLAMA_LIKE[:2], "mixtral", "gemma2", "phi3"])
def test_gains_of_two_layers_exchanged(model_type: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type, num_hidden_layers=4)
    end = "layers.{}.post_attention_layernorm.weight"
    first, second = pair.name(end.format(0)), pair.name(end.format(3))
    pair.tensors[first], pair.tensors[second] = pair.tensors[second], pair.tensors[first]
    found = pair.diff()
    assert len(found.tensors) == 2
    assert len(found.grouped()) == 1
    assert "exchanged with blocks.3." in found.answer
    assert first_of(found).startswith("blocks.0.")


def test_layers_off_by_one(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama", num_hidden_layers=5)
    for name in sorted(pair.tensors):
        if ".layers." in name and ".mlp." in name:
            i = int(name.split(".")[2])
            if i < 4:
                pair.tensors[name] = pair.tensors[name.replace(f"layers.{i}.", f"layers.{i + 1}.")].copy()
    found = pair.diff()
    assert {kind for _, kind in found.grouped()} == {"that of 1 layer later in A"}
    assert len(found.grouped()) == 3
    assert len(found.tensors) == 12


@pytest.mark.parametrize("model_type", [*LLAMA_LIKE, "gemma3_text", "phi", "qwen3_moe"])
@pytest.mark.parametrize("to", ["neighbours", "halves"])
def test_the_other_rotary_layout(model_type: str, to: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)
    K = ts.load(pair.a)[0].config.sizes["K"]

    def turned(w: np.ndarray) -> np.ndarray:
        inner = (2, K // 2) if to == "neighbours" else (K // 2, 2)
        return w.reshape(-1, *inner, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)

    for name in pair.tensors:
        if any(layer in name for layer in ("q_proj", "k_proj", "q_norm", "k_norm")):
            pair.change(name, turned)
    found = pair.diff()
    words = {"neighbours": "pairs are neighbours instead", "halves": "pairs are in two halves instead"}
    for where, kind in found.grouped():
        assert where.startswith("blocks.{0–")
        assert kind.startswith(f"in each head {words[to]}")
        assert kind.endswith("the other rotary layout")
    assert first_of(found) == "blocks.0.attention.q"
    assert "the other rotary layout" in found.answer


def test_the_other_rotary_layout_of_a_part_of_each_head(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "stablelm")  # 4 of 8 numbers rotate
    pair.change("layers.0.self_attn.q_proj.weight",
                lambda w: w.reshape(4, 8, 32)[:, [0, 2, 1, 3, 4, 5, 6, 7]].reshape(32, 32))  # fmt: skip
    assert one_kind(pair.diff()).endswith("the other rotary layout")


@pytest.mark.parametrize(("model_type", "end"), [("qwen2", "q_proj.bias"), ("gpt2", "c_attn.bias")])
def test_a_bias_that_a_file_lacks(model_type: str, end: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)
    gone = [name for name in pair.tensors if name.endswith(end)]
    for name in gone:
        del pair.tensors[name]
    found = pair.diff()
    assert found.activations == []
    assert found.faults[0] == []
    assert found.faults[1][0].startswith("lacks ")
    assert f"({len(gone)})" in found.faults[1][0]
    assert "B: lacks" in found.answer
    assert end in found.answer


@pytest.mark.parametrize("model_type", ["llama", "granite", "qwen3", "olmo2"])
def test_a_bias_that_config_and_file_lack(model_type: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type, attention_bias=True)
    pair.tensors = {name: each for name, each in pair.tensors.items() if not name.endswith("proj.bias")}
    edit_config(pair.b, attention_bias=False)
    found = pair.diff()
    assert found.keys == {"attention_bias": (True, False)}
    assert first_of(found) == "blocks.0.attention.q"
    assert found.answer.endswith("only A has model.layers.0.self_attn.q_proj.bias")


def test_transposed(tmp_path: Path) -> None:
    for model_type, end in (
        ("gpt2", "h.1.attn.c_proj.weight"),
        ("llama", "layers.0.self_attn.q_proj.weight"),
    ):
        pair = Pair(tmp_path, model_type)
        pair.change(end, lambda w: w.T)
        assert one_kind(pair.diff()) == "transposed"
    pair = Pair(tmp_path, "llama")
    pair.change("layers.0.mlp.down_proj.weight", lambda w: w.T)
    found = pair.diff()
    assert found.faults[1][0].endswith("it is transposed")
    assert "it is transposed" in found.answer


def _ninth_changed(w: np.ndarray) -> np.ndarray:
    changed = w.copy()
    changed[3, 5] += 0.25
    return changed


def _head_zero(w: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(w[:8]), w[8:]])


def _bfloat16(w: np.ndarray) -> np.ndarray:
    import torch

    return torch.from_numpy(w).bfloat16().float().numpy()


MATRIX: dict[str, tuple[Change, str]] = {
    "twice": (lambda w: 2 * w, "times 2"),
    "a hundredth more": (lambda w: np.float32(1.01) * w, "times 1.01"),
    "√D": (lambda w: np.float32(32**0.5) * w, "times 5.65685 = √32"),
    "1/√K": (lambda w: np.float32(8**-0.5) * w, "times 0.353553 = 1/√8"),
    "negated": (lambda w: -w, "of the opposite sign"),
    "zero": (np.zeros_like, "all 0 in B"),
    "plus": (lambda w: w + np.float32(0.5), "plus 0.5"),
    "rows shifted": (lambda w: np.roll(w, 1, axis=0), "rows are shifted by 1"),
    "columns exchanged": (lambda w: w[:, [2, 1, 0, *range(3, 32)]], "columns 0 and 2 are exchanged"),
    "rows reversed": (lambda w: w[::-1], "rows are in reverse order"),
    "one number": (_ninth_changed, "one number differs: [3, 5] is "),
    "bfloat16": (_bfloat16, "rounded to bfloat16 in B"),
    "float16": (lambda w: w.astype(np.float16).astype(np.float32), "rounded to float16 in B"),
    "noise": (lambda w: w + np.float32(0.001) * w[::-1], "close: "),
    "column factors": (
        lambda w: w * np.linspace(1, 2, 32, dtype=np.float32),
        "each column by a factor of its own, 1 to 2",
    ),
    "another": (
        lambda w: np.random.default_rng(5).standard_normal(w.shape).astype(np.float32),
        "other numbers: correlation ",
    ),
    "NaN": (lambda w: np.where(np.arange(32) < 1, np.float32(np.nan), w), "20 of 640 numbers of B are NaN"),
}


@pytest.mark.parametrize("damage", MATRIX)
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "granite"])
def test_a_matrix(damage: str, model_type: str, tmp_path: Path) -> None:
    change, kind = MATRIX[damage]
    pair = Pair(tmp_path, model_type)
    pair.change("layers.1.mlp.up_proj.weight", change)  # 20 × 32
    found = pair.diff()
    assert one_kind(found).startswith(kind)
    assert first_of(found) == "blocks.1.feed_forward.up"


def test_one_head_alone(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")
    pair.change("layers.1.self_attn.q_proj.weight", _head_zero)
    assert one_kind(pair.diff()) == "only head 0 differs: all 0 in B"


@pytest.mark.parametrize("model_type", ["gemma", "gemma2", "gemma3_text", "llama"])
def test_a_gain_off_by_one(model_type: str, tmp_path: Path) -> None:
    pair = Pair(tmp_path, model_type)
    pair.change("layers.0.input_layernorm.weight", lambda w: w - np.float32(1))
    found = pair.diff()
    assert one_kind(found).startswith("smaller by one")
    assert first_of(found) == "blocks.0.attention_norm"


def test_a_tensor_in_the_place_of_another(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")
    gate, up = (f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up"))
    pair.tensors[gate], pair.tensors[up] = pair.tensors[up], pair.tensors[gate]
    found = pair.diff()
    assert [kind for _, kind in found.grouped()] == ["exchanged with blocks.0.feed_forward.up.weight"]
    pair = Pair(tmp_path, "phi3")  # one tensor for both
    pair.change("layers.0.mlp.gate_up_proj.weight", lambda w: np.roll(w, len(w) // 2, axis=0))
    assert "exchanged with blocks.0.feed_forward.up.weight" in pair.diff().answer


def test_experts_in_another_order(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "mixtral")
    pair.change("layers.0.mlp.experts.down_proj" if any("experts.down_proj" in name for name in pair.tensors)
                else "layers.0.block_sparse_moe.experts.1.w2.weight", lambda w: -w)  # fmt: skip
    assert "of the opposite sign" in pair.diff().answer
    pair = Pair(tmp_path, "granitemoe")
    pair.change("layers.0.block_sparse_moe.output_linear.weight", lambda w: w[[1, 0, 2, 3]])
    found = pair.diff()
    assert [kind for _, kind in found.grouped()] == [
        "exchanged with blocks.0.feed_forward.experts.1.down.weight"
    ]


def test_a_shifted_vocabulary(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")
    pair.change("embed_tokens.weight", lambda w: np.roll(w, -1, axis=0))
    found = pair.diff()
    assert one_kind(found) == "rows are shifted by 1"
    assert first_of(found) == "embedding.tokens"


def test_other_element_types(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")
    for dtype in ("bfloat16", "int8"):
        convert(pair.a, tmp_path / dtype, dtype)
        found = ts.diff(pair.a, tmp_path / dtype)
        assert {kind for _, kind in found.grouped()} == {f"rounded to {dtype} in B"}
        assert not found.keys


def test_what_is_rounded_alike_is_named_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama", num_hidden_layers=3)
    for name, w in pair.tensors.items():
        pair.tensors[name] = w.astype(np.float16).astype(np.float32) if w.ndim == 2 else w
    _, why = pair.diff().answer.splitlines()
    assert why.count("rounded to float16 in B") == 1
    assert why.endswith(" and 7 more: rounded to float16 in B")


def test_where_texts_end(tmp_path: Path) -> None:
    """The same numbers, but an answer ends at another token, or never."""
    pair = Pair(tmp_path, "llama")
    (pair.a / "generation_config.json").unlink(missing_ok=True)
    edit_config(pair.a, eos_token_id=2)
    generation = pair.b / "generation_config.json"
    generation.write_text('{"eos_token_id": [5, 2]}')
    edit_config(pair.b, eos_token_id=7)  # not read beside a generation_config.json
    found = pair.diff()
    assert found.differs
    assert found.answer == "eos_token_id is [2] in A and [2, 5] in B (on 40 tokens no activation differs)"
    generation.write_text('{"eos_token_id": 2}')
    found = pair.diff()
    assert not found.differs
    assert found.without_effect == ["eos_token_id"]


def test_loaded_models_and_tokens(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")
    a, b = (ts.load(directory)[0] for directory in (pair.a, pair.b))
    assert not ts.diff(a, b).differs
    gain = np.full_like(b.weights["final_norm.gain"], 2)
    b = type(b)(b.config, {**b.weights, "final_norm.gain": gain})
    found = ts.diff(a, b, [1, 2, 3])
    assert one_kind(found) == "all 2 in B"
    assert found.tokens == 3
    assert any("3 tokens show little" in words for words in found.unseen)
    with pytest.raises(InputError, match="one text"):
        ts.diff(a, b, np.ones((2, 3), int))


def test_printed(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")
    pair.change("layers.1.mlp.up_proj.weight", lambda w: 2 * w)
    found = pair.diff()
    assert repr(found) == "ModelDifference(0 keys, 1 tensors, first blocks.1.feed_forward.up)"
    assert str(found) == found.answer


def test_models_of_two_sizes(tmp_path: Path) -> None:
    a = save(reference_model("llama", **ROWS["llama"].config("plain")), tmp_path / "a")
    b = save(reference_model("gpt2", n_embd=48, n_layer=3, n_head=4), tmp_path / "b")
    found = ts.diff(a, b)
    assert found.activations == [] or found.first is not None
    assert "model_type is 'llama' in A and 'gpt2' in B" in found.answer
    lines = dict(found.grouped())
    assert "of another shape" in lines["embedding.tokens.weight (model.embed_tokens.weight)"]
    assert lines["final_norm.gain (model.norm.weight)"] == "of another shape: 32 in A, 48 in B"
    assert found.keys["hidden_size / n_embd"] == (32, 48)
    assert "hidden_size" not in found.keys
    assert "None" not in found.answer  # sizes that both have come first


def test_tensors_that_differ_alike_are_one_line(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama", num_hidden_layers=6)
    random = np.random.default_rng(0)
    for name, w in pair.tensors.items():
        pair.tensors[name] = w + (0.03 * w.std() * random.standard_normal(w.shape)).astype(np.float32)
    found = pair.diff()
    lines = dict(found.grouped())
    assert len(found.tensors) == 6 * 9 + 3
    assert len(lines) == 9 + 3
    assert lines["blocks.{0–5}.attention.q.weight (6 tensors)"].startswith("close: 3.")


def test_models_of_two_architectures(tmp_path: Path) -> None:
    a = save(reference_model("llama", **ROWS["llama"].config("plain")), tmp_path / "llama")
    b = save(reference_model("mistral", **ROWS["mistral"].config("plain")), tmp_path / "mistral")
    found = ts.diff(a, b)  # filled alike, and of the same shapes
    assert found.keys["model_type"] == ("llama", "mistral")
    assert found.keys["sliding_window"] == (None, 5)
    assert first_of(found) == "blocks.0.attention.probabilities"


def test_defaults_and_spellings_are_no_difference(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "llama")
    written = json.loads((pair.b / "config.json").read_text())
    assert written["num_key_value_heads"] == 2
    edit_config(pair.b, head_dim=None, torch_dtype="float16", transformers_version="1.0")
    found = pair.diff()
    assert found.keys == {}
    assert found.without_effect == ["torch_dtype", "transformers_version"]
    config = type(ts.load(pair.a)[0].config)
    of = {"rope_theta": 1e4, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
    a = config.from_dict({**of, "rope_scaling": {"type": "linear", "factor": 2.0}})
    b = config.from_dict({**of, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}})
    assert differing_keys(a, b) == {"factor": (2.0, 4.0)}
