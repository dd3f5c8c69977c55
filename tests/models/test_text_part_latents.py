"""Models of text and images whose text part has latent attention, against the whole, which is given no image.

Kimi K2.5's text part is a DeepSeek-V3 that its files call ``kimi_k2``; Mistral Small 4's is a ``mistral4``.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from parity import assert_close, check, edit_config, logits_of, random_ids, randomise, save
from parity_case import VOCABULARY
from parity_cases import ROWS
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForImageTextToText, Mistral3Config, PreTrainedModel
from transformers.models.kimi_k25.configuration_kimi_k25 import Kimi_K25Config

from tinystar_np.loading import load

EYE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 14,
}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}


def whole_model(text: str, **settings: Any) -> PreTrainedModel:
    """Make a small random model that sees and reads."""
    part = {**ROWS[text].config("plain"), **ENDS, "model_type": text}
    if text == "mistral4":
        eye = {**EYE, "image_size": 28, "model_type": "pixtral", "head_dim": 8}
        config = Mistral3Config(text_config=part, vision_config=eye, image_token_index=210, **settings)
    else:
        tokens = {"image_token_id": VOCABULARY, "video_token_id": VOCABULARY}  # none of the text
        config = Kimi_K25Config(
            text_config=part, vision_config=EYE, projection_hidden_size=16, **tokens, **settings
        )
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager")
    randomise(model)
    return model.eval()


def saved(reference: PreTrainedModel, directory: Path) -> Path:
    """Save as transformers does, but for the text part's layers, which its names of Kimi's call blocks."""
    path = save(reference, directory) / "model.safetensors"
    tensors = {
        name.replace("language_model.model.blocks.", "language_model.model.layers."): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path)
    return directory


@pytest.mark.parametrize("tied", [TIED, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("text", ["mistral4", "deepseek_v3"])
def test_text_part(text: str, tied: dict[str, bool], tmp_path: Path) -> None:
    reference = whole_model(text, **tied)
    model = check(reference, saved(reference, tmp_path), length=40)
    assert type(model).__module__ == f"tinystar_np.models.{text}"


def test_kimi_as_published(tmp_path: Path) -> None:
    """``kimi_k2`` in the text part, and the names of the makers' own code."""
    reference = whole_model("deepseek_v3", **UNTIED)
    saved(reference, tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    edit_config(tmp_path, text_config={**raw["text_config"], "model_type": "kimi_k2"})
    published = ("language_model.model.layers.0.mlp.up_proj.weight", "mm_projector.proj.0.weight")
    assert not {*published} - {*load_file(tmp_path / "model.safetensors")}
    ids = random_ids(2, 30)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_kimi_k2_alone(tmp_path: Path) -> None:
    """Without an image encoder it is the text part, by the text part's name."""
    reference = whole_model("deepseek_v3", **UNTIED)
    path = saved(reference, tmp_path) / "model.safetensors"
    part = json.loads((tmp_path / "config.json").read_text())["text_config"]
    (tmp_path / "config.json").write_text(json.dumps({**part, **UNTIED, "model_type": "kimi_k2"}))
    before = "language_model."
    tensors = {name.removeprefix(before): w for name, w in load_file(path).items() if before in name}
    save_file(tensors, path)
    ids = random_ids(2, 30)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))
