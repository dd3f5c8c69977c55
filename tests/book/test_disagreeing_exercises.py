"""The exercises of docs/porting/disagreeing.md, solved; and what it says that compare prints."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chapters import DOCS, Chapter
from safetensors.numpy import load_file, save_file

import tinystar_np as ts
from tinystar_np.cli.main import tinystar
from tinystar_np.kernels.norms import rms_norm

CHAPTER = Chapter(DOCS / "porting" / "disagreeing.md")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the chapter's first cells define: the function that writes a model, and the original."""
    found: dict[str, Any] = {}
    for cell in CHAPTER.code()[:3]:
        exec(cell, found)
    return found


def test_rope_does_not_see_where_a_text_begins(names: dict[str, Any]) -> None:
    # Rotated queries and keys are the first to differ. Their products do not: a score depends on the distance
    # of two tokens only, and all distances are the same. So the logits differ by rounding alone.
    model, _ = ts.load(names["original"])
    port, _ = ts.load(names["original"])
    ids = np.arange(12) * 7
    with ts.record() as right:
        logits = model(ids)

    from tinystar_np.layers.rope import Rotary

    class LaterByOne(Rotary):
        def _rotations(self, step):
            cos, sin = np.cos(self.frequencies), np.sin(self.frequencies)
            before = super()._rotations(step)  # the angles of the positions; one more turns them once more
            return before[0] * cos - before[1] * sin, before[1] * cos + before[0] * sin

    for block in port.blocks:
        block.attention.rope = LaterByOne(block.attention.rope.frequencies)
    with ts.record() as wrong:
        later = port(ids)
    apart = [name for name in right if abs(right[name] - wrong[name]).max() > 1e-3]
    assert apart[0] == "blocks.0.attention.q_rotated"
    assert {name.rpartition(".")[2] for name in apart} == {"q_rotated", "k_rotated"}
    np.testing.assert_allclose(later, logits, atol=1e-4)


def test_exchanged_heads_are_found_and_cancel(names: dict[str, Any], tmp_path: Path) -> None:
    def exchange(axis: int, name: str, weights: dict[str, np.ndarray]) -> None:
        heads = np.split(weights[name], 4, axis=axis)  # four heads, 16 rows or columns each
        weights[name] = np.concatenate([heads[1], heads[0], *heads[2:]], axis=axis)

    original = names["original"]
    weights = load_file(original / "model.safetensors")
    (tmp_path / "config.json").write_text((original / "config.json").read_text())
    exchange(0, "model.layers.1.self_attn.q_proj.weight", weights)
    save_file(weights, tmp_path / "model.safetensors")
    assert "heads 0 and 1 are exchanged" in str(ts.diff(original, tmp_path))

    # Heads 0 and 1 share one key/value head, so nothing but their outputs' order is left, and the columns of
    # the output projection undo it: the logits are the old ones.
    exchange(1, "model.layers.1.self_attn.o_proj.weight", weights)
    save_file(weights, tmp_path / "model.safetensors")
    ids = np.arange(20)
    np.testing.assert_allclose(ts.load(tmp_path)[0](ids), ts.load(original)[0](ids), atol=1e-5)


def test_an_epsilon_matters_where_vectors_are_short() -> None:
    # The mean square is 10⁻⁴. The results are as √(10⁻⁴ + 10⁻⁵) to √(10⁻⁴ + 10⁻⁶): 4.3 per cent apart.
    x, gain = np.full(64, 0.01), np.ones(64)
    apart = rms_norm(x, gain, 1e-6) / rms_norm(x, gain, 1e-5) - 1
    np.testing.assert_allclose(apart, np.sqrt(1.1 / 1.01) - 1)
    np.testing.assert_allclose(apart, 0.0436, atol=1e-4)
    # Of features of size s the relative difference is about 9·10⁻⁶ / 2s². It is below 6·10⁻⁸, half a unit of
    # float32's last digit, from s = 9 on.
    for size, seen in ((5, True), (12, False)):
        x = np.full(64, float(size))
        assert (abs(rms_norm(x, gain, 1e-6) / rms_norm(x, gain, 1e-5) - 1).max() > 6e-8) == seen


PLANTED = {"port_layout": {}, "port_base": {"rope_theta": 500000.0}, "port_epsilon": {"rms_norm_eps": 1e-3}}


def test_what_compare_prints_is_what_the_chapter_says(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exec(CHAPTER.code()[3].partition("\n\n\nprint")[0], names)
    said = []
    for name, keys in PLANTED.items():
        change = names["forget_to_reorder"] if name == "port_layout" else lambda weights: None
        other = names["write"](f"{name}_compared", change, **keys)
        monkeypatch.setattr(
            "sys.argv", ["tinystar", "compare", str(names["original"]), "--against", str(other)]
        )
        assert tinystar() == 1
        said.append(re.search(r"^first: .*", capsys.readouterr().out, re.MULTILINE | re.DOTALL)[0].strip())  # type: ignore[index]
    printed = re.search(r"```text\n(first: .*?)\n```", CHAPTER.text, re.DOTALL)
    assert printed is not None
    assert [" ".join(each.split()) for each in printed[1].split("\n\n")] == [
        " ".join(each.split()) for each in said
    ]
    assert json.loads((names["original"] / "config.json").read_text())["rope_theta"] == 10000.0
