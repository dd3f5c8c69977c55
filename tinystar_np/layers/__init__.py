"""Layers: kernels with weights. They know shapes and taps, not model names."""

from tinystar_np.layers.attention import Attention
from tinystar_np.layers.blocks import SequentialBlock
from tinystar_np.layers.embedding import Embedding
from tinystar_np.layers.feed_forward import FeedForward
from tinystar_np.layers.linear import Linear
from tinystar_np.layers.norms import LayerNorm
from tinystar_np.layers.weights import Weights

__all__ = ["Attention", "Embedding", "FeedForward", "LayerNorm", "Linear", "SequentialBlock", "Weights"]
