"""What ``tinystar inspect`` says: counted, measured and described against transformers and real models."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import reference_model, save
from transformers import AutoConfig, AutoModelForCausalLM

from tinystar_np.cli.inspect import explanation
from tinystar_np.errors import ConfigError
from tinystar_np.inspection.describe import Description, describe_model
from tinystar_np.inspection.describe_layers import describe
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.llama_generations import likeness
from tinystar_np.inspection.memory import lengths_to_show, state_sizes, weight_sizes
from tinystar_np.loading import load
from tinystar_np.models import ARCHITECTURES
from tinystar_np.models.llama import LlamaConfig

LLAMA_3 = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
SCALED = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALED |= {"original_max_position_embeddings": 8192}
LLAMA_31 = {**LLAMA_3, "max_position_embeddings": 131072, "rope_scaling": {**SCALED, "factor": 8.0}}
LLAMA_32 = {**LLAMA_31, "rope_scaling": {**SCALED, "factor": 32.0}, "tie_word_embeddings": True}
LLAMA_32 |= {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
FALCON_40B = {"hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128, "num_kv_heads": 8}
FALCON_40B |= {"new_decoder_architecture": True}
FALCON_RW = {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "vocab_size": 50304}
FALCON_RW |= {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False}

HYBRID = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "layer_types": ["mamba", "mamba", "attention", "mamba"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "shared_intermediate_size": 40,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 16,
    "position_embedding_type": "nope",
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.25,
    "logits_scaling": 4.0,
    "tie_word_embeddings": True,
}
DENSE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 56}
GROUPED = {**DENSE, "num_key_value_heads": 2}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {  # name: (model_type, config)
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "llama": ("llama", GROUPED),
    "llama, biases": ("llama", {**GROUPED, "attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    "mistral, window": ("mistral", {**GROUPED, "sliding_window": 8}),
    "falcon 7b": ("falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "falcon 40b": ("falcon", {**FALCON_40B, "hidden_size": 32, "num_hidden_layers": 2,
                              "num_attention_heads": 4, "num_kv_heads": 2}),
    "falcon rw": ("falcon", {**FALCON_RW, "hidden_size": 32, "num_hidden_layers": 2,
                             "num_attention_heads": 4, "vocab_size": 211}),
    "granite": ("granite", {**GROUPED, "attention_multiplier": 0.1}),
    "granitemoe": ("granitemoe", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "hybrid": ("granitemoehybrid", HYBRID),
    "falcon h1": ("falcon_h1", {**GROUPED, "mamba_d_ssm": 48, "mamba_n_heads": 4, "mamba_d_state": 8}),
    "mamba": ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "mamba2": ("mamba2", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8,
                          "head_dim": 8, "n_groups": 2}),
}  # fmt: skip


def hollow(model_type: str, **config: Any) -> Any:
    return hollow_model({"model_type": model_type, **config})


def described(model_type: str, **config: Any) -> Description:
    return describe_model(hollow(model_type, **config))


def words(description: Description, role: str) -> str:
    """What all layers have in this role."""
    ((part, where),) = description.kinds(role)
    assert where == list(range(len(description.layers)))
    return part.words


@pytest.mark.parametrize("name", SMALL)
def test_parameters_as_transformers_counts_them(name: str) -> None:
    model_type, config = SMALL[name]
    settings = AutoConfig.for_model(model_type, **{"vocab_size": 211, **config})
    with torch.device("meta"):
        reference = AutoModelForCausalLM.from_config(settings)
    sizes = weight_sizes(hollow(model_type, **{"vocab_size": 211, **config}))
    assert sizes.parameters == reference.num_parameters()
    assert sum(sizes.parts.values()) == sizes.parameters


def test_parameters_of_well_known_models() -> None:
    # The numbers of the models' cards.
    assert weight_sizes(hollow("gpt2")).parameters == 124_439_808
    assert weight_sizes(hollow("llama", **LLAMA_31)).parameters == 8_030_261_248
    assert weight_sizes(hollow("llama", **LLAMA_32)).parameters == 1_235_814_400
    assert weight_sizes(hollow("mistral", vocab_size=32000)).parameters == 7_241_732_096
    assert weight_sizes(hollow("falcon")).parameters == 6_921_720_704
    assert weight_sizes(hollow("mamba", num_hidden_layers=24)).parameters == 129_135_360


def test_active_parameters() -> None:
    sizes = weight_sizes(hollow("granitemoehybrid", **HYBRID))
    expert = 32 * 2 * 24 + 24 * 32
    assert sizes.parts["experts"] == 4 * 6 * expert
    assert sizes.parameters - sizes.active == 4 * (6 - 2) * expert
    dense = weight_sizes(hollow("llama", **GROUPED))
    assert dense.active == dense.parameters


@pytest.mark.parametrize("name", ["gpt2", "llama, biases", "falcon 7b", "hybrid", "mamba", "mamba2"])
def test_bytes_are_those_of_the_loaded_model(name: str, tmp_path: Path) -> None:
    model_type, config = SMALL[name]
    tied = name != "llama, biases"
    reference = reference_model(model_type, **{**config, "tie_word_embeddings": tied})
    directory = save(reference, tmp_path / "model")
    for dtype in ("float32", "bfloat16", "int8"):
        model, _ = load(directory, dtype=dtype)
        sizes = weight_sizes(model)
        assert sizes.nbytes[dtype] == sum(array.nbytes for array in model.weights.values())
        assert sizes == weight_sizes(hollow_model(reference.config.to_dict()))


@pytest.mark.parametrize("name", SMALL)
def test_state_is_what_a_cache_allocates(name: str) -> None:
    model_type, config = SMALL[name]
    model = hollow(model_type, **config)
    own = state_sizes(model)[0]
    for tokens in (0, 1, 7, 8, 9, 40):
        assert own.at(tokens) == model.new_cache(1, tokens).nbytes
    assert own.per_token == own.at(1) - own.at(0)


def test_designs_side_by_side() -> None:
    sizes = state_sizes(hollow("llama", **LLAMA_31))
    of_one_head = 2 * 32 * 128 * 4  # keys and values, layers, width of a head, bytes
    assert [(size.name, size.per_token, size.fixed) for size in sizes] == [
        ("this model", 8 * of_one_head, 0),
        ("as MHA 32:32", 32 * of_one_head, 0),
        ("as MQA 32:1", of_one_head, 0),
    ]
    assert [size.name for size in state_sizes(hollow("gpt2"))] == ["this model", "as GQA 12:3", "as MQA 12:1"]
    # 71 is a prime number: there are no groups of four.
    assert [size.name for size in state_sizes(hollow("falcon"))] == ["this model", "as MHA 71:71"]


def test_designs_beside_a_window() -> None:
    sizes = {size.name: size for size in state_sizes(hollow("mistral", sliding_window=4096))}
    assert set(sizes) == {"this model", "as MHA 32:32", "as MQA 32:1", "without window"}
    assert sizes["this model"].at(32768) == sizes["this model"].at(4096) == sizes["without window"].at(4096)
    assert sizes["without window"].at(32768) == 8 * sizes["without window"].at(4096)


def test_designs_beside_recurrences() -> None:
    own, *others = state_sizes(hollow("granitemoehybrid", **HYBRID))
    channels = 64 + 2 * 16
    assert own.fixed == 3 * (8 * 8 * 16 + 3 * channels) * 4
    assert own.per_token == 2 * 2 * 8 * 4
    assert [size.name for size in others] == [
        f"every layer {kind}" for kind in ("MHA 4:4", "GQA 4:2", "MQA 4:1")
    ]
    assert [size.per_token for size in others] == [4 * 2 * groups * 8 * 4 for groups in (4, 2, 1)]
    assert all(size.fixed == 0 for size in others)
    own, other = state_sizes(hollow("mamba", hidden_size=32, num_hidden_layers=3))
    assert own.per_token == 0
    assert own.at(10**9) == own.fixed == 3 * 64 * (16 + 3) * 4
    assert (other.per_token, other.fixed) == (3 * 2 * 32 * 4, 0)


def test_hollow_models_take_no_memory() -> None:
    tracemalloc.start()
    model = hollow("llama", **LLAMA_31)
    describe_model(model), weight_sizes(model), state_sizes(model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert all(isinstance(array, np.ndarray) and not any(array.strides) for array in model.weights.values())


def test_what_no_machine_can_hold() -> None:
    with pytest.raises(ConfigError, match="D = 10000000000"):
        hollow("llama", vocab_size=10**12, hidden_size=10**10, num_attention_heads=1)


def test_gpt2() -> None:
    found = described("gpt2")
    assert words(found, "block") == (
        "Attention, then feed-forward: each reads a normed copy of the residual stream and adds its result"
    )
    assert words(found, "mixer") == "attention MHA 12:12, a key and value for each, heads of 64"
    assert words(found, "feed_forward") == "plain, GELU (tanh), 768 → 3072 → 768 (4 × the width)"
    assert found.parts["positions"].words == "learned, a vector for each of 1024 places"
    assert found.parts["norms"].words == "LayerNorm, eps 1e-05"
    assert found.parts["biases"].words == "in every layer"
    assert found.parts["context"].words == "1024 tokens and no more"
    assert found.parts["output"].facts == {"tied": True}
    assert found.kinds("positions") == found.kinds("scores") == []


def test_scores_scaled_layer_by_layer() -> None:
    found = described("gpt2", scale_attn_by_inverse_layer_idx=True)
    assert [(part.facts["scale"] * 8 * (i + 1), i) for part, (i,) in found.kinds("scores")] == [
        (pytest.approx(1), i) for i in range(1, 12)
    ]


def test_rotations_by_axes() -> None:
    found = described("qwen2_vl_text", num_hidden_layers=2)
    said = "RoPE, base 1000000; 16, 24 and 24 pairs by time, row and column"
    assert words(found, "positions") == said
    assert found.layers[0]["positions"].facts["pairs_by_axis"] == [16, 24, 24]
    turns = described("qwen3_vl_text", num_hidden_layers=2)
    assert words(turns, "positions") == "RoPE, base 500000; 24, 20 and 20 pairs by time, row and column"


def test_llama() -> None:
    found = described("llama", **LLAMA_31)
    assert words(found, "mixer") == "attention GQA 32:8, 4 queries to a key and value, heads of 128"
    assert words(found, "positions") == "RoPE, base 500000, llama3 scaling ×8 from 8192"
    assert words(found, "feed_forward") == "gated, SwiGLU, 4096 → 2 × 14336 → 4096 (3.5 × the width)"
    assert found.parts["norms"].words == "RMSNorm, eps 1e-06"
    assert found.parts["biases"].words == "none"
    assert found.parts["output"].facts == {"tied": False}
    assert found.parts["context"].facts == {"limit": None, "trained": 131072}
    assert found.layers[0]["positions"].facts["rope_type"] == "llama3"
    biased = described("llama", attention_bias=True)
    assert biased.parts["biases"].words == "attention q, attention k, attention v, attention out"


def test_falcon() -> None:
    found = described("falcon")
    assert words(found, "block") == "parallel, attention beside feed-forward, one norm for both"
    assert words(found, "mixer") == "attention MQA 71:1, one key and value for all, heads of 64"
    assert words(found, "feed_forward").startswith("plain, GELU, ")
    found = described("falcon", **FALCON_40B)
    assert words(found, "block") == "parallel, attention beside feed-forward, a norm for each"
    assert "GQA 128:8" in words(found, "mixer")
    found = described("falcon", **FALCON_RW)
    assert words(found, "block") == "sequential, a norm before each part"
    assert words(found, "positions").startswith("ALiBi")


def test_hybrid() -> None:
    found = described("granitemoehybrid", **HYBRID)
    (mamba, where), (attention, elsewhere) = found.kinds("mixer")
    assert (where, elsewhere) == ([0, 1, 3], [2])
    assert mamba.words == "Mamba 2, 8 heads keep 8 × 16 numbers each, convolution over 4"
    assert attention.words == "attention GQA 4:2, 2 queries to a key and value, heads of 8"
    assert [where for _, where in found.kinds("positions")] == [[2]]
    experts = words(found, "feed_forward")
    assert experts.startswith("2 of 6 experts for each token, each gated, SwiGLU, 32 → 2 × 24 → 32")
    assert "one for all tokens: gated, SwiGLU, 32 → 2 × 40 → 32" in experts
    assert found.parts["multipliers"].facts == {
        "embedding_multiplier": 12,
        "residual_multiplier": 0.25,
        "logits_scaling": 4,
    }
    assert found.parts["biases"].words == "mixer convolution"
    turned = described("granitemoehybrid", **{**HYBRID, "position_embedding_type": "rope"})
    assert [(part.words, where) for part, where in turned.kinds("positions")] == [("RoPE, base 10000", [2])]


def test_mamba() -> None:
    found = described("mamba")
    assert words(found, "block") == (
        "The mixer reads a normed copy of the stream and adds its result; there is no feed-forward layer"
    )
    assert words(found, "mixer") == "Mamba 1, 1536 channels keep 16 numbers each, convolution over 4"
    assert found.parts["positions"].words == "none: a recurrence reads in order"
    assert found.parts["context"].words == "no limit"
    assert found.kinds("feed_forward") == []


def test_rwkv_has_one_mixer() -> None:
    found = described("rwkv")
    assert words(found, "mixer") == (
        "time mixing, 4096 channels keep 3 numbers each, and 4096 of the token before"
    )
    assert words(found, "feed_forward").startswith("channel mixing with the token before")
    assert found.parts["positions"].words == "none: a recurrence reads in order"


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_layer_of_every_architecture_is_known(model_type: str) -> None:
    model = hollow(model_type)
    found = describe_model(model)
    for block, layer in zip(model.blocks, found.layers, strict=True):
        named = {"Mamba1", "Mamba2", "ShortConvolution"}  # as they are called in descriptions, too
        unknown = {type(part).__name__ for part in (block, *vars(block).values())} - named
        assert not {part.facts["kind"] for role, part in layer.items() if role != "scores"} & unknown
    assert "positions" in found.parts or any("positions" in layer for layer in found.layers)
    assert set(found.parts["norms"].facts) & {"eps", "kinds"}
    assert state_sizes(model)[0].at(1) == model.new_cache(1, 1).nbytes


def test_an_unknown_layer_is_called_by_its_class() -> None:
    class Perceptron:
        pass

    assert describe(Perceptron()).words == "Perceptron"
    assert describe(Perceptron()).facts == {"kind": "Perceptron"}
    model = hollow("gpt2")
    model.blocks[3].feed_forward = Perceptron()
    kinds = describe_model(model).kinds("feed_forward")
    assert [where for _, where in kinds] == [[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11], [3]]


def test_an_unknown_mixer_is_measured_all_the_same() -> None:
    class Memory:
        name = "mixer"

        def new_state(self, batch_size: int, capacity: int) -> Any:
            return np.zeros((batch_size, 5 + capacity), dtype=np.float32)

        def __call__(self, x: Any, step: Any, state: Any) -> Any:
            return x

    model = hollow("mamba", num_hidden_layers=2)
    for block in model.blocks:
        block.mixer = Memory()
    found = describe_model(model)
    assert words(found, "mixer") == "Memory"
    assert "positions" not in found.parts
    own = state_sizes(model)[0]
    assert (own.fixed, own.per_token) == (2 * 5 * 4, 2 * 4)
    assert explanation(found, state_sizes(model), 100).startswith("100 tokens take 840 B")


def test_lengths_end_with_the_model() -> None:
    assert lengths_to_show(hollow("gpt2")) == [128, 1024]
    assert lengths_to_show(hollow("gpt2", n_positions=64)) == [64]
    assert lengths_to_show(hollow("llama", **LLAMA_3)) == [128, 1024, 4096, 8192]
    assert lengths_to_show(hollow("llama", max_position_embeddings=10**6)) == [4096, 32768, 131072, 10**6]
    assert lengths_to_show(hollow("mamba")) == [1024, 4096, 32768, 131072]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "Llama 1 7B"),
        ({"hidden_size": 6656, "num_hidden_layers": 60, "num_attention_heads": 52,
          "intermediate_size": 17920}, "Llama 1 30B"),
        ({"max_position_embeddings": 4096}, "Llama 2 7B"),
        ({"max_position_embeddings": 4096, "hidden_size": 8192, "num_hidden_layers": 80,
          "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672}, "Llama 2 70B"),
        ({"vocab_size": 32016, "rope_theta": 1e6, "max_position_embeddings": 16384}, "Code Llama 7B"),
        (LLAMA_3, "Llama 3 8B"),
        (LLAMA_31, "Llama 3.1 8B"),
        (LLAMA_32, "Llama 3.2 1B"),
        ({**LLAMA_31, "num_hidden_layers": 31}, "Llama 3.1"),
        ({**LLAMA_3, "rope_theta": 2.8e8, "max_position_embeddings": 10**6}, "closest to Llama 3"),
        # TinyLlama: the context of 1, the heads of 2.
        ({"hidden_size": 2048, "num_hidden_layers": 22, "num_key_value_heads": 4,
          "intermediate_size": 5632}, "closest to Llama 2"),
        # SmolLM2.
        ({"vocab_size": 49152, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
          "intermediate_size": 1536, "rope_theta": 1e5, "max_position_embeddings": 8192,
          "tie_word_embeddings": True}, "none; the nearest is Llama 3.2"),
    ],
)  # fmt: skip
def test_which_llama(config: dict[str, Any], expected: str) -> None:
    found = likeness(LlamaConfig.from_dict(config))
    assert found.says == expected
    assert len(found.agreeing) + len(found.differing) == 7
    assert bool(found.differing) == (expected.split()[0] in ("closest", "none;"))


def test_why_which_llama() -> None:
    found = likeness(LlamaConfig.from_dict(LLAMA_31))
    assert found.agreeing[:3] == ["vocab_size 128256", "rope_theta 500000", "rope scaling llama3 ×8"]
    found = likeness(LlamaConfig.from_dict({**LLAMA_31, "vocab_size": 128258}))
    assert (found.says, found.differing) == ("closest to Llama 3.1", ["vocab_size 128258"])
