"""Where on an image each vector lies: by hand, and by pictures whose colours are their places.

In a picture whose red is the share from the left and whose green is the share from the top, what an encoder
sees in a patch says where the patch lies: the whole preparation of images is tested with it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from transformers.models.llava_next.modeling_llava_next import unpad_image

from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.boxes import cells, looks
from tinystar_np.vision.clip import ClipImages
from tinystar_np.vision.gemma3 import Gemma3Images, PanAndScan
from tinystar_np.vision.idefics3 import Idefics3Images
from tinystar_np.vision.llama4 import Llama4Images
from tinystar_np.vision.llava import LlavaImages
from tinystar_np.vision.llava_next import LlavaNextImages
from tinystar_np.vision.paligemma import PaliGemmaImages
from tinystar_np.vision.pixtral import PixtralImages
from tinystar_np.vision.qwen2_vl import Qwen2VLImages
from tinystar_np.vision.settings import Edges
from tinystar_np.vision.siglip import SiglipImages
from tinystar_np.vision.steps import BICUBIC, BILINEAR, Steps

UNCHANGED: dict[str, Any] = {"scale": 1 / 255, "mean": None, "std": None}
SIZES = [(40, 40), (90, 120), (200, 61), (64, 300), (113, 127)]


def places_as_colours(height: int, width: int) -> NDArray[np.uint8]:
    """Make a picture (H, W, 3): how far right, how far down, and that there is a picture at all."""
    image = np.empty((height, width, 3))
    image[..., 0] = (np.arange(width) + 0.5) / width
    image[..., 1] = ((np.arange(height) + 0.5) / height)[:, None]
    image[..., 2] = 1
    return np.round(255 * image).astype(np.uint8)


def of_cells(tiles: NDArray, rows: int, columns: int) -> NDArray:
    """Average tiles (n, 3, h, w) in cells, row by row: (n · rows · columns, 3)."""
    n, _, height, width = tiles.shape
    cut = tiles.reshape(n, 3, rows, height // rows, columns, width // columns)
    return cut.mean(axis=(3, 5)).transpose(0, 2, 3, 1).reshape(-1, 3)


def in_squares(side: int) -> Callable[[Pixels], NDArray]:
    """Average squares of so many pixels, as many as fit."""

    def averaged(pixels: Pixels) -> NDArray:
        rows, columns = (edge // side for edge in pixels.tiles.shape[-2:])
        return of_cells(pixels.tiles[:, :, : rows * side, : columns * side], rows, columns)

    return averaged


def in_cells(side: int) -> Callable[[Pixels], NDArray]:
    """Average as many cells along each side of each tile."""
    return lambda pixels: of_cells(pixels.tiles, side, side)


def as_llava_next(pixels: Pixels) -> NDArray:
    """Lay patches out as transformers' ``pack_image_features`` does, with a newline of NaN."""
    side = pixels.tiles.shape[-1] // 14
    patches = of_cells(pixels.tiles, side, side).reshape(-1, side, side, 3)
    rows, columns = pixels.grid
    canvas = torch.tensor(patches[1:]).view(rows, columns, side, side, 3)
    canvas = canvas.permute(4, 0, 2, 1, 3).flatten(1, 2).flatten(2, 3)
    kept = unpad_image(canvas, pixels.size)
    with_newlines = torch.cat([kept, torch.full((*kept.shape[:-1], 1), torch.nan)], dim=-1)
    return np.concatenate([patches[0].reshape(-1, 3), with_newlines.flatten(1, 2).T.numpy()])


def steps(resize: Edges, crop: tuple[int, int] | None = None, pad: tuple[int, int] | None = None) -> Steps:
    return Steps(resize, BILINEAR, crop, 1 / 255, None, None, pad)


CLIP = steps(Edges(shortest_edge=56), (56, 56))
FORMS: dict[str, tuple[Any, Callable[[Pixels], NDArray]]] = {
    "clip": (ClipImages(CLIP, 14), in_squares(14)),
    "siglip": (SiglipImages(steps(Edges(60, 60)), 16), in_squares(16)),
    "llava": (LlavaImages(CLIP), in_squares(14)),
    "llava, resized to more than is cut out": (
        LlavaImages(steps(Edges(shortest_edge=71), (56, 56))),
        in_squares(14),
    ),
    "llava, patches that do not fill": (LlavaImages(CLIP, patch_size=12), in_squares(12)),
    "llava, made square": (LlavaImages(CLIP, border=(0, 0, 0), patch_size=4), in_squares(4)),
    "llava, zeros at the end": (LlavaImages(steps(Edges(56, 56), pad=(84, 70))), in_squares(14)),
    "llava, black around": (LlavaImages(steps(Edges(40, 40), (56, 56))), in_squares(14)),
    "paligemma": (PaliGemmaImages(steps(Edges(64, 64)), vectors=16), in_cells(4)),
    "gemma3": (Gemma3Images(steps(Edges(64, 64)), vectors=16), in_cells(4)),
    "gemma3 with parts": (
        Gemma3Images(steps(Edges(64, 64)), PanAndScan(least_side=30), vectors=16),
        in_cells(4),
    ),
    "idefics3": (
        Idefics3Images(Edges(longest_edge=150), tile=48, vectors=9, filter=BICUBIC, **UNCHANGED),
        in_cells(3),
    ),
    "idefics3 whole": (Idefics3Images(tile=48, is_split=False, vectors=9, **UNCHANGED), in_cells(3)),
    "llama4": (Llama4Images(tile=48, tokens_per_tile=9, **UNCHANGED), in_cells(3)),
    "llama4, enlarged": (Llama4Images(48, 6, True, tokens_per_tile=9, **UNCHANGED), in_cells(3)),
    "llava_next": (
        LlavaNextImages(
            ((56, 112), (112, 56), (112, 112), (168, 56)), (56, 56), 56, 56, (56, 56), **UNCHANGED
        ),
        as_llava_next,
    ),
    "llava_next, tiles cut": (
        LlavaNextImages(((56, 112), (112, 56), (112, 112)), (70, 70), 56, 70, (56, 56), **UNCHANGED),
        as_llava_next,
    ),
    "pixtral": (PixtralImages((100, 100), square=14, **UNCHANGED), in_squares(14)),
    "pixtral, cut": (PixtralImages((100, 100), crop=(60, 45), square=14, **UNCHANGED), in_squares(14)),
    "pixtral as it is": (PixtralImages(None, square=14, **UNCHANGED), in_squares(14)),
    "qwen2_vl": (Qwen2VLImages(least=3000, most=20000, square=28, **UNCHANGED), in_squares(28)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FORMS)
def test_colours_say_the_same(name: str, size: tuple[int, int]) -> None:
    form, colours_of = FORMS[name]
    pixels = form.pixels(places_as_colours(*size))
    boxes, colours = form.boxes(pixels), colours_of(pixels)
    by_itself = isinstance(form, ClipImages | SiglipImages)  # which stand in no text
    assert boxes.shape == (len(colours) if by_itself else form.text(pixels).count(form.image_token), 4)
    assert len(boxes) == len(colours)
    newline = np.isnan(colours[:, 0])
    assert np.isnan(boxes[newline]).all()
    # Filters blur what lies at an edge, so what is only nearly on the picture, or off it, proves nothing.
    on, off = colours[:, 2] > 0.995, colours[:, 2] < 0.005
    assert on.sum() >= 3
    assert np.isnan(boxes[off]).all()
    assert not np.isnan(boxes[on]).any()
    middles = (boxes[on, :2] + boxes[on, 2:]) / 2
    assert_allclose(middles, colours[on, :2], atol=0.011)
    assert np.nanmin(boxes) >= 0
    assert np.nanmax(boxes) <= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FORMS)
def test_boxes_of_a_look_do_not_overlap_and_fill(name: str, size: tuple[int, int]) -> None:
    """Their areas add up to that of the box around them all, and every point in it lies in one of them."""
    form, _ = FORMS[name]
    boxes = form.boxes(form.pixels(places_as_colours(*size)))
    several = name in ("gemma3 with parts", "idefics3", "llama4", "llama4, enlarged") or "next" in name
    found = looks(boxes)
    assert len(found) <= 1 + several
    for look in found:
        those = boxes[look][~np.isnan(boxes[look, 0])]
        around = np.concatenate([those[:, :2].min(axis=0), those[:, 2:].max(axis=0)])
        if "tiles cut" not in name or look is found[0]:  # there is room between tiles whose edges are cut off
            area = ((those[:, 2] - those[:, 0]) * (those[:, 3] - those[:, 1])).sum()
            assert_allclose(area, (around[2] - around[0]) * (around[3] - around[1]), rtol=1e-9)
        points = np.random.default_rng(0).uniform(around[:2], around[2:], (200, 2))
        within = (points[:, None] > those[:, :2]).all(-1) & (points[:, None] < those[:, 2:]).all(-1)
        assert within.sum(axis=1).max() == 1


def test_the_middle_of_a_wide_picture() -> None:
    """100 × 200: of what CLIP sees a quarter is left out on either side."""
    form = LlavaImages(CLIP)
    boxes = form.boxes(form.pixels(places_as_colours(100, 200)))
    assert_allclose(boxes[0], [0.25, 0, 0.375, 0.25])
    assert_allclose(boxes[5], [0.375, 0.25, 0.5, 0.5])
    assert_allclose(boxes[15], [0.625, 0.75, 0.75, 1])


@pytest.mark.parametrize(("extra", "first"), [(1, None), (0, 0), (-1, 1)])
def test_the_cls_token_has_no_box(extra: int, first: int | None) -> None:
    """-1 drops a patch: of an encoder without such a token the first vector is one."""
    form = LlavaImages(CLIP, extra_vectors=extra)
    boxes = form.boxes(form.pixels(places_as_colours(30, 30)))
    assert len(boxes) == 16 + extra
    if first is None:
        assert np.isnan(boxes[0]).all()
        boxes, first = boxes[1:], 0
    assert_allclose(boxes, cells((0, 0, 1, 1), 4, 4)[first:])


def test_a_border_around_a_high_picture() -> None:
    """100 × 50 in a square: the outer columns of patches have nothing, the two between are wide."""
    form = LlavaImages(CLIP, border=(9, 9, 9))
    boxes = form.boxes(form.pixels(places_as_colours(100, 50))).reshape(4, 4, 4)
    assert np.isnan(boxes[:, [0, 3]]).all()
    assert_allclose(boxes[2, 1], [0, 0.5, 0.5, 0.75])
    assert_allclose(boxes[3, 2], [0.5, 0.75, 1, 1])


def test_a_canvas_of_llama4() -> None:
    """30 × 70 on 1 × 2 tiles of 48: it fills 30 of 48 rows and 70 of 96 columns."""
    form = Llama4Images(tile=48, tokens_per_tile=4)
    pixels = form.pixels(places_as_colours(30, 70))
    assert pixels.grid == (1, 2)
    boxes = form.boxes(pixels)
    rows, columns = 24 / 30, 24 / 70
    assert_allclose(boxes[0], [0, 0, columns, rows])
    assert_allclose(boxes[1], [columns, 0, 2 * columns, rows])
    assert_allclose(boxes[2], [0, rows, columns, 1])
    assert_allclose(boxes[4], [2 * columns, 0, 1, rows])
    assert np.isnan(boxes[5]).all()
    assert_allclose(boxes[8:], cells((0, 0, 1, 1), 2, 2))
    assert [look.start for look in looks(boxes)] == [0, 8]


def test_newlines_of_llava_next() -> None:
    """28 × 56 on two tiles of 28: the whole, then rows of four with a newline after each."""
    form = LlavaNextImages(((28, 56),), (28, 28), 28, 28, (28, 28))
    boxes = form.boxes(form.pixels(places_as_colours(28, 56)))
    assert_allclose(boxes[:4], cells((0, 0, 1, 1), 2, 2))
    assert_array_equal(np.flatnonzero(np.isnan(boxes[:, 0])), [8, 13])
    assert_allclose(np.delete(boxes[4:], [4, 9], axis=0), cells((0, 0, 1, 1), 2, 4))
    assert [look.start for look in looks(boxes)] == [0, 4]


def test_bars_of_llava_next() -> None:
    """28 × 28 on a canvas of 28 × 84: a third of it has the picture, and bars of a tile are dropped."""
    form = LlavaNextImages(((28, 84),), (28, 28), 28, 28, (28, 28))
    boxes = form.boxes(form.pixels(places_as_colours(28, 28)))
    assert_allclose(np.delete(boxes[4:], [2, 5], axis=0), cells((0, 0, 1, 1), 2, 2))


def test_parts_of_gemma3() -> None:
    """100 × 301 in three parts of 101, 101 and 99 columns, which are not of one width."""
    form = Gemma3Images(steps(Edges(64, 64)), PanAndScan(least_side=40), vectors=4)
    pixels = form.pixels(places_as_colours(100, 301))
    assert len(pixels.tiles) == 4
    boxes = form.boxes(pixels)
    assert_allclose(boxes[:4], cells((0, 0, 1, 1), 2, 2))
    assert_allclose(boxes[4:8], cells((0, 0, 101 / 301, 1), 2, 2))
    assert_allclose(boxes[12:], cells((202 / 301, 0, 1, 1), 2, 2))
    assert [look.start for look in looks(boxes)] == [0, 4]


def test_tiles_of_idefics3_and_the_whole() -> None:
    form = Idefics3Images(Edges(longest_edge=96), tile=48, vectors=4)
    pixels = form.pixels(places_as_colours(48, 96))
    assert pixels.grid == (1, 2)
    boxes = form.boxes(pixels)
    assert_allclose(boxes[:4], cells((0, 0, 0.5, 1), 2, 2))
    assert_allclose(boxes[4:8], cells((0.5, 0, 1, 1), 2, 2))
    assert_allclose(boxes[8:], cells((0, 0, 1, 1), 2, 2))
    assert [look.start for look in looks(boxes)] == [0, 8]


def test_looks_at_nothing() -> None:
    """Vectors without a box neither begin a look nor end one."""
    assert looks(np.full((3, 4), np.nan)) == [slice(0, 3)]
