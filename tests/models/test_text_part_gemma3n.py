"""Gemma 3n as it is published: the text part within a repository that also sees and hears."""

import json
from pathlib import Path

import numpy as np
from parity import assert_close, logits_of, random_ids, reference_model, save
from parity_cases import ROWS
from safetensors.numpy import load_file, save_file

from tinystar_np.loading import load
from tinystar_np.models.gemma3n_text import Gemma3nText


def test_text_part(tmp_path: Path) -> None:
    """transformers makes the whole only with timm's vision encoder: here its text part gets their names."""
    reference = reference_model("gemma3n_text", **ROWS["gemma3n_text"].config("shared"))
    path = save(reference, tmp_path) / "model.safetensors"
    tensors = load_file(path)
    whole = {name.replace("model.", "model.language_model.", 1): each for name, each in tensors.items()}
    names = (
        "vision_tower.timm_model.conv.weight",
        "audio_tower.conv.weight",
        "embed_vision.embedding.weight",
    )
    whole |= {f"model.{name}": np.ones((3, 2), np.float32) for name in names}
    # Layers that read others' keys and values hold their own all the same.
    whole |= {
        f"model.language_model.layers.3.self_attn.{name}.weight": np.ones((3, 2), np.float32)
        for name in ("k_proj", "v_proj", "k_norm")
    }
    save_file(whole, path)
    text = json.loads((tmp_path / "config.json").read_text())
    raw = {"model_type": "gemma3n", "text_config": text, "vision_config": {}, "audio_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    model, _ = load(tmp_path, dtype="float32")
    assert isinstance(model, Gemma3nText)
    ids = random_ids(2, 40)
    assert_close(model(ids), logits_of(reference, ids), 2e-5)
