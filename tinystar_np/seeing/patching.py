"""Activation patching over all layers and positions: where a model keeps what decides its answer.

Two texts of the same length differ in what matters ("When Mary and John …" and "When Mary and Mary …"), and
the model answers them differently. One activation of the clean run, of one layer at one position, is put into
the corrupted run, and the answer is measured again:

    restored = (patched − corrupted) / (clean − corrupted)        of the logit difference right − wrong

1 where this one activation brings the whole clean answer back, 0 where it changes nothing. The map of all
layers and positions shows the way that the information takes: at first at the tokens that differ, at the end
at the last one. Meng et al. 2022 (causal tracing), arXiv:2202.05262; Wang et al. 2022, arXiv:2211.00593; how
to choose texts and measure: Zhang & Nanda 2023, arXiv:2309.16042.

The corrupted run is computed once. A patched run is the same up to the patched layer, so it begins there,
with many positions as the rows of one batch; where both runs have the same numbers, nothing is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.cache import Step
from tinystar_np.errors import InputError
from tinystar_np.models import Decoder
from tinystar_np.seeing.axes import axes_of, near_paths
from tinystar_np.seeing.branch_parts import OUTPUTS
from tinystar_np.seeing.maps import Map, map_in_text, plot_maps
from tinystar_np.seeing.recorder import Recording, record
from tinystar_np.tap import at, listen, numbered, scope

USUAL = ("residual", "attention", "mixer", "feed_forward")
TOKENS_AT_ONCE = 4096  # of all rows of a batch, which bounds the memory


@dataclass(frozen=True)
class Patching:
    """The share of the clean answer that each activation restores.

    taps       names of n kinds of activations, such as "residual"
    values     (n, L, T) float32: 1 for the clean answer, 0 for the corrupted one; NaN where a block has no
               such activation
    clean      the logit difference in the clean run (or the answer's logit), at the last position
    corrupted  the same in the corrupted run
    tokens     T labels of the positions: the corrupted tokens, and the clean ones where these differ
    """

    taps: tuple[str, ...]
    values: NDArray[np.float32]
    clean: float
    corrupted: float
    tokens: tuple[str, ...]

    def __str__(self) -> str:
        """Return the maps as text: a line for each layer, a column for each position."""
        return "\n\n".join([self._title(), *(map_in_text(each, self.tokens) for each in self._maps())])

    def plot(self, path: str | Path) -> None:
        """Draw the maps side by side and save them, as PNG or SVG by the path's ending.

        Raises InputError for a path that cannot be written, TinyStarError where matplotlib is missing.
        """
        plot_maps(Path(path), self._title(), self._maps(), self.tokens)

    def _title(self) -> str:
        return f"Restored logit difference: corrupted {self.corrupted:.2f} is 0, clean {self.clean:.2f} is 1"

    def _maps(self) -> list[Map]:
        return [Map(name, values) for name, values in zip(self.taps, self.values, strict=True)]


def patching(
    model: Decoder,
    clean_ids: ArrayLike,
    corrupted_ids: ArrayLike,
    *,
    answer: int | tuple[int, int],
    taps: Sequence[str] = USUAL,
    tokens: Sequence[str] | None = None,
) -> Patching:
    """Patch each layer's activation at each position of one run into another, and measure the answer.

    model          any decoder
    clean_ids      (T,) ids of the text that the answer is right for
    corrupted_ids  (T,) ids of the text that activations are put into
    answer         a token (right, wrong), whose logits' difference at the last position is measured; or one
                   token, whose logit is
    taps           names of activations within a block: a tap of docs/taps.md such as "attention.v",
                   "residual_middle", or "attention", "mixer" and "feed_forward" for the outputs of these
                   layers, of which the default takes those that the model has
    tokens         T labels for the positions; None for the ids

    Returns the map. Raises InputError for texts of different lengths, tokens out of the vocabulary, a tap
    that no block has, and where both runs answer alike, so that nothing could be restored.
    """
    clean_text, corrupted_text = model.checked(clean_ids), model.checked(corrupted_ids)
    if clean_text.shape != corrupted_text.shape or clean_text.ndim != 1:
        raise InputError(
            f"Patching wants two texts of one length: the clean ids have shape {clean_text.shape}, the "
            f"corrupted ones {corrupted_text.shape}."
        )
    if tokens is not None and len(tokens) != len(clean_text):
        raise InputError(f"There are {len(tokens)} labels for {len(clean_text)} tokens.")
    if isinstance(taps, str) or not taps:
        raise InputError('taps are names of activations in a list, such as ["residual", "attention"].')
    plus, minus = _answer(model, answer)
    patterns = [f"blocks.*.{name}" for tap in taps for name in OUTPUTS.get(tap, (tap,))]
    with record(*patterns, optional=True) as clean:
        clean_answer = _measured(model(clean_text, last_only=True)[None], plus, minus)
    with record("embedding", "blocks.*.residual", *patterns, optional=True) as corrupted:
        corrupted_answer = _measured(model(corrupted_text, last_only=True)[None], plus, minus)
    difference = clean_answer - corrupted_answer
    if not np.isfinite(difference) or difference == 0:
        raise InputError(
            f"The answer measures {clean_answer:.6g} in the clean run and {corrupted_answer:.6g} in the "
            "corrupted one: there is no difference to restore. Choose other texts or another answer."
        )
    found = _kinds(model, clean, taps)
    values = np.full((len(found), len(model.blocks), len(clean_text)), np.nan, dtype=np.float32)
    for n, paths in enumerate(found.values()):
        for layer, path in paths.items():
            patched = _patched(model, layer, path, clean, corrupted, plus, minus, corrupted_answer)
            values[n, layer] = (patched - corrupted_answer) / difference
    labels = tokens if tokens is not None else _labels(clean_text, corrupted_text)
    return Patching(tuple(found), values, clean_answer, corrupted_answer, tuple(labels))


def _answer(model: Decoder, answer: object) -> tuple[int, int | None]:
    """Return the token that counts for and the one that counts against, if any."""
    pair = tuple(answer) if isinstance(answer, Sequence) else (answer,)
    if not 1 <= len(pair) <= 2 or len(set(pair)) != len(pair):
        raise InputError("answer is one token id, or two different ones: (right, wrong).")
    plus, *rest = model.checked(pair).tolist()
    return plus, rest[0] if rest else None


def _measured(logits: NDArray, plus: int, minus: int | None) -> float:
    """Return the answer that logits (1, 1, V) give."""
    return float(_differences(logits, plus, minus)[0])


def _differences(logits: NDArray, plus: int, minus: int | None) -> NDArray[np.float64]:
    """Return the answers that logits (B, 1, V) give."""
    last = logits[:, -1].astype(np.float64)
    return last[:, plus] - (0.0 if minus is None else last[:, minus])


def _kinds(model: Decoder, clean: Recording, taps: Sequence[str]) -> dict[str, dict[int, str]]:
    """Return {tap as it was asked for: {layer: path}}; raises InputError where no block has it."""
    found: dict[str, dict[int, str]] = {}
    for tap in taps:
        paths = {}
        for layer in range(len(model.blocks)):
            there = [path for name in OUTPUTS.get(tap, (tap,)) if (path := f"blocks.{layer}.{name}") in clean]
            if there:
                paths[layer] = there[0]
        if paths:
            found[tap] = paths
        elif tuple(taps) != USUAL:
            with record() as everything:
                model([0])
            near = near_paths(f"blocks.0.{tap}", list(everything))
            raise InputError(f"No block of this model has {tap!r}.{near}")
    return found


def _patched(
    model: Decoder,
    layer: int,
    path: str,
    clean: Recording,
    corrupted: Recording,
    plus: int,
    minus: int | None,
    unchanged: float,
) -> NDArray[np.float64]:
    """Return the answers (T,) of runs in which one layer's activation is the clean one, at one position."""
    new, old = clean[path], corrupted[path]
    time = axes_of(path, old.ndim, list(clean)).index("T")
    new, old = np.moveaxis(new, time, 1)[0], np.moveaxis(old, time, 1)[0]  # (T, …) each
    answers = np.full(len(new), unchanged)
    differing = np.flatnonzero((new != old).any(axis=tuple(range(1, new.ndim))))
    before = corrupted["embedding" if layer == 0 else f"blocks.{layer - 1}.residual"]  # (1, T, D)
    rows = max(1, TOKENS_AT_ONCE // len(new))
    for start in range(0, len(differing), rows):
        positions = differing[start : start + rows]
        patch, B = _OnePosition(new, time, positions), len(positions)
        step = Step(np.zeros(B, dtype=np.int64), len(new))
        with numbered([0] * B), at(step.positions):  # for interventions around: all rows are the one text
            if path.endswith(".residual"):
                x = patch.catch(path, np.repeat(corrupted[path], B, axis=0))
            else:
                with listen(patch, path), scope(f"blocks.{layer}"):  # a scope counts for those who listen
                    x = model.blocks[layer](np.repeat(before, B, axis=0), step, None)  # (B, T, D)
            logits = model.from_block(layer + 1, x, step, last_only=True)
        answers[positions] = _differences(logits, plus, minus)
    return answers


class _OnePosition:
    """A listener that puts another activation into each row, at a position of its own.

    recorded   (T, …) what is put in, tokens first
    time       which axis of the tap is T
    positions  (B,) of each row
    """

    def __init__(self, recorded: NDArray, time: int, positions: NDArray[np.int64]):
        self.recorded, self.time, self.positions = recorded, time, positions

    def catch(self, path: str, x: NDArray) -> NDArray:
        """Return a copy of ``x`` in which each row has the recorded numbers at its position."""
        y = x.copy()
        np.moveaxis(y, self.time, 1)[np.arange(len(y)), self.positions] = self.recorded[self.positions]
        return y


def _labels(clean: NDArray[np.integer], corrupted: NDArray[np.integer]) -> list[str]:
    """Return a label for each position: its id, or both where they differ."""
    both = zip(clean.tolist(), corrupted.tolist(), strict=True)
    return [str(a) if a == b else f"{a} → {b}" for a, b in both]
