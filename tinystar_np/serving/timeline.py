"""A timeline: what an engine did for each request, call by call, drawn from a real run.

    turns = []
    engine = ts.Engine(model, tokenizer, on_turn=turns.append)
    handles = [engine.submit(prompt) for prompt in prompts]
    for handle in handles:
        handle.result()
    timeline(turns, handles)

Each request has a line, from when it was submitted until it ended. The line is dotted where the request
waits, and has a box for each piece of its prompt that was read and each token that was generated. Between
boxes it is solid: the text holds its place, and the model works for others. A dotted stretch after the first
box means that the text has lost its place, and waits to be read again. Below are the blocks of the cache that
running texts hold, and those that are kept of earlier texts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinystar_np.cache.blocks import runs_of
from tinystar_np.errors import InputError
from tinystar_np.seeing.pictures import COLOURS, Picture, axes
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.statistics import Turn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROMPT, TOKEN = COLOURS[0], COLOURS[1]
WAITS, HOLDS = "#6b7280", "#9ca3af"
IN_USE, KEPT = "#475569", "#cbd5e1"
DOTTED = (0, (1, 1.5))
BOX = 0.66  # height of a box; two lines are 1 apart
WIDTH = 7.5  # inches
POINTS = 430  # about how wide the lines are
DIGIT = 3.9  # points that a digit in a box is wide


def timeline(
    turns: Sequence[Turn],
    handles: Sequence[Handle],
    names: Sequence[str] | None = None,
    *,
    seconds: bool = False,
) -> Picture:
    """Draw what each call of a model did, one line for each request.

    turns    the engine's, in order
    handles  the requests to draw, from the top
    names    of the requests; None for their numbers
    seconds  whether calls are as wide as the time they took; where not, all are equally wide

    Raises InputError where there is nothing to draw, TinyStarError where matplotlib is missing.
    """
    if not turns or not handles:
        raise InputError("There is nothing to draw: a timeline needs an engine's turns, and handles.")
    names = [str(number) for number in range(1, len(handles) + 1)] if names is None else names
    if len(names) != len(handles):
        raise InputError(f"There are {len(handles)} requests, and {len(names)} names were given for them.")
    places = Places(turns, seconds)
    heights = (0.6 + 0.26 * len(handles), 0.9)
    picture, (lines, strip) = axes(rows=2, width=WIDTH, height=0.8 + sum(heights), heights=heights)
    for row, handle in enumerate(handles):
        _draw_request(lines, row, handle, turns, places)
    said = [f"{name}: {_tokens(handle)}" for name, handle in zip(names, handles, strict=True)]
    lines.set_title("Tokens of the prompt (those that were cached) + new tokens", loc="left", fontsize=9)
    lines.set_ylim(len(handles) - 0.4, -0.6)
    lines.set_yticks(range(len(handles)), said)
    lines.tick_params(length=0, labelbottom=False)
    lines.spines["left"].set_visible(False)
    _draw_blocks(strip, turns, places)
    for axis in (lines, strip):
        axis.set_xlim(0, 1.005 * places.end)
    strip.set_xlabel("seconds" if seconds else "calls of the model")
    _draw_legend(picture)
    return picture


def _tokens(handle: Handle) -> str:
    """Write the tokens of a request: "34 (32) + 9"."""
    usage = handle.usage
    cached = f" ({usage.cached})" if usage.cached else ""
    return f"{usage.prompt}{cached} + {usage.generated}"


class Places:
    """Where the calls stand on a timeline, from left to right.

    turns    in order
    seconds  whether calls are as wide as the time they took; where not, each is 1 wide

    begins, ends  where each call begins and ends
    """

    def __init__(self, turns: Sequence[Turn], seconds: bool) -> None:
        self._over = np.array([turn.ended for turn in turns])
        self._first = turns[0].begun
        self._seconds = seconds
        if seconds:
            self.begins = [turn.begun - self._first for turn in turns]
            self.ends = [turn.ended - self._first for turn in turns]
        else:
            self.begins = [float(number) for number in range(len(turns))]
            self.ends = [float(number + 1) for number in range(len(turns))]
        self.end = self.ends[-1]

    def of(self, moment: float) -> float:
        """Return where a moment lies: of calls that are equally wide, after those that were over."""
        if self._seconds:
            return min(max(moment - self._first, 0.0), self.end)
        return float(np.count_nonzero(self._over <= moment))

    def span(self, call: int) -> tuple[float, float]:
        """Return where a call begins, and how wide it is."""
        return self.begins[call], self.ends[call] - self.begins[call]


def _draw_request(axis: "Axes", row: int, handle: Handle, turns: Sequence[Turn], places: Places) -> None:
    """Draw the line of a request."""
    read = {call: turn.read[handle] for call, turn in enumerate(turns) if handle in turn.read}
    # The token that follows a prompt comes with its last piece, and has no box of its own.
    grown = [call for call, turn in enumerate(turns) if handle in turn.generated and call not in read]
    holds = np.array([handle in turn.blocks for turn in turns])
    holds[[*read, *grown]] = True
    begin = places.of(handle.submitted)
    end = places.end if handle.finished is None else places.of(handle.finished)
    if holds.any():
        end = places.ends[int(np.flatnonzero(holds)[-1])]
    axis.plot((begin, end), (row, row), color=WAITS, linewidth=1.3, linestyle=DOTTED, zorder=1)
    for start, length in zip(*runs_of(holds), strict=True):
        boxes = [call for call in (*read, *grown) if start <= call < start + length]
        if boxes:  # before the first of them it has a place, and waits nevertheless
            between = places.begins[min(boxes)], places.ends[start + length - 1]
            axis.plot(between, (row, row), color="white", linewidth=3, solid_capstyle="butt", zorder=2)
            axis.plot(between, (row, row), color=HOLDS, linewidth=1.3, solid_capstyle="butt", zorder=3)
    for calls, colour in ((read, PROMPT), (grown, TOKEN)):
        spans, edge = [places.span(call) for call in calls], 0.5 if len(turns) < POINTS / 4 else 0
        axis.broken_barh(
            spans, (row - BOX / 2, BOX), facecolors=colour, edgecolors="white", linewidth=edge, zorder=4
        )
    for call, tokens in read.items():
        start, width = places.span(call)
        if width / places.end * POINTS > DIGIT * len(str(tokens)):
            axis.text(
                *(start + width / 2, row, str(tokens)), ha="center", va="center_baseline", fontsize=6,
                color="white", zorder=5,
            )  # fmt: skip


def _draw_blocks(axis: "Axes", turns: Sequence[Turn], places: Places) -> None:
    """Draw how many blocks were in use, and kept, after each call."""
    edges = [*places.begins, places.end]
    in_use = np.array([turn.blocks_in_use for turn in turns])
    kept = in_use + [turn.blocks_kept for turn in turns]
    axis.stairs(in_use, edges, fill=True, color=IN_USE)
    axis.stairs(kept, edges, baseline=in_use, fill=True, color=KEPT)
    axis.set_ylim(0, 1.08 * max(int(kept.max()), 1))
    axis.set_title("Blocks of the cache", loc="left", fontsize=9)


def _draw_legend(picture: Picture) -> None:
    """Say below what the colours mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    picture.figure.legend(
        handles=[
            Patch(color=PROMPT, label="a piece of the prompt is read"),
            Patch(color=TOKEN, label="a token is generated"),
            Line2D([], [], color=WAITS, linewidth=1.3, linestyle=DOTTED, label="waits"),
            Line2D([], [], color=HOLDS, linewidth=1.3, label="holds its place"),
            Patch(color=IN_USE, label="blocks in use"),
            Patch(color=KEPT, label="blocks that are kept"),
        ],
        loc="outside lower left",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
