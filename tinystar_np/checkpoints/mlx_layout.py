"""How MLX's files keep convolutions: with the channels last.

    PyTorch  (out, in, h, w)   (out, in, frames, h, w)   (out, 1, width)
    MLX      (out, h, w, in)   (out, frames, h, w, in)   (out, width, 1)

These are the patch embeddings of vision encoders and the convolutions of recurrent layers. All else lies as
in PyTorch's files. MLX names itself in a file's metadata: {"format": "mlx"}; other programs that write with
its library leave convolutions as they found them, so the shape must say so as well: squares that come before
the channels, or the one channel at the end. Source: https://github.com/ml-explore/mlx, ``mlx.nn.Conv2d``.
"""

import re
from collections.abc import Mapping

from tinystar_np.checkpoints.safetensors_file import MappedFile, StoredTensor

CONVOLUTION = re.compile(r".*\b(conv1d|patch_conv|patch_embedding|patch_embed\.proj)\.weight")


def as_in_pytorch(file: MappedFile) -> Mapping[str, StoredTensor]:
    """Return a file's tensors, those of MLX's convolutions with the axes in PyTorch's order."""
    if file.metadata.get("format") != "mlx":
        return file.tensors
    return {
        name: tensor.channels_moved() if CONVOLUTION.fullmatch(name) and _is_last(tensor.shape) else tensor
        for name, tensor in file.tensors.items()
    }


def _is_last(shape: tuple[int, ...]) -> bool:
    """Say whether the channels of a convolution of this shape are its last axis."""
    if len(shape) == 3:  # of each channel by itself
        return shape[2] == 1
    return len(shape) in (4, 5) and shape[-3] == shape[-2] != shape[-1]
