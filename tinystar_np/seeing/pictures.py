"""Pictures for notebooks and the book: matrices as coloured squares with their numbers, bars, and curves.

Each function returns a ``Picture``, which a notebook shows; ``save`` writes it to a file. Needs matplotlib
(``pip install 'tinystar_np[plot]'``), which is imported when a picture is drawn.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.errors import InputError
from tinystar_np.seeing.plots import check_matplotlib, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#3b82f6", "#b7791f", "#15803d", "#8b5cf6", "#dc2626", "#6b7280", "#0e7490", "#be185d")
"""Of curves and bars, in turn: told apart also by readers who do not see red and green apart."""

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.prop_cycle": None,  # set below: a cycler needs matplotlib
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "tinystar",  # the same file from the same numbers
}
MOST_NUMBERS = 400
"""Squares of a matrix that still have their numbers written in them, unless asked for."""


class Picture:
    """A figure of matplotlib that a notebook shows as SVG.

    figure  the ``matplotlib.figure.Figure``: whatever is not offered here can be done to it
    """

    def __init__(self, figure: "Figure"):
        self.figure = figure

    def _repr_svg_(self) -> str:
        import matplotlib

        written = io.StringIO()
        with matplotlib.rc_context(_style()):
            self.figure.savefig(written, format="svg", metadata={"Date": None}, bbox_inches="tight")
        return written.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the picture to a .png or .svg.

        Raises the errors of ``check_plotting``.
        """
        save(self.figure, Path(path))


def axes(
    columns: int = 1,
    width: float = 7.0,
    height: float = 2.6,
    rows: int = 1,
    shares: Sequence[float] | None = None,
    heights: Sequence[float] | None = None,
) -> "tuple[Picture, Any]":
    """Make an empty picture to draw on: (picture, axes).

    columns, rows  of panels; of several, the axes are an array (rows × columns, without axes of length 1)
    width, height  of the whole, in inches
    shares         of the width, one for each column of panels; None: all alike
    heights        shares of the height, one for each row of panels; None: all alike

    Raises TinyStarError where matplotlib is missing.
    """
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):
        figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
        return Picture(figure), figure.subplots(rows, columns, width_ratios=shares, height_ratios=heights)


def matrices(
    shown: Mapping[str, ArrayLike],
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    digits: int = 2,
    numbers: bool | None = None,
    limit: float | None = None,
) -> Picture:
    """Draw matrices side by side: blue for positive numbers, red for negative; white for 0, −inf and NaN.

    shown          {title: matrix}; a vector is drawn as one row
    rows, columns  what is written beside each row and under each column; None for nothing
    digits         after the point
    numbers        whether to write them into the squares; None: where there are few
    limit          the number that has the full colour; None: the largest of each matrix

    Raises InputError where there is nothing to draw, or what there is does not fit together.
    """
    _check_some(shown)
    drawn = {title: np.atleast_2d(np.asarray(values, dtype=np.float64)) for title, values in shown.items()}
    for title, values in drawn.items():
        _check_matrix(title, values)
    squares = sum(values.shape[1] for values in drawn.values())
    most = max(values.shape[0] for values in drawn.values())
    few = max(values.size for values in drawn.values()) <= MOST_NUMBERS if numbers is None else numbers
    side = min(0.46 if few else 0.25, 9.5 / squares)
    width = max(squares * side + 0.6 * len(drawn) + 0.5, 2.4 * len(drawn))
    shares = [values.shape[1] for values in drawn.values()]
    picture, found = axes(len(drawn), width=width, height=most * side + 0.9, shares=shares)
    for axis, (title, values) in zip(np.atleast_1d(found), drawn.items(), strict=True):
        matrix(axis, values, title=title, rows=rows, columns=columns, digits=digits, numbers=few, limit=limit)
    return picture


def matrix(
    axis: "Axes",
    values: NDArray,
    *,
    title: str = "",
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    digits: int = 2,
    numbers: bool = True,
    limit: float | None = None,
) -> None:
    """Draw one matrix on axes of yours; arguments and errors as in ``matrices``."""
    _check_matrix(title, values)
    for names, side, count in ((rows, "rows", len(values)), (columns, "columns", values.shape[1])):
        _check_names(names, side, title, count)
    if limit is not None and not limit > 0:
        raise InputError(f"The limit of colours must be above 0; found {limit}.")
    finite = np.where(np.isfinite(values), values, 0)
    most = limit or float(np.abs(finite).max()) or 1.0
    axis.imshow(
        finite, cmap="RdBu", vmin=-1.25 * most, vmax=1.25 * most, interpolation="nearest", aspect="equal"
    )
    axis.set_title(title)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.set_yticks([])
    axis.set_xticks([])
    if rows is not None:
        axis.set_yticks(range(len(values)), list(map(str, rows)))
    if columns is not None:
        written = list(map(str, columns))
        axis.set_xticks(range(len(written)), written, rotation=90 if max(map(len, written)) > 3 else 0)
    axis.tick_params(length=0)
    if numbers:
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                ink = "white" if np.isfinite(value) and abs(value) > 0.75 * most else "black"
                axis.text(j, i, _number(value, digits), ha="center", va="center", fontsize=7, color=ink)


def bars(values: Mapping[str, Sequence[float]], names: Sequence[object], title: str = "") -> Picture:
    """Draw bars, a panel for each sequence of numbers, all on one scale: a distribution before and after.

    values  {title of the panel: a number for each name}
    names   written under the bars
    title   of the whole

    Raises InputError where there is nothing to draw, or there are not as many numbers as names.
    """
    _check_some(values)
    _check_some(names)
    for said, numbers in values.items():
        _check_names(names, "bars", said, len(numbers))
    picture, found = axes(
        len(values), width=max(2.4 * len(values), 0.28 * len(names) * len(values) + 1), height=2.4
    )
    heights = np.array(list(values.values()), dtype=np.float64)
    heights = np.append(heights[np.isfinite(heights)], 0)  # bars begin at 0, whatever else there is
    low, high = 1.08 * heights.min(), 1.08 * heights.max()
    panels = zip(np.atleast_1d(found), values.items(), cycle(COLOURS), strict=False)
    for axis, (said, numbers), colour in panels:
        axis.bar(range(len(names)), numbers, color=colour)
        axis.set_ylim(low, high if high > low else 1)
        axis.set_title(said)
        axis.set_xticks(range(len(names)), [str(name) for name in names], rotation=90)
        axis.tick_params(length=0)
    if title:
        picture.figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return picture


def curves(
    lines: Mapping[str, Sequence[float] | NDArray],
    x: Sequence[float] | NDArray | None = None,
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    logx: bool = False,
    logy: bool = False,
) -> Picture:
    """Draw curves over one axis.

    lines         {name for the legend: its numbers}
    x             where they lie; None for 0, 1, 2, …
    xlabel, ylabel, title  words
    logx, logy    whether an axis is logarithmic

    Raises InputError where there is nothing to draw.
    """
    _check_some(lines)
    picture, axis = axes(width=6.4, height=3.0)
    for name, numbers in lines.items():
        places = np.arange(len(numbers)) if x is None else x
        dot = "o" if len(numbers) == 1 else ""  # a line through one point has no length
        axis.plot(places, numbers, label=name, linewidth=1.6, marker=dot)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if logx:
        axis.set_xscale("log", base=2)
    if logy:
        axis.set_yscale("log")
    if len(lines) > 1:
        picture.figure.legend(loc="outside lower left", ncols=3, frameon=False)  # also on a telephone
    return picture


def _style() -> dict[str, Any]:
    from cycler import cycler

    return STYLE | {"axes.prop_cycle": cycler(color=COLOURS)}


def _check_some(drawn: Sequence[object] | Mapping[str, object]) -> None:
    if not len(drawn):
        raise InputError("There is nothing to draw: no numbers were given.")


def _check_matrix(title: str, values: NDArray) -> None:
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"A matrix has rows and columns; {title!r} has the shape {values.shape}.")


def _check_names(names: Sequence[object] | None, what: str, title: str, count: int) -> None:
    if names is not None and len(names) != count:
        raise InputError(f"{title!r} has {count} {what}, and {len(names)} names were given for them.")


def _number(value: float, digits: int) -> str:
    """Write a number into a square: "0.25", "−∞", "NaN"; whole numbers without a point."""
    if np.isnan(value):
        return "NaN"
    if not np.isfinite(value):
        return "−∞" if value < 0 else "∞"
    digits = 0 if value == round(value) else digits
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "−0"
