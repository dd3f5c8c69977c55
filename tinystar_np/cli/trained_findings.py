"""What the trained designs show, in words: every name and number is computed from the results.

A difference counts where it is larger than the noise, the largest difference between trainings of one design
with other seeds.
"""

from collections.abc import Sequence

from tinystar_np.cli.side_by_side import fastest
from tinystar_np.cli.trained_table import LONG, Compared, percent, trained_from
from tinystar_np.cli.wording import count_of, listed, size_of
from tinystar_np.inspection.trained import Associative, Design, Training, spread

SOLVED = 0.95  # share of right answers
BETTER = 0.05  # more right answers than guessing gets, of all: less may be chance


def findings(compared: Sequence[Compared], training: Training) -> list[str]:
    """Return sentences on what differs, and by how much."""
    speeds = {one.name: one.speed for one in compared if one.speed}
    said = [
        noise(training),
        against_the_repeated(compared, training),
        cache(compared, training),
        recall(compared, training),
        *(associative_recall(compared, training, kind) for kind in training.kinds),
        fastest("prefill", {name: speed.prefill for name, speed in speeds.items()}),
        fastest("decode", {name: speed.decode for name, speed in speeds.items() if speed.decode}),
    ]
    return list(filter(None, said))


def noise(training: Training) -> str:
    """Say how much seeds alone change the loss."""
    runs = training.repeated.runs
    return (
        f"Noise: {training.repeated.name} with seeds {listed([str(run.seed) for run in runs])} has "
        f"{listed([f'{run.mean:.3f}' for run in runs])} nats per byte, means of {len(training.texts)} texts. "
        f"They differ by up to {training.noise():.4f}: smaller differences between designs say nothing."
    )


def against_the_repeated(compared: Sequence[Compared], training: Training) -> str:
    """Divide designs into those that are worse or better than the repeated one, and those not told apart."""
    base, limit = training.repeated, training.noise()
    others = [one.design for one in compared if one.name != base.name]
    if not others:
        return ""
    differences = {design.name: more(design, base) for design in others}
    order = sorted(others, key=lambda design: -differences[design.name])
    worse = [design for design in order if differences[design.name] > limit]
    better = [design for design in reversed(order) if differences[design.name] < -limit]
    same = [design for design in order if abs(differences[design.name]) <= limit]
    said = [f"Worse than {base.name} by more than the noise: {with_evidence(worse, training)}."]
    said.append(f"Better by more: {with_evidence(better, training)}.")
    if same:
        each = [f"{design.name} {signed(differences[design.name])}" for design in same]
        said.append(f"Not told apart from it: {listed(each)}.")
    return " ".join(said)


def more(design: Design, base: Design, text: str | None = None) -> float:
    """Return by how much a design's loss is greater."""
    return design.losses(text).median - base.losses(text).median


def with_evidence(designs: Sequence[Design], training: Training) -> str:
    """List designs, each with its difference, in noises too, and on how many texts it is as large."""
    base, said = training.repeated, []
    for design in designs:
        difference = more(design, base)
        texts = [more(design, base, text) * (1 if difference > 0 else -1) for text in training.texts]
        beyond = [each > training.noise(text) for each, text in zip(texts, training.texts, strict=True)]
        said.append(
            f"{design.name} {signed(difference)} ({times_of(difference, training)}, on {sum(beyond)} of "
            f"{len(beyond)} texts)"
        )
    return listed(said) if said else "none"


def cache(compared: Sequence[Compared], training: Training) -> str:
    """Say what the design of the least loss pays for its cache, and what designs with less lose."""
    best = min(compared, key=lambda one: one.design.losses().median)
    least = best.design.losses().median
    smaller = [one for one in compared if one.cache(LONG) < best.cache(LONG)]
    alike, worse = [], []
    for one in sorted(smaller, key=lambda one: one.cache(LONG)):
        difference = one.design.losses().median - least
        size = f"{one.name} {size_of(one.cache(LONG))}"
        if difference > training.noise():
            worse.append(f"{size} ({signed(difference)}, {times_of(difference, training)})")
        else:
            alike.append(f"{size} (1/{best.cache(LONG) / one.cache(LONG):.3g} of it)")
    said = [
        f"Least loss: {best.name}, {least:.3f}, with a cache of {size_of(best.cache(LONG))} at {LONG} tokens."
    ]
    if alike:
        said.append(f"With a smaller one, and within the noise of it: {listed(alike)}.")
    if worse:
        said.append(f"With a smaller one, and worse by more than the noise: {listed(worse)}.")
    return " ".join(said)


def recall(compared: Sequence[Compared], training: Training) -> str:
    """Say what copies save near and far, and where windows end that."""
    said = []
    for distance in (training.distances[0], training.distances[-1]):
        saved = {one.name: one.design.saved(distance).median for one in compared}
        low, high = min(saved, key=saved.__getitem__), max(saved, key=saved.__getitem__)
        values = f"from {saved[low]:.3f} ({low}) to {saved[high]:.3f} ({high})"
        said.append(f"{distance} tokens before saves {values if len(saved) > 1 else f'{saved[low]:.3f}'}")
    whole = [f"A copy of a text {said[0]} nats per token, one {said[1]}."]
    for one in compared:
        window = one.design.config.window_size
        gone = no_more_from(one.design, training)
        if window is not None and gone is not None:
            whole.append(
                f"{one.name}, whose layers attend to {window} tokens, saves no more than the noise "
                f"from {gone} tokens on."
            )
    return " ".join(whole)


def no_more_from(design: Design, training: Training) -> int | None:
    """Return the distance from which on a copy saves no more than seeds differ by; None if it always does."""
    gone = None
    for distance in reversed(training.distances):
        if design.saved(distance).median > spread(training.repeated.saved(distance)):
            return gone
        gone = distance
    return gone


def associative_recall(compared: Sequence[Compared], training: Training, kind: str) -> str:
    """Say which designs solved associative recall, and which did no better than guessing."""
    models = {one.name: one.design.associative[kind] for one in compared}
    solved, partly, no_better, too_short = [], [], [], []
    for name, model in models.items():
        pairs = sorted(model.right)
        upto = solved_up_to(model)
        if upto == pairs[-1]:
            solved.append(name)
        elif upto is not None:
            rest = [f"{percent(model.right[n])} % of {n}" for n in pairs if n > upto]
            partly.append(f"{name} up to {upto} pairs ({listed(rest)})")
        elif any(model.right[n] > training.guessed(n) + BETTER for n in pairs):
            ends = [f"{percent(model.right[n])} % of {n}" for n in (pairs[0], pairs[-1])]
            partly.append(f"{name} in part ({' to '.join(ends)} pairs)")
        else:
            no_better.append(name)
        if model.reach is not None and model.reach < training.row_length:
            too_short.append(f"{name} reaches {model.reach} tokens back in rows of {training.row_length}")
    first = next(iter(models.values()))
    few, many = min(first.right), max(first.right)
    said = [
        f"{100 * SOLVED:.0f} % or more right with up to {many} pairs: {listed(solved)}." if solved else "",
        f"Less: {listed(partly)}." if partly else "",
    ]
    if no_better:
        ends = [f"{percent(training.guessed(n))} % of {n}" for n in (few, many)]
        guesses = f"{ends[0]} pairs, {ends[1]}"
        names = "all of them" if len(no_better) == len(models) > 1 else listed(no_better)
        said.append(f"No better than naming the commonest value of the row ({guesses}): {names}.")
    said += [f"{each}." for each in too_short]
    begin = f"Associative recall, {trained_from(kind, first)}, one seed."
    return " ".join(
        filter(None, [begin, *said, "This is what was learnt by then, not what a design can hold."])
    )


def solved_up_to(model: Associative) -> int | None:
    """Return the most pairs up to which almost all answers are right."""
    upto = None
    for pairs in sorted(model.right):
        if model.right[pairs] < SOLVED:
            break
        upto = pairs
    return upto


def limits(compared: Sequence[Compared], training: Training) -> list[str]:
    """Return sentences on what the numbers do not show."""
    runs = [run for one in compared for run in one.design.runs]
    steps, epochs = listed(sorted({f"{run.steps:,}" for run in runs})), max(run.epochs for run in runs)
    once = [one.name for one in compared if len(one.design.runs) == 1]
    several = f"{training.repeated.name} was trained {len(training.repeated.runs)} times"
    counted = f"{several}, {'the others' if len(once) > 1 else once[0]} once" if once else several
    cautions = ["the noise itself is known roughly"]
    if len(once) > 1:
        cautions.append(
            "between two that were trained once a difference of less than twice the noise may still be chance"
        )
    said = [
        f"One run, on {training.device}: {steps} steps a design, {epochs:.1f} times through the text, "
        f"windows of {training.context} tokens. {counted}: "
        f"{', and '.join(cautions)}."
    ]
    falls = [run.last_fall for run in runs]
    before, last = list(runs[0].looks)[-2:]
    between = f"between steps {before:,} and {last:,}"
    if min(falls) > 0:
        by = " to ".join(dict.fromkeys((f"{min(falls):.3f}", f"{max(falls):.3f}")))
        all_losses = "All losses were" if len(falls) > 1 else "The loss was"
        said.append(
            f"{all_losses} still falling: {between} by {by} nats per byte. "
            "More steps, another size or other text may order the designs otherwise."
        )
    else:
        said.append(f"{sum(fall <= 0 for fall in falls)} of {len(falls)} losses no longer fell {between}.")
    sizes = {one.name: one.takes.parameters for one in compared}
    low, high = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[low] != sizes[high]:
        said.append(
            f"They differ in size too, from {count_of(sizes[low])} parameters ({low}) to "
            f"{count_of(sizes[high])} ({high}): a part of a difference may be that."
        )
    return said


def signed(difference: float) -> str:
    """Write a difference with its sign."""
    return f"{difference:+.4f}".replace("-", "−")


def times_of(difference: float, training: Training) -> str:
    """Write a difference as a multiple of the noise."""
    return f"{abs(difference) / training.noise():.2g} times the noise"
