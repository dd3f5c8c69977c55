"""FLOPs of one token: the multiplications and additions of its matrix products.

A vector times a matrix (n, m) is n·m multiplications and as many additions, 2·n·m floating-point operations
(FLOPs). Attention multiplies a query with every key in reach and every weight with a value:

    linear layers    2 · (all their weights)              at any position
    attention        2 · H · S · (K + K_v)                per layer, for a token that attends to S tokens

The first line is the estimate "two per parameter" of Kaplan et al. 2020, arXiv:2001.08361; the second is left
out there, and exceeds it in a long text. Looking up an embedding costs nothing, the output layer costs its
weights, tied or not; of experts only the chosen ones count. Norms, activations, softmax and rotary embedding
are a few operations per number of a vector, not per number of a matrix, and are not counted, as in torch's
``FlopCounterMode``.

The numbers are read from the built layers. A layer costs the sum of its parts; layers that multiply by
something other than a linear layer's weights have a function of their own below.
"""

from collections import Counter
from collections.abc import Iterator
from functools import singledispatch
from math import prod

from tinystar_np.cache import Limits
from tinystar_np.kernels.latent_attention import absorbing_is_cheaper
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.channel_delta_net import ChannelDeltaNet
from tinystar_np.layers.compressed_attention import CompressedAttention
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.experts import Experts
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.lightning_attention import LightningAttention
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.layers.mlstm import MLSTM
from tinystar_np.layers.rg_lru import RGLRU, BlockLinear
from tinystar_np.layers.short_convolution import ShortConvolution
from tinystar_np.layers.sparse_attention import SparseLatentAttention
from tinystar_np.layers.time_mixing import TimeMixing
from tinystar_np.models.base import Decoder


def flops_per_token(model: Decoder, context: int) -> int:
    """Count the FLOPs of one new token of a model, which needs no weights (inspection/hollow.py).

    context  S, the tokens that it attends to, itself included; fewer in layers with a window or chunks
    """
    return 2 * multiply_adds(model, context)


@singledispatch
def multiply_adds(layer: object, context: int) -> int:
    """Count the multiply-adds of one token; of a layer without a function below, the sum of its parts'."""
    return sum(multiply_adds(part, context) for part in _parts(layer))


def _parts(layer: object) -> Iterator[object]:
    """Yield the layers within a layer or model: its callable attributes, alone or in lists."""
    for part in vars(layer).values():
        for one in part if isinstance(part, list) else [part]:
            if callable(one) and hasattr(one, "__dict__"):
                yield one


@multiply_adds.register
def _linear(layer: Linear, context: int) -> int:
    return prod(layer.weight.shape)


@multiply_adds.register
def _attention(layer: Attention, context: int) -> int:
    mixing = layer.multiply_adds(in_reach(layer.limits(), context))
    return sum(multiply_adds(part, context) for part in _parts(layer)) + mixing


@multiply_adds.register
def _latent_attention(layer: LatentAttention, context: int) -> int:
    """Count the form that runs; kernels/latent_attention.py has both formulas."""
    H, R, K, K_r, K_v = layer.heads, layer.rank, layer.head_dim, layer.rope_dim, layer.value_dim
    S = in_reach(layer.limits(), context)
    if not layer.limits().causal:  # the whole text is read at once: each key and value is computed once
        mixing = R * (K + K_v) + S * (K + K_r + K_v)
    elif absorbing_is_cheaper(1, S, *layer.up):
        mixing = R * (K + K_v) + S * (2 * R + K_r)
    else:
        mixing = S * R * (K + K_v) + S * (K + K_r + K_v)
    return sum(multiply_adds(part, context) for part in _parts(layer)) + H * mixing


@multiply_adds.register
def _sparse_latent_attention(layer: SparseLatentAttention, context: int) -> int:
    """Count the indexer's look at all keys, where there is a choice, and attention to the chosen ones."""
    indexer, S = layer.indexer, context
    if indexer is None or indexer.top_k >= S:  # None: an earlier layer's, of which nothing is known here
        return _latent_attention(layer, S)
    scoring = S * indexer.heads * (indexer.head_dim + 1)
    attending = layer.rank * (layer.head_dim + layer.value_dim)
    attending += indexer.top_k * (2 * layer.rank + layer.rope_dim)
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    return parts + scoring + layer.heads * attending


@multiply_adds.register
def _compressed_attention(layer: CompressedAttention, context: int) -> int:
    """Count the window and the entries that a token attends to, and the indexer's look at all of its own.

    Of m tokens that see as many entries the next sees one more; counted are those of the mean token.
    """
    of_key, work = layer.heads * 2 * layer.head_dim, 0
    if layer.compressor is not None:
        every, indexer = layer.compressor.every, layer.indexer
        if indexer is not None and context // every > indexer.top_k:
            work = indexer.top_k * of_key + context * indexer.heads * (indexer.head_dim + 1) // every
        else:
            work = context * of_key // every
    parts = sum(multiply_adds(part, context) for part in _parts(layer)) + prod(layer.out_down.shape)
    return parts + work + in_reach(layer.limits(), context) * of_key


def in_reach(limits: Limits, context: int) -> int:
    """Return how many tokens a token attends to; in a window to both sides where not causal."""
    if limits.chunk is not None:
        return (context - 1) % limits.chunk + 1
    if limits.window is None:
        return context
    return min(context, limits.window if limits.causal else 2 * limits.window - 1)


@multiply_adds.register
def _experts(layer: Experts, context: int) -> int:
    """Count the experts of a token; where some do nothing, those of the mean token."""
    counts = Counter(type(expert) for expert in layer.experts)  # those of a class are alike
    of_each = {type(expert): expert for expert in layer.experts}
    all_of_them = sum(count * multiply_adds(of_each[kind], context) for kind, count in counts.items())
    return multiply_adds(layer.router, context) + layer.per_token * all_of_them // len(layer.experts)


# Recurrences, by their definitions: each number of the state is decayed and written to with one multiply-add,
# and read with another, at any position.


@multiply_adds.register
def _delta_net(layer: GatedDeltaNet, context: int) -> int:
    """Read by the key, write, read by the query."""
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    state = layer.heads * layer.head_dim * layer.value_dim
    return parts + prod(layer.convolution.shape) + 3 * state


@multiply_adds.register
def _mlstm(layer: MLSTM, context: int) -> int:
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    return parts + 2 * layer.heads * layer.head_dim * (layer.value_dim + 1)


@multiply_adds.register
def _lightning_attention(layer: LightningAttention, context: int) -> int:
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    return parts + 2 * layer.heads * layer.head_dim**2


@multiply_adds.register
def _channel_delta_net(layer: ChannelDeltaNet, context: int) -> int:
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    return parts + prod(layer.convolution.shape) + 3 * layer.heads * layer.head_dim**2


@multiply_adds.register
def _mamba1(layer: Mamba1, context: int) -> int:
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    return parts + prod(layer.convolution.shape) + 2 * prod(layer.A.shape)


@multiply_adds.register
def _mamba2(layer: Mamba2, context: int) -> int:
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    state = layer.heads * layer.head_dim * layer.state_size
    return parts + prod(layer.convolution.shape) + 2 * state


@multiply_adds.register
def _rg_lru(layer: RGLRU, context: int) -> int:
    """A channel's one number is what is read."""
    parts = sum(multiply_adds(part, context) for part in _parts(layer))
    return parts + prod(layer.convolution.shape) + len(layer.decay)


@multiply_adds.register
def _block_linear(layer: BlockLinear, context: int) -> int:
    return prod(layer.weight.shape)


@multiply_adds.register
def _short_convolution(layer: ShortConvolution, context: int) -> int:
    return sum(multiply_adds(part, context) for part in _parts(layer)) + prod(layer.convolution.shape)


@multiply_adds.register
def _time_mixing(layer: TimeMixing, context: int) -> int:
    """A channel has two sums, of weighted values and of weights."""
    return sum(multiply_adds(part, context) for part in _parts(layer)) + 2 * 2 * len(layer.decay)
