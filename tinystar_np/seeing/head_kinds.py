"""Kinds of attention heads, by measure: where, on the average, a head's attention goes.

    first token     to the text's first token, where attention rests that has nothing to look for
    self            to the token itself
    previous token  to the one before it
    duplicate token to earlier tokens that are the same as this one
    induction       to the tokens after these: what followed last time is likely to follow again

                    … the cat sat … the →       duplicate: "the"    induction: "cat"

A score is the share of its attention that a query gives to these tokens, averaged over the queries that have
such a token within reach (of a window or chunk). Kinds are not exclusive, and a head need not have any.

The measure is Olsson et al.'s "prefix matching score" (2022, arXiv:2209.11895), there for induction on random
tokens repeated, here for each kind; TransformerLens' head detector computes the same sums, over all queries.
On a repeated random text nothing but repetition can be used, so ``induction_scores`` is the fair test for
induction; ``head_kinds`` is for the text at hand. Sinks of attention: Xiao et al. 2023, arXiv:2309.17453.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.errors import InputError
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.kernels.masks import Mask, visible
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.models.base import Decoder
from tinystar_np.seeing.recorder import record

KINDS = ("first token", "self", "previous token", "duplicate token", "induction")
THRESHOLD = 0.4
"""A head is said to be of a kind from this score on: these tokens get two fifths of its attention."""
ABOVE_CHANCE = 2.0
"""And from so many times the score of even attention: in a text of three tokens even that is large."""


@dataclass(frozen=True)
class LayerHeads:
    """The heads of one layer, measured.

    layer        its index
    scores       {kind: (H,) scores from 0 to 1}; NaN where no query has such a token within reach
    chance       {kind: the score of a head that attends evenly to all within its reach}
    queries      {kind: how many queries have such a token}
    unattended   (H,) the share of attention that no token gets, where a sink takes it; 0 without sinks
    """

    layer: int
    scores: Mapping[str, NDArray]
    chance: Mapping[str, float]
    queries: Mapping[str, int]
    unattended: NDArray

    def kinds(self, head: int, threshold: float = THRESHOLD) -> list[str]:
        """Return what a head is said to be, the highest score first."""
        found = {
            kind: float(scores[head])
            for kind, scores in self.scores.items()
            if scores[head] >= max(threshold, ABOVE_CHANCE * self.chance[kind])  # false for NaN
        }
        return sorted(found, key=lambda kind: -found[kind])


def head_kinds(model: Decoder, recording: Mapping[str, NDArray], ids: ArrayLike) -> list[LayerHeads]:
    """Measure the heads of every layer that attends, on the recorded text.

    recording  of one pass over the text, without a cache: "blocks.*.attention.probabilities"
    ids        (T,) its tokens

    Returns one for each layer with attention, in their order.
    Raises InputError where the recording lacks a layer's probabilities, or is of another text.
    """
    tokens = np.asarray(ids)
    T = len(tokens)
    measured = []
    for layer, block in enumerate(model.blocks):
        mixers = [mixer for mixer in mixers_of(block) if isinstance(mixer, Attention | LatentAttention)]
        if not mixers:
            continue
        path = f"blocks.{layer}.attention.probabilities"
        if path not in recording:
            raise InputError(
                f"The recording has no {path}. Record it: ts.record('blocks.*.attention.probabilities')."
            )
        probabilities = recording[path]
        if tokens.ndim != 1 or probabilities.shape[0] != 1 or probabilities.shape[2:] != (T, T):
            raise InputError(
                f"{path} has the shape {probabilities.shape}, but must be (1, H, {T}, {T}) for ids of the "
                f"shape {tokens.shape}: record one pass over the whole text, without a cache."
            )
        places = np.arange(T)
        reach = visible(Mask(places, places, *mixers[0].limits()))
        measured.append(_measured(layer, probabilities[0], tokens, reach))
    return measured


def induction_scores(
    model: Decoder,
    *,
    length: int = 50,
    repeats: int = 2,
    texts: int = 1,
    seed: int = 0,
    beginning: Sequence[int] = (),
    among: Sequence[int] | None = None,
) -> list[LayerHeads]:
    """Measure the heads on random tokens that are repeated, in which nothing else can be foreseen.

    length     how many random tokens, all different where there are enough
    repeats    how often they stand in a row, at least 2
    texts      how many such texts to average over
    seed       of the random tokens
    beginning  ids before them, such as the token that begins every text
    among      the ids to choose from, such as those of common words; None for all but those that end a text

    Returns what ``head_kinds`` returns; chance and queries are those of one text.
    Raises InputError for numbers that make no such text, ContextFullError where it does not fit the model.
    """
    if length < 2 or repeats < 2 or texts < 1:
        raise InputError(
            f"length = {length}, repeats = {repeats}, texts = {texts}: a repeated text has at least 2 "
            "tokens, twice, and there must be at least one."
        )
    rng = np.random.default_rng(seed)
    ends = set(model.end_ids)
    pool = [id for id in range(model.vocab_size) if id not in ends] if among is None else list(among)
    measured = []
    for _ in range(texts):
        tokens = rng.choice(pool, length, replace=length > len(pool))
        ids = np.concatenate([np.asarray(beginning, dtype=np.int64), np.tile(tokens, repeats)])
        with record("blocks.*.attention.probabilities", optional=True) as recording:
            model(ids)
        measured.append(head_kinds(model, recording, ids))
    return [_mean(layers) for layers in zip(*measured, strict=True)]


def targets(tokens: NDArray) -> dict[str, NDArray[np.bool_]]:
    """Say for each kind which tokens a query would attend to: {kind: (T, T), queries before keys}.

    tokens  (T,) ids
    """
    T = len(tokens)
    earlier = np.tri(T, k=-1, dtype=bool)
    same: NDArray[np.bool_] = np.equal.outer(tokens, tokens) & earlier
    after_same = np.pad(same[:, :-1], ((0, 0), (1, 0)))
    first = np.zeros((T, T), dtype=np.bool_)
    first[1:, 0] = True
    own = np.eye(T, dtype=np.bool_)
    own[:1] = False  # the first token has nothing else to attend to
    found = first, own, np.eye(T, k=-1, dtype=np.bool_), same, after_same & earlier
    return dict(zip(KINDS, found, strict=True))


def _measured(layer: int, probabilities: NDArray, tokens: NDArray, reach: NDArray[np.bool_]) -> LayerHeads:
    """Measure one layer: probabilities (H, T, T), and which keys each query reaches (T, T)."""
    even = reach / np.maximum(reach.sum(axis=1, keepdims=True), 1)
    scores, chance, queries = dict[str, NDArray](), dict[str, float](), dict[str, int]()
    for kind, wanted in targets(tokens).items():
        within = wanted & reach
        having = within.any(axis=1)
        count = queries[kind] = int(having.sum())
        shares = np.einsum("hts,ts->ht", probabilities, within.astype(probabilities.dtype))[:, having]
        scores[kind] = shares.mean(axis=1) if count else np.full(len(probabilities), np.nan, np.float32)
        chance[kind] = float((even * within).sum(axis=1)[having].mean()) if count else float("nan")
    unattended = 1 - probabilities.sum(axis=-1).mean(axis=-1)
    return LayerHeads(layer, scores, chance, queries, np.maximum(unattended, 0))


def _mean(layers: Sequence[LayerHeads]) -> LayerHeads:
    """Average the measures of one layer in several texts."""
    first = layers[0]
    scores = {kind: np.mean([layer.scores[kind] for layer in layers], axis=0) for kind in KINDS}
    unattended = np.mean([layer.unattended for layer in layers], axis=0)
    return LayerHeads(first.layer, scores, first.chance, first.queries, unattended)
