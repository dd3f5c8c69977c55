"""Experts: every architecture that has them, scores and outputs by hand, and choices by transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import random_ids, reference_model, save
from parity_cases import CASES
from small_models import build, small_model

from tinystar_np.errors import InputError
from tinystar_np.loading import load
from tinystar_np.models import registry
from tinystar_np.seeing import record
from tinystar_np.seeing.experts import expert_choices

MOE = (
    "afmoe",
    "bailing_hybrid",
    "dbrx",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "ernie4_5_moe",
    "exaone_moe",
    "glm4_moe",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "gpt_oss",
    "granitemoe",
    "granitemoehybrid",
    "granitemoeshared",
    "hunyuan_v1_moe",
    "jamba",
    "kimi_linear",
    "lfm2_moe",
    "llama4_text",
    "minimax",
    "minimax_m2",
    "mistral4",
    "mixtral",
    "nemotron_h",
    "olmoe",
    "phimoe",
    "qwen2_moe",
    "qwen3_5_moe_text",
    "qwen3_moe",
    "qwen3_next",
    "qwen3_vl_moe_text",
    "solar_open",
)
ELSEWHERE = {  # why what this file computes again is not all that they compute; their rows hold them
    "cohere2_moe": "experts stand beside attention and read its norm",
    "deepseek_v4": "some layers look their experts up, and choose by the roots of scores",
    "flex_olmo": "experts read the stream itself",
    "gemma4_text": "experts read the stream itself, beside a dense layer",
    "jetmoe": "a bias is added to the sum, and attention has experts too",
    "longcat_flash": "some experts give back their input, and the router has scores for them",
}
LENGTH = 30


def with_experts(model_type: str) -> dict[str, Any]:
    """The config of a small model that has experts in some layer."""
    (case,) = (case for case in CASES if case.model_type == model_type)
    return case.config("plain")


def test_every_architecture_with_experts_is_tested() -> None:
    folder = Path(registry.__file__).parent
    assert {*MOE, *ELSEWHERE} == {
        file.stem for file in folder.glob("*.py") if "layers.experts import" in file.read_text()
    }


@pytest.mark.parametrize("model_type", MOE)
def test_scores_weights_and_outputs(model_type: str) -> None:
    model = build(model_type, with_experts(model_type))
    with record() as recording:
        model(random_ids(LENGTH))
    layers = expert_choices(model, recording)
    routers = [f"blocks.{i}.feed_forward.router.weight" for i in range(len(model.blocks))]
    having = [i for i, name in enumerate(routers) if name in model.weights]
    assert [layer.layer for layer in layers] == having
    assert having
    for layer in layers:
        path = f"blocks.{layer.layer}.feed_forward"
        x = recording[f"blocks.{layer.layer}.feed_forward_norm"][0]
        weight = np.asarray(model.weights[f"{path}.router.weight"])  # (D, E)
        bias = model.weights.get(f"{path}.router.bias")
        scores = x @ weight + (0 if bias is None else np.asarray(bias))
        np.testing.assert_allclose(layer.scores, scores, atol=1e-5 * np.abs(scores).max())
        k = layer.chosen.shape[1]
        corrected = f"{path}.router.correction" in model.weights
        grouped = getattr(model.config, "n_group", None) not in (None, 1)
        if not grouped and not corrected:
            np.testing.assert_array_equal(layer.chosen, np.argsort(-layer.scores, axis=1)[:, :k])
        assert (layer.correction is not None) == corrected

        E = scores.shape[1]
        counted = [sum(e in row for row in layer.chosen.tolist()) for e in range(E)]
        assert layer.load.tolist() == counted
        assert layer.load.sum() == LENGTH * k
        assert layer.even_load == LENGTH * k / E

        feed_forward: Any = model.blocks[layer.layer].feed_forward  # type: ignore[attr-defined]
        assert layer.shared == hasattr(feed_forward, "shared")
        experts = feed_forward.experts.experts if layer.shared else feed_forward.experts
        table = layer.weight_of_each
        assert (np.count_nonzero(table, axis=1) <= k).all()
        y = np.zeros_like(x)
        for t in range(LENGTH):
            for e in range(E):
                if table[t, e] and model_type == "llama4_text":
                    y[t] += experts[e](table[t, e] * x[t : t + 1])[0]
                elif table[t, e]:
                    y[t] += table[t, e] * experts[e](x[t : t + 1])[0]
        np.testing.assert_allclose(y, recording[f"{path}.experts"][0], atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3"])
def test_choices_are_transformers_own(model_type: str, tmp_path: Path) -> None:
    """Its experts receive, or its router gives, the chosen ones: whichever module has them as integers."""
    reference = reference_model(model_type, **with_experts(model_type))
    caught: list[np.ndarray] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        for tensor in [*inputs, *(output if isinstance(output, tuple) else (output,))]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.int64 and tensor.ndim == 2:
                caught.append(np.sort(tensor.numpy(), axis=1))

    for name, module in reference.named_modules():
        if name.endswith("experts"):
            module.register_forward_hook(keep)
    ids = random_ids(LENGTH)
    with torch.no_grad():
        reference(torch.tensor(ids)[None], use_cache=False)
    model, _ = load(save(reference, tmp_path))
    with record() as recording:
        model(ids)
    layers = expert_choices(model, recording)
    assert len(caught) == len(layers)
    for layer, theirs in zip(layers, caught, strict=True):
        np.testing.assert_array_equal(np.sort(layer.chosen, axis=1), theirs.reshape(LENGTH, -1))


def test_none_and_errors() -> None:
    assert expert_choices(small_model("rope, groups"), {}) == []
    model = small_model("experts")
    with pytest.raises(InputError, match=r"no blocks\.0\.feed_forward\.router"):
        expert_choices(model, {})
    with record() as recording:
        model(random_ids(2, 5))
    with pytest.raises(InputError, match="of 2 texts"):
        expert_choices(model, recording)
