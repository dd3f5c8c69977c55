"""The speed of models on this machine, and the limits that the machine sets.

A machine does other things meanwhile, so engines are measured alternately, round after round (``by_turns``):
what slows one of them for a minute slows all. The result is the median of the rounds, and their range; ratios
are computed within each round.

To generate a token every weight is read once, and little is computed with each: memory sets the limit.

    tokens/s  ≤  bytes read per second / bytes of weights per token

This is the sloping part of the roofline of Williams, Waterman & Patterson 2009 (doi:10.1145/1498765.1498785).
The speed of memory is measured by bare products of a vector with matrices far larger than the caches. A
prompt, or many texts at once, use each weight many times; there arithmetic is the limit.
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from operator import truediv
from statistics import median
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD
from tinystar_np.inspection.engines import Engine
from tinystar_np.inspection.memory import share_of_experts
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.coded_matrix import CodedMatrix
from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.matrix_in_turns import MatrixInTurns
from tinystar_np.kernels.packed import Int8Matrix, PackedMatrix
from tinystar_np.models.base import Decoder
from tinystar_np.models.part_weights import is_hollow

BARE = (8, 4096)  # matrices of so many rows and columns: 0.5 GB
PASSES = 5  # over all of them, in one turn
SHORT = 16  # tokens of a prompt that warms up
WARM_UP = 4  # tokens generated before the first round, which do not count

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")
Say = Callable[[str], None]
Seconds = tuple[float, float]
"""Seconds of reading prompts, and of generating after them."""


@dataclass(frozen=True)
class Rounds:
    """One quantity, measured in several rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def lowest(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def highest(self) -> float:
        """The largest."""
        return max(self.values)

    def over(self, others: "Rounds") -> "Rounds":
        """Divide by another quantity, round by round, since the machine's load was the same for both."""
        return Rounds(tuple(map(truediv, self.values, others.values)))

    def facts(self) -> dict[str, float | Sequence[float]]:
        """Return the same for programs."""
        middle = {"median": self.median, "lowest": self.lowest, "highest": self.highest}
        return {**middle, "rounds": self.values}

    def text(self, words: Callable[[float], str]) -> str:
        """Write the median, and of several rounds the range: "102 (98–110)"."""
        if len(self.values) < 2:
            return words(self.median)
        return f"{words(self.median)} ({words(self.lowest)}–{words(self.highest)})"


def by_turns(
    sides: Mapping[Key, Sequence[Callable[[], Found]]],
    rounds: int,
    say: Say = lambda words: None,
    enough: float = inf,
) -> dict[Key, list[list[Found]]]:
    """Call functions alternately, round after round: {what: for each of its functions, the results}.

    sides   {what is measured: functions, each of which is called once a round}
    rounds  how often
    say     called with progress messages
    enough  seconds after which a measurement gets no further rounds
    """
    found: dict[Key, list[list[Found]]] = {what: [[] for _ in turns] for what, turns in sides.items()}
    spent = dict.fromkeys(sides, 0.0)
    for i in range(rounds):
        for what, turns in sides.items():
            if spent[what] > enough:
                continue
            say(f"round {i + 1} of {rounds}: {what}")
            start = time.perf_counter()
            for turn, values in zip(turns, found[what], strict=True):
                values.append(turn())
            spent[what] += (time.perf_counter() - start) / len(turns)
    return found


class Task(NamedTuple):
    """The work of an engine in one turn: read prompts, and generate greedily after each.

    rows    B, prompts at once
    tokens  length of each
    new     tokens generated after it; 0 for none
    """

    rows: int
    tokens: int
    new: int

    def __str__(self) -> str:
        if not self.new:
            return f"prefill {self.tokens}"
        return "decode" if self.rows == 1 else f"decode, {self.rows} at once"

    def turns(self, engines: Sequence[Engine], vocabulary: int) -> list[Callable[[], Seconds]]:
        """Warm up each engine, and return its turn as a function: in each round the same new prompts."""

        def turn_of(engine: Engine) -> Callable[[], Seconds]:
            random = np.random.default_rng(0)

            def prompts(tokens: int) -> list[list[int]]:
                return random.integers(vocabulary, size=(self.rows, tokens)).tolist()

            engine.turn(prompts(min(self.tokens, SHORT)), min(self.new, WARM_UP))
            return lambda: engine.turn(prompts(self.tokens), self.new)

        return [turn_of(engine) for engine in engines]

    def speed(self, seconds: Seconds) -> float:
        """Return the tokens/s of a turn: of generating, or of reading if nothing is generated."""
        reading, writing = seconds
        return self.rows * (self.new / writing if self.new else self.tokens / reading)


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
    """Multiply vectors by each matrix and do nothing else: seconds; float32 by NumPy, others by ``fast``."""
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
    """Return the type of the weight matrices, of packed ones the commonest: "int8", "packed", "Q4_K"."""
    packed: Counter[str] = Counter()
    for matrix in own_weights(model).values():
        if isinstance(matrix, PackedMatrix):
            packed[_type_of(matrix)] += prod(matrix.shape)
    return packed.most_common(1)[0][0] if packed else "float32"


def _type_of(matrix: PackedMatrix) -> str:
    if isinstance(matrix, MatrixInTurns):
        return _type_of(matrix.parts[0])
    if isinstance(matrix, BlockMatrix):
        return matrix.element_type
    if isinstance(matrix, CodedMatrix):
        return "packed"
    return "int8" if isinstance(matrix, Int8Matrix) else "bfloat16"


def own_weights(model: Decoder) -> Mapping[str, Matrix]:
    """Return the weights that this process has: of a model that several share, its part."""
    if model.part is None:
        return model.weights
    return {name: array for name, array in model.weights.items() if not is_hollow(array)}


def weight_bytes(model: Decoder) -> int:
    """Return the bytes of all weights as this process holds them, scales and the like included."""
    return sum(array.nbytes for array in own_weights(model).values())


def numbers_held(model: Decoder) -> int:
    """Return how many weights this process has."""
    return sum(prod(array.shape) for array in own_weights(model).values())


def bits_per_weight(model: Decoder) -> float:
    """Return the bits that this process holds for each of its weights, scales and the like included."""
    return 8 * weight_bytes(model) / numbers_held(model)


def bytes_per_token(model: Decoder) -> float:
    """Return the bytes of the matrices that a token is multiplied by: of experts the chosen, of tables none.

    A tied output layer is the table of tokens, and multiplies. Of a model that several processes share, this
    one's.
    """
    share, own = share_of_experts(model), own_weights(model)
    read = sum(
        array.nbytes * (share if ".experts." in name else 1)
        for name, array in own.items()
        if len(array.shape) == 2 and not name.startswith("embedding.")
    )
    is_tied = HEAD not in model.weights and EMBEDDING in own
    return read + own[EMBEDDING].nbytes if is_tied else read
