"""The exercises of docs/from_gpt2/llama.md, solved."""

import numpy as np
from from_gpt2 import PUBLISHED, hollow, random_model

import tinystar_np as ts
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.llama_generations import likeness
from tinystar_np.inspection.memory import state_sizes


def test_cache_bytes_of_llama_2_70b() -> None:
    # A key and a value, in each of L layers, of G heads of width K = D / H, 4 bytes a number.
    L, D, H, G = 80, 8192, 64, 8
    nbytes = 2 * L * G * (D // H) * 4
    assert nbytes == 655_360
    own, *others = state_sizes(hollow("Llama 2 70B"))
    assert own.per_token == nbytes
    # G = H = 64 would be eight times as much: 5.2 MB for each token.
    as_mha = next(other for other in others if "MHA" in other.name)
    assert as_mha.per_token == 8 * nbytes


def test_the_base_shows_first_in_rotated_queries() -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    caught = []
    for base in (1e4, 5e5):
        with ts.record() as taps:
            random_model({"model_type": "llama", "vocab_size": 50, "rope_theta": base, **sizes})([7, 8, 9])
        caught.append(taps)
    differing = [name for name in caught[0] if not np.allclose(caught[0][name], caught[1][name], atol=0)]
    # Embedding, norm, q, k and v know nothing of positions. The rotation does:
    assert differing[0] == "blocks.0.attention.q_rotated"
    # Position 0 is rotated by the angle 0 whatever the base, and so differs nowhere, up to the logits:
    # it attends to itself alone.
    first, second = (taps["logits"][0] for taps in caught)
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])


def test_an_untied_llama_3_2() -> None:
    config = PUBLISHED["Llama 3.2 3B"]
    tied, untied = hollow_model(config), hollow_model({**config, "tie_word_embeddings": False})
    assert likeness(tied.config).says == "Llama 3.2 3B"
    # Six of seven keys still agree.
    assert likeness(untied.config).says == "closest to Llama 3.2"
    assert likeness(untied.config).differing == ["tie_word_embeddings false"]
    # A second table of the vocabulary: V × D weights, an eighth more.
    assert untied.parameters - tied.parameters == 128256 * 3072
