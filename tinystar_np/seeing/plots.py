"""Bar charts as small multiples: one panel per quantity and one row per thing that is compared.

Every panel has its own scale and begins at 0, every bar has its number written after it, and colour carries
no meaning. Needs matplotlib, which is imported when a picture is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.whole_file import whole_file

KINDS = (".png", ".svg")
COLUMNS = 3  # panels side by side
ROOM = 1.45  # a panel's width in lengths of the longest bar: the rest is for its label
BAR = "#8fb3d9"
TEXT = "#222222"
FAINT = "#bbbbbb"


@dataclass(frozen=True)
class Panel:
    """One quantity.

    title   what it is, with its unit
    values  one per row; None where there is none
    labels  the same in words
    ranges  lowest and highest of each, drawn as a line; None for numbers that are exact
    """

    title: str
    values: Sequence[float | None]
    labels: Sequence[str]
    ranges: Sequence[tuple[float, float] | None] | None = None


def check_plotting(path: Path) -> None:
    """Raise an error if no picture can be written there, before the work is done.

    Raises InputError for a path that cannot be written, TinyStarError where matplotlib is missing.
    """
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{path}: a picture's name ends with {' or '.join(KINDS)}.")
    if path.is_dir():
        raise InputError(f"{path}: is a directory.")
    try:
        made = not path.exists()
        path.open("ab").close()
        if made:
            path.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
    check_matplotlib()


def check_matplotlib() -> None:
    """Raise a TinyStarError where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise TinyStarError(
            f"A picture needs matplotlib ({error}).\nInstall it: pip install 'tinystar_np[plot]'"
        ) from error


def plot_small_multiples(
    path: Path, title: str, names: Sequence[str], panels: Sequence[Panel], note: str = ""
) -> None:
    """Draw panels of horizontal bars side by side and save them, as PNG or SVG by the path's ending.

    names   of the rows, from the top
    panels  one per quantity
    note    a line below, such as where and how it was measured

    Raises the errors of ``check_plotting``.
    """
    check_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = -(-len(panels) // COLUMNS)
    height = rows * (0.75 + 0.27 * len(names)) + 1.1  # inches
    layout = ConstrainedLayoutEngine(hspace=0.06)
    figure = Figure(figsize=(11, height), facecolor="white", layout=layout)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=TEXT, x=0.01, ha="left")
    if note:
        figure.supxlabel(note, fontsize=8.5, color=TEXT, x=0.01, ha="left")
    axes = figure.subplots(rows, min(COLUMNS, len(panels)), sharey=True, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        draw_panel(axis, names, panel)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib to a .png or .svg; raises the errors of ``check_plotting``."""
    check_plotting(path)
    with whole_file(path, InputError) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)


def draw_panel(axis: Any, names: Sequence[str], panel: Panel) -> None:
    """Draw one panel: bars from the top, each with its label after it."""
    places = range(len(names))
    ranges = panel.ranges or [None] * len(names)
    lengths = [value or 0 for value in panel.values]
    ends = [spread[1] if spread else length for length, spread in zip(lengths, ranges, strict=True)]
    axis.barh(places, lengths, height=0.66, color=BAR)
    for place, spread in zip(places, ranges, strict=True):
        if spread:
            axis.plot(spread, (place, place), color=TEXT, linewidth=1, marker="|", markersize=6)
    for place, end, label in zip(places, ends, panel.labels, strict=True):
        axis.annotate(
            label, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=9, color=TEXT
        )
    axis.set_title(panel.title, loc="left", fontsize=10, color=TEXT)
    axis.set_xlim(0, (max(ends) or 1) * ROOM)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_yticks(places, names, fontsize=9, color=TEXT)
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.spines["left"].set_color(FAINT)
