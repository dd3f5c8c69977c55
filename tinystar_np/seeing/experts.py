"""Mixtures of experts: which experts each token chose, how the router scored them, and each expert's load.

From a recording of one pass over a text:

    with ts.record("blocks.*.feed_forward.*") as recording:
        model(ids)
    for layer in expert_choices(model, recording):
        layer.load                                     # (E,) how many of the T tokens chose each expert

kernels/experts.py has the rules by which scores become choices and weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.layers.experts import Experts
from tinystar_np.models.base import Decoder
from tinystar_np.seeing.recorded import of_one_text

TAPS = ("router", "chosen", "weights")


@dataclass(frozen=True)
class LayerExperts:
    """The experts of one layer, and what T tokens made of them.

    layer       its index
    scores      (T, E) the router's scores, before any softmax or sigmoid
    correction  (E,) what is added to the scores' sigmoids for the choice alone (DeepSeek-V3); None elsewhere
    chosen      (T, k) each token's experts, the best first
    weights     (T, k) what their outputs are multiplied by, or their inputs in Llama 4
    load        (E,) how many tokens chose each expert
    shared      whether a further layer beside them is used by every token
    """

    layer: int
    scores: NDArray
    correction: NDArray | None
    chosen: NDArray[np.integer]
    weights: NDArray
    load: NDArray[np.integer]
    shared: bool

    @property
    def even_load(self) -> float:
        """The load of each expert if all had the same: T · k / E."""
        return self.chosen.size / len(self.load)

    @property
    def weight_of_each(self) -> NDArray:
        """The weights by expert: (T, E), 0 for those that a token did not choose."""
        table = np.zeros_like(self.scores)
        np.put_along_axis(table, self.chosen, self.weights, axis=-1)
        return table


def expert_choices(model: Decoder, recording: Mapping[str, NDArray]) -> list[LayerExperts]:
    """Tell what each token chose in each layer with experts.

    recording  of one text: "blocks.*.feed_forward.router", "….chosen" and "….weights"

    Returns one for each layer with experts, in their order; none where the model has no experts.
    Raises InputError where a tap is missing, or the recording is of several texts.
    """
    found = []
    for layer, block in enumerate(model.blocks):
        feed_forward = vars(block).get("feed_forward")
        experts = _experts_of(feed_forward)
        if experts is None:
            continue
        scores, chosen, weights = (_tap(recording, layer, name) for name in TAPS)
        correction = model.weights.get(f"blocks.{layer}.feed_forward.router.correction")
        load = np.bincount(chosen.ravel(), minlength=len(experts.experts))
        found.append(
            LayerExperts(
                layer,
                scores,
                None if correction is None else np.asarray(correction),
                chosen,
                weights,
                load,
                shared=feed_forward is not experts,
            )
        )
    return found


def _experts_of(feed_forward: object) -> Experts | None:
    """Return the experts of a feed-forward layer, alone or beside a shared layer; None where it has none."""
    within = vars(feed_forward).values() if hasattr(feed_forward, "__dict__") else ()
    return next((part for part in (feed_forward, *within) if isinstance(part, Experts)), None)


def _tap(recording: Mapping[str, NDArray], layer: int, name: str) -> NDArray:
    """Return an array of the recording without its batch axis."""
    path = f"blocks.{layer}.feed_forward.{name}"
    return of_one_text(recording, path, "Record it: ts.record('blocks.*.feed_forward.*').")[0]
