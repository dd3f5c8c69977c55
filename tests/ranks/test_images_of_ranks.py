"""Images in a text of a model that ranks share: rank 0 encodes them, and all ranks read their vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from both_ways import Same, Share, both_ways
from divided_by_heads import config_of, from_random_file
from divided_models import builder_of_parts
from parity import save
from qwen_vl_parity import small_config, small_rows
from random_models import deeper
from vision_parity import whole_model

from tinystar_np.cache import SeenImage
from tinystar_np.cache.images import grouped
from tinystar_np.generation.loop import run
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.loading import load


class Eyes:
    """What stands for an encoder of images, which has read them already."""

    image_token_id = 7

    def see(self, images: Any, first: int = 0) -> Any:
        return tuple(images)


def images(*, deep: int = 0, together: bool = False, prefix: bool = False) -> tuple[SeenImage, ...]:
    random = np.random.default_rng(2)
    vectors = random.standard_normal((2, 6, 32), dtype=np.float32)
    further = random.standard_normal((2, deep, 6, 32), dtype=np.float32)
    found = tuple(
        SeenImage(
            np.arange(first, first + 6),
            vectors[n],
            (1, 2, 3) if deep else None,
            further[n] if deep else None,
            prefix=prefix,
        )
        for n, first in enumerate((3, 12))
    )  # fmt: skip
    return grouped(found) if together else found


@both_ways
@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        ("llama", {}),
        ("qwen3_vl_text", {"deep": 3}),
        ("gemma3_text", {"together": True}),
        ("gemma", {"prefix": True}),
    ],
)
def test_of_each_kind(
    model_type: str, kind: dict[str, Any], share: Share, same: Same, tmp_path: Path
) -> None:
    """Vectors between the tokens, positions by their grid, further vectors in later layers, groups."""
    build = from_random_file(deeper(config_of(model_type)), tmp_path)
    whole = build()
    parts = share(build, whole.config.sizes["L"])
    ids, seen = np.arange(20, 45), images(**kind)
    for image in seen:
        ids[image.places] = Eyes.image_token_id
    found = []
    for model in (whole, parts):
        model.vision = Eyes()  # type: ignore[assignment]
        cache = model.new_cache()
        first = 25 if kind.get("prefix") else 6  # a prompt of which all tokens see one another is not cut
        logits = [model(ids, images=seen), model(ids[:first], cache=cache, images=seen)]
        if first < 25:
            logits += [
                model(ids[first:14], cache=cache, images=seen),
                model(ids[14:], cache=cache, images=seen),
            ]
        cache.save(tmp_path / "cache")
        logits.append(model(ids[:1], cache=model.load_cache(tmp_path / "cache"), last_only=True))
        found.append(logits)
    for one, other in zip(*found, strict=True):
        assert np.isfinite(one).all()
        same(other, one)


@both_ways
@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl"])
def test_files_with_an_encoder(kind: str, share: Share, same: Same, tmp_path: Path) -> None:
    """A batch with two images, one and none; the same with a cache; and what is generated from it."""
    save(whole_model(small_config(kind)), tmp_path)
    whole, _ = load(tmp_path)
    parts = share(builder_of_parts(tmp_path), len(whole.blocks))
    parts.vision = whole.vision
    assert whole.vision is not None
    rows = small_rows()
    ids, seen = np.array([row for row, _ in rows]), [whole.vision.see(given) for _, given in rows]
    same(parts(ids, images=seen), whole(ids, images=seen))
    caches = whole.new_cache(len(rows)), parts.new_cache(len(rows))
    for piece in (ids[:, :4], ids[:, 4:15], ids[:, 15:]):  # within an image, and between
        one, other = (m(piece, cache=c, images=seen) for m, c in zip((whole, parts), caches, strict=True))
        same(other, one)
    options = SamplingOptions(max_new_tokens=5, temperature=0.0)
    texts = [
        [(piece.index, piece.token_id) for piece in run(model, ids.tolist(), None, options, images=seen)]
        for model in (whole, parts)
    ]
    assert texts[0] == texts[1]
