"""DeepSeek's own: what latent attention keeps, and layers with experts now and then."""

from pathlib import Path

from parity import (
    check,
    edit_config,
    randomise,
    reference_model,
)
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2MLP

from tinystar_np.inspection.hollow import hollow_model

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 24,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 12,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 64,
}


def test_the_cache_holds_a_latent_and_a_rotated_key_for_each_token() -> None:
    model = hollow_model({"model_type": "deepseek_v2", **SMALL})
    cache = model.new_cache(capacity=10)
    assert cache.states[0].arrays(10)["keys"].shape == (1, 1, 10, 24 + 8)
    assert cache.nbytes == 3 * 10 * (24 + 8) * 4  # layers, tokens, numbers, float32


def test_layers_with_experts_now_and_then(tmp_path: Path) -> None:
    """A key of DeepSeek's own code that transformers does not read: its reference is put together here."""
    reference = reference_model("deepseek_v2", **{**SMALL, "num_hidden_layers": 5})
    for i in (1, 3):
        reference.model.layers[i].mlp = DeepseekV2MLP(reference.config)
    randomise(reference)
    reference.save_pretrained(tmp_path)
    edit_config(tmp_path, moe_layer_freq=2)
    check(reference, tmp_path)
