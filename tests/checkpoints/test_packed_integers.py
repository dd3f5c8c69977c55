"""GPTQ, AWQ and MLX: matrices packed here word by word, by the definitions, and read back."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from packed_models import GPT2, LLAMA, Packed, assert_equal_weights, assert_shared_alike, save_packed
from packed_words import in_words, mlx
from parity import assert_close, logits_of, random_ids, reference_model
from transformers import AutoModelForCausalLM

from tinystar_np.conversion import convert
from tinystar_np.errors import CheckpointError, ConfigError
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.loading import load

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def rounded(
    weight: torch.Tensor, bits: int, groups: torch.Tensor, symmetric: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Round the rows of (out, in) in groups: codes (out, in), zero points and scales (out, groups)."""
    count = int(groups.max()) + 1
    codes = torch.zeros(weight.shape, dtype=torch.long)
    zeros = torch.full((len(weight), count), 2 ** (bits - 1))
    scales = torch.zeros(len(weight), count, dtype=torch.float16)
    for g in range(count):
        part = weight[:, groups == g]
        if symmetric:
            scales[:, g] = part.abs().amax(1) / (2 ** (bits - 1) - 1)
        else:
            low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
            scales[:, g] = (high - low) / (2**bits - 1)
            zeros[:, g] = torch.round(-low / scales[:, g]).clamp(1, 2**bits - 1)
        numbers = torch.round(part / scales[:, g, None].float()) + zeros[:, g, None]
        codes[:, groups == g] = numbers.clamp(0, 2**bits - 1).long()
    return codes, zeros, scales


def gptq(weight: torch.Tensor, bits: int, size: int, symmetric: bool, mixed: bool, less: int) -> Packed:
    """As GPTQ stores it; ``mixed``: groups of inputs that are no neighbours."""
    inputs = weight.shape[1]
    groups = torch.arange(inputs) // (inputs if size == -1 else size)
    if mixed:
        groups = groups[torch.randperm(inputs, generator=torch.Generator().manual_seed(inputs))]
    codes, zeros, scales = rounded(weight, bits, groups, symmetric)
    wide = (codes - zeros[:, groups]).float() * scales.float()[:, groups]
    return wide, {
        "qweight": in_words(codes, bits).T,
        "qzeros": in_words(zeros.T - less, bits),
        "scales": scales.T,
        "g_idx": groups.int(),
    }


def awq(weight: torch.Tensor, size: int) -> Packed:
    inputs = weight.shape[1]
    groups = torch.arange(inputs) // size
    codes, zeros, scales = rounded(weight, 4, groups, False)
    wide = (codes - zeros[:, groups]).float() * scales.float()[:, groups]
    return wide, {
        "qweight": in_words(codes.T, 4, AWQ_ORDER),
        "qzeros": in_words(zeros.T, 4, AWQ_ORDER),
        "scales": scales.T,
    }


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}
FORMS: dict[str, tuple[Callable[[torch.Tensor], Packed], dict[str, Any]]] = {
    "gptq": (partial(gptq, bits=4, size=32, symmetric=True, mixed=False, less=1), GPTQ),
    "gptq, zero points": (
        partial(gptq, bits=4, size=16, symmetric=False, mixed=False, less=1),
        GPTQ | {"group_size": 16, "sym": False, "checkpoint_format": "gptq"},
    ),
    "gptq, second format": (
        partial(gptq, bits=4, size=16, symmetric=False, mixed=False, less=0),
        GPTQ | {"group_size": 16, "sym": False, "checkpoint_format": "gptq_v2"},
    ),
    "gptq, in the order of activations": (
        partial(gptq, bits=4, size=32, symmetric=False, mixed=True, less=1),
        GPTQ | {"desc_act": True, "sym": False},
    ),
    "gptq, 8 bits": (
        partial(gptq, bits=8, size=32, symmetric=False, mixed=False, less=1),
        GPTQ | {"bits": 8, "sym": False},
    ),
    "gptq, 8 bits in the order of activations": (
        partial(gptq, bits=8, size=32, symmetric=True, mixed=True, less=1),
        GPTQ | {"bits": 8, "desc_act": True},
    ),
    "gptq, one group": (
        partial(gptq, bits=4, size=-1, symmetric=True, mixed=False, less=1),
        GPTQ | {"group_size": -1},
    ),
    "awq": (
        partial(awq, size=32),
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
    ),
    "mlx, 4 bits": (partial(mlx, bits=4, size=32, kind=torch.float16), {"group_size": 32, "bits": 4}),
    "mlx, 8 bits": (partial(mlx, bits=8, size=32, kind=torch.bfloat16), {"group_size": 32, "bits": 8}),
}


@pytest.mark.parametrize("form", FORMS)
def test_layers_that_lie_as_in_out_are_packed_as_out_in(form: str, tmp_path: Path) -> None:
    """Those of GPT-2, some of which are square."""
    pack, settings = FORMS[form]
    reference = save_packed(tmp_path, pack, settings, model_type="gpt2", sizes=GPT2)
    ids = random_ids(2, 30)
    expected = logits_of(reference, ids)
    model, _ = load(tmp_path)
    assert_close(model(ids), expected)
    assert_close(model(ids[0, :1]), expected[0, :1])
    assert_shared_alike(tmp_path, model, ids)
    assert type(model.weights["blocks.1.feed_forward.up.weight"]) is CodedMatrix
    convert(tmp_path, tmp_path / "new", "float32")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "new", attn_implementation="eager")
    for name, weights in again.state_dict().items():
        assert torch.equal(weights, reference.state_dict()[name]), name


@pytest.mark.parametrize("form", FORMS)
def test_by_its_definition(form: str, tmp_path: Path) -> None:
    pack, settings = FORMS[form]
    reference = save_packed(tmp_path, pack, settings)
    ids = random_ids(2, 30)
    expected = logits_of(reference, ids)
    wide, _ = load(tmp_path, "float32")
    assert_equal_weights(wide, reference)
    assert_close(wide(ids), expected)
    model, _ = load(tmp_path)
    assert_close(model(ids), expected)
    assert_close(model(ids[0, :1]), expected[0, :1])
    assert_shared_alike(tmp_path, model, ids)
    kinds = {type(array) for name, array in model.weights.items() if "feed_forward." in name}
    assert kinds == {CodedMatrix}
    for dtype in ("bfloat16", "int8"):
        assert_close(load(tmp_path, dtype)[0](ids), expected, 0.2)


def test_mlx_under_its_own_key_with_the_embedding(tmp_path: Path) -> None:
    """Layers may have settings of their own, and the embedding is packed and tied."""
    pack = partial(mlx, bits=4, size=32, kind=torch.float16)
    sizes = LLAMA | {"tie_word_embeddings": True}
    table = reference_model("llama", **sizes).model.embed_tokens.weight.detach()
    wide, parts = mlx(table, 8, 64, torch.float16)
    name = "model.embed_tokens"
    settings = {"group_size": 32, "bits": 4, name: {"group_size": 64, "bits": 8}, "mode": "affine"}
    changes = {f"{name}.{part}": tensor for part, tensor in parts.items()} | {"lm_head.weight": None}
    reference = save_packed(tmp_path, pack, settings, changes=changes, sizes=sizes, key="quantization")
    with torch.no_grad():
        reference.model.embed_tokens.weight.copy_(wide)
    ids = random_ids(2, 30)
    model, _ = load(tmp_path)
    assert_close(model(ids), logits_of(reference, ids))
    assert isinstance(model.weights["embedding.tokens.weight"], CodedMatrix)


def test_columns_side_by_side(tmp_path: Path) -> None:
    """Phi-3 has queries, keys and values in one tensor, of which each takes its rows."""
    pack, settings = FORMS["gptq, in the order of activations"]
    reference = save_packed(tmp_path, pack, settings, model_type="phi3")
    ids = random_ids(2, 30)
    model, _ = load(tmp_path)
    assert_close(model(ids), logits_of(reference, ids))
    assert {type(a) for name, a in model.weights.items() if ".attention." in name} == {CodedMatrix}


def test_biases_of_zeros(tmp_path: Path) -> None:
    """GPTQ's first tools wrote them for layers without biases."""
    pack, settings = FORMS["gptq"]
    name = "model.layers.1.self_attn.o_proj.bias"
    bias = torch.zeros(64)
    reference = save_packed(tmp_path / "zeros", pack, settings, changes={name: bias})
    ids = random_ids(2, 30)
    assert_close(load(tmp_path / "zeros")[0](ids), logits_of(reference, ids))
    bias[3] = 0.1
    save_packed(tmp_path / "others", pack, settings, changes={name: bias})
    with pytest.raises(
        CheckpointError,
        match=rf"it has '{name}', which this architecture does not know",
    ):
        load(tmp_path / "others")


NAME = "model.layers.1.mlp.down_proj"
INT = torch.int32
Changes = dict[str, torch.Tensor | None]
DAMAGED: dict[str, tuple[str, Changes, str]] = {
    "gptq: no scales": ("gptq", {f"{NAME}.scales": None}, rf"needs '{NAME}\.scales', which is missing"),
    "gptq: no zeros": ("gptq", {f"{NAME}.qzeros": None}, rf"needs '{NAME}\.qzeros', which is missing"),
    "gptq: scales of another shape": (
        "gptq",
        {f"{NAME}.scales": torch.ones(4, 64)},
        rf"'{NAME}\.scales' has shape \(4, 64\), but '{NAME}\.qweight' needs \(5, 64\)",
    ),
    "gptq: scales of another type": (
        "gptq",
        {f"{NAME}.scales": torch.ones(5, 64, dtype=INT)},
        "element type I32, but .* needs F32 or F16 or BF16",
    ),
    "gptq: codes of another type": ("gptq", {f"{NAME}.qweight": torch.ones(20, 64)}, "element type F32"),
    "gptq: axes": ("gptq", {f"{NAME}.qweight": torch.ones(64, dtype=INT)}, "has shape .* 2 axes"),
    "gptq: half a word": ("gptq", {f"{NAME}.qweight": torch.ones(20, 63, dtype=INT)}, "63 outputs do not"),
    "gptq: groups": (
        "gptq",
        {f"{NAME}.g_idx": torch.zeros(160, dtype=INT)},
        "g_idx': it does not divide 160 columns into groups of 32",
    ),
    "gptq: another width": (
        "gptq",
        {
            f"{NAME}.qweight": torch.ones(16, 64, dtype=INT),
            f"{NAME}.qzeros": torch.ones(4, 8, dtype=INT),
            f"{NAME}.scales": torch.ones(4, 64),
            f"{NAME}.g_idx": torch.ones(128, dtype=INT),
        },
        rf"'{NAME}\.weight' has shape \(64, 128\), the config asks for \(64, 160\)",
    ),
    "awq: zeros": ("awq", {f"{NAME}.qzeros": torch.ones(5, 64, dtype=INT)}, r"needs \(5, 8\)"),
    "awq: scales": ("awq", {f"{NAME}.scales": torch.ones(64, 5)}, r"needs \(5, 64\)"),
    "mlx: biases": ("mlx, 4 bits", {f"{NAME}.biases": None}, rf"needs '{NAME}\.biases', which is missing"),
    "mlx: scales": ("mlx, 4 bits", {f"{NAME}.scales": torch.ones(64, 4)}, r"needs \(64, 5\)"),
    "mlx: groups": (
        "mlx, 4 bits",
        {f"{NAME}.weight": torch.ones(64, 19, dtype=INT).view(torch.uint32)},
        "152 columns are not divided by groups of 32",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged(fault: str, tmp_path: Path) -> None:
    form, changes, message = DAMAGED[fault]
    pack, settings = FORMS[form]
    save_packed(tmp_path, pack, settings, changes=changes)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("quantization_config", GPTQ | {"bits": 3}),
    ("quantization_config", GPTQ | {"bits": "4"}),
    ("quantization_config", GPTQ | {"group_size": 0}),
    ("quantization_config", GPTQ | {"group_size": None}),
    ("quantization_config", GPTQ | {"checkpoint_format": "marlin"}),
    ("quantization_config", FORMS["awq"][1] | {"version": "gemv"}),
    ("quantization_config", FORMS["awq"][1] | {"bits": 8}),
    ("quantization_config", {"quant_method": "hqq", "bits": 4, "group_size": 32}),
    ("quantization_config", {"quant_method": ["gptq"]}),
    ("quantization", {"bits": 3, "group_size": 32}),
    ("quantization", {"bits": 4, "group_size": 32, "mode": "nvfp4"}),
    ("quantization", {"bits": 4, "group_size": 32, "lm_head": {"bits": 6}}),
    ("quantization", ["bits"]),
]


@pytest.mark.parametrize(("key", "settings"), OTHERS)
def test_other_settings_are_refused(key: str, settings: Any, tmp_path: Path) -> None:
    save_packed(tmp_path, FORMS["gptq"][0], settings, key=key)
    with pytest.raises(ConfigError, match=rf"{key} = .* is not implemented"):
        load(tmp_path)
