"""The exercises of docs/from_gpt2/index.md, solved."""

from from_gpt2 import PUBLISHED, hollow, own_state

from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.hollow import hollow_model


def test_cache_of_gpt2_xl() -> None:
    # A key and a value of D numbers in each layer, 4 bytes a number.
    per_token = 2 * 48 * 1600 * 4
    assert per_token == 614_400
    assert own_state(hollow("GPT-2 XL")).per_token == per_token
    # 1 GB is room for some 1600 tokens, more than the 1024 places that the model has.
    assert 10**9 // per_token == 1627


def test_where_attention_costs_as_much_as_the_rest() -> None:
    model = hollow("Llama 3.1 8B")
    # Attention grows with every token seen, by 2 · 2 · L · H · K; the matrices cost the same everywhere.
    of_a_token = 2 * 2 * 32 * 32 * 128
    matrices = flops_per_token(model, 1) - of_a_token
    length = matrices / of_a_token
    # From the table: 32.2 − 15.5 GFLOP for 31744 more tokens, and so 15 for some 28000.
    assert 28_000 < length < 29_000
    assert abs(flops_per_token(model, round(length)) / matrices - 2) < 1e-4


def test_two_ways_to_a_small_cache() -> None:
    config = PUBLISHED["Llama 3.1 8B"]
    assert own_state(hollow_model(config)).at(32768) > 8e9
    # One head of keys and values for all queries: an eighth.
    shared = hollow_model({**config, "num_key_value_heads": 1})
    assert own_state(shared).at(32768) == 2 * 32 * 128 * 4 * 32768 < 1.1e9
    # Or a window of 4096 tokens, again an eighth: Llama has no key for it, Mistral has.
    window = hollow_model({**config, "model_type": "mistral", "rope_scaling": None, "sliding_window": 4096})
    assert own_state(window).at(32768) == own_state(shared).at(32768)
