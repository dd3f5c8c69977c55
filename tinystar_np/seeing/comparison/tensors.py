"""The tensors of two models that differ, and how: by its kind, or as another tensor of the same model."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.kernels.linear import Matrix, unpacked
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.seeing.comparison.orders import root_mean_square
from tinystar_np.seeing.comparison.sides import Side, heads_of
from tinystar_np.seeing.comparison.tensor_kinds import tensor_kind

NUMBERS = 1 << 20  # compared together
NAMED = 2  # of several that differ alike
MEASURED = ("close", "other numbers", "each ")
EXCHANGED = "exchanged with "
LAYER = re.compile(r"^blocks\.(\d+)\.")


@dataclass(frozen=True)
class TensorDifference:
    """A tensor that differs.

    name      our name of it
    theirs    its name in A's files
    kind      how B's can be made from A's, in words
    relative  root mean square of the difference, as a share of A's; infinity where shapes differ
    """

    name: str
    theirs: str
    kind: str
    relative: float

    @property
    def family(self) -> str:
        """The kind without its numbers, where they are measured: so differ tensors alike."""
        return re.sub(r"[-\d.]+(e[-+]\d+)?", "…", self.kind) if self.kind.startswith(MEASURED) else self.kind


def differing_tensors(a: Side, b: Side, names: Sequence[str]) -> Iterator[TensorDifference]:
    """Yield the tensors that differ, each with how."""
    differing = [name for name in names if not same_numbers(a.weights[name], b.weights[name])]
    twins = dict(_twins(a, b, differing))
    for name in differing:
        ours, theirs = a.tensor(name), b.tensor(name)
        if name in twins:
            kind = _twin_in_words(name, twins)
        else:
            rows, columns = (*ours.shape, 1, 1)[:2]
            axes = heads_of(name, rows, columns, a.config.sizes)
            kind = tensor_kind(ours, theirs, (axes[0], axes[1]))
        apart = float("inf")
        if ours.shape == theirs.shape:
            apart = root_mean_square(ours - theirs) / (root_mean_square(ours) or 1)
        yield TensorDifference(name, a.names[name], kind, apart)


def same_numbers(a: Matrix, b: Matrix) -> bool:
    """Say whether two arrays or matrices hold the same numbers, NaN in the same places included."""
    if tuple(a.shape) != tuple(b.shape):
        return False
    if isinstance(a, PackedMatrix) and isinstance(b, PackedMatrix) and type(a) is type(b):
        mine, other = vars(a), vars(b)
        arrays = [name for name, value in mine.items() if isinstance(value, np.ndarray)]
        if all(isinstance(other.get(name), np.ndarray) for name in arrays):
            rest = [name for name in mine if name not in arrays]
            if all(mine[name] == other.get(name) for name in rest) and all(
                _same_arrays(mine[name], other[name]) for name in arrays
            ):
                return True
    return _same_arrays(unpacked(a), unpacked(b))


def _same_arrays(a: NDArray, b: NDArray) -> bool:
    if a.shape != b.shape:
        return False
    if a.ndim > 1 and not a.flags.c_contiguous:
        a, b = a.T, b.T  # as they lie in memory
    if not (a.flags.c_contiguous and b.flags.c_contiguous and a.dtype == b.dtype and a.itemsize == 4):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for start in range(0, a.size, NUMBERS):
        some = slice(start, start + NUMBERS)
        if np.array_equal(flat_a[some].view(np.int32), flat_b[some].view(np.int32)):
            continue
        # 0 and −0 are equal, and NaN is the same wherever it came from.
        if not np.array_equal(flat_a[some], flat_b[some], equal_nan=a.dtype.kind == "f"):
            return False
    return True


def _twins(a: Side, b: Side, differing: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Find for each differing tensor of B one of A that it equals: (its name, that one's)."""
    if not differing:
        return
    by_sample: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for name in a.weights:
        by_sample[a.sample(name)].append(name)
    for name in differing:
        for other in by_sample.get(b.sample(name), []):
            if same_numbers(a.weights[other], b.weights[name]) and b.weights[name].shape != (1,):
                if np.ptp(unpacked(b.weights[name])) > 0:  # many are all 0, or all 1
                    yield name, other
                break


def _twin_in_words(name: str, twins: Mapping[str, str]) -> str:
    other = twins[name]
    if twins.get(other) == name:
        return f"{EXCHANGED}{other}"
    mine, its = LAYER.match(name), LAYER.match(other)
    if mine and its and LAYER.sub("", name) == LAYER.sub("", other):
        by = int(its[1]) - int(mine[1])
        layers = "layer" if abs(by) == 1 else "layers"
        return f"that of {abs(by)} {layers} {'later' if by > 0 else 'earlier'} in A"
    return f"{other} of A"


def grouped(tensors: Sequence[TensorDifference]) -> list[tuple[str, str]]:
    """Put those of several layers that differ alike together: (names, kind)."""
    groups: dict[tuple[str, str], list[TensorDifference]] = defaultdict(list)
    for each in tensors:
        groups[LAYER.sub("blocks.{i}.", each.name), each.family].append(each)
    lines = []
    there = {each.name for each in tensors}
    for (template, kind), its in groups.items():
        pair = kind.removeprefix(EXCHANGED)
        if pair != kind and pair in there and pair < its[0].name:
            continue  # said of the other
        if len(its) == 1:
            lines.append((f"{its[0].name} ({one_line(its[0].theirs)})", its[0].kind))
            continue
        layers = [int(found[1]) for each in its if (found := LAYER.match(each.name))]
        where = template.replace("{i}", _runs(layers))
        largest = max(its, key=lambda each: each.relative)
        lines.append((f"{where} ({len(its)} tensors)", largest.kind))
    return lines


def in_words(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Say what ``grouped`` found: "names: kind", with those of the same kind together."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for where, kind in lines:
        kinds[kind].append(where)
    said = []
    for kind, its in kinds.items():
        more = f" and {len(its) - NAMED} more" if len(its) > NAMED else ""
        said.append(f"{', '.join(its[:NAMED])}{more}: {kind}")
    return said


def _runs(numbers: Sequence[int]) -> str:
    """Write runs of numbers in braces: "{0–3,7}"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return "{" + ",".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) + "}"
