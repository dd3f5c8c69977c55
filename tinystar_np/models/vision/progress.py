"""A bar on the terminal while images are read: seconds each, of a large one many."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tinystar_np.amounts import counted
from tinystar_np.models.vision.pixels import ImageInput
from tinystar_np.progress_bar import bar
from tinystar_np.tap import timed, timing


@dataclass(frozen=True)
class BlockCounter:
    """A clock that counts the blocks that have run, whatever time they took."""

    advance: Callable[[int], object]

    def add(self, part: str, seconds: float) -> None:
        """Count a block."""
        if part.startswith("blocks."):
            self.advance(1)


@contextmanager
def reading(images: Sequence[ImageInput], blocks: int) -> Iterator[None]:
    """Show a bar while images are read in the ``with`` block, which a clock times as one part, "images".

    blocks  of the encoder, each of which is run for each tile
    """
    steps = blocks * sum(len(image.pixels.tiles) for image in images)
    words = f"reading {counted(len(images), 'image')}"
    with bar(steps, words, "") as advance, timed("images"), timing(BlockCounter(advance)):
        yield
