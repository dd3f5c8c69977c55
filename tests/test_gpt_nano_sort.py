"""A real, trained GPT that sorts letters: every activation that its makers published is a tap's value."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tinystar_np as ts

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


def test_it_sorts(shared: Path) -> None:
    """The first six letters are given; what follows the last of them is sorted."""
    model, _ = ts.load(shared / "checkpoints" / "gpt-nano-sort")
    for letters in ([2, 1, 0, 2, 1, 1], [0, 0, 2, 1, 0, 1], [2, 2, 2, 1, 1, 0]):
        written = ts.generate_ids(model, letters, max_new_tokens=6, temperature=0.0)
        assert written == sorted(letters)
