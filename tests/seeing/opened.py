"""Several interventions at once; as a program, the logits under them of small models in a folder."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

import tinystar_np as ts
from tinystar_np.models import Decoder


def interventions(model: Decoder) -> Any:
    """One that changes some positions, and heads where there are any, in the first and the last block."""
    with ts.record() as recording:
        model(np.array([5]))
    taps = [path.split(".", 2)[2] for path in recording if path.startswith("blocks.0.")]
    head = next((tap for tap in ("attention.mixed", "mixer.x", "mixer.v") if tap in taps), None)
    direction = np.random.default_rng(5).normal(size=48)
    return [
        ts.steer("blocks.0.residual", direction, positions=[1, 4, 9, 10, 30]),
        ts.ablate("blocks.0." + (head or "mixer.scan"), heads=None if head is None or "x" in head else [1]),
        ts.intervene({"blocks.1.residual": np.tanh}, positions=slice(2, None, 3)),
    ]


class Opened:
    """Several interventions, one inside another."""

    def __init__(self, model: Decoder):
        self.model = model

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> np.ndarray:
        return self.model(ids, cache=cache, last_only=last_only)

    def __enter__(self) -> None:
        self.open = interventions(self.model)
        for each in self.open:
            each.__enter__()

    def __exit__(self, *exception: Any) -> None:
        for each in reversed(self.open):
            each.__exit__(*exception)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        model, _ = ts.load(folder / name, dtype="float32")
        with Opened(model):
            np.save(folder / name / "logits.npy", model(np.load(folder / "ids.npy")))
