"""Recorded arrays in place of computed ones: those of other runs, and means over them."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.seeing.axes import axes_of, near_paths
from tinystar_np.seeing.changing import Activation
from tinystar_np.seeing.recorder import Recording


def check_recorded(recording: Mapping[str, NDArray], pattern: str) -> list[str]:
    """Return the paths of a recording that a pattern stands for; raises InputError where there are none."""
    if not isinstance(recording, Mapping):
        raise InputError(f"A recording is wanted, such as ts.record gives; found {shown(recording)}")
    found = [path for path in recording if fnmatchcase(path, pattern)]
    if not found:
        near = near_paths(pattern, list(recording))
        raise InputError(f"The recording has no {pattern}.{near} It has {len(recording)} arrays.")
    for path in found:
        if not isinstance(recording[path], np.ndarray):
            raise InputError(f"The recording's {path} is no array; found {shown(recording[path])}")
    return found


def length_of_one_text(recording: object, needed: Sequence[str], others: str) -> int:
    """Return T of a recording of one text: of its first needed array, (1, T, …).

    needed  paths that it must have
    others  in words, the patterns with which it would

    Raises InputError for anything else.
    """
    if not isinstance(recording, Mapping):
        raise InputError(f"A recording is wanted, such as ts.record gives; found {shown(recording)}")
    for path in needed:
        if path not in recording:
            raise InputError(
                f"The recording lacks {path}: record the call with no patterns, or with {others}."
            )
    rows, T = recording[needed[0]].shape[:2]
    if rows != 1:
        raise InputError(f"The recording is of {rows} texts at once; record a call with one.")
    return int(T)


def of_one_text(recording: Mapping[str, NDArray], path: str, advice: str) -> NDArray:
    """Return an array of a recording of one text, (1, …).

    advice  how to record it, in words

    Raises InputError where it is missing, or of a batch.
    """
    if path not in recording:
        raise InputError(f"The recording has no {path}. {advice}")
    array = recording[path]
    if len(array) != 1:
        raise InputError(f"The recording is of {len(array)} texts; record one.")
    return array


def mean(recordings: Sequence[Mapping[str, NDArray]], activation: Activation) -> NDArray:
    """Return the mean of a tap over the rows and tokens of recordings, with these axes of length 1."""
    path, axes = activation.path, activation.axes
    if axes[-1] == "S":
        raise InputError(f"{path} has one number for each key, and texts have others: there is no mean.")
    if not {"B", "T"} <= {*axes}:
        raise InputError(f"{path} ({', '.join(axes)}) has no rows of tokens: there is no mean over them.")
    over = axes.index("B"), axes.index("T")
    like = activation.x.sum(axis=over, keepdims=True)
    total, tokens = np.zeros(like.shape), 0
    for recording in recordings:
        if path not in recording:
            raise InputError(f"A recording has no {path}: there is no mean of it.")
        array = recording[path]
        if array.ndim != like.ndim or array.shape != _with_sizes(like.shape, array.shape, over):
            raise InputError(
                f"{path} has shape {activation.x.shape}, but a recorded array has {array.shape}."
            )
        total += array.sum(axis=over, keepdims=True, dtype=np.float64)
        tokens += array.shape[over[0]] * array.shape[over[1]]
    return (total / tokens).astype(like.dtype)


def _with_sizes(shape: tuple[int, ...], other: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with the sizes that another one has along some axes."""
    return tuple(b if i in axes else a for i, (a, b) in enumerate(zip(shape, other, strict=True)))


def positions_of(recording: Mapping[str, NDArray], path: str) -> NDArray[np.int64]:
    """Return the positions of a recorded array's tokens: (B, T), or (1, T)."""
    array = recording[path]
    tokens = array.shape[axes_of(path, array.ndim, list(recording)).index("T")]
    positions = recording.positions(path) if isinstance(recording, Recording) else None
    return np.arange(tokens)[None] if positions is None else positions[:, -tokens:]


def with_recorded(
    activation: Activation, recording: Mapping[str, NDArray], some_rows: bool = False
) -> NDArray:
    """Return an activation in which tokens have what was recorded at their positions, where something was.

    some_rows  whether rows that the recording lacks stay as they are, instead of being an error
    """
    path, x, axes, where = activation.path, activation.x, activation.axes, activation.place
    recorded, has_tokens = recording[path], {"B", "T"} <= {*axes}
    if recorded.ndim != x.ndim or (not has_tokens and recorded.shape != x.shape):
        raise InputError(f"{path} has shape {x.shape}, but the recorded array has {recorded.shape}.")
    if not has_tokens:  # what an encoder makes of an image
        return recorded
    time = axes.index("T")
    new, old = np.moveaxis(x, time, 1), np.moveaxis(recorded, time, 1)  # (B, T, …) each
    if new.shape[2:] != old.shape[2:]:
        keys = (
            " Scores and probabilities fit a text of the same length without a cache." if "S" in axes else ""
        )
        raise InputError(f"{path} has shape {x.shape}, but the recorded array has {recorded.shape}.{keys}")
    held = np.broadcast_to(positions_of(recording, path), old.shape[:2])
    rows = np.arange(len(x)) if where is None else where.rows
    for b, row in enumerate(rows.tolist()):
        if len(old) == 1:
            row = 0
        elif row >= len(old):
            if some_rows:
                continue
            raise InputError(f"{path}: there is a row {row}, but the recording has {len(old)} rows.")
        standing = np.arange(new.shape[1]) if where is None else where.positions[b, -new.shape[1] :]
        _, here, there = np.intersect1d(standing, held[row], return_indices=True)
        new[b, here] = old[row, there]
    return x  # new is a view of it
