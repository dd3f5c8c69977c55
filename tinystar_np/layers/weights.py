"""The weights of a model as a tree: ``w / "attention"`` is what an attention layer is built from."""

from collections.abc import Iterator, Mapping
from typing import Any

from tinystar_np.kernels.linear import Matrix


class Weights:
    """A view of those arrays of a mapping whose names begin with a prefix.

    A layer is handed the branch that is its own, and finds its arrays under the names that it gives them:
    ``Linear`` asks its branch for ``weight`` and, where the model has one, ``bias``. What it gets is an
    array, or for a matrix a packed one; only the layer knows which, so ``Any`` stands for both.
    """

    def __init__(self, arrays: Mapping[str, Matrix], prefix: str = ""):
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

    def __iter__(self) -> Iterator[str]:
        return (name[len(self._prefix) :] for name in self._arrays if name.startswith(self._prefix))

    def __repr__(self) -> str:
        return f"Weights({self._prefix or '.'}: {', '.join(self) or 'nothing'})"
