"""The time of a model that does nothing but multiply by its weights: the floor under what its code can reach.

A call of the model says which matrices it multiplies how many vectors by. Then the whole call and these
products alone, each matrix where it lies and as it lies there, take turns in one process: no cache, no
attention, no norms, nothing between one product and the next. A float32 matrix is multiplied by NumPy's
``x @ W``. The model itself multiplies a few vectors in a quicker way where there is one (fast/direct.py),
so that its share may be above 1 there. Narrow types are multiplied by their own products, NumPy having none.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest.mock import patch

from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.fast.layout import laid_together
from tinystar_np.inspection.speed import Product, bare_seconds, by_turns
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.models import Decoder


@contextmanager
def products_made() -> Iterator[list[Product]]:
    """List, within a ``with``, the products by weight matrices that models make, in their order.

    Projections joined to one are one product, and of experts the chosen ones are there.
    """
    made: list[Product] = []
    matmul, matmul_each, latent = fast.matmul, fast.matmul_each, LatentAttention.__call__

    def one(x: NDArray, weight: Matrix) -> NDArray:
        made.append(Product(prod(x.shape[:-1]), weight))
        return matmul(x, weight)

    def each(x: NDArray, weights: Sequence[Matrix]) -> list[NDArray]:
        together = laid_together(weights)
        made.extend(Product(prod(x.shape[:-1]), w) for w in (weights if together is None else [together]))
        return matmul_each(x, weights)

    def of_latents(layer: LatentAttention, x: Any, *others: Any) -> Any:
        # Absorbed or expanded: every new token is multiplied by all of it.
        made.append(Product(prod(x.shape[:-1]), layer.kv_up))
        return latent(layer, x, *others)

    with (
        patch.object(fast, "matmul", one),
        patch.object(fast, "matmul_each", each),
        patch.object(LatentAttention, "__call__", of_latents),
    ):
        yield made


def of_tokens(model: Decoder, ids: list[list[int]], new: int) -> list[list[float]]:
    """Generate a token of each text (B, T), and make the products of one such step, in turn: ms of both."""
    cache = model.new_cache(len(ids), capacity=len(ids[0]) + new + 2)
    tokens = model(ids, cache=cache, last_only=True).argmax(axis=-1)  # (B, 1)

    def step() -> None:
        nonlocal tokens
        tokens = model(tokens, cache=cache, last_only=True).argmax(axis=-1)

    return beside_products(step, new)


def of_prompt(model: Decoder, ids: list[list[int]], rounds: int) -> list[list[float]]:
    """Read a prompt with a new cache, and make its products, in turn: ms of both."""
    room = len(ids), len(ids[0])
    return beside_products(lambda: model(ids, cache=model.new_cache(*room), last_only=True), rounds)


def beside_products(whole: Callable[[], object], rounds: int) -> list[list[float]]:
    """Measure a call and its products in turn: ms of each round but a first that does not count."""
    with products_made() as products:
        whole()

    def seconds() -> float:
        start = time.perf_counter()
        whole()
        return time.perf_counter() - start

    found = by_turns({"": [seconds, lambda: bare_seconds(products)]}, rounds + 1)[""]
    return [[value * 1e3 for value in values[1:]] for values in found]
