"""Comparing two implementations of a model, ours and transformers', activation by activation.

Where they first part, the weights of that layer are compared (tensor_kinds.py), and then what it computed
(activation_kinds.py): together they say what is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.weight_table import Row, expand
from tinystar_np.errors import TinyStarError
from tinystar_np.kernels.linear import unpacked
from tinystar_np.models import Decoder
from tinystar_np.seeing.comparison.activation_kinds import Compared, activation_kind
from tinystar_np.seeing.comparison.activations import Difference, first_beyond
from tinystar_np.seeing.comparison.prompt_reach import unseen_in
from tinystar_np.seeing.comparison.sides import heads_of
from tinystar_np.seeing.comparison.tensor_kinds import tensor_kind
from tinystar_np.seeing.comparison.transformers_model import Reference, run_transformers
from tinystar_np.seeing.recorder import record

SIDES = "(A: transformers, B: here)"
BY_HEAD = tuple(
    f"attention.{name}"
    for name in (
        *("q", "k", "v", "q_norm", "k_norm", "q_rotated", "q_scaled", "k_rotated", "mixed"),
        *("gate", "gated"),
    )
)


@dataclass(frozen=True)
class Comparison:
    """One text in both implementations. A is transformers, B is ours.

    model      ours
    tokens     T
    pairs      {our name: (theirs, ours)}, in the order of the computation and of the same shapes
    ours       all of our activations
    reference  all of theirs
    """

    model: Decoder
    tokens: int
    pairs: Mapping[str, tuple[NDArray, NDArray]]
    ours: Mapping[str, NDArray]
    reference: Reference

    @property
    def differences(self) -> list[Difference]:
        """How far each activation differs; the logits come last."""
        return [Difference.between(name, ours, theirs) for name, (theirs, ours) in self.pairs.items()]

    @property
    def unseen(self) -> list[str]:
        """What so few tokens cannot show."""
        return unseen_in(self.model, self.tokens)

    def answer(self, tolerance: float) -> str:
        """Say which activation is the first to differ, in which module, and why."""
        rows = self.differences
        first = first_beyond(rows, tolerance)
        if first is None:
            return f"All {len(rows)} activations agree within {tolerance:g}"
        at = rows.index(first)
        tensors = [
            row for row in expand(self.model.WEIGHTS, self.model.config).values() if _is_of(row, first.name)
        ]
        module = f" ({type(self.model).PREFIX}{tensors[0].theirs.rpartition('.')[0]})" if tensors else ""
        inputs = "its inputs agree" if at else "nothing comes before it"
        said = [f"first: {first.name}, {first.relative:.1e}{module}; {inputs}"]
        weights = list(self._weights(tensors))
        if weights:
            return "\n".join([*said, *weights])
        theirs, ours = self.pairs[first.name]
        own = {row.ours.rpartition(".")[2]: unpacked(self.model.weights[row.ours]) for row in tensors}
        kind = activation_kind(
            Compared(first.name, theirs, ours, self.ours, own.get("gain"), own.get("bias"))
        )
        agree = "its weights agree: " if tensors else ""
        why = f"{kind} {SIDES}" if kind else _where_to_look(first.name)
        return "\n".join([*said, f"{agree}{why}"])

    def _weights(self, rows: Sequence[Row]) -> Iterator[str]:
        """Yield how each tensor of a layer differs, of those that do."""
        for row in rows:
            theirs = self.reference.parameters.get(row.theirs)
            if theirs is None or theirs.shape != row.stored:
                continue
            a, b = row.taken_from(theirs), unpacked(self.model.weights[row.ours])
            b = b.T if row.transposed else b
            if row.is_matrix and not row.transposed and not row.is_table:
                a, b = a.T, b.T  # a row for each output
            if not np.array_equal(a, b, equal_nan=True):
                N, M = (*b.shape, 1, 1)[:2]
                rows_and_columns = heads_of(row.ours, N, M, self.model.config.sizes)
                twin = self._twin(row, theirs)
                kind = twin or tensor_kind(a, b, (rows_and_columns[0], rows_and_columns[1]))
                yield f"{type(self.model).PREFIX}{row.theirs}: {kind} {SIDES}"

    def _twin(self, row: Row, theirs: NDArray) -> str:
        """Find another of our tensors that equals theirs."""
        part = row.taken_from(theirs)
        wanted = part.T if row.transposed else part
        for name, matrix in self.model.weights.items():
            alike = matrix.shape == wanted.shape and np.ptp(wanted) > 0
            if name != row.ours and alike and np.array_equal(unpacked(matrix), wanted):
                return f"A's is {name} of B"
        return ""


def compare_with_transformers(model: Decoder, ids: Sequence[int], reference: Path) -> list[Difference]:
    """Run both models on the same tokens and compare every activation that can be paired.

    model      ours
    ids        T token ids
    reference  the directory that transformers loads its model from

    Returns the differences in the order of the computation; the logits come last.
    Raises TinyStarError where torch or transformers is missing, or cannot load the directory.
    """
    return run_both(model, ids, reference).differences


def run_both(model: Decoder, ids: Sequence[int], reference: Path) -> Comparison:
    """Run both models on the same tokens: arguments and errors as of ``compare_with_transformers``."""
    with record() as ours:
        model(np.asarray(ids))
    theirs = run_transformers(model, ids, reference, list(ours))
    pairs = {}
    for name in ours:
        if name not in theirs.activations:
            continue
        there = _rotated_part(name, theirs.activations[name], ours[name])
        here = ours[name]
        if name.endswith("k_rotated") and there.shape[:2] == here.shape[:2]:
            there = there[:, :, : here.shape[2]]  # before what stands for more than one token (DeepSeek-V4)
        if name.endswith("_rotated") and there.ndim == 4:  # some hold apart what they do not rotate
            here = here[..., : there.shape[-1]]
        # A module that computes queries and their gates together has no counterpart here.
        if name.endswith(BY_HEAD) and here.size != there.size:
            continue
        # Nor has a stream of two vectors, of which layers there are handed one (HRM-Text).
        if name.endswith(("embedding", "residual")) and here.shape[-1] == 2 * there.shape[-1]:
            continue
        pairs[name] = _alike(name, there, here)
    return Comparison(model, len(ids), pairs, ours, theirs)


def _rotated_part(name: str, theirs: NDArray, ours: NDArray) -> NDArray:
    """Take the part of their queries or keys that ours are: latent attention rotates the last numbers."""
    J = ours.shape[-1]
    if not name.endswith("_rotated") or theirs.ndim != 4 or theirs.shape[-1] <= J:
        return theirs
    part = theirs[:, : ours.shape[1], :, -J:]  # of keys one for all heads
    # They may put pairs into halves before the rotation, which no product of queries and keys sees.
    in_turn = part.reshape(*part.shape[:-1], 2, J // 2).swapaxes(-1, -2).reshape(part.shape)
    return min((part, in_turn), key=lambda form: float(np.abs(form - ours).max()))


def _alike(name: str, theirs: NDArray, ours: NDArray) -> tuple[NDArray, NDArray]:
    """Bring both to our shape, where theirs has heads elsewhere: (theirs, ours)."""
    if name.endswith(BY_HEAD) and ours.ndim == 4 and theirs.size == ours.size:
        tokens_first = theirs.reshape(len(ours), ours.shape[2], ours.shape[1], ours.shape[3])  # (B, T, H, K)
        if theirs.ndim == 3:
            of_tokens = name.endswith(("gate", "gated"))  # ours has heads after tokens, too
            theirs = theirs.reshape(ours.shape) if of_tokens else tokens_first.transpose(0, 2, 1, 3)
        elif theirs.shape != ours.shape or ours.shape[1] == ours.shape[2]:
            forms = [
                form for form in (theirs, tokens_first.transpose(0, 2, 1, 3)) if form.shape == ours.shape
            ]
            # With as many heads as tokens both fit: the nearer one is right.
            theirs = min(forms, key=lambda form: float(np.abs(form - ours).mean()))
    if ours.shape != theirs.shape:
        raise TinyStarError(f"{name} has shape {ours.shape} here and {theirs.shape} in transformers.")
    return theirs, ours


def _is_of(row: Row, activation: str) -> bool:
    """Say whether an activation is the output of the layer that has a tensor."""
    return row.ours.rpartition(".")[0] == ("head" if activation == "logits" else activation)


def _where_to_look(activation: str) -> str:
    """Say what an activation is made of, where its numbers do not say what is wrong."""
    looks = {
        "attention.probabilities": "the mask, the scale, a cap or a bias of the scores",
        "attention.mixed": "the order of heads, or which values each head reads",
        "attention.q": "the product, or how it is divided into heads",
        "residual_middle": "what is added to the stream, or a multiplier of it",
        "residual": "what is added to the stream, or a multiplier of it",
        "feed_forward.activation": "the activation function, or which half is the gate",
        "feed_forward.chosen": "how the router's scores choose",
        "mixer.scan": "the recurrence",
    }
    found = [words for name, words in looks.items() if activation.endswith(name)]
    return f"look at {found[0]}" if found else "look at how it is computed"
