"""What the page shows of layers beside attention: experts, and the state that is kept between tokens."""

from typing import TYPE_CHECKING

from tinystar_np.errors import InputError
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.inspection.memory import measured
from tinystar_np.kernels.softmax import softmax
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.seeing.cost import token_cost
from tinystar_np.seeing.page.arrays import Arrays

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]


def add_experts(arrays: Arrays, seen: "Seen", first: int) -> list[Json]:
    """Store the routers' scores, the chosen experts and their weights of each layer that has experts.

    ``experts.L.router`` (P, E) are scores as colours; ``experts.L.chosen`` and ``.weights`` (P, k).
    """
    found: list[Json] = []
    for layer in range(len(seen.model.blocks)):
        path = f"blocks.{layer}.feed_forward."
        if path + "router" not in seen.recording:
            continue
        router, chosen, weights = (
            seen.recording[path + name][0, first:] for name in ("router", "chosen", "weights")
        )
        name = f"experts.{layer}"
        arrays.add_probabilities(f"{name}.router", softmax(router))
        arrays.add(f"{name}.chosen", chosen)
        arrays.add(f"{name}.weights", weights)
        found.append({"layer": layer, "experts": router.shape[-1], "chosen": chosen.shape[-1]})
    return found


def state_rows(seen: "Seen") -> list[Json]:
    """Return the bytes that each layer keeps of the text so far, after each number of tokens.

    Returns nothing for a model that sees later tokens too: it keeps no state.
    """
    T = len(seen.ids)
    rows: list[Json] = []
    attending = (Attention, LatentAttention)
    mixers = [mixer for block in seen.model.blocks for mixer in mixers_of(block)]
    if not all(mixer.limits().causal for mixer in mixers if isinstance(mixer, attending)):
        return rows
    for layer, block in enumerate(seen.model.blocks):
        size = measured(f"layer {layer}", mixers_of(block))
        rows.append({"layer": layer, "fixed": size.fixed, "bytes": [size.at(t) for t in range(1, T + 1)]})
    return rows


def cost_json(seen: "Seen") -> Json | None:
    """Return what each token costs to read after those before it, part by part.

    ``parts`` and the bytes of their ``weights``; for each token the bytes of ``cache`` and the ``flops`` of
    each part; for each pass while the text was written the ``seconds``. None for a model without a cache.
    """
    try:
        costs = [token_cost(seen.model, t) for t in range(1, len(seen.ids) + 1)]
    except InputError:
        return None
    parts, seconds = seen.times.table()
    names = [cost.part for cost in costs[0]]
    order = [parts.index(name) for name in names] if set(names) <= set(parts) else []
    return {
        "parts": names,
        "weights": [cost.weights for cost in costs[0]],
        "cache": [[cost.cache for cost in row] for row in costs],
        "flops": [[cost.flops for cost in row] for row in costs],
        "seconds": [[float(f"{seconds[call, i]:.4g}") for i in order] for call in range(len(seconds))]
        if order
        else [],
    }
