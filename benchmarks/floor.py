"""The time of a model that does nothing but multiply by its weights: the floor under what its code can reach.

A call of the model says which matrices it multiplies how many vectors by. Then the whole call and these
products alone, each matrix where it lies and as it lies there, take turns in one process: no cache, no
attention, no norms, nothing between one product and the next. A float32 matrix is multiplied by NumPy's
``x @ W``. The model itself multiplies a few vectors in a quicker way where there is one (fast/linear.py),
so that its share may be above 1 there. Packed types are multiplied by their own products, NumPy having none.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest.mock import patch

from tinystar_np import fast
from tinystar_np.inspection.speed import Product, bare_seconds
from tinystar_np.layers.latent_attention import LatentAttention

Turns = dict[str, list[float]]


@contextmanager
def products_made() -> Iterator[list[Product]]:
    """List, within a ``with``, the products by weight matrices that models make, in their order.

    Projections joined to one are one product, and of experts the chosen ones are there.
    """
    made: list[Product] = []
    matmul, latent = fast.matmul, LatentAttention.__call__

    def call_matmul(x: Any, weight: Any) -> Any:
        made.append(Product(prod(x.shape[:-1]), weight))
        return matmul(x, weight)

    def call_latent(layer: LatentAttention, x: Any, *others: Any, **named: Any) -> Any:
        # Absorbed or expanded: every new token is multiplied by all of it.
        made.append(Product(prod(x.shape[:-1]), layer.kv_up))
        return latent(layer, x, *others, **named)

    with (
        patch.object(fast, "matmul", call_matmul),
        patch.object(fast.linear, "matmul", call_matmul),  # what several matrices that lie together come to
        patch.object(LatentAttention, "__call__", call_latent),
    ):
        yield made


def of_tokens(engine: Any, rows: list[list[int]], new: int) -> Turns:
    """Generate a token of each row, again and again, and make the products of one such step after each: ms.

    rows  (B, T) ids, the prompts
    new   how often
    """
    state, last = engine.prefill(rows, room=new + 2)

    def step() -> None:
        nonlocal last
        last = engine.step(state, last)

    with products_made() as products:
        step()
    return by_turns(step, products, new)


def of_prompt(engine: Any, rows: list[list[int]], rounds: int) -> Turns:
    """Read a prompt with a new cache, again and again, and make its products after each time: ms."""
    with products_made() as products:
        engine.prefill(rows)
    return by_turns(lambda: engine.prefill(rows), products, rounds)


def by_turns(whole: Callable[[], object], products: list[Product], rounds: int) -> Turns:
    """Measure a call and its products in turn: ms of each round but a first that does not count."""
    found: Turns = {"whole": [], "bare": []}
    for turn in range(rounds + 1):
        start = time.perf_counter()
        whole()
        taken = {"whole": time.perf_counter() - start, "bare": bare_seconds(products)}
        if turn:
            for part, seconds in taken.items():
                found[part].append(seconds * 1e3)
    return found
