"""The kernels again, for this machine: the same names, the same signatures, the same numbers, quicker.

What concerns a processor, BLAS (the library in which NumPy multiplies matrices), threads, memory order or
NumPy's own call costs is here and nowhere else.
``KERNELS`` maps each name to its definition, and tests compare the two. With the environment variable
``TINYSTAR_NP_KERNELS=1`` the definitions run themselves.
"""

import os

from tinystar_np.fast.attention_forms import (
    attention,
    attention_probabilities,
    attention_scores,
)
from tinystar_np.fast.attention_variants import latent_attention, relative_attention
from tinystar_np.fast.definitions import KERNELS
from tinystar_np.fast.elementwise import (
    activate,
    gated_activation,
    gated_rms_norm,
    layer_norm,
    log_softmax,
    rms_norm,
    rotary_embedding,
    softmax,
    unit_vectors,
)
from tinystar_np.fast.linear import embedding, matmul, matmul_each
from tinystar_np.fast.paged import gathered, paged_attention, paged_latent_attention
from tinystar_np.fast.rounding import quantise, to_bfloat16
from tinystar_np.fast.scans import causal_convolution, delta_rule, selective_scan, ssm_scan
from tinystar_np.fast.sparse import index_scores, sparse_latent_attention
from tinystar_np.kernels.attention import attention_mean
from tinystar_np.kernels.channel_delta_rule import chunked_channel_delta_rule as channel_delta_rule
from tinystar_np.kernels.experts import grouped_mixture as mixture
from tinystar_np.kernels.experts import grouped_outputs as chosen_outputs
from tinystar_np.kernels.lightning_attention import blockwise_lightning_attention as lightning_attention
from tinystar_np.kernels.mlstm import chunked_mlstm as mlstm
from tinystar_np.kernels.rg_lru import rg_lru
from tinystar_np.kernels.sparse_attention import best_keys
from tinystar_np.kernels.wkv import wkv

if os.environ.get("TINYSTAR_NP_KERNELS") == "1":
    globals().update(KERNELS)

__all__ = [
    "KERNELS",
    "activate",
    "attention",
    "attention_mean",
    "attention_probabilities",
    "attention_scores",
    "best_keys",
    "causal_convolution",
    "channel_delta_rule",
    "chosen_outputs",
    "delta_rule",
    "embedding",
    "gated_activation",
    "gated_rms_norm",
    "gathered",
    "index_scores",
    "latent_attention",
    "layer_norm",
    "lightning_attention",
    "log_softmax",
    "matmul",
    "matmul_each",
    "mixture",
    "mlstm",
    "paged_attention",
    "paged_latent_attention",
    "quantise",
    "relative_attention",
    "rg_lru",
    "rms_norm",
    "rotary_embedding",
    "selective_scan",
    "softmax",
    "sparse_latent_attention",
    "ssm_scan",
    "to_bfloat16",
    "unit_vectors",
    "wkv",
]
