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
    """How much attention a head pays to a token, or to an image.

    position  of the token; of an image, that of its vector which gets most
    text      of the token; of an image, which one it is and where on it most is taken from
    weight    the attention
    is_image  whether it is an image, all of whose vectors count together
    """

    position: int
    text: str
    weight: float
    is_image: bool = False


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
class ImageLook:
    """How much attention a layer pays to an image, in the mean of its heads.

    layer    its number
    image    the image's, the first being 0
    weight   the attention that all its vectors get together
    most_at  the part of the image that gets most: "upper left", "top", …
    """

    layer: int
    image: int
    weight: float
    most_at: str


@dataclass(frozen=True)
class Glance:
    """The essentials of one token.

    position   after which the token came
    texts      of the tokens up to that position; the first of an image's has words for all of it in brackets,
               the others of it have none
    token      the one that came next, or the likeliest where the text ends here
    against    the likeliest other token: parts are of the difference between the two logits
    layers     what the model would say, the embedding first
    difference of the two logits
    writers    all parts, the largest first; none where the logits are no sums
    refused    why there are none
    images     how much attention each layer pays to each image that it can see
    """

    position: int
    texts: tuple[str, ...]
    token: Candidate
    against: Candidate | None
    layers: tuple[LayerSays, ...]
    difference: float
    writers: tuple[Writer, ...]
    refused: str = ""
    images: tuple[ImageLook, ...] = ()

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
    alone = [known[id] for id in seen.ids[: p + 1]]
    texts = _texts(seen, alone)
    images = _image_looks(seen, p)
    try:
        attribution = seen.attributions(p, token.token_id, against.token_id if against else None)
    except TinyStarError as error:
        return Glance(p, texts, token, against, layers, 0.0, (), str(error), images)
    writers = tuple(
        Writer(part.name, part.value, _links(seen, part, p, alone)) for part in attribution.by_size()
    )
    return Glance(p, texts, token, against, layers, attribution.logit, writers, images=images)


def _texts(seen: Seen, alone: Sequence[str]) -> tuple[str, ...]:
    """Put one text in the place of those of each image's tokens."""
    texts = list(alone)
    for number, image in enumerate(seen.images):
        start, end = image.span
        for position in range(start, min(end, len(texts))):
            texts[position] = f"[{image_name(seen, number)}]" if position == start else ""
    return tuple(texts)


def image_name(seen: Seen, number: int) -> str:
    """Name an image: "image" where there is one, "image 2" where there are several."""
    return f"image {number + 1}" if len(seen.images) > 1 else "image"


def _image_looks(seen: Seen, position: int) -> tuple[ImageLook, ...]:
    """Return how much attention each layer pays to each image, reading at a position."""
    found = []
    for layer in range(len(seen.model.blocks)):
        path = f"blocks.{layer}.attention.probabilities"
        if path not in seen.recording:
            continue
        weights = seen.recording[path][0, :, position].mean(axis=0)  # (S,)
        for number, image in enumerate(seen.images):
            weight = float(weights[image.places].sum())
            if weight > 0:
                found.append(ImageLook(layer, number, weight, image.most_at(weights)))
    return tuple(found)


def _links(seen: Seen, part: Part, position: int, texts: Sequence[str]) -> tuple[Link, ...]:
    """Return the tokens and images that a head of attention takes most from; none for other parts."""
    path = f"{part.path}.probabilities"
    if part.kind != "head" or path not in seen.recording:
        return ()
    weights = seen.recording[path][0, part.index, position]
    single = weights.copy()  # of tokens that are no image's
    of_images = []
    for number, image in enumerate(seen.images):
        weight = float(weights[image.places].sum())
        single[image.places] = 0
        most = int(image.places[weights[image.places].argmax()])
        where = f"{image_name(seen, number)}: {image.most_at(weights)}"
        of_images.append(Link(most, where, weight, is_image=True))
    best = np.argsort(-single, kind="stable")[:LINKS]
    tokens = [Link(int(s), texts[s], float(single[s])) for s in best if s <= position]
    found = sorted((*tokens, *of_images), key=lambda link: -link.weight)
    return tuple(link for link in found if link.weight > 0)[:LINKS]
