"""Qwen3-Next's own: the state of a delta net."""

from pathlib import Path

from parity import (
    random_ids,
    reference_model,
    save,
)

from tinystar_np.fast.deferred_state import MOST
from tinystar_np.loading import load

SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 64,
    # Behind the delta rule each head's result is normed. Where a query hardly meets a key there is little to
    # norm, and the usual 1e-6 makes rounding large: transformers' own two forms then differ by 3e-5.
    "rms_norm_eps": 0.01,
}


LINEAR, FULL = "linear_attention", "full_attention"


def test_the_state_of_a_delta_net_does_not_grow(tmp_path: Path) -> None:
    reference = reference_model("qwen3_next", **SMALL, layer_types=[LINEAR] * 4)
    model, _ = load(save(reference, tmp_path))
    cache = model.new_cache(2)
    S, inputs = 4 * 8 * 12, 3 * (2 * 2 * 8 + 4 * 12)
    heads, token = 4, 4 + 2 * 8 + 4 * 12  # how far S has faded; a token, its keys and its values
    one = 2 * 4 * 4  # rows, layers, bytes
    assert cache.nbytes == one * (inputs + S)
    for new, beside in ((1, heads + token), (70, 0), (1, heads + token)):
        model(random_ids(2, new), cache=cache)
        assert cache.nbytes == one * (inputs + S + beside)
    for _ in range(40):
        model(random_ids(2, 1), cache=cache)
    assert cache.nbytes == one * (inputs + 2 * S + heads + (41 - 2 * MOST) * token)  # two take turns
