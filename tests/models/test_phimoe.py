"""Phi-3.5-MoE in texts longer than the original length: Microsoft's factors, which transformers 5 forgets.

Its rotary embedding once told the rule how long the text is; today it does not, and the rule takes the
factors for short texts. Here it is told again.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, logits_of, random_ids, reference_model, save
from parity_cases import ROWS
from parity_rows.phimoe import STRETCHED
from transformers import PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models.phimoe import PhimoeConfig

LIMIT = 20
LONG: dict[str, Any] = {
    **ROWS["phimoe"].smallest,
    "rope_parameters": {**STRETCHED, "original_max_position_embeddings": LIMIT},
    "max_position_embeddings": 256,
}


def as_published(model: PreTrainedModel) -> PreTrainedModel:
    """Choose the factors by the length of the text."""
    rotary = model.model.rotary_emb
    plain = rotary.forward

    def forward(x: torch.Tensor, position_ids: torch.Tensor) -> Any:
        length = int(position_ids.max()) + 1
        rotary.rope_init_fn = lambda config: ROPE_INIT_FUNCTIONS["longrope"](config, seq_len=length)
        return plain(x, position_ids)

    rotary.forward = forward
    return model


def test_long_texts(tmp_path: Path) -> None:
    reference = as_published(reference_model("phimoe", **LONG))
    model, _ = load(save(reference, tmp_path), dtype="float32")
    ids = random_ids(2, 2 * LIMIT)
    cache = model.new_cache(batch_size=2)
    for end in (LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, 2 * LIMIT):
        expected = logits_of(reference, ids[:, :end])
        assert_close(model(ids[:, :end]), expected, what=f"{end} tokens")
        start = int(cache.lengths[0])
        assert_close(model(ids[:, start:end], cache=cache), expected[:, start:], what=f"{end} in pieces")
    assert np.abs(logits_of(reference, ids) - logits_of(reference_model("phimoe", **LONG), ids)).max() > 0.01


# microsoft/Phi-3.5-MoE-instruct
PUBLISHED: dict[str, Any] = {
    "architectures": ["PhiMoEForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 32000,
    "hidden_act": "silu",
    "hidden_dropout": 0.0,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "input_jitter_noise": 0.01,
    "intermediate_size": 20,
    "lm_head_bias": True,
    "max_position_embeddings": 131072,
    "model_type": "phimoe",
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "original_max_position_embeddings": 4096,
    "output_router_logits": False,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "long_factor": [1.02, 1.03, 1.05, 1.08],
        "long_mscale": 1.243163121016122,
        "original_max_position_embeddings": 4096,
        "short_factor": [1.0, 1.04, 1.1, 1.3],
        "short_mscale": 1.243163121016122,
        "type": "longrope",
    },
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.0,
    "router_jitter_noise": 0.01,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.3",
    "use_cache": True,
    "vocab_size": 211,
}


def test_published(tmp_path: Path) -> None:
    given = copy.deepcopy({key: value for key, value in PUBLISHED.items() if key != "model_type"})
    reference = reference_model("phimoe", **given)  # which writes into it
    save(reference, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    ids = random_ids(2, 50)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"short_mscale": None}, "short_mscale is missing"),
        ({"long_mscale": 2.0}, r"long_mscale = 2\.0 and short_mscale = 1\.243"),
        ({"type": "yarn"}, "rope_type = 'yarn'"),
    ],
)
def test_refused(changes: dict[str, Any], words: str) -> None:
    raw = {**PUBLISHED, "rope_scaling": {**PUBLISHED["rope_scaling"], **changes}}
    with pytest.raises(ConfigError, match=words):
        PhimoeConfig.from_dict(raw)
