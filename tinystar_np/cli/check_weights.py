"""``tinystar inspect --check``: read every tensor, and report those with NaN or infinity in them."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.element_types import NotFinite, count_not_finite
from tinystar_np.checkpoints.json_file import JsonObject, one_line
from tinystar_np.cli.check_names import remedy
from tinystar_np.cli.terminal import note
from tinystar_np.errors import CheckpointError

BLOCK = 1 << 20  # numbers checked together, which bounds the memory that it takes


@dataclass(frozen=True)
class CheckedWeights:
    """The result of reading all weights.

    path       of the weights, their directory or file
    tensors    how many there are
    found      those with NaN or infinity: {name: (its file, how many)}
    """

    path: Path
    tensors: int
    found: dict[str, tuple[str, NotFinite]]

    @property
    def facts(self) -> JsonObject:
        """The same for programs."""
        not_finite = {name: {"file": file, **count._asdict()} for name, (file, count) in self.found.items()}
        return {"tensors": self.tensors, "not_finite": not_finite}

    @property
    def lines(self) -> list[str]:
        """A line for each tensor with NaN or infinity, or one line if there is none."""
        if not self.found:
            return [f"{self.tensors} tensors read: no NaN, no infinity"]
        return [
            f"{one_line(name)} ({one_line(file)}): "
            + ", ".join(
                f"{number:,} {what}"
                for number, what in ((count.nan, "NaN"), (count.infinite, "infinite"))
                if number
            )
            for name, (file, count) in self.found.items()
        ]

    def raise_if_any(self) -> None:
        """Raise CheckpointError if a tensor has NaN or infinity."""
        if self.found:
            share = f"{len(self.found)} of {self.tensors} tensors"
            raise CheckpointError(f"{self.path}: {share} have NaN or infinity in them.\n{remedy(self.path)}")


def check_weights(checkpoint: Checkpoint, path: Path, arguments: argparse.Namespace) -> CheckedWeights:
    """Read all weights of a checkpoint, whose directory or file ``path`` is.

    Raises CheckpointError for what cannot be read.
    """
    note(f"Reading {checkpoint.nbytes / 1e6:,.1f} MB of weights …", arguments)
    counts = {
        name: count_not_finite(checkpoint.blocks(name, BLOCK), checkpoint.element_type(name))
        for name in checkpoint
    }
    found = {name: (checkpoint.file_of(name).name, count) for name, count in counts.items() if any(count)}
    return CheckedWeights(path, len(checkpoint), found)
