"""``tinystar inspect --check``: read every tensor, and report those with NaN or infinity in them."""

import argparse
from pathlib import Path
from typing import Any

from tinystar_np.checkpoints.checkpoint import Checkpoint, open_checkpoint
from tinystar_np.checkpoints.element_types import NotFinite, count_not_finite
from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.cli.terminal import note
from tinystar_np.errors import CheckpointError

BLOCK = 1 << 20  # numbers looked at together: all the memory that it takes


class CheckedWeights:
    """What a reading of all weights found.

    directory  holds them

    Raises CheckpointError for files that cannot be read.
    """

    def __init__(self, directory: Path, arguments: argparse.Namespace) -> None:
        self.directory = directory
        self.checkpoint: Checkpoint = open_checkpoint(directory)
        note(f"Reading {self.checkpoint.nbytes / 1e6:,.1f} MB of weights …", arguments)
        counts = {
            name: count_not_finite(self.checkpoint.blocks(name, BLOCK), self.checkpoint.element_type(name))
            for name in self.checkpoint
        }
        self.found: dict[str, NotFinite] = {name: count for name, count in counts.items() if any(count)}

    @property
    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        found = {
            name: {"file": self.checkpoint.file_of(name).name, **count._asdict()}
            for name, count in self.found.items()
        }
        return {"tensors": len(self.checkpoint), "not_finite": found}

    @property
    def lines(self) -> list[str]:
        """A line for each tensor at fault, or one that says that there is none."""
        if not self.found:
            return [f"{len(self.checkpoint)} tensors read: no NaN, no infinity"]
        return [
            f"{one_line(name)} ({self.checkpoint.file_of(name).name}): {_words(count)}"
            for name, count in self.found.items()
        ]

    def raise_if_any(self) -> None:
        """Raise CheckpointError if a tensor is at fault."""
        if self.found:
            share = f"{len(self.found)} of {len(self.checkpoint)} tensors"
            raise CheckpointError(
                f"{self.directory}: {share} have NaN or infinity in them.\n"
                "A file is damaged, or the training went wrong: download it again, or use another checkpoint."
            )


def _words(count: NotFinite) -> str:
    parts = [f"{count.nan:,} NaN"] if count.nan else []
    return ", ".join(parts + ([f"{count.infinite:,} infinite"] if count.infinite else []))
