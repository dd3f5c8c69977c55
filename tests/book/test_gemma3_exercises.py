"""The exercises of docs/from_gpt2/gemma3.md, solved."""

import numpy as np
from from_gpt2 import hollow, own_state, random_model

import tinystar_np as ts


def test_cache_of_gemma_3_at_32768() -> None:
    # Of 34 layers the 6th, 12th, 18th, 24th and 30th see all: 5. The others keep 1024 tokens.
    of_a_token = 2 * 4 * 256 * 4  # keys and values of a layer
    assert 5 * 32768 * of_a_token + 29 * 1024 * of_a_token == 1_585_446_912
    assert own_state(hollow("Gemma 3 4B")).at(32768) == 1_585_446_912


def test_doubled_queries() -> None:
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    differing = {}
    for model_type in ("gemma2", "gemma3_text"):
        caught = []
        for factor in (1, 2):
            model = random_model({"model_type": model_type, **sizes}, std=0.3)
            model.weights["blocks.0.attention.q.weight"][...] *= factor
            with ts.record() as taps:
                model(range(10))
            caught.append(taps)
        before, after = caught
        differing[model_type] = [n for n in before if not np.allclose(before[n], after[n], atol=1e-3)]
    # In Gemma 3 the queries themselves; their norm takes the factor away (but for eps).
    assert differing["gemma3_text"] == ["blocks.0.attention.q"]
    # In Gemma 2 all that comes after them too, keys and values of block 0 excepted.
    assert "blocks.0.attention.scores" in differing["gemma2"]
    assert "logits" in differing["gemma2"]


def test_one_full_layer_reaches_the_first_token() -> None:
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4}
    kinds = {"windows": ["sliding_attention"] * 6}
    kinds["one full"] = [*["sliding_attention"] * 5, "full_attention"]
    depends = {}
    for name, layer_types in kinds.items():
        model = random_model({"model_type": "gemma3_text", **sizes, "layer_types": layer_types}, std=0.3)
        ids = np.arange(40)
        other = np.concatenate([[45], ids[1:]])
        depends[name] = not np.array_equal(model(ids)[-1], model(other)[-1])
    # Six windows of 4 reach 1 + 6 · 3 = 19 tokens back, and not 40. One full layer reaches any.
    assert depends == {"windows": False, "one full": True}
