"""Maps of layers × positions, as text and as pictures: a number of about −1 … 1 in each cell.

The last layer is on top, as the stream of a model is drawn. Colours are blue for numbers above 0 and red for
those below, which colour-blind people can tell apart; a number is also written where it is far from 0. Needs
matplotlib for pictures, which is imported when one is drawn.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.errors import InputError
from tinystar_np.seeing.plots import FAINT, TEXT, check_plotting
from tinystar_np.whole_file import whole_file

LINE = 100  # characters
WIDEST, LONGEST = 9, 14  # characters of a label in text and in pictures
CELL = 0.42  # inches
SIDE_BY_SIDE = 14.0  # inches of several maps in a row
WRITTEN = 0.1  # the least number that is written into a cell of a picture
MOST_WRITTEN = 1500  # cells of a map in which numbers can be read


@dataclass(frozen=True)
class Map:
    """A map.

    title   what its numbers are of
    values  (L, T); NaN where there is none
    """

    title: str
    values: NDArray


def map_in_text(drawn: Map, labels: Sequence[str]) -> str:
    """Write a map as text: a column for each position, under its label, in as many parts as lines allow.

    labels  T of them; control characters are escaped, long ones cut
    """
    short = [one_line(label.strip(), WIDEST - 1) for label in labels]
    width = max(5, *(len(label) for label in short)) + 1
    layers, count = drawn.values.shape
    margin = len(str(layers - 1)) + 7
    columns = max(1, (LINE - margin) // width)
    lines = [drawn.title]
    for start in range(0, count, columns):
        part = range(start, min(start + columns, count))
        lines.append(" " * margin + "".join(f"{short[t]:>{width}}" for t in part))
        for layer in reversed(range(layers)):
            numbers = drawn.values[layer, part.start : part.stop].tolist()
            cells = "".join(f"{'–' if x != x else f'{round(x, 2) + 0.0:.2f}':>{width}}" for x in numbers)
            lines.append(f"layer {layer:<{margin - 6}}{cells}")
    return "\n".join(lines)


def plot_maps(path: Path, title: str, maps: Sequence[Map], labels: Sequence[str]) -> None:
    """Draw maps with the same axes and save them, as PNG or SVG by the path's ending.

    labels  T of them

    Raises the errors of ``check_plotting``.
    """
    check_plotting(path)
    from matplotlib.figure import Figure

    layers, count = maps[0].values.shape
    width, height = 1.0 + CELL * count, 1.3 + CELL * layers
    columns = max(1, min(len(maps), int(SIDE_BY_SIDE / width)))
    rows = -(-len(maps) // columns)
    figure = Figure(
        figsize=(max(5.0, columns * width + 0.8), rows * height + 0.8),
        facecolor="white",
        layout="constrained",
    )
    figure.suptitle(title, fontsize=12, fontweight="bold", color=TEXT, x=0.01, ha="left")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, drawn in zip(axes, maps, strict=False):
        image = _draw(axis, drawn, labels)
    for axis in axes[len(maps) :]:
        axis.axis("off")
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8, aspect=30, extend="both", ticks=(-1, 0, 1))
    bar.outline.set_visible(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a token of letters that the font lacks
        with whole_file(path, InputError) as file:
            figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)


def _draw(axis: Any, drawn: Map, labels: Sequence[str]) -> Any:
    """Draw one map; return its image, for the colour bar."""
    layers, count = drawn.values.shape
    axis.set_facecolor(FAINT)  # where there is no number
    image = axis.imshow(drawn.values, cmap="RdBu", vmin=-1, vmax=1, aspect="equal", origin="lower")
    short = [one_line(label.strip(), LONGEST) for label in labels]
    # Labels are tokens: a dollar sign in them begins no formula.
    axis.set_xticks(range(count), short, fontsize=8, color=TEXT, rotation=90, parse_math=False)
    axis.set_yticks(range(layers), [str(layer) for layer in range(layers)], fontsize=8, color=TEXT)
    axis.set_ylabel("layer", fontsize=9, color=TEXT)
    axis.set_title(drawn.title, loc="left", fontsize=10, color=TEXT, parse_math=False)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    if layers * count <= MOST_WRITTEN:
        for layer, position in zip(*np.nonzero(np.abs(drawn.values) >= WRITTEN), strict=True):
            value = float(drawn.values[layer, position])
            colour = "white" if abs(value) > 0.6 else TEXT
            axis.text(position, layer, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
    return image
