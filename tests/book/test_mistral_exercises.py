"""The exercises of docs/from_gpt2/mistral.md, solved."""

import numpy as np
from from_gpt2 import hollow, own_state, random_model


def test_the_cache_stops_growing() -> None:
    # Keys and values, L layers, G heads of K numbers of 4 bytes, of W tokens at the most.
    per_token = 2 * 32 * 8 * 128 * 4
    assert per_token == 262_144
    state = own_state(hollow("Mistral 7B v0.1"))
    assert state.at(4096) == 4096 * per_token == 1_073_741_824
    assert state.at(32768) == state.at(4096)


def test_reach_of_five_layers() -> None:
    keys = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 50}
    keys |= {"num_key_value_heads": 2}
    raw = {"model_type": "mistral", **keys, "num_hidden_layers": 5, "sliding_window": 3}
    model, ids = random_model(raw, std=0.3), np.arange(20)
    last = model(ids)[-1]
    noticed = []
    for place in range(20):
        changed = ids.copy()
        changed[place] = 40
        noticed.append(not np.array_equal(model(changed)[-1], last))
    # Each layer adds W − 1 = 2 tokens to the token itself.
    assert sum(noticed) == 1 + 5 * 2
    assert all(noticed[-11:])


def test_a_llama_becomes_a_mistral() -> None:
    keys = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 50}
    keys |= {"num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-6}
    ids = np.arange(12)
    mistral = random_model({"model_type": "mistral", **keys, "sliding_window": 4}, std=0.2)
    model = random_model({"model_type": "llama", **keys}, std=0.2)  # the same numbers: the same seed
    as_llama = model(ids)
    for block in model.blocks:
        block.attention.window = 4
    np.testing.assert_array_equal(model(ids), mistral(ids))
    # The first four tokens have all they could see within the window, the later ones have not.
    np.testing.assert_allclose(model(ids)[:4], as_llama[:4], atol=1e-5)
    assert np.abs(model(ids)[4:] - as_llama[4:]).max() > 1e-3
