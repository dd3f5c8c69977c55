"""Models, blocks and layers print what they are made of: every matrix of every architecture is in it."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import reference_model, save
from parity_case import Case
from parity_cases import CASES

import tinystar_np as ts
from tinystar_np.generation import Conversation
from tinystar_np.kernels.linear import Matrix
from tinystar_np.loading import load


@pytest.fixture(scope="module")
def stories() -> Any:
    return ts.load("stories")


def matrices_in(text: str) -> set[tuple[int, ...]]:
    """The shapes of matrices in a text, rows and columns in either order."""
    found = re.findall(r"(\d+) [→×] (\d+)(?: × (\d+))?", text)
    return {tuple(sorted(int(n) for n in shape if n)) for shape in found}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.model_type) for case in CASES])
def test_every_matrix_of_a_block_is_in_its_text(case: Case, tmp_path: Path) -> None:
    reference = reference_model(case.model_type, **copy.deepcopy(case.config("plain")))
    model = load(save(reference, tmp_path), "float32")[0]
    weights: dict[str, Matrix] = dict(model.weights)
    assert re.fullmatch(
        rf"{type(model).__name__}\(\d layers?, \d+ wide, .* parameters, float32\)", repr(model)
    )
    for i, block in enumerate(model.blocks):
        text = repr(block)
        assert text.startswith("Block(")
        assert " object at 0x" not in text
        assert text.count("(") == text.count(")")
        shown = matrices_in(text)
        for name, array in weights.items():
            is_matrix = len(array.shape) == 2 and min(array.shape) > 1  # ERNIE's correction is a row
            if name.startswith(f"blocks.{i}.") and is_matrix and "experts" not in name:
                assert tuple(sorted(array.shape)) in shown, name
    html = model._repr_html_()
    assert html.count("<details>") >= 4
    assert " object at 0x" not in html


def test_a_models_line_and_picture(stories: Any) -> None:
    model, _ = stories
    assert repr(model) == "GPT2(6 layers, 192 wide, 3.16 M parameters, float32)"
    assert model.parameters == 3_159_168 or 3.155e6 < model.parameters < 3.165e6
    html = model._repr_html_()
    assert "blocks[0] … [5]" in html
    shares = [float(share) for share in re.findall(r", ([\d.]+)%", html)]
    assert sum(shares) == pytest.approx(100, abs=0.3)  # each weight is in one part
    assert "the embedding&#x27;s weights" in html or "the embedding's weights" in html  # the tied head


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_the_type_of_weights(dtype: str) -> None:
    model, _ = load("stories", dtype)
    assert repr(model).endswith(f", {dtype})")
    assert f"qkv: Linear(192 → 576, bias, {dtype})" in repr(model.blocks[0])


def test_what_a_block_looks_like(stories: Any) -> None:
    lines = repr(stories[0].blocks[0]).splitlines()
    assert lines[:4] == [
        "Block(",
        "  attention_norm: LayerNorm(gain (192), bias (192), eps=1e-05)",
        "  attention: FusedAttention(heads=6, kv_heads=6, head_dim=32, scale=0.176777",
        "    qkv: Linear(192 → 576, bias, float32)",
    ]
    assert repr(stories[0].embedding) == "Embedding(2048 × 192, float32)"


def test_a_cache(stories: Any) -> None:
    model, _ = stories
    cache = model.new_cache(capacity=500)
    assert repr(cache) == "Cache(1 row, 0 tokens, 0 B)"
    model([1, 2, 3, 4], cache=cache)
    assert repr(cache) == f"Cache(1 row, 4 tokens, {6 * 2 * 4 * 192 * 4 / 1000:.1f} KB)"  # not the room
    rows = model.new_cache(2)
    model(np.ones((2, 7), dtype=int), cache=rows)
    rows.lengths = np.array([3, 7])
    assert repr(rows).startswith("Cache(2 rows, 3 to 7 tokens, ")


def test_a_tokenizer(stories: Any, tmp_path: Path) -> None:
    tokenizer = stories[1]
    assert repr(tokenizer) == ("Tokenizer(tokenizer.json: 2048 tokens, 1 of them special, no chat template)")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (tokenizer.path.parent / name).exists():
            (tmp_path / name).write_bytes((tokenizer.path.parent / name).read_bytes())
    from tinystar_np.text import load_tokenizer

    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert "a chat template" in repr(load_tokenizer(tmp_path))
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    assert "a damaged chat template" in repr(load_tokenizer(tmp_path))


def test_a_conversation(stories: Any, tmp_path: Path) -> None:
    model, tokenizer = stories
    for file in tokenizer.path.parent.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    from tinystar_np.text import load_tokenizer

    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }} {% endfor %}")
    conversation = Conversation(model, load_tokenizer(tmp_path), system="<b>Be kind</b>")
    for _ in conversation.say("<script>alert(1)</script>\u202e", max_new_tokens=5, seed=1):
        pass
    assert repr(conversation) == f"Conversation({model!r}, 3 messages)"
    html = conversation._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\u202e</bdi>" in html  # which ends what U+202E began
    assert "&lt;b&gt;Be kind&lt;/b&gt;" in html
    assert html.count("<bdi") == 3
