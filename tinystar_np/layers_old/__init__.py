"""Layers: kernels with weights. They know shapes and taps, not model names."""

from tinystar_np.layers_old.attention import Attention
from tinystar_np.layers_old.blocks import Block, ParallelBlock, SequentialBlock
from tinystar_np.layers_old.embedding import Embedding
from tinystar_np.layers_old.feed_forward import FeedForward, GatedFeedForward
from tinystar_np.layers_old.linear import Linear
from tinystar_np.layers_old.mamba1 import Mamba1
from tinystar_np.layers_old.mamba2 import Mamba2
from tinystar_np.layers_old.mixer_block import MixerBlock
from tinystar_np.layers_old.norms import LayerNorm, RMSNorm
from tinystar_np.layers_old.weights import Weights

__all__ = [
    "Attention",
    "Block",
    "Embedding",
    "FeedForward",
    "GatedFeedForward",
    "LayerNorm",
    "Linear",
    "Mamba1",
    "Mamba2",
    "MixerBlock",
    "ParallelBlock",
    "RMSNorm",
    "SequentialBlock",
    "Weights",
]
