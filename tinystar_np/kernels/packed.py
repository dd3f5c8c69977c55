"""Temporary."""

from tinystar_np.layers_old.matrices import Bfloat16Matrix, Int8Matrix
from tinystar_np.layers_old.matrices import NarrowMatrix as PackedMatrix

__all__ = ["Bfloat16Matrix", "Int8Matrix", "PackedMatrix"]
