"""Activation patching over all layers and positions: where a model keeps what decides its answer.

Two texts of the same length differ in what matters ("When Mary and John …" and "When Mary and Mary …"), and
the model answers them differently. One activation of the clean run, of one layer at one position, is put into
the corrupted run, and the answer is measured again:

    restored = (patched − corrupted) / (clean − corrupted)        of the logit difference right − wrong

1 where this one activation brings the whole clean answer back, 0 where it changes nothing. The map of all
layers and positions shows the way that the information takes: at first at the tokens that differ, at the end
at the last one. Meng et al. 2022 (causal tracing), arXiv:2202.05262; Wang et al. 2022, arXiv:2211.00593; how
to choose texts and measure: Zhang & Nanda 2023, arXiv:2309.16042.

The corrupted run is computed once. A patched run is the same in earlier layers and at earlier positions: it
begins at the patched layer, with the positions before it in a cache, and neighbouring positions are the rows
of a batch. Where both runs have the same numbers, nothing is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.cache import Cache, SeenImage, Step
from tinystar_np.cache.step import FIRST
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.generation.image_prompt import no_images
from tinystar_np.models import Decoder
from tinystar_np.models.vision_part import Image
from tinystar_np.seeing.axes import axes_of, near_paths
from tinystar_np.seeing.branch_parts import OUTPUTS
from tinystar_np.seeing.maps import Map, map_in_text, plot_maps
from tinystar_np.seeing.recorder import Recording, record
from tinystar_np.tap import at, listen, numbered, scope

USUAL = ("residual", "attention", "mixer", "feed_forward")
POSITIONS_AT_ONCE = 8
"""Rows of a batch. The first position of them sets where all begin; 4 and 16 were slower on GPT-2 124M."""


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
    images: Sequence[Image] = (),
    corrupted_images: Sequence[Image] | None = None,
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
    images         those of the clean text, as the model is called with them
    corrupted_images
                   those of the other text; None for the same

    Returns the map. Raises InputError for texts of different lengths, tokens out of the vocabulary, a tap
    that no block has, and where both runs answer alike, so that nothing could be restored.
    """
    if model.FROM_THE_START:
        raise InputError(f"{model.FROM_THE_START} Patching needs the stream alone; ts.patch runs all of it.")
    clean_text, corrupted_text = model.checked(clean_ids), model.checked(corrupted_ids)
    if clean_text.shape != corrupted_text.shape or clean_text.ndim != 1:
        raise InputError(
            "Patching wants two texts of one length, (T,) each, and no batch: the clean ids have shape "
            f"{clean_text.shape}, the corrupted ones {corrupted_text.shape}."
        )
    if tokens is not None and len(tokens) != len(clean_text):
        raise InputError(f"tokens has {len(tokens)} labels, but the text has {len(clean_text)} tokens.")
    if isinstance(taps, str) or not taps:
        raise InputError('taps are names of activations in a list, such as ["residual", "attention"].')
    plus, minus = _answer(model, answer)
    of_clean = _read(model, images)
    of_corrupted = of_clean if corrupted_images is None else _read(model, corrupted_images)
    patterns = [f"blocks.*.{name}" for tap in taps for name in OUTPUTS.get(tap, (tap,))]
    with record(*patterns, optional=True) as clean:
        clean_answer = _measured(model(clean_text, last_only=True, images=of_clean)[None], plus, minus)
    with record("embedding", "blocks.*.residual", *patterns, optional=True) as corrupted:
        corrupted_answer = _measured(
            model(corrupted_text, last_only=True, images=of_corrupted)[None], plus, minus
        )
    difference = clean_answer - corrupted_answer
    if not np.isfinite(difference) or difference == 0:
        raise InputError(
            f"The answer measures {clean_answer:.6g} in the clean run and {corrupted_answer:.6g} in the "
            "corrupted one: there is no difference to restore. Choose other texts or another answer."
        )
    found = _kinds(model, clean, taps)
    values = np.full((len(found), len(model.blocks), len(clean_text)), np.nan, dtype=np.float32)
    runs = [
        (values[n, layer], _Patch(layer, path, clean, corrupted))
        for n, paths in enumerate(found.values())
        for layer, path in paths.items()
    ]
    differing = np.logical_or.reduce([patch.differing for _, patch in runs])
    first = int(differing.argmax()) if differing.any() else len(clean_text)
    for row, _ in runs:
        row[:] = 0  # where nothing differs, nothing is restored
    for start in range(first, len(clean_text), POSITIONS_AT_ONCE):
        # With images a pass begins anew: a text must not be cut where tokens of an image see one another.
        beginning = None if of_corrupted else _beginning(model, corrupted_text, start)
        for row, patch in runs:
            positions = start + np.flatnonzero(patch.differing[start : start + POSITIONS_AT_ONCE])
            if positions.size:
                logits = patch.run(model, positions, beginning, of_corrupted)
                row[positions] = (_differences(logits, plus, minus) - corrupted_answer) / difference
    labels = tokens if tokens is not None else _labels(clean_text, corrupted_text)
    return Patching(tuple(found), values, clean_answer, corrupted_answer, tuple(labels))


def _read(model: Decoder, images: Sequence[Image]) -> tuple[SeenImage, ...]:
    """Read the images of a text, once for all runs; raises InputError where the model reads none."""
    if not images:
        return ()
    if model.vision is None:
        raise no_images(model)
    return model.vision.see(images)


def _answer(model: Decoder, answer: object) -> tuple[int, int | None]:
    """Return the token that counts for and the one that counts against, if any."""
    pair = tuple(answer) if isinstance(answer, Sequence) else (answer,)
    ids = all(isinstance(each, int | np.integer) for each in pair)
    if not ids or not 1 <= len(pair) <= 2 or len(set(pair)) != len(pair):
        raise InputError(
            f"answer is one token id, or two different ones: (right, wrong); found {shown(answer)}"
        )
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


def _beginning(model: Decoder, ids: NDArray[np.integer], length: int) -> Cache | None:
    """Read the tokens before the first position that is patched, which is all that layers need of them.

    Returns None where there are none, or where the model has no cache because it also looks ahead.
    """
    if length == 0:
        return None
    try:
        cache = model.new_cache(capacity=len(ids))
    except InputError:
        return None
    with cache.reading(len(ids)):
        model(ids[:length], cache=cache, last_only=True)
    return cache


class _Patch:
    """Runs in which one layer's activation is the clean one, at one position each.

    layer      the block's number
    path       the tap
    clean      the recording whose arrays are put in
    corrupted  the recording of the other run, with the residual stream before each block

    differing  (T,) at which positions both runs have different numbers there
    """

    def __init__(self, layer: int, path: str, clean: Recording, corrupted: Recording):
        self.layer, self.path = layer, path
        axes = axes_of(path, clean[path].ndim, list(clean))
        self.time, self.of_keys = axes.index("T"), "S" in axes
        self.recorded, there = (np.moveaxis(run[path], self.time, 1)[0] for run in (clean, corrupted))
        self.differing = (self.recorded != there).any(axis=tuple(range(1, there.ndim)))
        self.before = corrupted["embedding" if layer == 0 else f"blocks.{layer - 1}.residual"]  # (1, T, D)
        self.after = corrupted[f"blocks.{layer}.residual"]
        self.first = corrupted["embedding"]

    def run(
        self,
        model: Decoder,
        positions: NDArray[np.int64],
        beginning: Cache | None,
        images: tuple[SeenImage, ...] = (),
    ) -> NDArray[np.float32]:
        """Return the last logits (B, 1, V) of B runs, patched at one of these positions each.

        beginning  the tokens before the first of them; None to compute these, too
        images     those of the text
        """
        # A cache may hold keys in another order than the recording has them.
        cache = None if self.of_keys else beginning
        B, T, start = len(positions), len(self.recorded), 0 if cache is None else int(cache.lengths[0])
        rows = cache and cache.select([0] * B)
        step = Step(np.full(B, start), T - start, np.full(B, T), images=[images] * B)
        states = None if rows is None else rows.states
        step.give(FIRST, np.repeat(self.first[:, start:], B, axis=0))
        patch = _OnePosition(self.recorded[positions], self.time, positions - start)
        with numbered([0] * B), at(step.positions):  # for interventions around: all rows are the one text
            if self.path.endswith(".residual"):
                x = patch.catch(self.path, np.repeat(self.after[:, start:], B, axis=0))
            else:
                x = np.repeat(self.before[:, start:], B, axis=0)  # (B, T, D)
                # The scope is inside: it counts for those who listen already.
                with listen(patch, self.path), scope(f"blocks.{self.layer}"):
                    x = model.blocks[self.layer](x, step, None if states is None else states[self.layer])
            return model.from_block(self.layer + 1, x, step, states, last_only=True)


class _OnePosition:
    """A listener that puts another activation into each row, at a position of its own.

    recorded  (B, …) what is put into each row
    time      which axis of the tap is T
    places    (B,) which of the tokens on that axis it is put in place of
    """

    def __init__(self, recorded: NDArray, time: int, places: NDArray[np.int64]):
        self.recorded, self.time, self.places = recorded, time, places

    def catch(self, path: str, x: NDArray) -> NDArray:
        """Return a copy of ``x`` in which each row has the recorded numbers at its place."""
        y = x.copy()
        np.moveaxis(y, self.time, 1)[np.arange(len(y)), self.places] = self.recorded
        return y


def _labels(clean: NDArray[np.integer], corrupted: NDArray[np.integer]) -> list[str]:
    """Return a label for each position: its id, or both where they differ."""
    both = zip(clean.tolist(), corrupted.tolist(), strict=True)
    return [str(a) if a == b else f"{a} → {b}" for a, b in both]
