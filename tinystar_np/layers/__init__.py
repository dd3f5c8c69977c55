"""Layers: kernels with weights. They know shapes and taps, not model names."""

from tinystar_np.layers.attention import Attention
from tinystar_np.layers.blocks import Block, ParallelBlock, SequentialBlock
from tinystar_np.layers.embedding import Embedding
from tinystar_np.layers.feed_forward import FeedForward, GatedFeedForward
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.mixer_block import MixerBlock
from tinystar_np.layers.norms import LayerNorm, RMSNorm
from tinystar_np.layers.weights import Weights

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
