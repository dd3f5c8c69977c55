"""Configurations side by side: columns of a table, panels of a picture, and the findings in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import gt

from tinystar_np.cli.wording import count_of, listed, size_of, speed_of
from tinystar_np.inspection.experiments import Experiment
from tinystar_np.inspection.speed import Rounds
from tinystar_np.seeing.plots import Panel

LONG = 32768  # tokens of a long text
NOTHING = "—"
COUNTED = 5  # of the quantities; the others are measured
ENOUGH_ROUNDS = 3  # to say that one is faster than another


@dataclass(frozen=True)
class Quantity:
    """A quantity to compare configurations by.

    head    of its column
    title   of its panel; None for no panel
    value   of a configuration: an exact number, measured rounds, or None where there is none
    words   formats a number
    mark    what follows the words for a configuration
    """

    head: str
    title: str | None
    value: Callable[[Experiment], int | Rounds | None]
    words: Callable[[float], str]
    mark: Callable[[Experiment], str] = lambda one: ""

    def number(self, one: Experiment) -> float | None:
        """Return the value; the median of measured rounds."""
        value = self.value(one)
        return value.median if isinstance(value, Rounds) else value

    def spread(self, one: Experiment) -> tuple[float, float] | None:
        """Return the lowest and the highest of several rounds."""
        value = self.value(one)
        several = isinstance(value, Rounds) and len(value.values) > 1
        return (value.lowest, value.highest) if isinstance(value, Rounds) and several else None

    def text(self, one: Experiment) -> str:
        """Write the value of one configuration, without its range."""
        number = self.number(one)
        return NOTHING if number is None else self.words(number) + self.mark(one)

    def cell(self, one: Experiment) -> str:
        """Write the value of one configuration, with the range of measured rounds."""
        value = self.value(one)
        return value.text(self.words) if isinstance(value, Rounds) else self.text(one)


def quantities(tokens: int, new: int, measured: bool = True) -> list[Quantity]:
    """List the quantities for a prompt of so many tokens and so many new ones, with speeds or without."""
    counted = [
        Quantity("parameters", "parameters, 4 bytes each", lambda one: one.takes.parameters, count_of),
        Quantity("weights", None, lambda one: one.takes.weight_bytes, size_of),
        Quantity(
            "cache per token",
            "cache per token",
            lambda one: one.takes.state.per_token if one.takes.state else None,
            size_of,
        ),
        Quantity(
            f"cache at {LONG}",
            f"cache at {LONG} tokens",
            lambda one: one.takes.state.at(LONG) if one.takes.state else None,
            size_of,
            mark=lambda one: "*" if ends_early(one) else "",
        ),
        Quantity(
            "FLOPs per token",
            f"FLOPs of a token that sees {tokens}",
            lambda one: one.takes.flops[tokens],
            count_of,
        ),
    ]
    if not measured:
        return counted
    prefill, decode = f"prefill {tokens}", f"decode {new}"
    return [
        *counted,
        Quantity(
            f"{prefill} tokens/s",
            f"{prefill}, tokens/s",
            lambda one: one.speed.prefill if one.speed else None,
            speed_of,
        ),
        Quantity(
            f"{decode} tokens/s",
            f"{decode}, tokens/s",
            lambda one: one.speed.decode if one.speed else None,
            speed_of,
        ),
    ]


def ends_early(one: Experiment) -> bool:
    """Say whether a text of LONG tokens is too long for the model, so that its cache is only hypothetical."""
    takes = one.takes
    return takes.state is not None and takes.context_length is not None and takes.context_length < LONG


def panels(compared: Sequence[Experiment], shown: Sequence[Quantity]) -> list[Panel]:
    """Make the panels of the picture."""
    return [
        Panel(
            quantity.title,
            [quantity.number(one) for one in compared],
            [quantity.text(one) for one in compared],
            [quantity.spread(one) for one in compared],
        )
        for quantity in shown
        if quantity.title
    ]


def findings(compared: Sequence[Experiment], tokens: int) -> list[str]:
    """Return sentences on what differs."""
    states = {one.name: one.takes.state for one in compared if one.takes.state is not None}
    each = {name: state.per_token for name, state in states.items()}
    whole = {name: state.at(LONG) for name, state in states.items()}
    said = [_least_and_most("Cache per token", each, size_of)]
    if _least(whole) != _least(each):
        windowed = all(whole[name] < states[name].fixed + LONG * each[name] for name in _least(whole))
        why = ": its cache ends at the window" if windowed else ""
        said.append(f"Least at {LONG} tokens: {listed(_least(whole))}, {size_of(min(whole.values()))}{why}.")
    flops = {one.name: one.takes.flops[tokens] for one in compared}
    said.append(_least_and_most(f"FLOPs of a token that sees {tokens}", flops, count_of))
    said.append(fastest("prefill", {one.name: one.speed.prefill for one in compared if one.speed}))
    said.append(
        fastest("decode", {one.name: one.speed.decode for one in compared if one.speed and one.speed.decode})
    )
    return list(filter(None, said))


def _least_and_most(what: str, values: Mapping[str, int], words: Callable[[float], str]) -> str:
    if len(set(values.values())) < 2:
        return ""
    least, most = min(values.values()), max(values.values())
    times = f", {most / least:.3g} times as much" if least else ""
    return (
        f"{what}: least {listed(_least(values))}, {words(least)}; "
        f"most {listed([name for name in values if values[name] == most])}, {words(most)}{times}."
    )


def _least(values: Mapping[str, int]) -> list[str]:
    return [name for name in values if values[name] == min(values.values())]


def fastest(what: str, speeds: Mapping[str, Rounds]) -> str:
    """Name the fastest by the median, and those that were faster in some round; "" for too few rounds.

    Within a round the machine's load is the same for all, so rounds are compared one by one.
    """
    if len(speeds) < 2 or any(len(rounds.values) < ENOUGH_ROUNDS for rounds in speeds.values()):
        return ""
    best = max(speeds, key=lambda name: speeds[name].median)
    faster = [name for name in speeds if any(map(gt, speeds[name].values, speeds[best].values))]
    if not faster:
        return f"Fastest {what}: {best}, in every round."
    others = listed(faster) if len(faster) < 4 else f"{len(faster)} others"
    were = "was" if len(faster) == 1 else "were"
    return f"Fastest {what} by the median: {best}; in some rounds {others} {were} faster."
