"""The essentials of one token: what the model would say at each layer, who wrote it, where they looked."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from tinystar_np.errors import TinyStarError
from tinystar_np.seeing.look import Seen
from tinystar_np.seeing.parts import Part
from tinystar_np.seeing.shown_tokens import texts_alone

TOP = 5
PARTS = 10
LINKS = 3

Json = dict[str, object]


@dataclass(frozen=True)
class Candidate:
    """A token with its text and its probability."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True)
class LayerSays:
    """What the model would say after a layer, if that were the last one.

    layer        its number; −1 is the embedding
    likeliest    the likeliest tokens
    probability  of the token that came next
    rank         its rank among all tokens: 1 is the likeliest
    """

    layer: int
    likeliest: tuple[Candidate, ...]
    probability: float
    rank: int


@dataclass(frozen=True)
class Link:
    """How much attention a head pays to a position, and the text of the token there."""

    position: int
    text: str
    weight: float


@dataclass(frozen=True)
class Writer:
    """A part of the model, what it added to the token's logit, and where it looked.

    name   "blocks.3.attention head 2"
    value  what it added to the difference of the two logits
    links  of a head of attention: the positions it took most from
    """

    name: str
    value: float
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Glance:
    """The essentials of one token.

    position   after which the token came
    texts      of the tokens up to that position
    token      the one that came next, or the likeliest where the text ends here
    against    the likeliest other token: parts are of the difference between the two logits
    layers     what the model would say, the embedding first
    difference of the two logits
    writers    all parts, the largest first; none where the logits are no sums
    refused    why there are none
    """

    position: int
    texts: tuple[str, ...]
    token: Candidate
    against: Candidate | None
    layers: tuple[LayerSays, ...]
    difference: float
    writers: tuple[Writer, ...]
    refused: str = ""

    def as_json(self) -> Json:
        """Return all of it for ``json.dumps``; JSON has no NaN and no infinity, which are null."""
        made: Json = _in_json(asdict(self))
        return made


def _in_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def glance(seen: Seen, position: int | None = None) -> Glance:
    """Return the essentials of one token.

    position  after which it came; None for the last token that was written, or for what would come next
              where none was
    """
    last = len(seen.ids) - 1
    p = (last - 1 if len(seen.ids) > seen.prompt_length else last) if position is None else position
    top = min(TOP, seen.model.vocab_size)
    lens = seen.logit_lens(top)
    token_id = int(seen.followed[p])
    known = texts_alone(seen.tokenizer, {*seen.ids[: p + 1], *map(int, lens.top_ids[:, p].flat), token_id})
    layers = tuple(
        LayerSays(
            layer - 1,
            tuple(
                Candidate(int(id), known[int(id)], float(share))
                for id, share in zip(ids, probabilities, strict=True)
            ),
            float(lens.probabilities[layer, p]),
            int(lens.ranks[layer, p]),
        )
        for layer, (ids, probabilities) in enumerate(
            zip(lens.top_ids[:, p], lens.top_probabilities[:, p], strict=True)
        )
    )
    token = Candidate(token_id, known[token_id], float(lens.probabilities[-1, p]))
    against = next((each for each in layers[-1].likeliest if each.token_id != token.token_id), None)
    texts = tuple(known[id] for id in seen.ids[: p + 1])
    try:
        attribution = seen.attributions(p, token.token_id, against.token_id if against else None)
    except TinyStarError as error:
        return Glance(p, texts, token, against, layers, 0.0, (), str(error))
    writers = tuple(
        Writer(part.name, part.value, _links(seen, part, p, texts)) for part in attribution.by_size()
    )
    return Glance(p, texts, token, against, layers, attribution.logit, writers)


def _links(seen: Seen, part: Part, position: int, texts: Sequence[str]) -> tuple[Link, ...]:
    """Return the positions that a head of attention takes most from; none for other parts."""
    path = f"{part.path}.probabilities"
    if part.kind != "head" or path not in seen.recording:
        return ()
    weights = seen.recording[path][0, part.index, position]
    best = np.argsort(-weights, kind="stable")[:LINKS]
    return tuple(Link(int(s), texts[s], float(weights[s])) for s in best if s <= position and weights[s] > 0)
