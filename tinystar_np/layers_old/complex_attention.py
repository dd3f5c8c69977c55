"""Complex attention layer: attention that reads its queries and keys as complex numbers."""

from typing import Any

from tinystar_np.layers_old.attention import Attention
from tinystar_np.layers_old.relative_attention import RelativeAttention
from tinystar_np.layers_old.weights import Weights


class ComplexAttention(Attention):
    """Attention with queries and keys in ℂ^K and real values (kernels/complex_attention.py).

    w         as in Attention, where ``q`` is (D, H·2K) and ``k`` (D, G·2K), each number's real part before
              its imaginary part; ``v`` (D, G·K), ``out`` (H·K, D), or ``qkv`` (D, (H+G)·2K + G·K)
    head_dim  K, complex numbers of a query and a key, real ones of a value
    scale     what the real parts of the products are multiplied by; 1/√(2K) keeps their variance at 1
    rope      multiplies each number by e^(iθ): a Rotary with K frequencies and ``interleaved=True``

    The other settings are as in Attention, ``by_group`` excepted. Inside, and in taps and caches, a complex
    number is a pair of neighbours: 2K real numbers for a key.
    """

    def __init__(self, w: Weights, *, head_dim: int, **settings: Any):
        super().__init__(w, head_dim=2 * head_dim, **settings)
        self.value_dim = head_dim


class ComplexRelativeAttention(ComplexAttention, RelativeAttention):
    """Complex attention with a learned vector for each distance, which is complex for keys too.

    w  as in ComplexAttention, and ``relative_keys`` (2C + 1, 2K), ``relative_values`` (2C + 1, K)
    """
