"""Temperature layer: multiplies queries by what their positions call for."""

from numpy.typing import NDArray

from tinystar_np.cache import Span
from tinystar_np.kernels.temperature import temperature


class Temperature:
    """Scales queries by their positions (kernels/temperature.py). Layers that are equal share the factors.

    floor  f, the length of a step in tokens
    scale  a
    """

    def __init__(self, floor: int, scale: float):
        self.floor = floor
        self.scale = scale

    def __call__(self, q: NDArray, span: Span) -> NDArray:
        """Scale queries (B, H, T, K): a new array."""
        key = "temperature", self.floor, self.scale
        factors = span.once(key, lambda: temperature(span.positions, self.floor, self.scale))  # (B, T)
        return q * factors[:, None, :, None]
