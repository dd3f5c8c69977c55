"""Who wrote the token: a logit as the exact sum of what each part of the model added to it.

The residual stream is a sum: the embedding, and what each block adds. The output layer multiplies it by a
vector for each token, through the final norm. So a logit is a sum of one product for each part, once the
scale of the norm is held at what it was for this text (frozen_norms.py):

    logit = Σ_parts  part · direction               direction = the token's vector, back through the norm

What an attention layer adds is, in turn, a sum over its heads: each head's mean of values goes through its
own rows of the output matrix. A recurrent mixer with heads is divided in the same way, and experts by the
router's weights. Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".

The direction is carried from the logit back to the embedding, and meets each part on its way: through norms
after a branch (Gemma 2, OLMo 2) or after a sum (post-norm) at the scale that they had, and times the factors
of branches and logits. Nothing but the norms' scales is held fixed. The sums are checked against the
recording, of each block and of the logit, so that no part can be missing silently.

It says what each part *added*. What the model would have said without it is another question, since later
layers read what earlier ones wrote.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tinystar_np import fast
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.kernels.linear import unpacked
from tinystar_np.layers.basic import Linear, Norm
from tinystar_np.models.baichuan import NormHead
from tinystar_np.models.base import Decoder, in_silence
from tinystar_np.models.opt import ProjectedHead
from tinystar_np.seeing.branch_parts import Branch, Directions, branches_of, parts_of
from tinystar_np.seeing.frozen_norms import FrozenNorm, freeze
from tinystar_np.seeing.lens import checked_position, checked_token
from tinystar_np.seeing.parts import Attribution, Part, RecordedPlace, Term
from tinystar_np.seeing.recorded import length_of_one_text
from tinystar_np.seeing.recorder import Recording

NEEDED = (
    "embedding*",
    "blocks.*.residual*",
    "blocks.*_post_norm",
    "blocks.*.post_norm",
    "blocks.*_scaled",
    "blocks.*.attention_norm",
    "blocks.*.feed_forward_norm",
    "blocks.*.attention.mixed",
    "blocks.*.attention.gated",
    "blocks.*.mixer.gated*",
    "blocks.*.out",
    "blocks.*.feed_forward.down",
    "blocks.*.feed_forward.chosen",
    "blocks.*.feed_forward.weights",
    "blocks.*.feed_forward.experts",
    "blocks.*.feed_forward.shared_gate",
    "blocks.*.shared_out",
    "final_norm",
    "logits*",
)
"""Patterns of the taps that ``attribute`` reads, in all kinds of models:
``ts.record(*NEEDED, optional=True)`` keeps less than everything."""

TOLERANCE = 1e-4
"""How far the parts may be from the logit, as a share of the largest number that was added up."""


def attribute(
    model: Decoder, recording: Recording, position: int, token: int, other: int | None = None
) -> Attribution:
    """Divide the logit of a token, or its difference to another's, among the parts that wrote it.

    model      the model that was recorded
    recording  of one call with one text, without cache: everything, or what ``NEEDED`` names
    position   the place in the text after which the token would come; from the end where negative
    token      its id
    other      the id to compare it with; None for the logit itself

    Raises InputError for a recording that lacks something, for a position or an id outside, and for a part
    of a class whose formula is not known here; TinyStarError where the parts do not sum to what was recorded,
    so that nothing is missing silently.
    """
    return attribute_each(model, recording, position, [(token, other)])[0]


@in_silence
def attribute_each(
    model: Decoder, recording: Recording, position: int, pairs: Sequence[tuple[int, int | None]]
) -> list[Attribution]:
    """Do the same for several tokens at one position; each matrix is then read once.

    pairs  token ids, each with the id to compare it with or None

    Raises the errors of ``attribute``.
    """
    if model.WHY_NO_SUM:
        raise InputError(f"{model.WHY_NO_SUM} So a logit is no sum of what the parts added.")
    place = RecordedPlace(recording, _position(recording, position))
    for id in (id for pair in pairs for id in pair if id is not None):
        checked_token(model, id)
    if not pairs:
        return []
    name = "logits_before_cap" if "logits_before_cap" in recording else "logits"
    logits = place.vector(name)
    directions, ends = _from_logits(model, place, logits, pairs)
    found: list[list[Term]] = [ends]  # from the end of the model to its beginning
    for i in reversed(range(len(model.blocks))):
        directions, terms = _through_block(model.blocks[i], i, place, directions)
        found.append(terms)
    found.append(list(_embedding(place, directions)))
    in_order = [term for terms in reversed(found) for term in terms]
    results = []
    for n, (token, other) in enumerate(pairs):
        logit = float(logits[token] - (0.0 if other is None else logits[other]))
        parts = tuple(Part(term.path, term.kind, term.index, float(term.values[n])) for term in in_order)
        results.append(Attribution(place.position, token, other, logit, name != "logits", parts))
        _check("the logit", np.array(logit), results[-1].values)
    return results


def _position(recording: Recording, position: int) -> int:
    """Check what a recording is of; return the position counted from the beginning."""
    those = "those of tinystar_np.seeing.attribution.NEEDED"
    T = length_of_one_text(recording, ["embedding", "logits"], those)
    if recording["logits"].shape[1] != T:
        raise InputError(
            "The recording is of a call with last_only, which has the last position's logits only."
        )
    return checked_position(position, T)


def _from_logits(
    model: Decoder,
    place: RecordedPlace,
    logits: NDArray[np.float64],
    pairs: Sequence[tuple[int, int | None]],
) -> tuple[Directions, list[Term]]:
    """Go back from logits through output layer and final norm: the directions, and biases on the way."""
    project: Linear | None = None
    head = model.head
    if isinstance(head, ProjectedHead):
        project, head = head.project, head.score
    if not isinstance(head, Linear):
        raise InputError(f"The output layer is a {type(head).__name__}, not linear: its logits are no sums.")

    def columns(ids: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the vectors (n, D) and biases (n,) of tokens."""
        vectors = fast.embedding(np.array(ids), head.weight.T)  # (n, D), or (n, R) before a projection
        if isinstance(head, NormHead):
            vectors /= head.norms[ids, None]
        if project is not None:
            vectors = fast.matmul(vectors, unpacked(project.weight).T)  # (n, D)
        biases = np.zeros(len(ids)) if head.bias is None else head.bias[ids].astype(np.float64)
        return vectors.astype(np.float64), biases

    # Some models multiply their logits: by how much is read off at the largest.
    largest = int(np.abs(logits).argmax())
    vectors, biases = columns([largest])
    unscaled = float(vectors[0] @ place.vector("final_norm") + biases[0])
    factor = logits[largest] / unscaled if unscaled else 1.0
    vectors, biases = columns([token for token, _ in pairs])
    compared = [n for n, (_, other) in enumerate(pairs) if other is not None]
    if compared:
        of_others, biases_of_others = columns([other for _, other in pairs if other is not None])
        vectors[compared] -= of_others
        biases[compared] -= biases_of_others
    vectors *= factor

    norm = freeze(model.final_norm, place.vector(f"blocks.{len(model.blocks) - 1}.residual"))
    terms = list(_bias_term("final_norm", norm, vectors))
    if head.bias is not None:
        terms.append(Term("head", "bias", None, biases * factor))
    return norm.before(vectors), terms


def _through_block(
    block: object, i: int, place: RecordedPlace, directions: Directions
) -> tuple[Directions, list[Term]]:
    """Go back through a block: the directions before it, and the parts that it added."""
    scope = f"blocks.{i}"
    start = "embedding" if i == 0 else f"blocks.{i - 1}.residual"
    middle, late, end = (f"{scope}.{name}" for name in ("residual_middle", "residual_late", "residual"))
    branches = list(branches_of(block, scope, place))
    if middle in place:  # feed-forward comes after the others, or beside them
        last = [branch for branch in branches if branch.path.endswith((".feed_forward", ".per_layer"))]
        first = [branch for branch in branches if branch not in last]
        sums = [(start, first, middle), (middle, last, end)]
        if late in place:  # then comes what the layer makes of its own input
            sums[1:] = [(middle, last[:1], late), (late, last[1:], end)]
    else:
        sums = [(start, branches, end)]
    scale = vars(block).get("stream_scale")  # of all that the block leaves
    found: list[list[Term]] = []
    for before, added, after in reversed(sums):
        factor = 1.0 if scale is None or after != end else float(scale[0])
        directions, parts = _through_sum(block, place, directions * factor, before, added, after, factor)
        found.append(parts)
    return directions, [part for parts in found[::-1] for part in parts]


def _through_sum(
    block: object,
    place: RecordedPlace,
    directions: Directions,
    before: str,
    branches: Sequence[Branch],
    after: str,
    factor: float = 1.0,
) -> tuple[Directions, list[Term]]:
    """Go back through after = factor · (before + Σ branches), or the norm of that sum.

    Returns the directions before, and the parts of the branches.
    """
    scope = after.rpartition(".")[0]
    in_block = before.startswith(f"{scope}.")
    kept = f"{scope}.residual_middle_normed" if in_block else f"{scope}.residual_normed"
    stream, result = place.vector(kept if kept in place else before), place.vector(after) / factor
    norms = [f"{branch.path}_post_norm" for branch in branches] + [f"{scope}.post_norm"]
    # What a norm of the sum gives is the stream itself, and not something that is added to it.
    of_sum = next((name for name in norms if name in place and (place[name] == result).all()), None)
    parts: list[Term] = []
    terms = [stream]
    if of_sum is not None:
        terms += [place.vector(branch.out) for branch in branches]
        norm = freeze(_norm_of(block, of_sum), np.sum(terms, axis=0))
        biases = list(_bias_term(of_sum, norm, directions))
        directions = norm.before(directions)
        for branch in branches:
            parts += parts_of(branch, place, directions)
        _check(after, result, norm.after(np.sum(terms, axis=0))[None])
        return directions, parts + biases
    for branch in branches:
        added, inside, biases = _through_branch_end(block, branch, place, directions)
        parts += [*parts_of(branch, place, inside), *biases]
        terms.append(added)
    _check(after, result, np.array(terms))
    if kept in place:  # what goes on beside the branches is the stream's norm, times a factor
        norm_name = "feed_forward_norm" if in_block else "mixer_norm"
        norm = freeze(_norm_of(block, f"{scope}.{norm_name}"), place.vector(before))
        normed = norm.after(place.vector(before))
        largest = int(np.abs(normed).argmax())
        directions = norm.before(directions * (stream[largest] / normed[largest] if normed[largest] else 0.0))
    return directions, parts


def _through_branch_end(
    block: object, branch: Branch, place: RecordedPlace, directions: Directions
) -> tuple[NDArray[np.float64], Directions, list[Term]]:
    """Go back through what a block does to a branch's result before it adds it: a norm, a factor, nothing.

    Returns the vector that is added, the directions for the result, and a norm's bias.
    """
    result = place.vector(branch.out)
    normed, scaled = f"{branch.path}_post_norm", f"{branch.path}_scaled"
    if normed in place:
        norm, added = freeze(_norm_of(block, normed), result), place.vector(normed)
        if scaled in place:  # after the norm
            largest, unscaled = int(np.abs(added).argmax()), added
            added = place.vector(scaled)
            directions = directions * (added[largest] / unscaled[largest] if unscaled[largest] else 0.0)
        return added, norm.before(directions), list(_bias_term(normed, norm, directions))
    if scaled in place:
        added = place.vector(scaled)
        largest = int(np.abs(result).argmax())
        factor = added[largest] / result[largest] if result[largest] else 0.0
        return added, directions * factor, []
    return result, directions, []


def _norm_of(block: object, path: str) -> Norm:
    """Find the norm in a block whose result has this path."""
    name = path.rpartition(".")[2]
    parts = vars(block)
    found: Norm | None = {**parts, **parts.get("norms", {})}.get(name)
    if found is None:
        raise InputError(f"{path} is the result of a norm, but the block has none of this name.")
    return found


def _bias_term(path: str, norm: FrozenNorm, directions: Directions) -> Iterator[Term]:
    if norm.bias is not None:
        yield Term(path, "bias", None, directions @ norm.bias)


def _embedding(place: RecordedPlace, directions: Directions) -> Iterator[Term]:
    """Divide the embedding into the token's vector and its position's, where that one is added."""
    whole = place.vector("embedding")
    if "embedding.positions" in place:
        # Positions are looked up once for all rows: (1, T, D) as well.
        positions = place.vector("embedding.positions")
        yield Term("embedding.tokens", "whole", None, directions @ (whole - positions))
        yield Term("embedding.positions", "whole", None, directions @ positions)
    else:
        yield Term("embedding.tokens", "whole", None, directions @ whole)


def _check(what: str, recorded: NDArray[np.float64], terms: NDArray[np.float64]) -> None:
    """Raise TinyStarError unless terms (n, ...) sum to what was recorded (...)."""
    if not np.isfinite(recorded).all():
        raise TinyStarError(f"{what} is not finite (NaN or infinity), and so is no sum of parts.")
    found = terms.sum(axis=0)
    error = float(np.abs(found - recorded).max())
    if not error <= TOLERANCE * float(np.abs(terms).max()):  # not for NaN either
        worst = np.unravel_index(np.abs(found - recorded).argmax(), recorded.shape)
        raise TinyStarError(
            f"{what}: the parts add up to {found[worst]:.6g}, but {recorded[worst]:.6g} was recorded.\n"
            "Either something changed activations during the call, or the recording lacks taps of "
            "tinystar_np.seeing.attribution.NEEDED, or the model adds what is not known here."
        )
