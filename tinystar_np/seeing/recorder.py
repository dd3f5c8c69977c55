"""The recorder: activations by name.

with ts.record("blocks.*.attention.probabilities") as caught:
    model(ids)
caught["blocks.3.attention.probabilities"]  # (B, H, T, S)
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from tinystar_np.tap import Place, listen, place


class Recording(Mapping[str, NDArray]):
    """The recorded arrays by full path, in the order of the computation.

    Arrays are copies and keep the batch axis. Where a path is computed again, in a second call, the later
    array replaces the earlier one.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray] = {}
        self._places: dict[str, Place | None] = {}

    def catch(self, path: str, x: NDArray) -> NDArray:
        """Keep a copy of ``x``."""
        self._arrays[path] = x.copy()  # layers may write into it later
        self._places[path] = place()
        return x

    def positions(self, path: str) -> NDArray[np.int64] | None:
        """Return the positions (B, T) in their texts of the tokens of the call that an array is of.

        Where only the last token's logits were asked for, the arrays after the blocks have only that one.
        None for an array of a layer that was called by itself.
        """
        found = self._places[path]
        return None if found is None else found.positions

    def __getitem__(self, path: str) -> NDArray:
        return self._arrays[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


@contextmanager
def record(*patterns: str) -> Iterator[Recording]:
    """Record every tap inside the ``with`` block, or those whose path matches one of the patterns.

    patterns  shell-style, such as "blocks.*.residual"; docs/taps.md lists the names

    Where attention's scores or probabilities are recorded, it runs in its plain form, which builds them: T·S
    numbers per head. Inside an intervention the recording has the changed arrays; see tinystar_np/tap.py.
    """
    recording = Recording()
    with listen(recording, *patterns):
        yield recording
