"""The exercises of docs/from_gpt2/deepseek.md, solved."""

import numpy as np
from from_gpt2 import hollow, own_state, random_model

import tinystar_np as ts
from tinystar_np.kernels.experts import sigmoid_grouped_top_k


def test_cache_bytes_of_v3() -> None:
    # A latent and a rotated key in each layer, whatever the number of heads.
    per_token = 61 * (512 + 64) * 4
    assert per_token == 140_544
    assert own_state(hollow("DeepSeek-V3")).per_token == per_token


def test_latents_have_no_positions() -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "kv_lora_rank": 16, "q_lora_rank": None}
    sizes |= {"qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "intermediate_size": 48}
    sizes |= {"vocab_size": 50, "num_hidden_layers": 1, "first_k_dense_replace": 1}
    model = random_model({"model_type": "deepseek_v2", **sizes}, std=0.3)
    with ts.record("blocks.0.attention.*") as here:
        model([3, 1, 4])
    with ts.record("blocks.0.attention.*") as later:
        model([9, 3, 1, 4])
    # The latents of the three tokens are equal: they are made of the token alone.
    latents, moved = here["blocks.0.attention.kv_norm"], later["blocks.0.attention.kv_norm"]
    np.testing.assert_allclose(latents, moved[:, 1:], atol=1e-6)
    # Only the shared key knows the place.
    keys, moved = here["blocks.0.attention.k_rotated"], later["blocks.0.attention.k_rotated"]
    assert np.abs(keys - moved[:, :, 1:]).max() > 1e-2


def test_the_correction_evens_loads() -> None:
    logits = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    logits[:, 0] += 3  # everybody's favourite
    correction = np.zeros(4, dtype=np.float32)

    def loads() -> np.ndarray:
        return np.bincount(sigmoid_grouped_top_k(logits, 2, correction=correction)[0].ravel(), minlength=4)

    assert loads()[0] > 950
    for _ in range(300):  # a small step for each: up where it has too few tokens, down where too many
        correction += np.float32(0.005) * np.sign(500 - loads())
    assert abs(loads() - 500).max() < 50
    assert correction.argmin() == 0
