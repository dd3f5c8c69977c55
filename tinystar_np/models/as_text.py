"""A model in one line, and as a picture for notebooks: how many weights are in which part, and what it is."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from math import prod

from tinystar_np.amounts import count_of, counted
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.module import element_type
from tinystar_np.models.divided import BlocksElsewhere

BOX = "display: inline-block; vertical-align: middle; height: 0.8em"
COLOURS = {"embedding": "#7aa6c2", "blocks": "#c8a35f", "head": "#8fb081"}


def one_line_of(name: str, layers: int, width: int, weights: Mapping[str, Matrix]) -> str:
    """Write a model in one line: "GPT2(6 layers, 192 wide, 3.16 M parameters, float32)"."""
    parameters = count_of(_parameters(weights.values()))
    kind = commonest_type(weights.values())
    return f"{name}({counted(layers, 'layer')}, {width} wide, {parameters} parameters, {kind})"


def commonest_type(weights: Iterable[Matrix]) -> str:
    """Return the type that most weights of matrices are kept in: "float32", "int8", "Q4_K"."""
    numbers: Counter[str] = Counter()
    for array in weights:
        if len(array.shape) > 1:
            numbers[element_type(array)] += prod(array.shape)
    return numbers.most_common(1)[0][0] if numbers else "float32"


def picture_of(title: str, parts: Mapping[str, object], weights: Mapping[str, Matrix]) -> str:
    """Return a model as HTML: a bar for each part as long as its share of the weights, and its text to open.

    title    of the picture
    parts    {name: part} in the order of the computation, "blocks" a sequence of them
    weights  {our name: array}
    """
    whole = max(_parameters(weights.values()), 1)
    rows = []
    for name, label, part in _rows(parts):
        own = [array for path, array in weights.items() if path.startswith(tuple(f"{n}." for n in name))]
        count = _parameters(own)
        colour = COLOURS.get(name[0].split(".")[0], "#999999")
        bar = f'<span style="{BOX}; width: {20 * count / whole:.3f}em; background: {colour}"></span>'
        share = f"{count_of(count)}, {count / whole:.1%}" if count else "the embedding's weights"
        words = f"{escape(label)} {bar} {share}"
        rows.append(f"<details><summary>{words}</summary><pre>{escape(repr(part))}</pre></details>")
    return f"<div><b>{escape(title)}</b>{''.join(rows)}</div>"


def _rows(parts: Mapping[str, object]) -> Iterator[tuple[list[str], str, object]]:
    """Yield the names of weights, the label and the part of each row; neighbouring blocks alike are one."""
    for name, part in parts.items():
        if not isinstance(part, Sequence):
            yield [name], name, part
            continue
        for _, run in groupby(enumerate(part), key=lambda each: repr(each[1])):
            alike = list(run)
            # What stands for the blocks of other processes is the last of all.
            numbers = [
                n for i, each in alike for n in (each.layers if isinstance(each, BlocksElsewhere) else (i,))
            ]
            first, last = numbers[0], numbers[-1]
            label = f"{name}[{first}]" if first == last else f"{name}[{first}] … [{last}]"
            yield [f"{name}.{i}" for i in numbers], label, alike[0][1]


def _parameters(weights: Iterable[Matrix]) -> int:
    return sum(prod(array.shape) for array in weights)
