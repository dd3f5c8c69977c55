"""Recurrences as attention: what each token takes from each earlier one.

    scan output y_t = Σ_{s ≤ t} M[t, s] · input_s          M (T, T) for each head

A recurrence never forms M, but it is linear in its inputs, so M exists: Mamba 2's is attention without a
softmax (kernels/ssm.py), and so is lightning attention's (kernels/lightning_attention.py); the delta rule's
has what was overwritten taken out (kernels/delta_rule.py), and in Mamba 1 each channel has its own
(kernels/selective_scan.py). Entries may be negative, and no row need sum to 1. A linear recurrence written
out so is due to Dao & Gu 2024, arXiv:2405.21060, and for Mamba 1 to Ali et al. 2024, arXiv:2403.01590.

Everything is computed from a recording of one pass over a whole text, without a cache:

    with ts.record("blocks.3.mixer.*") as recording:
        model(ids)
    matrix = mixing_matrix(model, recording, 3)             # (H, T, T)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from tinystar_np.errors import InputError
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.kernels.delta_rule import delta_matrix, delta_rule
from tinystar_np.kernels.lightning_attention import lightning_attention, lightning_matrix
from tinystar_np.kernels.selective_scan import selective_matrix, selective_scan
from tinystar_np.kernels.ssm import ssm_matrix, ssm_scan
from tinystar_np.layers.delta_net import GatedDeltaNet
from tinystar_np.layers.lightning_attention import LightningAttention
from tinystar_np.layers.mamba1 import Mamba1
from tinystar_np.layers.mamba2 import Mamba2
from tinystar_np.models.base import Decoder
from tinystar_np.seeing.recorded import of_one_text

Recurrence = Mamba1 | Mamba2 | GatedDeltaNet | LightningAttention
Recorded = Mapping[str, NDArray]
Heads = Sequence[int] | None

ROOM = 1 << 24  # numbers of the matrices that a mean is taken over at once


@dataclass(frozen=True)
class RecurrentSize:
    """The size of a layer's state, the same after any number of tokens.

    shape   of the recurrence itself: (H, P, N) in Mamba 2, (N, F) in Mamba 1, (H, K, K_v) in others
    nbytes  of all that is kept, with the last inputs of the convolution
    """

    shape: tuple[int, ...]
    nbytes: int

    @property
    def numbers(self) -> int:
        """How many numbers the recurrence keeps."""
        return prod(self.shape)


def recurrent_layers(model: Decoder) -> list[int]:
    """Return the layers that have a recurrence."""
    return [i for i in range(len(model.blocks)) if _found(model, i) is not None]


def mixing_matrix(model: Decoder, recording: Recorded, layer: int, heads: Heads = None) -> NDArray:
    """Compute what each token takes from each earlier one, D x included.

    recording  of one pass over a text of T tokens, without a cache: the layer's taps "mixer.*"
    layer      of the model's recurrent layers
    heads      which ones, in this order; None for all. In Mamba 1 the channels: all of a large model over a
               long text are F · T² numbers, see ``mean_mixing``

    Returns (H, T, T): the product with ``mixed_inputs`` is ``scan_outputs``.
    Raises InputError where the layer has no recurrence, or the recording lacks one of its taps.
    """
    mixer = _recurrence(model, layer)
    chosen = _chosen(mixer, heads)
    if isinstance(mixer, LightningAttention):
        q, k = (_tap(recording, layer, name)[:, :, chosen] for name in ("q", "k"))
        return lightning_matrix(q, k, mixer.slopes[chosen])[0]
    names = ("q", "k", "decay", "beta") if isinstance(mixer, GatedDeltaNet) else ("time_step", "B", "C")
    first, second, third, *rest = (_tap(recording, layer, name) for name in names)
    if isinstance(mixer, Mamba1):
        dt, A, D = first[..., chosen], mixer.A[:, chosen], mixer.D[chosen]
        B, C = second, third
        if B.ndim == 4:  # of groups: each channel's own, so that any channels can be chosen
            groups = chosen // (len(mixer.D) // B.shape[2])
            B, C = B[:, :, groups], C[:, :, groups]
        matrix = selective_matrix(dt, A, B, C, D)
    elif isinstance(mixer, Mamba2):
        groups = chosen // (mixer.heads // mixer.groups)  # each head's own, so that any heads can be chosen
        B, C = second[:, :, groups], third[:, :, groups]
        matrix = ssm_matrix(first[..., chosen], mixer.A[chosen], B, C, mixer.D[chosen])
    else:
        groups = chosen // (mixer.heads // mixer.groups)
        q, k = first[:, :, groups], second[:, :, groups]
        matrix = delta_matrix(q, k, third[..., chosen], rest[0][..., chosen])
    return matrix[0]


def mixed_inputs(model: Decoder, recording: Recorded, layer: int, heads: Heads = None) -> NDArray:
    """Return what the matrices are multiplied by; arguments as of ``mixing_matrix``.

    Returns (H, T, P), P the width of a head: x in Mamba, where it is 1 in Mamba 1; the values in others.
    """
    mixer = _recurrence(model, layer)
    name = "v" if isinstance(mixer, GatedDeltaNet | LightningAttention) else "x"
    return _by_heads(mixer, _tap(recording, layer, name))[_chosen(mixer, heads)]


def scan_outputs(model: Decoder, recording: Recorded, layer: int, heads: Heads = None) -> NDArray:
    """Return what the recurrence gave, by heads: (H, T, P); arguments as of ``mixing_matrix``."""
    mixer = _recurrence(model, layer)
    return _by_heads(mixer, _tap(recording, layer, "scan"))[_chosen(mixer, heads)]


def mean_mixing(model: Decoder, recording: Recorded, layer: int, groups: int = 1) -> NDArray:
    """Average the absolute values of the matrices over neighbouring heads.

    groups  how many groups the heads are divided into, in Mamba 1 the channels; it must divide their number

    Returns (groups, T, T).
    Raises the errors of ``mixing_matrix``, and InputError for groups of different sizes.
    """
    mixer = _recurrence(model, layer)
    H, T = _heads(mixer), _tap(recording, layer, "scan").shape[1]
    if groups < 1 or H % groups:
        raise InputError(f"groups = {groups} does not divide the layer's {H} heads or channels.")
    size = H // groups
    means = np.zeros((groups, T, T), dtype=np.float32)
    at_once = max(ROOM // (T * T), 1)
    for group in range(groups):
        ends = range(group * size, (group + 1) * size)
        for start in range(0, size, at_once):
            some = ends[start : start + at_once]
            means[group] += np.abs(mixing_matrix(model, recording, layer, some)).sum(axis=0)
    return means / np.float32(size)


def state_decay(model: Decoder, recording: Recorded, layer: int) -> NDArray:
    """Return what is left of the state when a token comes, as a share of 0 to 1.

    Returns (H, T). In Mamba 1 (F, T), where a channel's N numbers decay at rates of their own: their mean.
    """
    mixer = _recurrence(model, layer)
    if isinstance(mixer, GatedDeltaNet):
        return np.exp(_tap(recording, layer, "decay")[0].T)
    if isinstance(mixer, LightningAttention):
        T = _tap(recording, layer, "scan").shape[1]
        return np.repeat(np.exp(-mixer.slopes)[:, None], T, axis=1)
    dt = _tap(recording, layer, "time_step")[0]  # (T, H)
    if isinstance(mixer, Mamba2):
        return np.exp(dt * mixer.A).T
    mean = np.zeros_like(dt)
    for rates in mixer.A:  # (F,)
        mean += np.exp(dt * rates)
    return mean.T / mean.dtype.type(len(mixer.A))


def state_norms(model: Decoder, recording: Recorded, layer: int) -> NDArray:
    """Return how large the state is after each token: the root of the sum of its squares.

    Returns (H, T), in Mamba 1 (F, T): of a channel's N numbers.
    """
    mixer = _recurrence(model, layer)
    T = _tap(recording, layer, "scan").shape[1]
    state: NDArray | None = None
    norms = []
    for t in range(T):
        # A scan over one token gives the state after it.
        if isinstance(mixer, GatedDeltaNet):
            taps = ("q", "k", "v", "decay", "beta")
            q, k, v, g, beta = (_tap(recording, layer, name)[:, t : t + 1] for name in taps)
            _, state = delta_rule(q, k, v, g, beta, state)
        elif isinstance(mixer, LightningAttention):
            q, k, v = (_tap(recording, layer, name)[:, t : t + 1] for name in ("q", "k", "v"))
            _, state = lightning_attention(q, k, v, mixer.slopes, state)
        else:
            x, dt, B, C = (
                _tap(recording, layer, name)[:, t : t + 1] for name in ("x", "time_step", "B", "C")
            )
            scan = selective_scan if isinstance(mixer, Mamba1) else ssm_scan
            _, state = scan(x, dt, mixer.A, B, C, mixer.D, state)
        axes = 0 if isinstance(mixer, Mamba1) else (1, 2)  # (N, F), or (H, P, N)
        norms.append(np.sqrt(np.sum(np.square(state[0]), axis=axes)))
    return np.stack(norms, axis=1)


def recurrent_size(model: Decoder, layer: int) -> RecurrentSize:
    """Return the size of a layer's state."""
    mixer = _recurrence(model, layer)
    state = mixer.new_state(1, 0)
    names = {GatedDeltaNet: "delta", LightningAttention: "lightning"}
    name = next((name for kind, name in names.items() if isinstance(mixer, kind)), "ssm")
    return RecurrentSize(tuple(state[name].shape[1:]), state.nbytes)


def _found(model: Decoder, layer: int) -> Recurrence | None:
    """Return a layer's recurrence, None where it has none."""
    return next((mixer for mixer in mixers_of(model.blocks[layer]) if isinstance(mixer, Recurrence)), None)


def _recurrence(model: Decoder, layer: int) -> Recurrence:
    """Return a layer's recurrence; raises InputError where it has none."""
    layers = recurrent_layers(model)
    if layer not in layers:
        have = ", ".join(map(str, layers)) or "none"
        raise InputError(f"Layer {layer} has no recurrence. Layers of this model that have one: {have}.")
    found = _found(model, layer)
    assert found is not None
    return found


def _tap(recording: Recorded, layer: int, name: str) -> NDArray:
    """Return an array of the recording, (1, T, …); raises InputError where it is missing, or of a batch."""
    path = f"blocks.{layer}.mixer.{name}"
    return of_one_text(recording, path, f"Record all taps of the layer: ts.record('blocks.{layer}.mixer.*').")


def _heads(mixer: Recurrence) -> int:
    """Return H; in Mamba 1 the number of channels."""
    return len(mixer.D) if isinstance(mixer, Mamba1) else mixer.heads


def _chosen(mixer: Recurrence, heads: Heads) -> NDArray[np.intp]:
    """Return the indices of heads; raises InputError for some that are not there."""
    H = _heads(mixer)
    chosen = np.arange(H) if heads is None else np.asarray(heads, dtype=np.intp)
    outside = chosen[(chosen < 0) | (chosen >= H)]
    if outside.size:
        raise InputError(f"head {outside[0]}: this layer's heads or channels are 0 to {H - 1}.")
    return chosen


def _by_heads(mixer: Recurrence, x: NDArray) -> NDArray:
    """Divide (1, T, H·P) or (1, T, H, P) into heads: (H, T, P)."""
    return x.reshape(x.shape[1], _heads(mixer), -1).swapaxes(0, 1)
