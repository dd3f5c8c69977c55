"""The weights of a model as a tree: ``w / "attention" / "qkv"`` holds ``weight`` and ``bias``."""

from collections.abc import Mapping
from typing import Any


class Weights:
    """A view of those arrays of a mapping whose names begin with a prefix.

    Arrays are NumPy's, or packed matrices (kernels/packed.py). A layer is handed the branch that is its own,
    and finds its arrays under the names that it gives them: ``Linear`` asks its branch for ``weight`` and,
    where the model has one, ``bias``.
    """

    def __init__(self, arrays: Mapping[str, Any], prefix: str = ""):
        self._arrays = arrays
        self._prefix = prefix

    def __truediv__(self, name: str) -> "Weights":
        """Return what lies below ``name``, which may be a path such as ``blocks.3``."""
        return Weights(self._arrays, f"{self._prefix}{name}.")

    def __getitem__(self, name: str) -> Any:
        """Return the array of this name."""
        return self._arrays[self._prefix + name]

    def get(self, name: str) -> Any:
        """Return the array of this name, or None where the model has none."""
        return self._arrays.get(self._prefix + name)

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._arrays
