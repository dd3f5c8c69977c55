"""Gemma 4 of text, images and sound: its text part against the whole, which is given neither."""

from pathlib import Path

import numpy as np
import pytest
from parity import logits_of, random_ids, randomise, save
from parity_case import FULL, SLIDING, near_and_far, rope
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForImageTextToText, Gemma4Config, PreTrainedModel

from tinystar_np.loading import load

TEXT = {
    "vocab_size": 211,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 12,
    "sliding_window": 5,
    "layer_types": [SLIDING, FULL, SLIDING, FULL],
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 6,
    "vocab_size_per_layer_input": 211,
    "rms_norm_eps": 0.1,
    "final_logit_softcapping": 5.0,
    **near_and_far(rope(), rope("proportional", partial_rotary_factor=0.5)),
}
EYE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "patch_size": 4,
    "position_embedding_size": 32,
}
EAR = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 16}
TOKENS = {"image_token_id": 210, "video_token_id": 209, "audio_token_id": 208, "boi_token_id": 207}


def whole_model(**settings: object) -> PreTrainedModel:
    config = Gemma4Config(text_config=TEXT, vision_config=EYE, **{**TOKENS, **settings})
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager")
    randomise(model)
    return model.eval()


@pytest.mark.parametrize("settings", [{}, {"audio_config": EAR}], ids=["eyes", "eyes and ears"])
def test_text_part(settings: dict[str, object], tmp_path: Path) -> None:
    reference = whole_model(**settings)
    directory = save(reference, tmp_path)
    path = directory / "model.safetensors"
    path = path if path.exists() else next(directory.glob("*.safetensors"))
    tensors = load_file(path)
    ids = random_ids(3, 40, vocabulary=200)
    np.testing.assert_allclose(load(directory)[0](ids), logits_of(reference, ids), rtol=0, atol=1e-4)
    # Published files hold keys and values of layers that read another's.
    unused = {
        f"model.language_model.layers.3.self_attn.{name}.weight": np.ones(3, np.float32)
        for name in ("k_proj", "v_proj", "k_norm")
    }
    save_file({**tensors, **unused}, path)
    np.testing.assert_allclose(load(directory)[0](ids), logits_of(reference, ids), rtol=0, atol=1e-4)
