"""A real, trained GPT that sorts letters: every activation that its makers published is a tap's value."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

import tinystar_np as ts
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.cli.main import ask_gpt2, tinystar
from tinystar_np.errors import InputError

TAPS = {
    # their name: ours, of the first block where it is one's
    "tok_emb": "embedding.tokens",
    "pos_emb": "embedding.positions",
    "x": "embedding",
    "ln1": "blocks.0.attention_norm",
    "qkv": "blocks.0.attention.qkv",
    "q": "blocks.0.attention.q",
    "k": "blocks.0.attention.k",
    "v": "blocks.0.attention.v",
    "att": "blocks.0.attention.scores",
    "attSm": "blocks.0.attention.probabilities",
    "y": "blocks.0.attention.mixed",
    "yProj": "blocks.0.attention.out",
    "attnResid": "blocks.0.residual_middle",
    "ln2": "blocks.0.feed_forward_norm",
    "fc": "blocks.0.feed_forward.up",
    "gelu": "blocks.0.feed_forward.activation",
    "mlp": "blocks.0.feed_forward.down",
    "mlpResid": "blocks.0.residual",
    "block0": "blocks.0.residual",
    "block1": "blocks.1.residual",
    "block2": "blocks.2.residual",
    "ln_f": "final_norm",
    "lm_head": "logits",
    "probs": "logits",  # the softmax of them
}


@pytest.fixture
def published(shared: Path) -> dict[str, NDArray]:
    return dict(np.load(shared / "checkpoints" / "gpt-nano-sort" / "activations.npz"))


def test_every_published_activation(shared: Path, published: dict[str, NDArray]) -> None:
    model, tokenizer = ts.load(shared / "checkpoints" / "gpt-nano-sort")
    assert tokenizer is None
    ids = published.pop("idx").astype(int)
    assert published.keys() == TAPS.keys()
    with ts.record() as taps:
        model(ids)
    found = {name: taps[ours] for name, ours in TAPS.items()}
    found["pos_emb"] = found["pos_emb"][:1]  # of one text; all have the same
    found["y"] = found["y"].swapaxes(1, 2).reshape(3, 11, 48)  # of all heads, side by side
    found["att"] = np.where(np.tri(11, dtype=bool), found["att"], -np.inf)  # ours are as before the mask
    found["probs"] = np.exp(found["probs"]) / np.exp(found["probs"]).sum(-1, keepdims=True)
    for name, expected in published.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=3e-6, err_msg=name)


def test_the_shipped_model_is_the_published_one(shared: Path) -> None:
    published = load_file(shared / "checkpoints" / "gpt-nano-sort" / "model.safetensors")
    shipped = load_file(find_model("letters") / "model.safetensors")
    assert published.keys() == shipped.keys()
    for name, array in published.items():
        np.testing.assert_array_equal(shipped[name], array, err_msg=name)
    assert sum(array.size for array in shipped.values()) == 85728


def test_it_sorts_whatever_it_is_given() -> None:
    """Six letters are given, and the next six are the same, sorted: all 3⁶ inputs, as one batch."""
    model, tokenizer = ts.load("letters")
    inputs = ["".join(letters) for letters in product("ABC", repeat=6)]
    assert len(inputs) == 729
    written = ts.generate(model, tokenizer, inputs, max_new_tokens=6, temperature=0.0)
    assert written == ["".join(sorted(letters)) for letters in inputs]


@pytest.mark.parametrize("isolated", [False, True])
def test_other_characters_are_refused(isolated: bool) -> None:
    _, tokenizer = ts.load("letters", isolated=isolated)
    assert tokenizer.encode("ABC") == [0, 1, 2]
    assert tokenizer.decode([2, 0, 1, 1, 0, 2]) == "CABBAC"
    assert tokenizer.encode("") == []
    for text, letter in (("ABDC", "'D'"), ("A B", "' '"), ("AB\n", r"'\n'"), ("Á", "'Á'"), ("c", "'c'")):
        with pytest.raises(InputError, match=re.escape(f"no token for {letter}")) as caught:
            tokenizer.encode(text)
        assert str(caught.value).endswith("Its tokens are A, B, C.")


def test_the_commands_take_a_vocabulary_of_three_letters(capsys: pytest.CaptureFixture[str]) -> None:
    """Also those that try a tokenizer, or a model, on a text of their own."""
    assert ask_gpt2(["--model", "letters", "--temperature", "0", "-n", "6", "CABBAC"]) == 0
    assert capsys.readouterr().out == "AABBCC\n"
    assert ask_gpt2(["--model", "letters", "cab"]) == 1
    out, err = capsys.readouterr()
    assert (out, "no token for 'c'" in err) == ("", True)
    assert tinystar(["inspect", "letters", "--check"]) == 0
    assert "a line of text was refused: This model's tokenizer has no token for 'T'" in " ".join(
        capsys.readouterr().out.split()
    )
    assert tinystar(["compare", "letters"]) == 0
    assert "activations agree" in capsys.readouterr().out
    assert tinystar(["look", "-m", "letters", "CABBAC", "-n", "6", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.startswith("CABBACAABB→C")
