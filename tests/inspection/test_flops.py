"""FLOPs of a token: against counts written out, torch's counter on transformers' models, and the weights."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from fractions import Fraction
from math import prod
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from tinystar_np.inspection.flops import flops_per_token, multiply_adds
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.layers.basic import GatedFeedForward, Linear
from tinystar_np.layers.channel_delta_net import ChannelDeltaNet
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.experts import Experts
from tinystar_np.layers.lightning_attention import LightningAttention
from tinystar_np.layers.mlstm import MLSTM
from tinystar_np.layers.module import Module
from tinystar_np.layers.rg_lru import RGLRU
from tinystar_np.layers.time_mixing import TimeMixing
from tinystar_np.layers.weights import Weights
from tinystar_np.models import ARCHITECTURES
from tinystar_np.models.tinystar_block import TinyAttention
from tinystar_np.models.tinystar_config import TinyStarConfig

LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
SMALL = {
    "vocab_size": 211,
    "hidden_size": 64,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WIDTH = {"hidden_size": 64, "num_layers": 3, "num_heads": 4}


def hollow(model_type: str, **config: Any) -> Any:
    return hollow_model({"model_type": model_type, **config})


def tinystar(**config: Any) -> Any:
    return hollow_model(TinyStarConfig(**WIDTH, **config).to_dict())


def test_gpt2_written_out() -> None:
    qkv, out, up_and_down = 768 * 3 * 768, 768 * 768, 2 * 768 * 3072
    linear = 12 * (qkv + out + up_and_down) + 768 * 50257
    for seen in (1, 1000):
        scores_and_mean = 12 * 2 * seen * 768  # layers; twice; tokens; all heads together
        assert flops_per_token(hollow("gpt2"), seen) == 2 * (linear + scores_and_mean)
    assert 2 * linear == 247_064_064


def test_llama_written_out() -> None:
    model = hollow("llama", **LLAMA_8B)
    q_and_out, k_and_v = 2 * 4096 * 4096, 2 * 4096 * 8 * 128
    linear = 32 * (q_and_out + k_and_v + 3 * 4096 * 14336) + 4096 * 128256
    for seen in (1, 8192):
        # Queries that share a key multiply with it one by one: groups save memory, not products.
        assert flops_per_token(model, seen) == 2 * (linear + 32 * 32 * seen * (128 + 128))


def torch_counts(tokens: int, model_type: str, **config: Any) -> int:
    """What torch counts in transformers' model, all tokens at once; attention masked, but computed, too."""
    settings = AutoConfig.for_model(model_type, **deepcopy(config))  # it writes into what it is given
    model = AutoModelForCausalLM.from_config(settings, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros((1, tokens), dtype=torch.long), use_cache=False)
    return counter.get_total_flops()


@pytest.mark.parametrize("tied", [True, False])
def test_gpt2_as_torch_counts(tied: bool) -> None:
    config = {"n_layer": 2, "n_embd": 48, "n_head": 3, "n_inner": 100, "vocab_size": 211}
    config["tie_word_embeddings"] = tied
    assert torch_counts(70, "gpt2", **config) == 70 * flops_per_token(hollow("gpt2", **config), 70)


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("llama", SMALL),
        ("llama", {**SMALL, "num_key_value_heads": 4, "attention_bias": True, "head_dim": 20}),
        ("mistral", {**SMALL, "sliding_window": None, "head_dim": None}),
        ("granite", SMALL),
    ],
)
def test_llama_and_its_kin_as_torch_counts(model_type: str, config: dict[str, Any]) -> None:
    assert torch_counts(70, model_type, **config) == 70 * flops_per_token(hollow(model_type, **config), 70)


def test_named_configurations_as_torch_counts() -> None:
    wide = {"vocab_size": 256, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8}
    gated = {**wide, "intermediate_size": 1368, "num_key_value_heads": 2, "tie_word_embeddings": True}
    modern = hollow_model(TinyStarConfig.named("v0.2-modern").to_dict())
    assert torch_counts(50, "llama", **gated) == 50 * flops_per_token(modern, 50)
    latent = {"q_lora_rank": None, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32}
    latent |= {"v_head_dim": 64, "first_k_dense_replace": 8, "num_key_value_heads": 8}
    mla = hollow_model(TinyStarConfig.named("v0.5-mla").to_dict())
    # With one token alone both forms are the definition.
    assert torch_counts(1, "deepseek_v2", **{**gated, **latent}) == flops_per_token(mla, 1)


def test_latent_attention_in_the_form_that_runs() -> None:
    def mixing(model: Any, seen: int) -> int:
        """What is left for each head of each layer when the linear layers are taken away."""
        sizes = (64 * 4 * (16 + 4), 64 * (24 + 4), 4 * 16 * 64)  # q, kv_down, out
        feed_forward = multiply_adds(model.blocks[0].feed_forward, seen)
        rest = multiply_adds(model, seen) - 256 * 64 - 3 * (sum(sizes) + feed_forward)
        return rest // (3 * 4)

    config = {"attention": "mla", "latent_rank": 24, "rope_dim": 4}  # R, K_r; K = K_v = 16
    model = tinystar(**config)
    assert mixing(model, 1) == 24 * (16 + 16) + (16 + 4 + 16)
    assert mixing(model, 500) == 24 * (16 + 16) + 500 * (2 * 24 + 4)
    windowed = tinystar(**config, mask="sliding_window", window_size=100)
    assert mixing(windowed, 500) == mixing(model, 100)
    both_ways = tinystar(**config, mask="bidirectional")
    assert mixing(both_ways, 500) == 24 * (16 + 16) + 500 * (16 + 4 + 16)


def test_windows() -> None:
    model, windowed = tinystar(), tinystar(mask="sliding_window", window_size=10)
    assert flops_per_token(windowed, 9) == flops_per_token(model, 9)
    assert flops_per_token(windowed, 999) == flops_per_token(model, 10)
    layer = windowed.blocks[0].attention
    to_both_sides = TinyAttention(
        Weights(windowed.weights) / "blocks.0.attention",
        heads=4, kv_heads=1, head_dim=16, rope=None, window=10, alibi=None, causal=False,
    )  # fmt: skip
    assert multiply_adds(to_both_sides, 999) == multiply_adds(layer, 10) + 9 * 4 * (16 + 16)


def test_complex_and_relative_attention() -> None:
    mha = flops_per_token(tinystar(attention="mha"), 7)
    wider = 2 * 64 * 64 + 7 * 64  # q and k twice as wide, one score of twice the width for each pair
    assert flops_per_token(tinystar(attention="complex"), 7) == mha + 2 * 3 * wider
    distances = 2 * 5 + 1
    relative = tinystar(attention="mha", positions="relative", max_positions=5)
    assert flops_per_token(relative, 7) == mha + 2 * 3 * distances * 2 * 64


def test_only_chosen_experts_count() -> None:
    config = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}
    model = hollow("granitemoe", **config, num_local_experts=6, num_experts_per_tok=2)
    expert = 32 * 2 * 24 + 24 * 32
    assert multiply_adds(model.blocks[0].feed_forward, 1) == 32 * 6 + 2 * expert
    assert isinstance(model.blocks[0].feed_forward, Experts)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_no_matrix_is_forgotten(model_type: str) -> None:
    """Whatever the architecture: what does not grow with the text is what its matrices and states are."""
    # DeepSeek-V3's 61 layers with 256 experts each take seconds to build. A window of 64 is full at 100.
    others = {"modernbert-decoder": {"local_attention": 1024}, "longcat_flash": {"num_layers": 2}}
    large = ("deepseek", "glm_moe_dsa", "glm4_moe", "mistral4")
    few = {"num_hidden_layers": 4} if model_type.startswith(large) else {}
    model = hollow(model_type, **others.get(model_type, few))
    expected = Fraction(0)
    linear = {id(layer): layer for block in model.blocks for layer in _linear_layers(block)}
    uses = Counter(id(layer.weight) for layer in linear.values())  # shared blocks run more than once
    for name, array in model.weights.items():
        if name.endswith(".weight") and not name.startswith("embedding.") and len(array.shape) > 1:
            share = _share(model) if ".experts." in name else 1
            times = max(uses[id(array)], 1)  # shared blocks run more than once
            expected += prod(array.shape) * share * times
    if "head.weight" not in model.weights:
        expected += prod(model.embedding.weight.shape)
    for block in model.blocks:
        mixer = getattr(block, "mixer", getattr(block, "attention", None))
        state = (mixer or block).new_state(1, 0)
        if isinstance(mixer, GatedDeltaNet | ChannelDeltaNet):  # read by the key, written, read by the query
            expected += 3 * state["delta"].size
        elif isinstance(mixer, MLSTM):
            expected += 2 * state["matrix"].size
        elif isinstance(mixer, LightningAttention):
            expected += 2 * state["lightning"].size
        elif isinstance(mixer, RGLRU):  # its one number for each channel is what is read
            expected += state["lru"].size
        elif isinstance(mixer, TimeMixing):  # of three numbers for each channel two are sums
            expected += 2 * 2 * state["wkv"].shape[2]
        elif hasattr(mixer, "A"):
            expected += 2 * state["ssm"].size
    growing = multiply_adds(model, 101) - multiply_adds(model, 100)
    assert multiply_adds(model, 100) - 100 * growing == expected


def _linear_layers(part: Any) -> Iterator[Linear]:
    """Find the linear layers within a block, one for each time that it runs."""
    if isinstance(part, Linear):
        yield part
    elif isinstance(part, Module):
        for value in vars(part).values():
            for one in value if isinstance(value, list | tuple) else [value]:
                yield from _linear_layers(one)


def _share(model: Any) -> Fraction:
    found = [
        part
        for block in model.blocks
        for part in (block, getattr(block, "feed_forward", None))
        if part is not None
    ]
    layers = [part for layer in found for part in (layer, *vars(layer).values())]
    layer = next(layer for layer in layers if isinstance(layer, Experts))
    return Fraction(layer.per_token, len(layer.experts))


def test_layers_of_other_classes_are_their_parts() -> None:
    class Twice:
        def __init__(self, layer: GatedFeedForward, more: list[Linear]):
            self.layer, self.more, self.width, self.name = layer, more, 8, "twice"

        def __call__(self, x: Any) -> Any:
            return x

    inner = tinystar(feed_forward="swiglu", expansion=2).blocks[0].feed_forward
    assert multiply_adds(inner, 1) == 3 * 64 * 128
    assert multiply_adds(Twice(inner, [inner.down, inner.down]), 1) == 5 * 64 * 128
