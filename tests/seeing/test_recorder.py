"""Taps: the names that docs/taps.md promises, their shapes, and that recording changes no result."""

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import reference_model, save
from parity_cases import ROWS

from tinystar_np.cache import Step
from tinystar_np.checkpoints.weight_table import size_of
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation import generate_ids
from tinystar_np.loading import load
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing import record
from tinystar_np.tap import listening

DOCUMENT = Path(__file__).parents[2] / "docs" / "taps.md"
GROUPS = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
}
HYBRID = {
    "layer_types": ["mamba", "attention"],
    "mamba_n_heads": 8,
    "mamba_d_head": 12,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
MOE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 40,
}
LATENT = {
    "first_k_dense_replace": 2,
    "kv_lora_rank": 20,
    "q_lora_rank": 14,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 6,
}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
}
IDS = np.arange(2 * 80).reshape(2, 80) % 211

# Together these have every part that there is a table for.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        kind: (kind, {**ROWS[kind].config("plain"), "v_head_dim": 8, "mlp_layer_types": ["dense"] * 3})
        for kind in ("deepseek_v32", "kimi_linear")
    },
    **{
        kind: (kind, ROWS[kind].config("plain"))
        for kind in (
            "bitnet",
            "blt",
            "gemma3n_text",
            "jetmoe",
            "lfm3",
            "modernbert-decoder",
            "recurrent_gemma",
            "rwkv",
            "xlstm",
            "zamba",
            "zamba2",
        )
    },
    "gemma4_text": ("gemma4_text", ROWS["gemma4_text"].config("experts")),
    "gpt2": ("gpt2", {"n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 96}),
    "llama": ("llama", GROUPS),
    "qwen3": ("qwen3", {**GROUPS, "head_dim": 8}),
    "falcon": ("falcon", {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6}),
    "llama4_text": ("llama4_text", {**GROUPS, "head_dim": 8, "moe_layers": [], "no_rope_layer_interval": 2}),
    "gemma2": ("gemma2", {**GROUPS, "head_dim": 8}),
    "mamba": ("mamba", {"hidden_size": 48, "num_hidden_layers": 2}),
    "granitemoehybrid": ("granitemoehybrid", {**GROUPS, **HYBRID}),
    "falcon_h1": ("falcon_h1", {**GROUPS, "mamba_d_ssm": 96, "mamba_n_heads": 8, "mamba_n_groups": 2}),
    "qwen3_next": ("qwen3_next", {**GROUPS, **MOE, **DELTA, "head_dim": 8}),
    "qwen3_5_text": ("qwen3_5_text", {**GROUPS, **DELTA, "head_dim": 8}),
    "diffllama": ("diffllama", GROUPS),
    "lfm2": ("lfm2", {**GROUPS, "layer_types": ["conv", "full_attention"]}),
    "minimax": (
        "minimax",
        {**GROUPS, "num_local_experts": 4, "head_dim": 8, "layer_types": DELTA["layer_types"]},
    ),
    "tinystar, parallel": ("tinystar", {"norm_placement": "post", "parallel": True, "positions": "learned"}),
    "deepseek_v2": ("deepseek_v2", {**GROUPS, **LATENT}),
    "tinystar, latent": ("tinystar", {"norm_placement": "sandwich", "attention": "mla"}),
}


@pytest.fixture
def model(save_gpt2: Any) -> Any:
    return load(save_gpt2()[1])[0]


def test_names_and_shapes_are_the_documented_ones(tmp_path: Path) -> None:
    """Nothing is caught that is not documented so, and nothing documented that no model has."""
    rows = re.findall(r"^\| `(.+?)` \| \((.+?)\) \|", DOCUMENT.read_text(), re.MULTILINE)
    # Those of images are in test_taps_of_images.py.
    documented = {row for row in rows if not re.match(r"image|text\.|embedding\.images", row[0])}
    assert len(documented) > 50
    seen = set()
    for name, (model_type, config) in MODELS.items():
        if model_type == "tinystar":
            model: Any = TinyStar(TinyStarConfig(hidden_size=48, num_layers=2, num_heads=4, **config))
        else:
            model = load(save(reference_model(model_type, **config), tmp_path / name))[0]
        sizes = {**model.config.sizes, "B": 2, "T": 80, "S": 80, "k": 2}
        if model_type == "gpt2":
            sizes |= {"G": 6, "K": 8}
        with record() as caught:
            model(IDS)
        assert next(iter(caught)) == "embedding.tokens"
        last = [name for name in ("dense", "dense_norm", "logits_before_cap") if name in caught]
        assert list(caught)[-2 - len(last) :] == ["final_norm", *last, "logits"]
        for path, array in caught.items():
            rows = [row for row in documented if row[0] == re.sub(r"^blocks\.\d+", "blocks.{i}", path)]
            letters = sizes
            if model_type == "granitemoehybrid":  # its own letters, as one model has layers of several kinds
                mixer = {"H": sizes["M"], "G": sizes["U"]} if ".mixer" in path else {}
                letters = {**sizes, "F": sizes["J"], **mixer}
            if model_type == "falcon_h1" and ".mixer." in path:
                letters = {**sizes, "H": sizes["M"], "G": sizes["U"]}
            if model_type == "diffllama" and path.endswith(("before_norm", "mixed")):  # heads in pairs
                letters = {**sizes, "H": sizes["H"] // 2, "K": 2 * sizes["K"]}
            if model_type in ("deepseek_v2", "deepseek_v32", "kimi_linear"):
                letters = {**sizes, "J": sizes["P"]}
            if model_type == "kimi_linear" and ".mixer" in path:
                letters = {**sizes, **dict.fromkeys("GH", sizes["Y"]), **dict.fromkeys("KJ", sizes["X"])}
            if model_type in ("qwen3_next", "qwen3_5_text") and ".mixer" in path:
                letters = {**sizes, **{"G": sizes["X"], "K": sizes["P"], "H": sizes["Y"], "J": sizes["U"]}}
            if model_type == "qwen3_next" and ".feed_forward" in path:
                letters = {**sizes, "F": 40}  # of the shared layer
            if model_type == "gemma3n_text" and re.search(
                r"embedding$|residual(_\w*ed)?$", path
            ):  # 1 + N vectors
                letters = {**sizes, "D": (sizes["N"] + 1) * sizes["D"]}
            if model_type == "gemma4_text" and path.startswith("blocks."):
                letters = {**sizes, **model.config.other_sizes.get(int(path.split(".")[1]), {})}
            if model_type == "jetmoe":  # each chosen expert has a query for each key
                letters = {**sizes, "H": 2 * sizes["G"]}
            if model_type == "xlstm":
                letters = {**sizes, "J": sizes["U"]}
            if model_type == "lfm3" and path.endswith("gate"):  # one number for each head
                letters = {**sizes, "K": 1}
            if model_type == "zamba":
                mixer = {"F": sizes["M"] * sizes["P"]} if ".mixer" in path else {}
                letters = {
                    **sizes,
                    **mixer,
                    **({"D": array.shape[-1]} if path.endswith("attention_norm") else {}),
                }
            if model_type == "zamba2":  # a shared block reads the stream and the first embeddings
                mixer = {"H": sizes["M"], "G": sizes["U"]} if ".mixer" in path else {}
                letters = {
                    **sizes,
                    **mixer,
                    **({"D": array.shape[-1]} if path.endswith("attention_norm") else {}),
                }
            fitting = [row for row in rows if _shape(row[1], letters) == array.shape]
            assert fitting, f"{name}: {path} {array.shape} is not in docs/taps.md"
            seen |= set(fitting)
            assert array.dtype == (np.intp if path.endswith(("chosen", "patches.ends")) else np.float32)
    assert documented - seen == set()


def _shape(axes: str, sizes: dict[str, int]) -> tuple[int, ...] | None:
    try:
        return tuple(size_of(axis, sizes) for axis in axes.split(", "))
    except KeyError:  # a letter of another kind of layer
        return None


def test_recording_changes_no_result_and_ends(model: Any) -> None:
    silent = model(IDS)
    with record() as caught:
        assert listening()
        recorded = model(IDS)
    assert not listening()
    assert np.abs(recorded - silent).max() < 1e-5 * np.abs(silent).max()
    np.testing.assert_array_equal(caught["logits"], recorded)
    count = len(caught)
    model(IDS)
    assert len(caught) == count


def test_patterns(model: Any) -> None:
    with record("blocks.*.residual", "logits") as caught:
        model(IDS)
    assert list(caught) == ["blocks.0.residual", "blocks.1.residual", "blocks.2.residual", "logits"]


def test_what_is_caught_is_what_was_there_then(model: Any) -> None:
    """Layers work in place; a recording must not see later states."""
    with record() as c:
        model(IDS)
    for i in range(3):
        b = f"blocks.{i}."
        before = c["embedding"] if i == 0 else c[f"blocks.{i - 1}.residual"]
        np.testing.assert_array_equal(c[b + "residual_middle"], c[b + "attention.out"] + before)
        np.testing.assert_array_equal(
            c[b + "residual"], c[b + "feed_forward.down"] + c[b + "residual_middle"]
        )
        p = c[b + "attention.probabilities"]
        np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
        assert (p[..., ~np.tri(80, dtype=bool)] == 0).all()
        assert (c[b + "feed_forward.up"] < c[b + "feed_forward.activation"]).any()
        np.testing.assert_allclose(c[b + "attention.mixed"], p @ c[b + "attention.v"], rtol=1e-4, atol=1e-5)


def test_a_recording_hears_its_own_thread_only(model: Any) -> None:
    with record() as caught:
        other = threading.Thread(target=model, args=(IDS,))
        other.start()
        other.join()
    assert len(caught) == 0


def test_a_pattern_that_matches_nothing(model: Any) -> None:
    with (
        pytest.raises(
            InputError, match=r"(?s)^blocks\.\*\.atention\.out was never reached: .*no such tap.*Near it: "
        ),
        record("blocks.*.residual", "blocks.*.atention.out"),
    ):
        model(IDS)
    with (
        pytest.raises(InputError, match=r"residual was never reached: no model ran"),
        record("blocks.*.residual"),
    ):
        pass
    with pytest.raises(ZeroDivisionError), record("blocks.*.nothing"):  # which that one does not hide
        1 / 0  # noqa: B018
    with record("blocks.*.nothing", "logits", optional=True) as caught:
        model(IDS)
    assert list(caught) == ["logits"]
    with pytest.raises(InputError, match="patterns such as"), record(["logits"]):  # type: ignore[arg-type]
        model(IDS)


def test_a_path_that_was_not_recorded(model: Any) -> None:
    with record("logits") as caught:
        with pytest.raises(KeyError, match="no model ran inside the block"):
            caught["logits"]
        model(IDS)
    for error in (KeyError, TinyStarError):
        with pytest.raises(
            error, match=r"^blocks\.1\.residual was computed, but .* matches it: record\('logits'\)\.$"
        ):
            caught["blocks.1.residual"]
    with pytest.raises(
        KeyError, match=r"^blocks\.7\.residual was not recorded: .* Near it: blocks\.\d\.residual"
    ):
        caught["blocks.7.residual"]
    with pytest.raises(KeyError, match="no such tap"):
        caught.positions("blocks.7.residual")
    with pytest.raises(KeyError, match="found 3"):
        caught[3]
    assert caught.get("blocks.7.residual") is None
    assert "blocks.7.residual" not in caught


def test_nested_recordings_both_catch(model: Any) -> None:
    with record("logits") as outer, record("final_norm", "logits") as inner:
        model(IDS)
    assert list(outer) == ["logits"]
    assert list(inner) == ["final_norm", "logits"]
    np.testing.assert_array_equal(outer["logits"], inner["logits"])


def test_every_call(model: Any) -> None:
    """The pieces of a text, each as the model reads it; joined they are the text read at once."""
    pieces = [IDS[:, :50], IDS[:, 50:79], IDS[:, 79:]]
    cache = model.new_cache(2)
    with record("blocks.*.residual", "logits", every_call=True) as caught:
        logits = [model(piece, cache=cache) for piece in pieces]
    with record("blocks.*.residual") as whole:
        model(IDS)
    assert [len(call) for call in caught.calls] == [4, 4, 4]
    for call, piece, at_once in zip(caught.calls, pieces, logits, strict=True):
        np.testing.assert_array_equal(call["logits"], at_once)
        assert call["blocks.2.residual"].shape == (*piece.shape, 48)
    for path in whole:
        joined = np.concatenate([call[path] for call in caught.calls], axis=1)
        assert np.abs(joined - whole[path]).max() < 1e-5 * np.abs(whole[path]).max()
    starts = [call.positions("logits")[0, 0] for call in caught.calls]  # type: ignore[index]
    assert starts == [0, 50, 79]
    np.testing.assert_array_equal(caught["logits"], logits[-1])
    assert caught.nbytes == sum(array.nbytes for call in caught.calls for array in call.values())
    assert str(caught).startswith("Recording(4 arrays of each of 3 calls, ")


def test_every_call_of_a_generation(model: Any) -> None:
    with record("logits", every_call=True) as caught:
        new = generate_ids(model, [1, 2, 3], max_new_tokens=4, temperature=0.0)
    assert len(new) == 4
    assert [int(call["logits"][0, -1].argmax()) for call in caught.calls] == new
    with record("logits") as last:
        generate_ids(model, [1, 2, 3], max_new_tokens=4, temperature=0.0)
    np.testing.assert_array_equal(last["logits"], caught.calls[-1]["logits"])
    with pytest.raises(InputError, match="every_call=True"):
        last.calls  # noqa: B018


def test_every_call_where_only_a_part_of_each_is_recorded(model: Any) -> None:
    """Calls are told apart also where a call has nothing in common with the one before."""
    other = TinyStar(TinyStarConfig(hidden_size=48, num_layers=1, num_heads=4))
    with record("blocks.2.residual", "blocks.0.attention_norm", every_call=True, optional=True) as caught:
        other([1, 2])
        model([1, 2])
        other.blocks[0](np.zeros((1, 2, 48), dtype=np.float32), Step(np.zeros(1, dtype=np.int64), 2), None)
    assert [list(call) for call in caught.calls] == [
        ["blocks.0.attention_norm"],
        ["blocks.0.attention_norm", "blocks.2.residual"],
    ]


def test_as_a_table(model: Any) -> None:
    with record("blocks.*.residual", "blocks.1.attention.q", "logits") as caught:
        model(IDS)
    sizes = (3 * 2 * 80 * 48 + 2 * 80 * 48 + 2 * 80 * 211) * 4
    assert str(caught).splitlines() == [
        f"Recording(5 arrays, {sizes / 1000:.0f} KB)",
        "  blocks.{0…2}.residual  (2, 80, 48)     float32",
        "  blocks.1.attention.q   (2, 4, 80, 12)  float32",
        "  logits                 (2, 80, 211)    float32",
    ]
    html = caught._repr_html_()
    assert html.count("<tr>") == 4
    assert "<td" in html
    assert "blocks.{0…2}.residual" in html


def test_an_abbreviated_name_is_near_the_whole_one() -> None:
    model, _ = load("stories")
    with (
        pytest.raises(InputError, match=r"Near it: blocks\.0\.attention\.probabilities"),
        record("blocks.*.attention.probs"),
    ):
        model([1, 2])
