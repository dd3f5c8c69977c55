"""``tinystar experiments --trained --plot FILE``: quality against the size of the cache, and bar charts."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from tinystar_np.cli.trained_table import LONG, SHORT, Compared
from tinystar_np.cli.wording import size_of, speed_of
from tinystar_np.inspection.speed import Rounds
from tinystar_np.inspection.trained import Training
from tinystar_np.seeing.pictures import Picture
from tinystar_np.seeing.plots import Panel
from tinystar_np.seeing.trade_off import Scales, Thing, trade_off


def picture(
    compared: Sequence[Compared], training: Training, tokens: int, new: int, note: str = ""
) -> Picture:
    """Draw the picture; arguments as in ``trained_table.parts``, and lines to stand below."""
    things = [
        Thing(
            one.name + "*" * one.ends_early, (one.cache(SHORT), one.cache(LONG)), one.design.losses().median
        )
        for one in compared
    ]
    base = training.repeated
    seeds = base.losses()
    scales = Scales(
        costs=f"cache of one text, ○ at {SHORT} and ● at {LONG} tokens",
        quality=f"nats per byte of held-out text,\nmean of {len(training.texts)} texts (less is better)",
        ticks=ticks([cost for thing in things for cost in thing.costs]),
        band=(seeds.lowest, seeds.highest),
        noise=f"noise: {len(seeds.values)} seeds of {base.name}",
    )
    title = "Loss on held-out text and size of the cache: small models trained alike"
    return trade_off(title, things, scales, panels(compared, training, tokens, new), note)


def ticks(costs: Sequence[float]) -> list[tuple[float, str]]:
    """Return the powers of ten from below the least cost to above the greatest, in words."""
    powers = range(floor(log10(min(costs))), ceil(log10(max(costs))) + 1)
    return [(10**power, size_of(10**power).replace(".00", "").replace(".0", "")) for power in powers]


def panels(compared: Sequence[Compared], training: Training, tokens: int, new: int) -> list[Panel]:
    """Make the bar charts: speeds, where they were measured; recall at the nearest and farthest distance."""
    found = []
    if all(one.speed for one in compared):
        prefill = [one.speed.prefill for one in compared if one.speed]
        decode = [one.speed.decode for one in compared if one.speed and one.speed.decode]
        found += [
            _panel(f"prefill {tokens}, tokens/s", prefill, speed_of),
            _panel(f"decode {new}, tokens/s", decode, speed_of),
        ]
    for distance in (training.distances[0], training.distances[-1]):
        saved = [one.design.saved(distance) for one in compared]
        found.append(_panel(f"nats saved, copy {distance} before", saved, "{:.3f}".format))
    return found


def _panel(title: str, values: Sequence[Rounds], words: Callable[[float], str]) -> Panel:
    ranges = [(each.lowest, each.highest) if len(each.values) > 1 else None for each in values]
    medians = [each.median for each in values]
    return Panel(title, medians, [words(median) for median in medians], ranges)
