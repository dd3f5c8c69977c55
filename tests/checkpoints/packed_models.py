"""Small models whose linear layers are packed: saved, and in transformers with the same weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity import edit_config, reference_model
from safetensors.torch import save_file
from thread_ranks import divided
from transformers.pytorch_utils import Conv1D

from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.loading import model_config
from tinystar_np.models import Decoder

LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
GPT2: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
Packed = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""The float32 weights (out, in) that parts stand for, and the parts by the ends of their names."""


def save_packed(
    directory: Path,
    pack: Callable[[torch.Tensor], Packed],
    settings: dict[str, Any],
    *,
    changes: dict[str, torch.Tensor | None] | None = None,
    model_type: str = "llama",
    sizes: dict[str, Any] | None = None,
    key: str = "quantization_config",
) -> torch.nn.Module:
    """Save a small model with its linear layers packed, but for the output layer.

    pack     makes of a weight (out, in) the numbers that the reference then has, and its parts
    changes  tensors of the file that are exchanged, or with None left out

    Returns transformers' model with the unpacked weights.
    """
    reference = reference_model(model_type, **(sizes or LLAMA))
    reference.save_pretrained(directory)
    edit_config(directory, **{key: settings})
    tensors = dict(reference.state_dict())
    for name, layer in linear_layers(reference):
        turned = isinstance(layer, Conv1D)  # (in, out)
        wide, parts = pack(layer.weight.detach().T.contiguous() if turned else layer.weight.detach())
        with torch.no_grad():
            layer.weight.copy_(wide.T if turned else wide)
        del tensors[f"{name}.weight"]
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    kept = {name: tensor for name, tensor in (tensors | (changes or {})).items() if tensor is not None}
    apart = {name: tensor.clone().contiguous() for name, tensor in kept.items()}  # no two share memory
    save_file(apart, directory / "model.safetensors")
    return reference


def linear_layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """The linear layers of the blocks, by name."""
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear | Conv1D) and (".layers." in name or ".h." in name):
            yield name, layer


def assert_equal_weights(ours: Decoder, reference: Any) -> None:
    """A Llama's linear layers, read as float32, have the reference's numbers, bit for bit."""
    for block, theirs in zip("01", reference.model.layers, strict=True):
        for name, layer in (
            ("attention.k", theirs.self_attn.k_proj),
            ("feed_forward.gate", theirs.mlp.gate_proj),
            ("feed_forward.down", theirs.mlp.down_proj),
        ):
            found = ours.weights[f"blocks.{block}.{name}.weight"]
            np.testing.assert_array_equal(found, layer.weight.detach().T)


def assert_shared_alike(directory: Path, whole: Decoder, ids: np.ndarray, size: int = 2) -> None:
    """Ranks that share a saved model's heads compute its logits; of what is packed, each has a packed part.

    whole  the model in one process
    """
    source = open_source(directory)
    architecture, config = model_config(source, source.config)
    checkpoint = source.checkpoint(source.config)
    model = divided(lambda part: architecture.from_checkpoint(config, checkpoint, part=part), size)
    for x in (ids, ids[0, :1]):
        expected = whole(x)
        np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    kept = {name: matrix for name, matrix in model.weights.items() if ".experts." not in name}
    for name, matrix in kept.items():
        assert isinstance(matrix, PackedMatrix) == isinstance(whole.weights[name], PackedMatrix), name
