"""Matrices rounded to a narrower type, and kept on disk, so that only the first start has to wait for it.

Rounding 1.1 billion weights to 8 bits takes 6 to 12 seconds. What comes of it is written into a safetensors
file, which the next start maps into memory as it does the model's own files:

    blocks.0.attention.qkv.weight           I8   (out, in)    or U16, bfloat16's bits
    blocks.0.attention.qkv.weight.scales    F32  (out,)

    ~/.cache/tinystar_np/rounded/<model>-<which files>-<their state>.safetensors

The name carries two hashes: one of where the model's files lie, one of all that the numbers depend on (the
files' sizes, dates and samples of their bytes, the table of weights, the type, ``FORMAT``). Whatever changes,
the old file is not found any more, and is deleted when the new one is there. Nothing depends on the file:
where it cannot be written or is damaged, the matrices are rounded again. The folder may be deleted at any
time; ``TINYSTAR_CACHE`` names another, or says "off".
"""

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.safetensors_file import SafetensorsFile
from tinystar_np.checkpoints.safetensors_writer import write_safetensors
from tinystar_np.errors import CheckpointError
from tinystar_np.fast import quantise, to_bfloat16
from tinystar_np.kernels.packed import Bfloat16Matrix, Int8Matrix, PackedMatrix
from tinystar_np.progress_bar import bar
from tinystar_np.whole_file import UNFINISHED, whole_file

FORMAT = "tinystar_np rounded 2"
"""To be counted up when the same weights become other numbers: new rounding, another order in memory."""
LEAST_KEPT = 20_000_000  # weights, about 0.2 s: fewer are rounded again each time
SAMPLES, SAMPLE = 16, 256  # places of each file, and bytes at each
VARIABLE = "TINYSTAR_CACHE"
OFF = ("off", "0", "none")
DAY = 86_400.0  # seconds
SCALES = ".scales"

Kinds = dict[str, tuple[str, tuple[int, ...]]]
"""{name of an array: (its type as safetensors names it, its shape)}"""


class Matrix(NamedTuple):
    """A matrix as its checkpoint stores it, before it is rounded.

    shape   in the order of the file
    turned  whether it is used transposed
    table   whether it is looked up by rows, and not multiplied by
    """

    shape: tuple[int, int]
    turned: bool
    table: bool

    @property
    def by_input(self) -> bool:
        """Whether the file has one column, and not one row, for each number that 8 bits give a scale."""
        return self.turned == self.table

    @property
    def by_output(self) -> tuple[int, int]:
        """The shape with a row for each number that has a scale: (out, in), of a table its own."""
        return self.shape[::-1] if self.by_input else self.shape


def rounded(
    wanted: Mapping[str, Matrix],
    read: Callable[[], Iterable[tuple[str, NDArray[np.float32]]]],
    dtype: str,
    files: Sequence[Path],
    table: Any,
) -> dict[str, PackedMatrix]:
    """Round matrices, or find them as they were rounded last time.

    wanted  {our name: matrix}
    read    gives (our name, float32 array in the order of the file) for each; called only where they must be
            rounded, and each array may be let go of before the next is made
    dtype   "int8" or "bfloat16"
    files   the model's weight files
    table   says which tensor is which matrix: anything that JSON can hold

    Returns {our name: matrix, as it is used}. Warns where they cannot be kept.
    """
    path = None
    if _count(wanted) >= LEAST_KEPT:
        path = _place(files, [FORMAT, dtype, table])
    kinds = _kinds(wanted, dtype)
    arrays = _find(path, kinds)
    if arrays is None:
        arrays = _round(wanted, read(), dtype)
        if path is not None and _keep(path, arrays):
            # Mapped from now on, as at the next start: memory that the system can take back.
            arrays = _find(path, kinds) or arrays
    if dtype == "bfloat16":
        return {
            name: Bfloat16Matrix(arrays[name], transposed=not matrix.table) for name, matrix in wanted.items()
        }
    return {
        name: Int8Matrix(arrays[name], arrays[name + SCALES], table=matrix.table)
        for name, matrix in wanted.items()
    }


def _round(
    wanted: Mapping[str, Matrix], matrices: Iterable[tuple[str, NDArray[np.float32]]], dtype: str
) -> dict[str, NDArray]:
    """Round one matrix after the other, and show on a terminal how far it is."""
    arrays: dict[str, NDArray] = {}
    with bar(_count(wanted), f"rounding to {dtype}", " weights") as advance:
        for name, array in matrices:
            by_output = array.T if wanted[name].by_input else array
            if dtype == "bfloat16":
                arrays[name] = to_bfloat16(by_output)
            else:
                arrays[name], arrays[name + SCALES] = quantise(by_output)
            advance(array.size)
            del array, by_output  # before the next is made
    return arrays


def _count(wanted: Mapping[str, Matrix]) -> int:
    return sum(prod(matrix.shape) for matrix in wanted.values())


def _kinds(wanted: Mapping[str, Matrix], dtype: str) -> Kinds:
    """Say what a complete file holds."""
    if dtype == "bfloat16":
        return {name: ("U16", matrix.by_output) for name, matrix in wanted.items()}
    values: Kinds = {name: ("I8", matrix.by_output) for name, matrix in wanted.items()}
    return values | {name + SCALES: ("F32", matrix.by_output[:1]) for name, matrix in wanted.items()}


def cache_folder() -> Path | None:
    """Find the folder for what can be made again: the environment's, or the system's place for such things.

    Returns None where there shall be none.
    """
    asked = os.environ.get(VARIABLE)
    if asked:
        return None if asked.lower() in OFF else Path(asked).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as the XDG Base Directory Specification asks
        base = "~/.cache"
        if sys.platform == "darwin":
            base = "~/Library/Caches"
        elif sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    return Path(os.path.expanduser(base)) / "tinystar_np"


def _place(files: Sequence[Path], facts: Sequence[Any]) -> Path | None:
    """Name the file for matrices of a model in this state; None where nothing is kept."""
    folder = cache_folder()
    if folder is None or not folder.is_absolute():  # without a home
        return None
    try:
        places = [str(path.resolve()) for path in files]
        states = [(path.stat().st_size, path.stat().st_mtime_ns, _samples(path)) for path in files]
    except OSError:
        return None
    owner = _hash(places)
    return folder / "rounded" / f"{_title(files[0])}-{owner}-{_hash([places, states, *facts])}.safetensors"


def _hash(facts: Any) -> str:
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def _samples(path: Path) -> str:
    """Hash a few places of a file: some systems give all files the same date."""
    found = sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        for i in range(SAMPLES):
            file.seek(max(0, size - SAMPLE) * i // (SAMPLES - 1))
            found.update(file.read(SAMPLE))
    return found.hexdigest()


def _title(file: Path) -> str:
    """Name the model, for whoever looks into the folder: its directory, or its repository on the hub."""
    parts = file.absolute().parts[:-1]
    name = next((part for part in parts if part.startswith("models--")), parts[-1])
    return re.sub(r"[^\w.-]", "_", name.removeprefix("models--"), flags=re.ASCII)[:80] or "model"


def _find(path: Path | None, kinds: Kinds) -> dict[str, NDArray] | None:
    """Map a file that holds just these arrays; None where there is none, or a damaged or another one."""
    if path is None:
        return None
    try:
        file = SafetensorsFile(path)
        if {name: (file.element_type(name), file.shape(name)) for name in file.names} != kinds:
            return None
        return {name: file.array(name) for name in kinds}
    except (CheckpointError, OSError):
        return None


def _keep(path: Path, arrays: Mapping[str, NDArray]) -> bool:
    """Write the file, and delete those for older states of the same model; returns whether it is there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        nbytes = sum(array.nbytes for array in arrays.values())
        with whole_file(path) as file, bar(nbytes, "keeping them for the next start", "B") as advance:
            write_safetensors(cast(BinaryIO, _Counted(file, advance)), arrays, {"format": FORMAT})
    except (CheckpointError, OSError) as error:
        warnings.warn(
            f"The rounded weights are not kept for the next start: {error} "
            f"{VARIABLE}=DIR keeps them elsewhere, {VARIABLE}=off does not try.",
            stacklevel=2,
        )
        return False
    _tidy(path)
    return True


class _Counted:
    """A file that says how many bytes are written to it."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], object]) -> None:
        self._file, self._advance = file, advance

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._advance(len(data))


def _tidy(newest: Path) -> None:
    """Delete what is of older states of the same model, and what killed processes have left unfinished."""
    same_model = newest.stem.rpartition("-")[0]
    for old in newest.parent.glob(f"{same_model}-*.safetensors"):
        if old != newest:
            with suppress(OSError):  # on Windows, while another process uses it
                old.unlink()
    for part in newest.parent.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > DAY:
                part.unlink()
