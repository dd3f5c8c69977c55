"""How fast a model runs on this machine, and how fast the machine lets it.

To generate a token every weight is read once, and little is done with each: memory sets the limit.

    tokens/s  ≤  bytes read per second / bytes of weights per token

This is the sloping part of the roofline of Williams, Waterman & Patterson 2009 (doi:10.1145/1498765.1498785).
How fast memory can be read is measured where it counts, in bare products of a vector with matrices far larger
than the caches, and in turn with the model: on a shared machine it changes from minute to minute. Reading a
prompt, and many texts at once, use each weight many times; there arithmetic is the limit.

Several engines take turns as well. A ratio compares the turns of one round, which met the same machine.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from statistics import median
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.inspection.flops import multiply_adds
from tinystar_np.inspection.memory import peak_memory
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.models.decoder import Decoder

ENOUGH_SECONDS = 10.0  # a task that has taken so long gets no further turn
BARE = (8, 4096)  # matrices of so many rows and columns: 0.5 GB
PASSES = 5  # over all of them, in one turn
SHORT = 16  # tokens of a prompt that warms up
WARM_UP = 4  # tokens generated in the round before the first, which does not count


@dataclass(frozen=True)
class Rounds:
    """One speed, measured in several rounds: tokens per second in each."""

    speeds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.speeds)

    @property
    def lowest(self) -> float:
        """The slowest round."""
        return min(self.speeds)

    @property
    def highest(self) -> float:
        """The fastest round."""
        return max(self.speeds)


class Task(NamedTuple):
    """What is done in one turn: read prompts, and go on with the likeliest token of each.

    rows    B, prompts at once
    tokens  length of each
    new     tokens generated after it; 0 where the prompts are all
    """

    rows: int
    tokens: int
    new: int


class Engine(Protocol):
    """Somebody who runs a model."""

    name: str

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        """Read prompts (B, T), then call the model ``new`` times for the next token: seconds of both."""

    def peak(self) -> int:
        """Return the most bytes its process has had in memory."""


class TinyStarEngine:
    """This package."""

    name = "tinystar_np"

    def __init__(self, model: Decoder) -> None:
        self.model = model

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        """Read prompts (B, T), then call the model ``new`` times for the next token: seconds of both."""
        start = time.perf_counter()
        cache = self.model.new_cache(len(ids), capacity=len(ids[0]) + new)
        tokens = self.model(ids, cache=cache, last_only=True)[:, -1].argmax(axis=-1)
        read = time.perf_counter()
        for _ in range(new):
            tokens = self.model(tokens[:, None], cache=cache, last_only=True)[:, -1].argmax(axis=-1)
        return read - start, time.perf_counter() - read

    def peak(self) -> int:
        """Return the most bytes this process has had in memory, mapped weights included."""
        return peak_memory()


@dataclass
class Found:
    """What was measured.

    speeds     {task: tokens/s of each engine, round by round}: of reading where it generates nothing
    bandwidth  bytes of matrices per second in bare products, round by round
    peaks      bytes, of each engine
    """

    speeds: dict[Task, list[list[float]]]
    bandwidth: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    def speed(self, task: Task, engine: int) -> Rounds:
        """Return the speed of one engine."""
        return Rounds(tuple(self.speeds[task][engine]))

    def ratio(self, task: Task) -> Rounds:
        """Divide the first engine's speed by the second's, within each round."""
        first, second = self.speeds[task]
        return Rounds(tuple(a / b for a, b in zip(first, second, strict=True)))

    @property
    def limit(self) -> Rounds:
        """The bandwidth."""
        return Rounds(tuple(self.bandwidth))

    def share(self, task: Task, bytes_per_token: float) -> Rounds:
        """Say what share of the bandwidth the first engine reaches, where a turn generates one text."""
        rounds = zip(self.speeds[task][0], self.bandwidth, strict=False)
        return Rounds(tuple(speed * bytes_per_token / limit for speed, limit in rounds))


def measure(
    engines: Sequence[Engine],
    tasks: Sequence[Task],
    vocabulary: int,
    rounds: int,
    say: Callable[[str], None] = lambda words: None,
) -> Found:
    """Measure engines in turn, and bare products after the last task of each round.

    engines     those who take turns
    tasks       what each does in every round
    vocabulary  V; prompts are random tokens of it
    rounds      how often; fewer for a task that takes long
    say         is told what is going on
    """
    found = Found({task: [[] for _ in engines] for task in tasks})
    random = np.random.default_rng(0)
    for task in tasks:
        say(f"warming up: {in_words(task)}")
        prompts = random.integers(vocabulary, size=(task.rows, min(task.tokens, SHORT)))
        for engine in engines:
            engine.turn(prompts.tolist(), min(task.new, WARM_UP))
    matrices: list[NDArray[np.float32]] = []
    spent = dict.fromkeys(tasks, 0.0)
    for turn in range(rounds):
        for task in tasks:
            if spent[task] > ENOUGH_SECONDS:
                continue
            prompts = random.integers(vocabulary, size=(task.rows, task.tokens))
            for engine, speeds in zip(engines, found.speeds[task], strict=True):
                say(f"round {turn + 1} of {rounds}, {engine.name}: {in_words(task)}")
                reading, writing = engine.turn(prompts.tolist(), task.new)
                speeds.append(task.rows * (task.new / writing if task.new else task.tokens / reading))
                spent[task] += (reading + writing) / len(engines)
        if not matrices:  # until they are made, they are not on the model's account
            found.peaks = [engine.peak() for engine in engines]
            matrices = bare_matrices()
        say(f"round {turn + 1} of {rounds}: bare products")
        found.bandwidth.append(bandwidth(matrices))
    return found


def in_words(task: Task) -> str:
    """Name a task."""
    if not task.new:
        return f"prefill {task.tokens}"
    return "decode" if task.rows == 1 else f"decode, {task.rows} at once"


def bare_matrices(size: tuple[int, int] | None = None) -> list[NDArray[np.float32]]:
    """Make the matrices that ``bandwidth`` reads.

    size  how many, and their rows and columns; None for ``BARE``
    """
    count, width = size or BARE
    return [np.ones((width, width), np.float32) for _ in range(count)]


def bandwidth(matrices: Sequence[NDArray[np.float32]]) -> float:
    """Multiply a vector by matrices, several times: bytes per second, by the median time."""
    products = [Product(1, matrix) for matrix in matrices]
    seconds = median(bare_seconds(products) for _ in range(PASSES))
    return sum(matrix.nbytes for matrix in matrices) / seconds


class Product(NamedTuple):
    """Vectors multiplied by a weight matrix.

    rows    T, how many vectors
    matrix  (in, out), as the model has it
    """

    rows: int
    matrix: NDArray[np.float32] | PackedMatrix


def bare_seconds(products: Sequence[Product]) -> float:
    """Multiply vectors by each matrix and do nothing else: float32 by NumPy alone, narrow types by theirs."""
    sizes = {(rows, matrix.shape[0]) for rows, matrix in products}
    vectors = {size: np.ones(size, np.float32) for size in sizes}
    start = time.perf_counter()
    for rows, matrix in products:
        x = vectors[rows, matrix.shape[0]]
        if isinstance(matrix, np.ndarray):
            x @ matrix
        else:
            fast.matmul(x, matrix)
    return time.perf_counter() - start


def weight_type(model: Decoder) -> str:
    """Say what the weight matrices are kept in: "float32", "bfloat16" or "int8"."""
    for array in model.weights.values():
        if not isinstance(array, np.ndarray):
            return "int8" if array.stored.dtype == np.int8 else "bfloat16"
    return "float32"


def bytes_per_token(model: Decoder) -> float:
    """Count the bytes of weights that one token is multiplied by: of experts the chosen, of tables none."""
    matrices = [array for array in model.weights.values() if len(array.shape) == 2]
    per_weight = sum(array.nbytes for array in matrices) / sum(prod(array.shape) for array in matrices)
    return multiply_adds(model, 0) * per_weight
