"""What every model of text and images must pass: small random models of transformers against ours.

``whole_model`` makes one, ``check_images`` holds ours against it with images in every way a model can be
called.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity import TOLERANCE, assert_close, random_ids, randomise
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from tinystar_np.cache import join_caches
from tinystar_np.generation.loop import run
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.loading import load
from tinystar_np.models import Decoder
from tinystar_np.models.vision.pixels import ImageInput, Pixels

VOCABULARY, IMAGE = 211, 210
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
"""The decoder of the small models."""
VISION: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 28,
    "patch_size": 7,
}
"""The encoder of the small models, where its class has these keys."""

Row = tuple[list[int], list[ImageInput]]
Theirs = Callable[[Sequence[Row]], dict[str, torch.Tensor]]
"""Turns the images of all rows into what a model of transformers takes."""


def whole_model(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """Make a small model with every parameter random, in eager attention."""
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager", dtype=torch.float32)
    randomise(model, seed)
    return model.eval()


def random_pixels(*shape: int, seed: int = 0, size: tuple[int, int] | None = None, **facts: Any) -> Pixels:
    """Make normalised pixels (n, C, h, w)."""
    tiles = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Pixels(tiles, size or (shape[-2], shape[-1]), **facts)


def row_of(*parts: int | tuple[Pixels, int], image_token: int = IMAGE, seed: int = 5) -> Row:
    """Make a row of random tokens and images of so many vectors: ``row_of(3, (image, 16), 4)``."""
    ids: list[int] = []
    images = []
    for part in parts:
        if isinstance(part, int):
            ids += random_ids(part, seed=seed + len(ids), vocabulary=image_token).tolist()
        else:
            pixels, count = part
            images.append(ImageInput(pixels, np.arange(len(ids), len(ids) + count)))
            ids += [image_token] * count
    return ids, images


def images_in_turn(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """The tiles of all images of all rows, one after the other: (n, C, h, w)."""
    return {"pixel_values": torch.tensor(np.concatenate([i.pixels.tiles for _, row in rows for i in row]))}


def two_one_none(count: int = 16, C: int = 3) -> list[Row]:
    """Rows with two images among words, with one at the end, and with none; of ``count`` vectors each."""
    one, other = random_pixels(1, C, 28, 28), random_pixels(1, C, 28, 28, seed=1)
    length = 10 + 2 * count
    return [
        row_of(3, (one, count), 2, (other, count), 5),
        row_of(length - count, (one, count)),
        row_of(length),
    ]


def renamed_as(kind: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return tensors as the first files name them, or, "of transformers 5", as its newest do."""
    named = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")
        plain = plain.replace("language_model.model.", "language_model.")
        plain = plain.replace("language_model.lm_head.", "lm_head.")
        if kind != "of transformers 5":
            plain = plain.replace("vision_tower.", "vision_tower.vision_model.")
            plain = plain.replace("language_model.", "language_model.model.")
            named[plain.replace("lm_head.", "language_model.lm_head.")] = tensor
        else:
            named[plain if plain.startswith("lm_head.") else f"model.{plain}"] = tensor
    return named


def images_of_any_size(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """What Pixtral's encoder takes: all images in turn, filled up to the largest, and their sizes.

    What they are filled up with is not read.
    """
    tiles = [image.pixels.tiles for _, images in rows for image in images]
    sizes = [each.shape[-2:] for each in tiles]
    height, width = (max(edges) for edges in zip(*sizes, strict=True))
    padded = [
        np.pad(each, ((0, 0), (0, 0), (0, height - h), (0, width - w)), constant_values=7.0)
        for each, (h, w) in zip(tiles, sizes, strict=True)
    ]
    return {"pixel_values": torch.tensor(np.concatenate(padded)), "image_sizes": torch.tensor(sizes)}


def logits_with_images(reference: PreTrainedModel, rows: Sequence[Row], theirs: Theirs) -> np.ndarray:
    """The reference's logits (B, T, V) of rows of one length."""
    given = theirs(rows) if any(images for _, images in rows) else {}
    with torch.no_grad():
        return reference(torch.tensor([ids for ids, _ in rows]), use_cache=False, **given).logits.numpy()


def check_images(
    reference: PreTrainedModel,
    directory: Path,
    rows: Sequence[Row],
    theirs: Theirs,
    *,
    tolerance: float = TOLERANCE,
    cuts_within_images: bool = True,
    in_pieces: bool = True,
) -> Decoder:
    """Hold the model in ``directory`` against ``reference``, with images.

    rows                ids and images of a batch, all of one length
    cuts_within_images  whether pieces may end within an image
    in_pieces           whether prompts may be read in pieces at all

    Returns our model.
    """
    model, _ = load(directory, dtype="float32")
    assert model.vision is not None
    ids = np.array([row for row, _ in rows])
    images = [given for _, given in rows]
    expected = logits_with_images(reference, rows, theirs)
    alone = [logits_with_images(reference, [row], theirs)[0] for row in rows]
    for b, (row, given) in enumerate(rows):
        assert_close(model(row, images=given), alone[b], tolerance, f"row {b}")
        assert_close(
            model(row, images=given, last_only=True), alone[b][-1:], tolerance, f"row {b}, last_only"
        )
    assert_close(model(ids, images=images), np.stack(alone), tolerance, "the batch")
    assert_close(expected, np.stack(alone), tolerance, "the reference's batch against its rows")

    seen = [model.vision.see(given) for given in images]
    length = ids.shape[1]
    starts = sorted({run[0] for row in seen for image in row for run in image.runs()})
    ends = sorted({run[1] for row in seen for image in row for run in image.runs()})
    cutting = [set(starts), set(ends) - {length}]
    if cuts_within_images:
        inside = {(a + b) // 2 for row in seen for image in row for a, b in image.runs()}
        cutting += [set(range(length)), inside, {n + 1 for n in starts}, {n - 1 for n in ends}]
    for cut in cutting if in_pieces else ():
        cache = model.new_cache(batch_size=len(rows))
        places = sorted({0, *cut, length})
        found = [model(ids[:, a:b], cache=cache, images=seen) for a, b in pairwise(places)]
        assert_close(np.concatenate(found, axis=1), np.stack(alone), tolerance, f"cut at {sorted(cut)!s:.40}")
    check_rows_apart(model, rows, tolerance)
    check_greedy_with_images(reference, model, rows, theirs)
    return model


def check_rows_apart(model: Decoder, rows: Sequence[Row], tolerance: float) -> None:
    """Rows of different lengths, with different numbers of images: continued together as alone."""
    caches = []
    for n, (ids, images) in enumerate(rows):
        cache = model.new_cache()
        model(ids, cache=cache, images=images, last_only=True)
        model(ids[: 1 + n], cache=cache)  # so that they stand at different lengths
        caches.append(cache)
    joined = join_caches(caches)
    held = joined.images or [()] * len(rows)
    assert [len(row) for row in held] == [len(images) for _, images in rows]
    for new in (1, 5, 1):
        ids = random_ids(len(rows), new, vocabulary=IMAGE)
        alone = [model(row, cache=cache) for row, cache in zip(ids, caches, strict=True)]
        assert_close(model(ids, cache=joined), np.stack(alone), tolerance, "rows of different lengths")


def check_greedy_with_images(
    reference: PreTrainedModel, model: Decoder, rows: Sequence[Row], theirs: Theirs
) -> None:
    """The same ids as transformers' generate, for each row alone and for all together."""
    assert model.vision is not None
    expected = []
    for ids, images in rows:
        given = theirs([(ids, images)]) if images else {}
        prompt = torch.tensor([ids])
        found = reference.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False, **given
        )
        expected.append(found[0, len(ids) :].tolist())
    options = SamplingOptions(max_new_tokens=8, temperature=0.0)
    found_ids: list[list[int]] = [[] for _ in rows]
    seen = [model.vision.see(images) for _, images in rows]
    for piece in run(model, [ids for ids, _ in rows], None, options, images=seen):
        found_ids[piece.index].append(piece.token_id)
    assert found_ids == expected
