"""What happens to throughput and to the wait for a first token as clients become more, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from tinystar_np.seeing.plots import check_matplotlib

PANELS = (
    ("tokens/s", "new tokens per second, all clients together"),
    ("first, s", "seconds to the first token"),
)
MARKS = "osD^vP"
COLORS = ("#1f5a94", "#7a7a7a", "#b5541c", "#2f7d4f", "#8a5aa8", "#a8892c")
TEXT, FAINT = "#222222", "#cccccc"


def draw(
    path: Path,
    found: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]],
    clients: Sequence[int],
    title: str,
) -> None:
    """Draw a line per server, with the range of its rounds.

    found    {server: what each round found}, see ``serving.py``
    clients  how many there were at once
    title    what was asked of the servers
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    for axes, (quantity, words) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for i, (name, rounds) in enumerate(found.items()):
            at = [c for c in sorted(clients) if all(load_of(c) in each for each in rounds)]
            values = [[each[load_of(c)][quantity] for each in rounds] for c in at]
            if not at:
                continue
            color = COLORS[i % len(COLORS)]
            middle = [median(each) for each in values]
            axes.plot(
                at, middle, color=color, marker=MARKS[i % len(MARKS)], markersize=5, linewidth=1.6, label=name
            )
            axes.fill_between(
                at, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.15, lw=0
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(clients), [str(c) for c in sorted(clients)])
        axes.set_ylim(bottom=0)
        axes.set_title(words, fontsize=10, color=TEXT, loc="left")
        axes.set_xlabel("clients at once", fontsize=9, color=TEXT)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.tick_params(labelsize=9, colors=TEXT)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11, color=TEXT, x=0.01, ha="left")
    figure.savefig(path, dpi=150)


def load_of(clients: int) -> str:
    """Name a load, as in the figures."""
    return "1 client" if clients == 1 else f"{clients} clients"
