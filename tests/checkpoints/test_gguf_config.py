"""The config of a GGUF model: what follows from its keys and tensors, and what is refused by name."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinystar_np.checkpoints.gguf_checkpoint import GgufCheckpoint
from tinystar_np.checkpoints.gguf_config import ARCHITECTURES, attention_heads, gguf_config, gguf_names
from tinystar_np.checkpoints.gguf_file import GgufFile, GgufTensor
from tinystar_np.checkpoints.gguf_keys import ModelKeys
from tinystar_np.checkpoints.gguf_names import NAMES
from tinystar_np.errors import CheckpointError, ConfigError, TinyStarError
from tinystar_np.kernels.rope import default_frequencies, llama3_frequencies

PATH = Path("model.gguf")
SIZES = {
    "context_length": 8192,
    "embedding_length": 32,
    "block_count": 2,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
}
NO_HEADS = dict.fromkeys(("attention.head_count", "attention.head_count_kv", "feed_forward_length"), 0)


def tensor(name: str, array: Any) -> GgufTensor:
    numbers = np.ascontiguousarray(array, np.float32)
    return GgufTensor(PATH, name, "F32", numbers.shape, numbers.reshape(-1).view(np.uint8))


def keys_of(name: str, values: dict[str, Any], **tensors: Any) -> ModelKeys:
    found = {key.replace("__", "."): array for key, array in tensors.items()}
    metadata = {"general.architecture": name, **{f"{name}.{key}": value for key, value in values.items()}}
    return ModelKeys(PATH, metadata, {key: tensor(key, array) for key, array in found.items()})


def config_of(name: str, changes: dict[str, Any] | None = None, **tensors: Any) -> dict[str, Any]:
    return gguf_config(keys_of(name, {**SIZES, **(changes or {})}, **tensors))


def test_llama() -> None:
    table = np.zeros((100, 32))
    changes = {"rope.freq_base": 5e5, "vocab_size": 100, "rope.dimension_count": 8}
    assert config_of("llama", changes, token_embd__weight=table) == {
        "model_type": "llama",
        "max_position_embeddings": 8192,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,  # as config.json has it, and not 9.99999975e-06
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 1.0},
        "vocab_size": 100,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
    }


def test_every_architecture_has_names() -> None:
    assert set(ARCHITECTURES) == set(NAMES) - {"falcon of two norms"}


@pytest.mark.parametrize("trained", [8192, 4096])
def test_factors_of_llama3(trained: int) -> None:
    """Its numbers are found again in what the conversion makes of them."""
    scaled = llama3_frequencies(64, 5e5, 32.0, 1.0, 4.0, trained)
    factors = default_frequencies(64, 5e5) / scaled
    changes = {"attention.key_length": 64, "attention.value_length": 64, "rope.freq_base": 5e5}
    if trained != 8192:
        changes["rope.scaling.original_context_length"] = trained
    found = config_of("llama", changes, rope_freqs__weight=factors)["rope_parameters"]
    assert found["rope_type"] == "llama3"
    assert found["factor"] == 32.0
    assert found["original_max_position_embeddings"] == trained


def test_other_factors_divide_as_they_are() -> None:
    found = config_of("llama", rope_freqs__weight=[1, 1.5, 2.5, 3])["rope_parameters"]
    assert found["rope_type"] == "longrope"
    assert found["short_factor"] == found["long_factor"] == [1, 1.5, 2.5, 3]
    assert found["attention_factor"] == 1
    assert config_of("llama", rope_freqs__weight=np.ones(4))["rope_parameters"]["rope_type"] == "default"


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        ({"block_count": 46}, "query_pre_attn_scalar", 8),  # 27B: the width divided among the heads
        ({"block_count": 26}, "query_pre_attn_scalar", 16),
        ({"attention.sliding_window": 7}, "sliding_window", 7),
    ],
)
def test_gemma2(changes: dict[str, Any], key: str, expected: object) -> None:
    wide = {"attention.key_length": 16, "attention.value_length": 16}
    assert config_of("gemma2", {**wide, **changes})[key] == expected


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("clip", {}, "is of the architecture 'clip', which is not read from GGUF files"),
        ("llama", {"attention.sliding_window": 4096}, "'llama.attention.sliding_window' = 4096 is not impl"),
        ("olmo2", {"attention.sliding_window": 4096}, "'olmo2.attention.sliding_window' = 4096 is not impl"),
        ("llama", {"new_mechanism": True}, "'llama.new_mechanism' = True is not implemented"),
        ("llama", {"names": ["a"]}, "'llama.names' = ['a'] is not implemented"),
        ("mamba", {**NO_HEADS, "ssm.dt_b_c_rms": True}, "'mamba.ssm.dt_b_c_rms' = True is not implemented"),
        ("llama", {"attention.value_length": 4}, "keys of 8 numbers and values of 4 are not implemented"),
        ("llama", {"rope.scaling.type": "ntk"}, "rope.scaling.type = 'ntk' is not known here"),
        ("llama", {"rope.scaling.attn_factor": 2.0}, "it must be 1 for this rule"),
        ("granite", {"rope.scaling.finetuned": False}, "it must be true"),
        ("gpt2", {"attention.key_length": 16, "attention.value_length": 16}, "heads of 16 numbers are not"),
        ("mpt", {"feed_forward_length": 128, "attention.head_count_kv": 0}, "learned positions is not impl"),
        ("mpt", {"feed_forward_length": 100}, "it must be four times the embedding's"),
        ("llama", {"attention.head_count": "four"}, "head_count' is 'four'; it must be a number"),
        ("llama", {"embedding_length": -32}, "it must be a whole number"),
        ("llama", {"attention.head_count": np.array([4, 2])}, "is [4, 2]; it must be a number"),
        ("gemma3", {"block_count": 2**40}, "it must be at most 1000"),
        ("gpt-oss", {"block_count": 2**40, "expert_count": 4}, "it must be at most 1000"),
        ("granitehybrid", {"ssm.inner_size": 64, "ssm.time_step_rank": 4}, "a list of whole numbers"),
        ("deepseek2", {"rope.dimension_count": 4}, "has no 'deepseek2.attention.key_length'"),
    ],
)  # fmt: skip
def test_refused(name: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        config_of(name, changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith("model.gguf: ")


def test_no_architecture() -> None:
    with pytest.raises(CheckpointError, match=r"general.architecture is 5, expected a name"):
        ModelKeys(PATH, {"general.architecture": 5}, {})


def test_what_says_nothing_is_accepted() -> None:
    for value in (0, 0.0, False, ""):
        assert config_of("llama", {"new_mechanism": value}) == config_of("llama")
    assert config_of("llama", {"attention.head_count_kv": np.array([2, 2])}) == config_of("llama")


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("value", ["text", -1, 2**63, float("nan"), 1e300, [], ["a"], np.array([1, 2]), True])
def test_any_value_gives_a_config_or_our_error(name: str, value: Any) -> None:
    """Whatever stands under a key: no other error, and no memory without end."""
    asked = {**SIZES, "rope.freq_base": 1e4, "rope.dimension_count": 8, "expert_count": 2}
    asked |= dict.fromkeys(ARCHITECTURES[name].keys, 4)
    for key in asked:
        with suppress(TinyStarError):
            gguf_config(keys_of(name, {**asked, key: value}))


def checkpoint_of(*tensors: GgufTensor, name: str = "llama") -> GgufCheckpoint:
    keys = ModelKeys(
        PATH,
        {"general.architecture": name, **{f"{name}.{key}": value for key, value in SIZES.items()}},
        {each.name: each for each in tensors},
    )
    return GgufCheckpoint(GgufFile({}, keys.tensors, [PATH]), gguf_names(keys), attention_heads(keys))


def test_rows_of_heads_are_put_back() -> None:
    """Pair j of a head is rows 2j and 2j + 1 in the file, j and K/2 + j in transformers."""
    found = checkpoint_of(tensor("blk.0.attn_q.weight", np.arange(32)[:, None] * np.ones(32)))
    rows = found.float32("model.layers.0.self_attn.q_proj.weight")[:8, 0]
    assert rows.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_shapes_that_cannot_be() -> None:
    found = checkpoint_of(tensor("blk.0.attn_q.weight", np.zeros((30, 32))))
    with pytest.raises(
        CheckpointError, match=r"of 'blk.0.attn_q.weight' \(30, 32\) the original weights cannot"
    ):
        found.shape("model.layers.0.self_attn.q_proj.weight")


def test_unknown_tensors_keep_their_names() -> None:
    names = ("blk.0.attn_new.weight", "blk.00.attn_q.weight", "blk.0.attn_q.weight.weight", "extra")
    found = checkpoint_of(*(tensor(name, np.zeros((2, 2))) for name in names))
    assert sorted(found) == sorted(names)


def test_one_matrix_twice() -> None:
    whole, keys, values = (
        tensor(f"blk.0.attn_{name}.weight", np.zeros((4, 8, 8))) for name in ("kv_b", "k_b", "v_b")
    )
    with pytest.raises(CheckpointError, match=r"holds '.*kv_b_proj.weight' twice, as 'blk.0.attn_k"):
        checkpoint_of(keys, values, whole, name="deepseek2")
