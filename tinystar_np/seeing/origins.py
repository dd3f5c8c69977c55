"""Where each tap comes from: the lines that computed it, and the kernels that these called.

While a model reads two tokens, Python's profiler tells of every call. The kernels called since the tap before
are those that computed a tap; the tap's own line stands in the frame that called it. So the answer holds for
every architecture, and no table must be kept up to date.
"""

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import numpy as np
from numpy.typing import NDArray

import tinystar_np
from tinystar_np.cache import SeenImage
from tinystar_np.fast import KERNELS
from tinystar_np.models import Decoder
from tinystar_np.tap import listen

PACKAGE = Path(tinystar_np.__file__).parent
FLOORS = {str(PACKAGE / floor): floor for floor in ("kernels", "fast")}


@dataclass(frozen=True)
class Origin:
    """Where a tap comes from.

    file       in the package, of the line that names the tap: "layers/attention.py"
    line       its number
    function   the name of the method or function around it: "Attention.projected"
    kernels    names of the kernels that computed the array: "attention.attention_scores"; none where it is a
               sum or another form of arrays that have taps of their own
    """

    file: str
    line: int
    function: str
    kernels: tuple[str, ...]


def tap_origins(model: Decoder, ids: Sequence[int], images: Sequence[SeenImage] = ()) -> dict[str, Origin]:
    """Return the origin of every tap by its full path.

    ids     token ids; the first two are read, or one and a vector of the first image
    images  those of the text, read by the model
    """
    watcher = Watcher()
    with listen(watcher), watcher.watching():
        if images:
            model(np.array([ids[0], ids[images[0].places[0]]]), images=[_one_vector(images[0])])
        else:
            model(np.asarray(ids[:2]))
    return watcher.origins


def _one_vector(image: SeenImage) -> SeenImage:
    """Return an image of one vector, at the second place of a text."""
    grid = None if image.grid is None else (1, 1, 1)
    deep = None if image.deep is None else image.deep[:, :1]
    return SeenImage(np.array([1]), image.vectors[:1], grid, deep)


class Watcher:
    """A listener that knows which kernels were called since the tap before."""

    def __init__(self) -> None:
        self.origins: dict[str, Origin] = {}
        self._prefix = ""
        self._called: list[str] = []
        self._depth = 0
        """How many calls deep within a kernel."""
        self._code: CodeType | None = None
        self._before = Origin("", 0, "", ())

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of the taps inside."""
        outer = self._prefix
        self._prefix = f"{outer}{name}."
        try:
            yield
        finally:
            self._prefix = outer

    def catch(self, name: str, x: NDArray) -> NDArray:
        """Note where a tap comes from."""
        frame = inspect.currentframe()
        while frame is not None and Path(frame.f_code.co_filename).name in ("origins.py", "tap.py"):
            frame = frame.f_back
        assert frame is not None
        code = frame.f_code
        kernels = tuple(dict.fromkeys(self._called))
        # Another part of the same product: k and v after q. What has no part of its own is a sum.
        if not kernels and code is self._code and "." in name:
            kernels = self._before.kernels
        where = Path(code.co_filename).relative_to(PACKAGE).as_posix()
        self._before = Origin(where, frame.f_lineno, code.co_qualname, kernels)
        self.origins[self._prefix + name] = self._before
        self._code, self._called = code, []
        return x

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the calls of kernels inside the ``with`` block."""
        before = sys.getprofile()
        sys.setprofile(self._event)
        try:
            yield
        finally:
            sys.setprofile(before if callable(before) else None)  # cProfile's cannot be set again

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        """Count calls within kernels; note the outermost of them."""
        if event == "return" and self._depth:
            self._depth -= 1
        elif event == "call":
            if self._depth:
                self._depth += 1
            elif str(Path(frame.f_code.co_filename).parent) in FLOORS:
                found = _kernel_names(frame)
                if found:
                    self._called += found
                    self._depth = 1


def _kernel_names(frame: FrameType) -> list[str]:
    """Name the kernel that a frame runs, and the kernels that it was given: an activation, say."""
    name = frame.f_code.co_name
    kernel = KERNELS.get("mixture" if name == "grouped_mixture" else name)
    path = Path(frame.f_code.co_filename)
    if kernel is None and path.parent.name == "kernels" and not name.startswith(("_", "<")):
        kernel = getattr(sys.modules[f"tinystar_np.kernels.{path.stem}"], name, None)
    if not isinstance(kernel, FunctionType):
        return []
    given = (value for value in frame.f_locals.values() if isinstance(value, FunctionType))
    passed = [each for each in given if each.__module__.startswith("tinystar_np.kernels.")]
    return [kernel_name(each) for each in (kernel, *passed)]


def kernel_name(kernel: FunctionType) -> str:
    """Name a kernel by its module and function: "attention.attention_scores"."""
    return f"{kernel.__module__.rpartition('.')[2]}.{kernel.__qualname__}"
