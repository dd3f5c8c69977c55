"""The kind of difference between two rotations of the same queries or keys: base, layout, positions, length.

Rotary embedding turns the pair z of a head by the angle p·f_j (kernels/rope.py). From a vector before and
after it the angles can be read off, and from the angles of neighbouring positions the frequencies:

    z' / z = c · exp(i p f_j)          f_j = θ^(−2j/K)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KEPT = 1e-3  # how far the lengths of pairs may differ where these are the pairs
SURE = 0.9  # least angle between neighbours, in turns of the fastest pair, that is not ambiguous


class Rotation(NamedTuple):
    """What was done to vectors.

    interleaved  whether neighbours make a pair
    frequencies  (J,): the angle of each pair from one position to the next
    start        the angle at the first position, of each pair
    length       c, what lengths were multiplied by
    """

    interleaved: bool
    frequencies: NDArray
    start: NDArray
    length: float


def rotation_kind(before: NDArray, a: NDArray, b: NDArray) -> str:
    """Say how two rotations of the same vectors differ; "" where one of them is none.

    before  (B, H, T, K), before the rotation
    a, b    (B, H, T, K), after it
    """
    if not before.shape == a.shape == b.shape or a.shape[2] < 2:
        return ""
    if np.allclose(a, before, rtol=0, atol=1e-6 * np.abs(a).max()):
        return "not rotated in A"
    if np.allclose(b, before, rtol=0, atol=1e-6 * np.abs(b).max()):
        return "not rotated in B"
    one, other = read_rotation(before, a), read_rotation(before, b)
    if one is None or other is None:
        return ""
    said = []
    if one.interleaved != other.interleaved:
        layouts = {True: "neighbours", False: "the two halves of a head"}
        said.append(f"pairs are {layouts[one.interleaved]} in A, {layouts[other.interleaved]} in B")
    if len(one.frequencies) != len(other.frequencies):
        said.append(
            f"{2 * len(one.frequencies)} numbers of a head rotate in A, {2 * len(other.frequencies)} in B"
        )
    elif np.allclose(one.frequencies, -other.frequencies, rtol=1e-2, atol=1e-4):
        said.append("B rotates in the opposite direction")
    elif not np.allclose(one.frequencies, other.frequencies, rtol=1e-3, atol=1e-5):
        bases = [base_of(rotation.frequencies) for rotation in (one, other)]
        if bases[0] and bases[1]:
            said.append(f"the base is about {bases[0]:.4g} in A, {bases[1]:.4g} in B")
        else:
            apart = ~np.isclose(one.frequencies, other.frequencies, rtol=1e-2, atol=1e-5)
            said.append(f"{apart.sum()} of {len(apart)} frequencies differ: another scaling")
    elif not np.allclose(one.start, other.start, atol=1e-3):
        fastest = int(np.argmax(np.abs(one.frequencies)))
        by = (other.start[fastest] - one.start[fastest]) / one.frequencies[fastest]
        said.append(f"positions are {by:+.2g} in B")
    if abs(one.length / other.length - 1) > KEPT:
        said.append(
            f"lengths are multiplied by {one.length:.4g} in A, {other.length:.4g} in B: the attention factor"
        )
    return "; ".join(said)


def read_rotation(before: NDArray, after: NDArray) -> Rotation | None:
    """Read off the rotation that made one array of another, (B, H, T, K) each; None where none did."""
    found = None
    width = _rotated_width(before, after)
    for interleaved in (False, True):
        z, turned = (_pairs(x[..., :width], interleaved) for x in (before, after))  # (B, H, T, J)
        lengths = np.abs(turned).sum() / max(float(np.abs(z).sum()), 1e-30)
        error = float(
            np.abs(np.abs(turned) - lengths * np.abs(z)).max() / max(float(np.abs(turned).max()), 1e-30)
        )
        if error < KEPT and (found is None or error < found[0]):
            turns = (turned * z.conj()).sum(axis=(0, 1))  # (T, J): heads weighted by their lengths
            steps = (turns[1:] * turns[:-1].conj()).sum(axis=0)  # (J,)
            found = error, Rotation(interleaved, np.angle(steps), np.angle(turns[0]), float(lengths))
    return found and found[1]


def _rotated_width(before: NDArray, after: NDArray) -> int:
    """Return 2J: the numbers of a head from there on are as they were."""
    K = before.shape[-1]
    moved = np.flatnonzero(np.abs(after - before).reshape(-1, K).max(axis=0) > 1e-6 * np.abs(before).max())
    if not len(moved):
        return K
    # In halves, the last pairs turn so little that few positions do not show it.
    width = int(moved[-1]) + 1
    return K if 2 * width > K or K % 2 else width + width % 2


def _pairs(x: NDArray, interleaved: bool) -> NDArray:
    wide = x.astype(np.float64)
    if interleaved:
        return wide[..., 0::2] + 1j * wide[..., 1::2]
    half = wide.shape[-1] // 2
    return wide[..., :half] + 1j * wide[..., half:]


def base_of(frequencies: NDArray) -> float | None:
    """Return θ of frequencies θ^(−j/J), None where they are no such series."""
    J = len(frequencies)
    sure = np.flatnonzero(np.abs(frequencies) > 1e-4)
    if J < 2 or len(sure) < 2:
        return None
    exponents, logs = -sure / J, np.log(np.abs(frequencies[sure]))
    base = float(np.exp((exponents * logs).sum() / max((exponents * exponents).sum(), 1e-30)))
    expected = base ** (-sure / J)
    return base if np.allclose(np.abs(frequencies[sure]), expected, rtol=0.02) else None
