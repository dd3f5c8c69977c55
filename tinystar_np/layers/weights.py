"""The weights of a model as a tree: ``w / "attention"`` is what an attention layer is built from."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.errors import InputError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.ranks import Division, HeadShare

Join = Callable[[NDArray], NDArray]
"""Makes one result of the ranks' results."""


class Weights:
    """A view of those arrays of a mapping whose names begin with a prefix.

    A layer is handed the branch that is its own, and finds its arrays under the names that it gives them:
    ``Linear`` asks its branch for ``weight`` and, where the model has one, ``bias``. What it gets is an
    array, or for a matrix a packed one; only the layer knows which, so ``Any`` stands for both.

    Where ranks share the model (ranks/), an array may be a part of the whole, and ``division`` says how.
    """

    def __init__(self, arrays: Mapping[str, Matrix], prefix: str = "", division: Division | None = None):
        self._arrays = arrays
        self._prefix = prefix
        self.division = division

    def __truediv__(self, name: str) -> "Weights":
        """Return what lies below ``name``, which may be a path such as ``blocks.3``."""
        return Weights(self._arrays, f"{self._prefix}{name}.", self.division)

    def __getitem__(self, name: str) -> Any:
        """Return the array of this name."""
        return self._arrays[self._prefix + name]

    def get(self, name: str) -> Any:
        """Return the array of this name, or None where the model has none."""
        return self._arrays.get(self._prefix + name)

    def once(self, name: str) -> Any:
        """Return the array of this name, or None, on rank 0, and None on the others.

        It is for what is added to a part of a sum: all ranks' parts together have it once.
        """
        return self.get(name) if self.division is None or self.division.ranks.rank == 0 else None

    def bias(self, name: str, matrix: str) -> Any:
        """Return what is added to products with a matrix, or None; where ranks add these up, on rank 0 alone.

        name    of the bias
        matrix  of the matrix
        """
        return self.once(name) if self._how(matrix) == "sum" else self.get(name)

    def join(self, name: str) -> Join | None:
        """Return what makes one of the ranks' products with their parts of a matrix.

        With rows of it they are added up, with columns put side by side. None for a whole matrix, and where
        ranks go on with the columns that they have.
        """
        if self.division is None or (how := self._how(name)) is None:
            return None
        return self.division.ranks.sum if how == "sum" else self.division.ranks.gather

    def _how(self, name: str) -> str | None:
        """Return how one is made of the ranks' products with a matrix, or of their parts of a norm."""
        return None if self.division is None else self.division.joins.get(self._prefix + name)

    def mean(self, name: str) -> Join | None:
        """Return what makes the mean of all numbers of a vector, of which ranks have parts, of their means.

        None where this rank has the whole vector, of which ``name`` is the gain.
        """
        division = self.division
        if division is None or self._how(name) != "mean":
            return None
        share = np.float32(division.shares[self._prefix + name])
        return lambda mean: division.ranks.sum(mean * share)

    def some_rows(self, name: str) -> "SomeRows | None":
        """Return this rank's rows of a table; None where it has all of them."""
        if self.division is None or self._how(name) != "sum":
            return None
        return SomeRows(self.division.first_rows[self._prefix + name], self.division.ranks.sum)

    def heads(self, heads: int, groups: int) -> HeadShare:
        """Return the heads of queries and of keys that this rank has of a layer's H and G."""
        whole = HeadShare(range(heads), range(groups))
        return whole if self.division is None else self.division.heads(heads, groups)

    def whole_groups(self, heads: int, groups: int) -> HeadShare:
        """Return the groups of heads that this rank has; raises InputError where it has a part of one."""
        own = self.heads(heads, groups)
        if len(own.heads) * groups != heads * len(own.groups):
            raise InputError(
                f"A layer has {groups} groups of heads that stay together: more ranks cannot share them. "
                "Start fewer."
            )
        return own

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return (name[len(self._prefix) :] for name in self._arrays if name.startswith(self._prefix))

    def __repr__(self) -> str:
        return f"Weights({self._prefix or '.'}: {', '.join(self) or 'nothing'})"


class SomeRows:
    """A table of vectors of which each rank has some rows.

    first  the id of this rank's first row
    sum    what adds up the ranks' vectors
    """

    def __init__(self, first: int, sum: Join):
        self.first, self.sum = first, sum

    def __call__(self, ids: NDArray[np.integer], weight: Matrix) -> NDArray:
        """Look up (...) ids: (..., D), a new array.

        weight  (rows, D), this rank's part of the table
        """
        rows = ids.astype(np.int64) - self.first
        is_here = (rows >= 0) & (rows < weight.shape[0])
        found = fast.embedding(np.where(is_here, rows, 0), weight)
        return self.sum(np.where(is_here[..., None], found, 0))  # of each id one rank has the vector
