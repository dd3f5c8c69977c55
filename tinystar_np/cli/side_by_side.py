"""Configurations side by side: columns of a table, panels of a picture, and what one sees in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import gt
from typing import Any

from tinystar_np.cli.inspect import count_of, size_of
from tinystar_np.inspection.experiments import Experiment
from tinystar_np.inspection.memory import StateSize
from tinystar_np.inspection.speed import Rounds
from tinystar_np.tracing.plots import Panel

LONG = 32768  # tokens of a long text
NOTHING = "—"
ENOUGH_ROUNDS = 3  # to say that one is faster than another


@dataclass(frozen=True)
class Quantity:
    """Something to know about a configuration.

    head    of its column, in two lines
    title   of its panel; None for no panel
    value   of a configuration; None where there is none
    words   for a value
    rounds  what the value is the median of; None for what is not measured
    mark    what stands behind the words for a configuration
    """

    head: tuple[str, str]
    title: str | None
    value: Callable[[Experiment], float | None]
    words: Callable[[Any], str]
    rounds: Callable[[Experiment], Rounds | None] = lambda one: None
    mark: Callable[[Experiment], str] = lambda one: ""

    def text(self, one: Experiment) -> str:
        """Write the value of one configuration."""
        value = self.value(one)
        return NOTHING if value is None else self.words(value) + self.mark(one)

    def spread(self, one: Experiment) -> tuple[float, float] | None:
        """Return the lowest and the highest of several rounds."""
        rounds = self.rounds(one)
        if rounds is None or len(rounds.speeds) < 2:
            return None
        return rounds.lowest, rounds.highest

    def cells(self, compared: Sequence[Experiment]) -> list[str]:
        """Write the column: numbers below each other, and behind them marks and ranges."""
        numbers = [self.text(one).removesuffix(self.mark(one)) for one in compared]
        spreads = [self.spread(one) for one in compared]
        behind = [
            f" ({self.words(spread[0])}–{self.words(spread[1])})" if spread else self.mark(one)
            for one, spread in zip(compared, spreads, strict=True)
        ]
        widths = [max(map(len, texts)) for texts in (numbers, behind)]
        return [a.rjust(widths[0]) + b.ljust(widths[1]) for a, b in zip(numbers, behind, strict=True)]


def quantities(tokens: int, new: int, measured: bool = True) -> list[Quantity]:
    """List what is compared, for a prompt of so many tokens and so many new ones, with speeds or without."""

    def kept(value: Callable[[StateSize], int]) -> Callable[[Experiment], int | None]:
        return lambda one: None if one.takes.state is None else value(one.takes.state)

    def speed(what: str, rounds: Callable[[Experiment], Rounds | None]) -> Quantity:
        def middle(one: Experiment) -> float | None:
            found = rounds(one)
            return None if found is None else found.median

        return Quantity((what, "tokens/s"), f"{what}, tokens/s", middle, speed_of, rounds)

    counted = [
        Quantity(("", "parameters"), "parameters, 4 bytes each", lambda one: one.takes.parameters, count_of),
        Quantity(("", "weights"), None, lambda one: one.takes.weight_bytes, size_of),
        Quantity(("cache/", "token"), "cache per token", kept(lambda state: state.per_token), size_of),
        Quantity(
            ("cache", f"at {LONG}"),
            f"cache at {LONG} tokens",
            kept(lambda state: state.at(LONG)),
            size_of,
            mark=lambda one: "*" if ends_early(one) else "",
        ),
        Quantity(
            ("FLOPs/", "token"),
            f"FLOPs of a token that sees {tokens}",
            lambda one: one.takes.flops[tokens],
            count_of,
        ),
    ]
    if not measured:
        return counted
    return [
        *counted,
        speed(f"prefill {tokens}", lambda one: one.speed.prefill if one.speed else None),
        speed(f"decode {new}", lambda one: one.speed.decode if one.speed else None),
    ]


def ends_early(one: Experiment) -> bool:
    """Say whether no text of LONG tokens fits, so that its cache is one on paper only."""
    takes = one.takes
    return takes.state is not None and takes.context_length is not None and takes.context_length < LONG


def speed_of(tokens_per_second: float) -> str:
    """Write a speed: whole from 100 on, three digits below."""
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 99.95 else f"{tokens_per_second:#.3g}"


def tables(compared: Sequence[Experiment], shown: Sequence[Quantity], width: int) -> list[list[str]]:
    """Write a table, as several where it is too wide: each a list of lines, the first two its head."""
    names = ["", "", *(one.name for one in compared)]
    first = max(map(len, names))
    found: list[list[str]] = []
    left = 0
    for quantity in shown:
        cells = [*quantity.head, *quantity.cells(compared)]
        column = max(map(len, cells)) + 2
        if not found or column > left:
            found.append([name.ljust(first) for name in names])
            left = width - first
        found[-1] = [line + cell.rjust(column) for line, cell in zip(found[-1], cells, strict=True)]
        left -= column
    return [[line.rstrip() for line in lines] for lines in found]


def panels(compared: Sequence[Experiment], shown: Sequence[Quantity]) -> list[Panel]:
    """Make the panels of the picture."""
    return [
        Panel(
            quantity.title,
            [quantity.value(one) for one in compared],
            [quantity.text(one) for one in compared],
            [quantity.spread(one) for one in compared],
        )
        for quantity in shown
        if quantity.title
    ]


def findings(compared: Sequence[Experiment], tokens: int) -> list[str]:
    """Say in sentences what one sees; nothing where nothing differs."""
    states = {one.name: one.takes.state for one in compared if one.takes.state is not None}
    each = {name: state.per_token for name, state in states.items()}
    whole = {name: state.at(LONG) for name, state in states.items()}
    said = [_least_and_most("Cache per token", each, size_of)]
    if _least(whole) != _least(each):
        let_go = all(whole[name] < states[name].fixed + LONG * each[name] for name in _least(whole))
        why = ": a window lets go of what came before it" if let_go else ""
        names = _in_words(_least(whole))
        said.append(f"Least at {LONG} tokens: {names}, {size_of(min(whole.values()))}{why}.")
    flops = {one.name: one.takes.flops[tokens] for one in compared}
    said.append(_least_and_most(f"FLOPs of a token that sees {tokens}", flops, count_of))
    prefill = {one.name: one.speed.prefill for one in compared if one.speed}
    decode = {one.name: one.speed.decode for one in compared if one.speed and one.speed.decode}
    said += [_fastest("prefill", prefill), _fastest("decode", decode)]
    return [sentence for sentence in said if sentence]


def _least_and_most(what: str, values: Mapping[str, int], words: Callable[[int], str]) -> str:
    if len(set(values.values())) < 2:
        return ""
    least, most = min(values.values()), max(values.values())
    times = f", {most / least:.3g} times as much" if least else ""
    return (
        f"{what}: least {_in_words(_least(values))}, {words(least)}; "
        f"most {_in_words([name for name in values if values[name] == most])}, {words(most)}{times}."
    )


def _least(values: Mapping[str, int]) -> list[str]:
    return [name for name in values if values[name] == min(values.values())]


def _fastest(what: str, speeds: Mapping[str, Rounds]) -> str:
    """Name the fastest by the median, and those that were faster in some round.

    Models that take turns meet the same machine within a round, so rounds are compared one by one.
    """
    if len(speeds) < 2 or any(len(rounds.speeds) < ENOUGH_ROUNDS for rounds in speeds.values()):
        return ""
    best = max(speeds, key=lambda name: speeds[name].median)
    faster = [name for name in speeds if any(map(gt, speeds[name].speeds, speeds[best].speeds))]
    if not faster:
        return f"Fastest {what}: {best}, in every round."
    others = _in_words(faster) if len(faster) < 4 else f"{len(faster)} others"
    were = "was" if len(faster) == 1 else "were"
    return f"Fastest {what} by the median: {best}; in some rounds {others} {were} faster."


def _in_words(names: Sequence[str]) -> str:
    """Write a list: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
