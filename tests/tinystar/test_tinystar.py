"""TinyStar as a person uses it: made from a seed, printed, saved, loaded, run, looked into, taken apart."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_close, random_ids

import tinystar_np as ts
from tinystar_np import fast
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig, configuration_names
from tinystar_np.seeing.comparison.with_transformers import compare_with_transformers
from tinystar_np.tap import tap

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_layers": 2,
    "num_heads": 8,
    "max_positions": 100,
    "init_std": 0.1,
}
KINDS: dict[str, dict[str, Any]] = {
    "modern": {},
    "baseline": {
        "attention": "mha", "attention_bias": True, "positions": "learned", "feed_forward": "mlp",
        "feed_forward_bias": True, "norm": "layernorm", "tie_word_embeddings": False,
    },
    "latent": {"attention": "mla", "norm_placement": "sandwich"},
    "complex, relative": {"attention": "complex", "positions": "relative", "norm_placement": "post"},
    "window": {"mask": "sliding_window", "window_size": 5, "positions": "alibi", "parallel": True},
    "no norm": {"norm": "none", "positions": "sinusoidal", "feed_forward": "geglu"},
}  # fmt: skip
BOTH_WAYS = {"mask": "bidirectional", "positions": "none"}


def small(seed: int = 0, **choices: Any) -> TinyStar:
    return TinyStar(TinyStarConfig(**SMALL | choices), seed=seed)


# What it is made of.


def test_the_public_names_are_there_when_they_are_asked_for() -> None:
    code = """if True:
        import sys, tinystar_np as ts
        assert "tinystar_np.models.tinystar" not in sys.modules and "yaml" not in sys.modules
        assert {"TinyStar", "TinyStarConfig"} <= {*dir(ts), *ts.__all__}
        print(type(ts.TinyStar(ts.TinyStarConfig())).__name__)
        ts.TinyMoon
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "TinyStar\n"
    assert done.stderr.endswith("AttributeError: module 'tinystar_np' has no attribute 'TinyMoon'\n")
    assert ts.TinyStar is TinyStar
    assert ts.TinyStarConfig is TinyStarConfig


def test_printed() -> None:
    assert str(small()) == (
        "TinyStar, 104,768 parameters\n"
        "  embedder  256 tokens (bytes), 64 wide, positions: rope\n"
        "  core      2 sequential blocks, rmsnorm (pre), eps 1e-05\n"
        "            attention: gqa, 8 heads in 2 groups of 8, causal\n"
        "            feed-forward: swiglu, 64 → 176 → 64\n"
        "  head      the embedding table"
    )
    assert small().parameters == 256 * 64 + 2 * (2 * 64 * 64 + 2 * 64 * 16 + 3 * 64 * 176 + 2 * 64) + 64
    told = str(small(**KINDS["window"], tie_word_embeddings=False))
    assert "parallel blocks" in told
    assert "sliding_window, window 5" in told
    assert "positions: alibi" in told
    assert "an output layer of its own" in told
    assert "no norms" in str(small(**KINDS["no norm"]))
    assert "8 heads of 8" in str(small(**KINDS["latent"]))


def test_the_seed_makes_the_weights() -> None:
    one, again, other = small(seed=3), small(seed=3), small(seed=4)
    for name, array in one.weights.items():
        np.testing.assert_array_equal(array, again.weights[name])
        assert np.array_equal(array, other.weights[name]) == name.endswith(".gain")
    assert not np.array_equal(one(random_ids(5)), other(random_ids(5)))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_spread_of_random_weights(kind: str, scaled: bool) -> None:
    sizes = {"num_layers": 8, "init_std": 0.05, "residual_scaled_init": scaled}
    model = small(**KINDS[kind], **sizes)
    written = 0
    for name, array in model.weights.items():
        assert array.dtype == np.float32
        if name.endswith((".gain", ".bias")):
            assert np.all(array == name.endswith(".gain"))
            continue
        writes = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
        written += writes
        expected = 0.05 / 4 if writes and scaled else 0.05  # √(2 · 8 layers) = 4
        assert abs(array.std() / expected - 1) < 5 / np.sqrt(2 * array.size)  # five standard errors
        assert abs(array.mean() / expected) < 5 / np.sqrt(array.size)
    assert written == 2 * 8


# Files.


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    model = small(seed=5, **KINDS[kind])
    ids = random_ids(2, 20)
    expected = model(ids)
    model.save(tmp_path / "deep" / "model")
    loaded, tokenizer = ts.load(tmp_path / "deep" / "model")
    assert isinstance(loaded, TinyStar)
    assert loaded.config == model.config
    assert str(loaded) == str(model)
    assert tokenizer is not None
    assert tokenizer.encode("né") == [110, 195, 169]
    np.testing.assert_array_equal(loaded(ids), expected)
    loaded.save(tmp_path / "deep" / "model")  # over the file that its weights are mapped from
    np.testing.assert_array_equal(loaded(ids), expected)
    np.testing.assert_array_equal(ts.load(tmp_path / "deep" / "model")[0](ids), expected)
    assert {path.name for path in (tmp_path / "deep" / "model").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
    }


def widened(name: str, array: Any) -> np.ndarray:
    """The numbers that a narrow matrix stands for."""
    if isinstance(array, np.ndarray):
        return array
    matrix: PackedMatrix = array
    some = np.arange(matrix.shape[0])
    return (
        matrix.rows(some)
        if name.startswith("embedding.")
        else fast.matmul(np.eye(len(some), dtype=np.float32), matrix)
    )


@pytest.mark.parametrize(("dtype", "far"), [("bfloat16", 0.02), ("int8", 0.06)])
@pytest.mark.parametrize("kind", KINDS)
def test_loaded_in_a_narrow_type(kind: str, dtype: str, far: float, tmp_path: Path) -> None:
    model = small(**KINDS[kind])
    model.save(tmp_path)
    loaded, _ = ts.load(tmp_path, dtype=dtype)
    matrices = [name for name, array in model.weights.items() if array.ndim == 2 and name.endswith(".weight")]
    assert {name for name, array in loaded.weights.items() if not isinstance(array, np.ndarray)} == {
        *matrices
    }
    ids = random_ids(2, 20)
    same = TinyStar(model.config, {name: widened(name, array) for name, array in loaded.weights.items()})
    assert_close(loaded(ids), same(ids), 1e-5 if dtype == "bfloat16" else 1e-4)
    assert_close(loaded(ids), model(ids), far)
    with pytest.raises(AssertionError):
        assert_close(loaded(ids), model(ids), 1e-4)
    with pytest.raises(InputError, match="load the model with dtype='float32'"):
        loaded.save(tmp_path)


def test_what_ends_a_text_is_saved(tmp_path: Path) -> None:
    config = TinyStarConfig(**SMALL)
    TinyStar(config, end_ids=[0, 10]).save(tmp_path)
    assert ts.load(tmp_path)[0].end_ids == (0, 10)
    TinyStar(config).save(tmp_path)
    assert ts.load(tmp_path)[0].end_ids == ()


def test_a_tokenizer_of_files(tmp_path: Path, shared: Path) -> None:
    small(tokens="tokenizer", vocab_size=512).save(tmp_path)
    assert ts.load(tmp_path)[1] is None
    source = shared / "checkpoints" / "stories260K" / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(source.read_bytes())
    _, tokenizer = ts.load(tmp_path)
    assert tokenizer is not None
    assert tokenizer.vocab_size == 512
    small().save(tmp_path)  # bytes again, whatever lies beside
    _, tokenizer = ts.load(tmp_path)
    assert tokenizer is not None
    assert tokenizer.vocab_size == 256


# Running it.


@pytest.mark.parametrize("kind", KINDS)
def test_generated(kind: str, tmp_path: Path) -> None:
    small(**KINDS[kind]).save(tmp_path)
    model, tokenizer = ts.load(tmp_path)
    text = ts.generate(model, tokenizer, "né", max_new_tokens=20, temperature=0.0)
    ids = list("né".encode())
    for _ in range(20):
        ids.append(int(model(ids)[-1].argmax()))
    assert bytes(ids[3:]).decode(errors="replace") == text
    assert ts.generate_ids(model, ids[:3], max_new_tokens=20, temperature=0.0) == ids[3:]
    pieces = list(ts.stream(model, tokenizer, "né", max_new_tokens=20, temperature=0.0))
    assert "".join(piece.text for piece in pieces) == text
    texts = ts.generate(model, tokenizer, ["né", "and longer"], max_new_tokens=20, temperature=0.0)
    assert texts[0] == text


def test_a_stream_never_prints_half_a_character(tmp_path: Path) -> None:
    small().save(tmp_path)
    model, tokenizer = ts.load(tmp_path)
    answer, step = "🤦é日!".encode(), count()

    def saying(x: np.ndarray) -> np.ndarray:
        return np.eye(256, dtype=np.float32)[[[answer[next(step)]]] * len(x)]

    model.head = saying
    pieces = list(ts.stream(model, tokenizer, "x", max_new_tokens=len(answer), temperature=0.0))
    assert [piece.text for piece in pieces] == ["", "", "", "🤦", "", "é", "", "", "日", "!"]


def test_a_context_ends_where_its_table_does(tmp_path: Path) -> None:
    small(**KINDS["baseline"]).save(tmp_path)
    model, tokenizer = ts.load(tmp_path)
    pieces = list(ts.stream(model, tokenizer, "x" * 95, max_new_tokens=20, temperature=0.0))
    assert pieces[-1].finish_reason == "context"
    assert small(**KINDS["complex, relative"]).context_length is None


def test_looking_both_ways() -> None:
    model = small(**BOTH_WAYS)
    with pytest.raises(InputError, match="so it has no cache"):
        ts.generate_ids(model, [1, 2, 3], max_new_tokens=1)
    # Nothing says where a token stands: a text backwards is the same text.
    ids = random_ids(9)
    assert_close(model(ids[::-1]), model(ids)[::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_recorded(kind: str) -> None:
    model = small(**KINDS[kind])
    ids = random_ids(7)
    with ts.record() as caught:
        logits = model(ids)
    np.testing.assert_array_equal(caught["logits"][0], logits)
    assert caught["embedding"].shape == (1, 7, 64)
    for i in range(2):
        assert caught[f"blocks.{i}.attention.probabilities"].shape == (1, 8, 7, 7)
        assert caught[f"blocks.{i}.feed_forward.down"].shape == (1, 7, 64)
        assert caught[f"blocks.{i}.residual"].shape == (1, 7, 64)
    assert ("embedding.positions" in caught) == (kind in ("baseline", "no norm"))
    assert ("blocks.0.residual_middle" in caught) == (kind != "window")


def test_compared_with_nothing(tmp_path: Path) -> None:
    """transformers has no such model; test_equivalences compares with those it has."""
    small().save(tmp_path)
    model, _ = ts.load(tmp_path)
    with pytest.raises(TinyStarError, match="transformers cannot load this model"):
        compare_with_transformers(model, [1, 2], tmp_path)


def test_from_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small().save(tmp_path)
    model, tokenizer = ts.load(tmp_path)
    assert tinystar(["ask", "-m", str(tmp_path), "né", "--temperature", "0", "-n", "9", "--json"]) == 0
    expected = ts.generate(model, tokenizer, "né", temperature=0.0, max_new_tokens=9)
    assert json.loads(capsys.readouterr().out)["text"] == expected
    assert tinystar(["inspect", str(tmp_path)]) == 0
    assert "attention GQA 8:2" in capsys.readouterr().out


# Its three parts.


@pytest.mark.parametrize("kind", KINDS)
def test_three_parts_make_the_logits(kind: str) -> None:
    model = small(**KINDS[kind])
    ids = random_ids(2, 9)
    span = model._step(ids, None)
    x = model.embedder(ids, span)
    for block in model.core:
        x = block(x, span, None)
    np.testing.assert_array_equal(model.head(model.final_norm(x)), model(ids))


def in_parts(model: TinyStar, ids: np.ndarray, whole: np.ndarray) -> None:
    """A cache still gives what the whole text gives."""
    cache = model.new_cache()
    found = [model(ids[:4], cache=cache), model(ids[4:5], cache=cache), model(ids[5:], cache=cache)]
    assert_close(np.concatenate(found), whole)


def test_another_embedder() -> None:
    model, ids = small(), random_ids(9)
    before = model(ids)

    def two_tokens(ids: np.ndarray, span: Any) -> np.ndarray:
        return model.tokens(ids) + model.tokens((ids + 1) % 256)

    model.embedder = two_tokens
    after = model(ids)
    table = model.weights["embedding.tokens.weight"]
    pairs = {
        **model.weights,
        "embedding.tokens.weight": table + np.roll(table, -1, axis=0),
        "head.weight": table.T,
    }
    untied = TinyStar(TinyStarConfig(**SMALL, tie_word_embeddings=False), pairs)
    assert_close(after, untied(ids))
    assert np.abs(after - before).max() > 0.1
    in_parts(model, ids, after)


class Doubling:
    """A block of one's own: it lets nothing pass from token to token, and remembers nothing."""

    def __init__(self, block: Any):
        self.block = block

    def new_state(self, batch_size: int, capacity: int) -> Any:
        return self.block.new_state(batch_size, capacity)

    def __call__(self, x: np.ndarray, step: Any, state: Any) -> np.ndarray:
        y = self.block(x, step, state)
        return tap("residual", y + step.wanted(x))


def test_another_core() -> None:
    model, ids = small(), random_ids(9)
    first, second = model.core
    model.core = [second]
    one = {
        name.replace("blocks.1.", "blocks.0."): a
        for name, a in model.weights.items()
        if "blocks.0." not in name
    }
    after = model(ids)
    np.testing.assert_array_equal(after, TinyStar(TinyStarConfig(**SMALL | {"num_layers": 1}), one)(ids))
    in_parts(model, ids, after)
    model.core = [first, Doubling(second)]
    after = model(ids)
    x = model.embedder(ids[None], span := model._step(ids[None], None))
    x = first(x, span, None)
    assert_close(after, model.head(model.final_norm(second(x, span, None) + x))[0])
    assert_close(model(ids, last_only=True), after[-1:])
    in_parts(model, ids, after)
    assert len(ts.generate_ids(model, ids, max_new_tokens=5, seed=0)) == 5
    model.core = []
    np.testing.assert_array_equal(model(ids), model.head(model.final_norm(model.tokens(ids))))


def test_another_head() -> None:
    model, ids = small(), random_ids(9)
    before = model(ids)
    head: Callable[[np.ndarray], np.ndarray] = model.head
    model.head = lambda x: 30 * np.tanh(head(x) / 30)  # soft-capped, as Gemma 2's
    after = model(ids)
    assert_close(after, 30 * np.tanh(before / 30))
    in_parts(model, ids, after)
    scores = np.random.default_rng(0).standard_normal((64, 3), dtype=np.float32)
    model.head = lambda x: x @ scores  # a classifier of three classes
    assert model(ids).shape == (9, 3)


# What the other commands say of it.


@pytest.mark.parametrize("name", configuration_names())
def test_without_weights(name: str) -> None:
    config = TinyStarConfig.named(name)
    hollow = hollow_model(json.loads(json.dumps(config.to_dict())))
    assert isinstance(hollow, TinyStar)
    assert hollow.config == config
    assert not any(any(array.strides) for array in hollow.weights.values())
    assert hollow.parameters == sum(prod(array.shape) for array in hollow.weights.values())
    assert f"{hollow.parameters:,} parameters" in str(hollow)
