"""The recorder: activations by name.

with ts.record("blocks.*.attention.probabilities") as caught:
    model(ids)
caught["blocks.3.attention.probabilities"]  # (B, H, T, S)

with ts.record("blocks.*.residual", every_call=True) as caught:
    ts.generate(model, tokenizer, "Once upon a time", max_new_tokens=5)
caught.calls[0]["blocks.3.residual"]  # (B, T, D) of the prompt; calls[1] is of the first new token, (B, 1, D)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from html import escape

import numpy as np
from numpy.typing import NDArray

from tinystar_np.amounts import counted, size_of
from tinystar_np.errors import InputError, NotRecordedError
from tinystar_np.seeing.axes import near_paths, never_reached
from tinystar_np.tap import Place, listen, place


class Recording(Mapping[str, NDArray]):
    """The recorded arrays by full path, in the order of the computation.

    patterns  what is recorded; none for everything
    offered   the paths of all taps that came, and whether a pattern matches them
    calls     whether to keep the arrays of each call by themselves

    Arrays are copies and keep the batch axis. Where a path is computed again, in a second call, the later
    array replaces the earlier one.
    """

    def __init__(
        self, patterns: tuple[str, ...] = (), offered: Mapping[str, bool] | None = None, calls: bool = False
    ) -> None:
        self._patterns = patterns
        self.offered: Mapping[str, bool] = {} if offered is None else offered
        self._arrays: dict[str, NDArray] = {}
        self._places: dict[str, Place | None] = {}
        self._calls: list[Recording] | None = [] if calls else None
        self.left_out: tuple[str, ...] = ()
        """Patterns of what is not kept though it is matched."""

    def catch(self, path: str, x: NDArray) -> NDArray:
        """Keep a copy of ``x``, unless it is to be left out."""
        if any(fnmatchcase(path, pattern) for pattern in self.left_out):
            return x
        if self._calls is not None:
            self._current_call(path).catch(path, x)
            self._arrays[path] = self._calls[-1]._arrays[path]
        else:
            self._arrays[path] = x.copy()  # layers may write into it later
        self._places[path] = place()
        return x

    def _current_call(self, path: str) -> "Recording":
        """Return the recording of the call that is computed now: each sets a ``Place`` of its own."""
        assert self._calls is not None
        last = self._calls[-1] if self._calls else None
        before = next(reversed(last._places.values())) if last is not None else None
        # What has no place came before a call, as images do, and belongs to it.
        if last is None or path in last or (before is not None and before is not place()):
            last = Recording(self._patterns, self.offered)
            self._calls.append(last)
        return last

    @property
    def calls(self) -> tuple["Recording", ...]:
        """The recordings of each call of the model in turn, of ``record(…, every_call=True)``."""
        if self._calls is None:
            raise InputError(
                "The recording has the last array of each path only. record(…, every_call=True) keeps each."
            )
        return tuple(self._calls)

    def positions(self, path: str) -> NDArray[np.int64] | None:
        """Return the positions (B, T) in their texts of the tokens of the call that an array is of.

        Where only the last token's logits were asked for, the arrays after the blocks have only that one.
        None for an array of a layer that was called by itself.
        """
        self[path]
        found = self._places[path]
        return None if found is None else found.positions

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        kept = [array for call in self._calls for array in call.values()] if self._calls else self.values()
        return sum(array.nbytes for array in kept)

    def __getitem__(self, path: str) -> NDArray:
        if path not in self._arrays:
            raise NotRecordedError(self._why_not(path))
        return self._arrays[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, path: object) -> bool:
        return path in self._arrays

    def _why_not(self, path: object) -> str:
        """Say why there is no such array, and what there is near it."""
        if not isinstance(path, str):
            return f"A recorded array is named by a str, such as 'blocks.3.residual'; found {path!r}"
        if not self.offered:
            return f"{path} was not recorded: no model ran inside the block."
        if any(fnmatchcase(path, pattern) for pattern in self.left_out):
            return f"{path} was computed, but left out of this recording."
        if path in self.offered:
            patterns = ", ".join(map(repr, self._patterns))
            return f"{path} was computed, but no pattern of the recording matches it: record({patterns})."
        return f"{path} was not recorded: the model that ran has no such tap.{near_paths(path, self.offered)}"

    def check_patterns(self) -> None:
        """Raise InputError for a pattern that matches nothing."""
        for pattern in self._patterns:
            if not any(fnmatchcase(path, pattern) for path in self._arrays):
                raise never_reached(pattern, self.offered)

    # As text

    def __repr__(self) -> str:
        rows = self._rows()
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
        lines = (f"  {path:{widths[0]}}  {shape:{widths[1]}}  {dtype}" for path, shape, dtype in rows)
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        """Return the recording as a table, for notebooks."""
        style = 'style="text-align: left"'
        head = "".join(f"<th {style}>{name}</th>" for name in ("tap", "shape", "type"))
        rows = (
            "<tr>" + "".join(f"<td {style}>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        return f"<b>{escape(self._title())}</b><table><tr>{head}</tr>{''.join(rows)}</table>"

    def _title(self) -> str:
        calls = "" if self._calls is None else f" of each of {counted(len(self._calls), 'call')}"
        return f"Recording({counted(len(self), 'array')}{calls}, {size_of(self.nbytes)})"

    def _rows(self) -> list[tuple[str, str, str]]:
        """Return (path, shape, type) of the arrays; those that many blocks have stand in one row."""
        blocks: dict[tuple[str, str, str, str], list[str]] = {}
        for path, array in self.items():
            shape = f"({', '.join(map(str, array.shape))})"
            before, block, name = path.rpartition("blocks.")
            number, name = name.split(".", 1) if block else ("", name)
            blocks.setdefault((before + block, name, shape, str(array.dtype)), []).append(number)
        return [
            (f"{before}{_numbers(numbers)}.{name}" if before else name, shape, dtype)
            for (before, name, shape, dtype), numbers in blocks.items()
        ]


def _numbers(numbers: list[str]) -> str:
    """Write the numbers of blocks: "0", "{0…11}" for a run, "{0,2,5}" for others."""
    if len(numbers) == 1:
        return numbers[0]
    first, last = int(numbers[0]), int(numbers[-1])
    run = [str(number) for number in range(first, last + 1)] == numbers
    return f"{{{first}…{last}}}" if run else f"{{{','.join(numbers)}}}"


@contextmanager
def record(
    *patterns: str, every_call: bool = False, optional: bool = False, leave_out: Sequence[str] = ()
) -> Iterator[Recording]:
    """Record every tap inside the ``with`` block, or those whose path matches one of the patterns.

    patterns    shell-style, such as "blocks.*.residual"; docs/taps.md lists the names
    every_call  keep the arrays of each call of a model by themselves, as ``calls``: the prompt's and each new
                token's when a text is generated. Otherwise the later array replaces the earlier one.
    optional    let patterns match nothing, as those must that name taps of several kinds of models
    leave_out   patterns of what is not kept all the same

    Where attention's scores or probabilities are recorded, it runs in its plain form, which builds them: T·S
    numbers per head. Recordings nest: each gets what it asks for. Inside an intervention the recording has
    the changed arrays; see tinystar_np/tap.py.

    Raises InputError at the end of the block, unless it ends by another exception, where a pattern matched
    nothing. A path that the recording lacks is a KeyError, which names the nearest ones.
    """
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(f"record takes patterns such as 'blocks.*.residual'; found {pattern!r}")
    recording = Recording(patterns, calls=every_call)
    recording.left_out = tuple(leave_out)
    with listen(recording, *patterns) as listening:
        recording.offered = listening.paths
        yield recording
    if not optional:
        recording.check_patterns()
