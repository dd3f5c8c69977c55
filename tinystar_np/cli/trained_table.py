"""``tinystar experiments --trained``: the table, in parts, and the same numbers for programs."""

from collections.abc import Sequence
from dataclasses import dataclass

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.cli.wording import count_of, size_of, speed_of
from tinystar_np.inspection.experiments import Speed, Takes
from tinystar_np.inspection.speed import Rounds
from tinystar_np.inspection.trained import Associative, Design, Training, spread

SHORT, LONG = 512, 8192  # tokens of the texts whose caches are compared
NOTHING = "—"
CALLED = {
    "unseen_novel": "unseen novel",
    "tinystories": "TinyStories",
    "shakespeare": "Shakespeare",
    "wikitext": "WikiText",
}


@dataclass(frozen=True)
class Compared:
    """A trained design, its cost, and its speed here, which is None where it was not measured."""

    design: Design
    takes: Takes
    speed: Speed | None

    @property
    def name(self) -> str:
        """The design's name."""
        return self.design.name

    def cache(self, tokens: int) -> int:
        """Return the bytes of the cache of a text of this length."""
        assert self.takes.state is not None  # the designs all generate
        return self.takes.state.at(tokens)

    @property
    def ends_early(self) -> bool:
        """Whether a long text is too long for the model, so that its cache is only hypothetical."""
        most = self.takes.context_length
        return most is not None and most < LONG


@dataclass(frozen=True)
class Part:
    """A part of the table.

    title  what the numbers are
    head   of each column
    rows   of cells; the first is what the row is of
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def parts(compared: Sequence[Compared], training: Training, tokens: int, new: int) -> list[Part]:
    """Make the parts of the table."""
    found = [costs(compared, tokens), losses(compared, training), recall(compared, training)]
    found += [associative_recall(compared, training, kind) for kind in training.kinds]
    if all(one.speed for one in compared):
        found.append(speeds(compared, tokens, new))
    return found


def costs(compared: Sequence[Compared], tokens: int) -> Part:
    """Parameters, FLOPs and bytes of the cache."""
    head = ["", "parameters", "FLOPs per token", "cache per token", f"cache at {SHORT}", f"cache at {LONG}"]
    rows = [
        [
            one.name,
            count_of(one.takes.parameters),
            count_of(one.takes.flops[tokens]),
            size_of(one.cache(1)),
            size_of(one.cache(SHORT)),
            size_of(one.cache(LONG)) + "*" * one.ends_early,
        ]
        for one in compared
    ]
    return Part(f"Cost: caches in float32, FLOPs of a token that attends to {tokens}", head, rows)


def losses(compared: Sequence[Compared], training: Training) -> Part:
    """Nats per byte of each text, and their mean; the last row is the noise."""
    columns = [None, *training.texts]
    rows = [[one.name, *(f"{one.design.losses(text).median:.3f}" for text in columns)] for one in compared]
    rows.append(["between seeds", *(f"{training.noise(text):.3f}" for text in columns)])
    head = ["", "mean", *(called(text) for text in training.texts)]
    several = f"{training.repeated.name}: median of {len(training.repeated.runs)} seeds"
    return Part(f"Quality: nats per byte of held-out text, less is better ({several})", head, rows)


def recall(compared: Sequence[Compared], training: Training) -> Part:
    """What a copy of a span saves, by its distance; the last row is the noise."""
    distances = training.distances
    rows = [[one.name, *(f"{one.design.saved(each).median:.3f}" for each in distances)] for one in compared]
    noise = [spread(training.repeated.saved(each)) for each in distances]
    rows.append(["between seeds", *(f"{each:.3f}" for each in noise)])
    title = "Recall: nats per token that a copy of the text saves, so many tokens before; more is better"
    return Part(title, ["", *map(str, distances)], rows)


def associative_recall(compared: Sequence[Compared], training: Training, kind: str) -> Part:
    """The share of right answers, by the number of pairs; the last row is what guessing gets."""
    first = compared[0].design.associative[kind]
    pairs = sorted(first.right)
    rows = [[one.name, *(percent(one.design.associative[kind].right[n]) for n in pairs)] for one in compared]
    rows.append(["guessing", *(percent(training.guessed(n)) for n in pairs)])
    title = f"Associative recall, {trained_from(kind, first)}: % right, by the number of pairs"
    return Part(title, ["", *map(str, pairs)], rows)


def speeds(compared: Sequence[Compared], tokens: int, new: int) -> Part:
    """Tokens per second, measured."""
    rows = [
        [one.name, one.speed.prefill.text(speed_of), one.speed.decode.text(speed_of)]
        for one in compared
        if one.speed and one.speed.decode
    ]
    head = ["", f"prefill {tokens}", f"decode {new}"]
    return Part("Speed here, with random weights: tokens/s", head, rows)


def trained_from(kind: str, model: Associative) -> str:
    """Say what was trained: the models themselves, or small ones from random weights."""
    if kind == "tuned":
        return f"the trained models after {model.steps} more steps"
    return f"new models of {model.layers} layers after {model.steps} steps"


def called(text: str) -> str:
    """Return the name of a text as people write it."""
    return CALLED.get(text, text)


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.1f}"


def facts(one: Compared, training: Training) -> JsonObject:
    """Return everything about one design, for programs."""
    design, takes, speed = one.design, one.takes, one.speed
    return {
        "name": one.name,
        "parameters": takes.parameters,
        "context_length": takes.context_length,
        "cache_bytes": {"per_token": one.cache(1), "at": {n: one.cache(n) for n in (SHORT, LONG)}},
        "flops_per_token": takes.flops,
        "seeds": [run.seed for run in design.runs],
        "nats_per_byte": {
            "mean": several(design.losses()),
            **{text: several(design.losses(text)) for text in training.texts},
        },
        "saved_by_a_copy": {distance: several(design.saved(distance)) for distance in training.distances},
        "associative_recall": {kind: found.right for kind, found in design.associative.items()},
        "prefill_tokens_per_second": speed and speed.prefill.facts(),
        "decode_tokens_per_second": speed and speed.decode and speed.decode.facts(),
        "config": design.config.to_dict(),
    }


def several(values: Rounds) -> JsonObject:
    """Return the median and all values, one for each seed."""
    return {"median": values.median, "by_seed": values.values}
