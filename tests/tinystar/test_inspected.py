"""What ``inspect`` says of TinyStar's choices, and that what it counts is what is there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tinystar_np.cli.main import tinystar
from tinystar_np.inspection.describe import Description, describe_model
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import state_sizes, weight_sizes
from tinystar_np.loading import load
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig

SMALL: dict[str, Any] = {"hidden_size": 64, "num_layers": 2, "num_heads": 8, "max_positions": 100}
H, G, K, L, R, J = 8, 2, 8, 2, 16, 4


def hollow(**choices: Any) -> Any:
    return hollow_model({"model_type": "tinystar", **SMALL, **choices})


def words(description: Description, role: str) -> str:
    """What the model, or all its layers, have in this role."""
    if role in description.parts:
        assert not description.kinds(role)
        return description.parts[role].words
    ((part, where),) = description.kinds(role)
    assert where == [0, 1]
    return part.words


@pytest.mark.parametrize(
    ("choices", "role", "expected"),
    [
        ({}, "block", "sequential, a norm before each part"),
        ({"norm_placement": "sandwich"}, "block", "sequential, a norm before and after each part"),
        ({"norm_placement": "post"}, "block", "sequential, a norm after each addition"),
        ({"norm": "none"}, "block", "sequential, no norm"),
        ({"norm": "none", "norm_placement": "post"}, "block", "sequential, no norm"),
        ({"parallel": True}, "block", "parallel, attention beside feed-forward, one norm for both"),
        ({"parallel": True, "norm_placement": "sandwich"}, "block",
         "parallel, attention beside feed-forward, one norm for both and one after each"),
        ({"parallel": True, "norm_placement": "post"}, "block",
         "parallel, attention beside feed-forward, a norm after the addition"),
        ({"parallel": True, "norm": "none"}, "block", "parallel, attention beside feed-forward, no norm"),
        ({}, "mixer", "attention GQA 8:2, 4 queries to a key and value, heads of 8"),
        ({"attention": "mla"}, "mixer",
         "latent attention, 8 heads of 8 made from one latent of 16, and a key of 4 beside it"),
        ({"attention": "mla", "mask": "sliding_window", "window_size": 7}, "mixer",
         "latent attention, 8 heads of 8 made from one latent of 16, and a key of 4 beside it, window of 7"),
        ({"attention": "complex"}, "mixer",
         "complex attention MHA 8:8, a key and value for each, heads of 8 complex numbers"),
        ({"attention": "mqa", "mask": "bidirectional"}, "mixer",
         "attention MQA 8:1, one key and value for all, heads of 8, to both sides"),
        ({}, "positions", "RoPE, base 10000"),
        ({"attention": "mla", "rope_base": 5e5}, "positions", "RoPE, base 500000"),
        ({"rope_scaling": 4.0}, "positions", "RoPE, base 10000, linear scaling ×4"),
        ({"positions": "none"}, "positions", "none"),
        ({"positions": "learned"}, "positions", "learned, a vector for each of 100 places"),
        ({"positions": "sinusoidal"}, "positions", "sinusoidal, waves added to the tokens"),
        ({"positions": "relative"}, "positions",
         "relative, a learned vector for each distance up to 100"),
        *(({"positions": "alibi", **more}, "positions",
           "ALiBi: scores fall with distance, in each head at another slope")
          for more in ({}, {"mask": "bidirectional"}, {"attention": "mla"})),
        ({"norm": "layernorm", "norm_eps": 1e-6}, "norms", "LayerNorm, eps 1e-06"),
        ({"norm": "none"}, "norms", "none"),
        ({"feed_forward": "mlp", "activation": "relu"}, "feed_forward",
         "plain, ReLU, 64 → 256 → 64 (4 × the width)"),
        ({"feed_forward": "geglu"}, "feed_forward", "gated, GeGLU, 64 → 2 × 176 → 64 (2.75 × the width)"),
        ({"positions": "relative"}, "biases", "none"),
        ({"attention_bias": True, "feed_forward_bias": True}, "biases", "in every layer"),
        ({"attention": "mla", "attention_bias": True}, "biases",
         "attention q, attention kv-down, attention out"),
        ({"tie_word_embeddings": False}, "output", "a matrix of its own (untied)"),
        ({"positions": "learned"}, "context", "100 tokens and no more"),
        ({}, "context", "no limit"),
    ],
)  # fmt: skip
def test_words(choices: dict[str, Any], role: str, expected: str) -> None:
    found = describe_model(hollow(**choices))
    assert words(found, role) == expected
    assert not found.kinds("scores")  # scaled by 1/√K, whatever K is


def test_facts() -> None:
    layer = describe_model(hollow(attention="mla", norm_placement="post")).layers[0]
    assert layer["block"].facts == {"kind": "sequential, a norm after each addition"}
    assert layer["mixer"].facts == {
        "kind": "MLA", "heads": 8, "rank": 16, "head_dim": 8, "rope_dim": 4, "value_dim": 8, "window": None,
        "chunk": None, "causal": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "per_token"),
    [
        ({"attention": "mha"}, 2 * H * K),
        ({"attention": "gqa"}, 2 * G * K),
        ({"attention": "mqa"}, 2 * K),
        ({"attention": "mla"}, R + J),
        ({"attention": "complex"}, 3 * H * K),
        ({"attention": "complex", "num_kv_heads": 2}, 3 * G * K),
    ],
)
@pytest.mark.parametrize("window", [None, 5])
def test_state(choices: dict[str, Any], per_token: int, window: int | None) -> None:
    mask = {"mask": "sliding_window", "window_size": window} if window else {}
    model = hollow(**choices, **mask)
    own, *others = state_sizes(model)
    assert own.fixed == 0
    assert own.per_token == L * per_token * 4
    for tokens in (1, 4, 5, 6, 50):
        assert (
            own.at(tokens)
            == model.new_cache(1, tokens).nbytes
            == L * per_token * 4 * min(tokens, window or 50)
        )
    assert len({size.name for size in others}) == len(others)
    assert ("without window" in [size.name for size in others]) == bool(window)
    by_name = {size.name: size.per_token for size in others}
    if choices["attention"] == "mla":
        assert by_name["as MHA 8:8"] == L * 2 * H * K * 4
        assert by_name["as GQA 8:2"] == L * 2 * G * K * 4
    if own.per_token != L * 2 * K * 4:
        head = (3 if choices["attention"] == "complex" else 2) * K
        assert by_name["as MQA 8:1"] == L * head * 4


def test_a_model_that_looks_both_ways_keeps_nothing(tmp_path: Path, capsys: Any) -> None:
    assert state_sizes(hollow(mask="bidirectional")) == []
    config = {"model_type": "tinystar", "mask": "bidirectional", "attention": "mha"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert tinystar(["inspect", str(tmp_path)]) == 0
    assert "None: a bidirectional model reads a text at once" in capsys.readouterr().out
    assert tinystar(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == []


def test_what_latents_save(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "tinystar", "attention": "mla"}))
    assert tinystar(["inspect", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "made from one latent: 131072 tokens take 168 MB; with a key and value for each head" in out


@pytest.mark.parametrize(
    "choices",
    [{}, {"attention": "mla"}, {"attention": "complex", "positions": "relative"}, {"positions": "learned"}],
)
def test_bytes_are_those_of_the_loaded_model(choices: dict[str, Any], tmp_path: Path) -> None:
    TinyStar(TinyStarConfig(**SMALL, **choices)).save(tmp_path)
    for dtype in ("float32", "bfloat16", "int8"):
        model, _ = load(tmp_path, dtype=dtype)
        sizes = weight_sizes(model)
        assert sizes.nbytes[dtype] == sum(array.nbytes for array in model.weights.values())
        assert sizes == weight_sizes(hollow(**choices))
        assert sizes.parameters == model.parameters


def test_parts_that_were_replaced() -> None:
    """Described as far as they are known, and never an error."""
    model = hollow()
    model.embedder = lambda ids, step: model.tokens(ids)
    model.head = lambda x: x
    model.core = [model.core[0], lambda x, step, state: x]
    found = describe_model(model)
    assert [where for _, where in found.kinds("mixer")] == [[0], [1]]
    assert found.layers[1]["mixer"].words == "function"
