"""Llama 4's tiles and tokens: by hand, and where torchvision is installed against transformers."""

from typing import Any

import numpy as np
import pytest
import torch
from awkward_images import awkward_images, noise, photo
from numpy.testing import assert_array_equal
from PIL import Image
from transformers.models.llama4.processing_llama4 import Llama4Processor

from tinystar_np.errors import ConfigError
from tinystar_np.models.vision.pixels import Pixels
from tinystar_np.vision.llama4 import Llama4Images

CONFIG: dict[str, Any] = {
    "model_type": "llama4",
    "vision_config": {"image_size": 336, "patch_size": 14, "pixel_shuffle_ratio": 0.5},
}
SETTINGS: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Llama4ImageProcessorFast",
    "image_std": [0.5, 0.5, 0.5],
    "max_patches": 16,
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "resize_to_max_canvas": False,
    "size": {"height": 336, "width": 336},
}
RAW = Llama4Images(scale=None, mean=None, std=None)


@pytest.mark.parametrize(
    ("size", "canvas", "fitting"),
    [
        ((336, 336), (1, 1), (336, 336)),
        ((337, 336), (2, 1), (337, 336)),  # nothing is made smaller if it need not be
        ((100, 100), (1, 1), (336, 336)),  # a small image is enlarged to a tile
        ((100, 200), (1, 1), (168, 336)),  # a canvas of 1 × 2 would enlarge it more
        ((672, 1008), (2, 3), (672, 1008)),
        ((500, 400), (2, 2), (500, 400)),
        ((2000, 3000), (3, 5), (1008, 1512)),  # by 0.504; on 4 × 4 by 0.448, on 2 × 8 by 0.336
        ((5000, 5000), (4, 4), (1344, 1344)),
        ((3, 4000), (1, 12), (3, 4000)),
        ((1, 20_000), (1, 16), (1, 5376)),  # of the height a quarter would be left
    ],
)
def test_canvas(size: tuple[int, int], canvas: tuple[int, int], fitting: tuple[int, int]) -> None:
    images = Llama4Images()
    assert images.canvas(size) == canvas
    assert images.fitting(size, canvas) == fitting


@pytest.mark.parametrize(
    ("size", "canvas", "fitting"),
    [
        ((336, 336), (4, 4), (1344, 1344)),
        ((100, 200), (3, 5), (839, 1680)),  # by 8.4, in single precision a little less; on 4 × 4 by 6.72
        ((2000, 3000), (3, 5), (1008, 1512)),
    ],
)
def test_canvas_on_which_an_image_is_largest(
    size: tuple[int, int], canvas: tuple[int, int], fitting: tuple[int, int]
) -> None:
    images = Llama4Images.read(SETTINGS | {"resize_to_max_canvas": True}, CONFIG)
    assert images.canvas(size) == canvas
    assert images.fitting(size, canvas) == fitting


def test_fewer_tiles() -> None:
    images = Llama4Images.read(SETTINGS | {"max_patches": 2}, CONFIG)
    assert images.canvas((2000, 3000)) == (1, 2)
    assert images.canvas((3000, 3000)) == (1, 1)


def test_tiles_lie_row_by_row_and_the_whole_after_them() -> None:
    blocks = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
    image = np.repeat(np.repeat(blocks, 336, axis=0), 336, axis=1)
    found = RAW.pixels(image)
    assert found.size == (672, 1008)
    assert found.grid == (2, 3)
    assert found.tiles.shape == (7, 3, 336, 336)
    for tile, colour in zip(found.tiles, blocks.reshape(6, 3), strict=False):
        assert_array_equal(tile, np.broadcast_to(colour[:, None, None], tile.shape))
    whole = np.array(Image.fromarray(image).resize((336, 336), Image.Resampling.BILINEAR))
    assert_array_equal(found.tiles[6], np.moveaxis(whole, -1, 0))


def test_what_is_not_filled_is_black_on_the_right_and_below() -> None:
    image = photo(500, 400)
    found = RAW.pixels(image)
    assert found.grid == (2, 2)
    canvas = found.tiles[:4].reshape(2, 2, 3, 336, 336).transpose(2, 0, 3, 1, 4).reshape(3, 672, 672)
    assert_array_equal(canvas[:, :500, :400], np.moveaxis(image, -1, 0))
    assert not canvas[:, 500:].any()
    assert not canvas[:, :, 400:].any()
    assert (Llama4Images().pixels(image).tiles[3][:, -1] == -1).all()


def test_one_tile_is_alone() -> None:
    image = noise(100, 200)
    found = RAW.pixels(image)
    assert found.grid == (0, 0)
    assert found.tiles.shape == (1, 3, 336, 336)
    resized = np.array(Image.fromarray(image).resize((336, 168), Image.Resampling.BILINEAR))
    assert_array_equal(found.tiles[0, :, :168], np.moveaxis(resized, -1, 0))


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 1 / 255),
        ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711], 1 / 255),
        ([0.1, 1.7, 0.3], [3.3, 0.01, 1.0], 1 / 127.5),
    ],
)
def test_values_are_rounded_to_bfloat16_at_each_step(
    mean: list[float], std: list[float], scale: float
) -> None:
    image = np.resize(np.arange(256, dtype=np.uint8), (336, 336, 3))
    settings = SETTINGS | {"image_mean": mean, "image_std": std, "rescale_factor": scale}
    found = Llama4Images.read(settings, CONFIG).pixels(image).tiles
    x = torch.from_numpy(image).permute(2, 0, 1)[None].to(torch.bfloat16) * scale
    mean_, std_ = (torch.tensor(each, dtype=torch.bfloat16)[:, None, None] for each in (mean, std))
    assert_array_equal(found, ((x - mean_) / std_).float().numpy())


def test_values_that_are_scaled_alone() -> None:
    image = np.resize(np.arange(256, dtype=np.uint8), (336, 336, 3))
    found = Llama4Images.read(SETTINGS | {"do_normalize": False}, CONFIG).pixels(image).tiles
    expected = torch.from_numpy(image).permute(2, 0, 1)[None] * SETTINGS["rescale_factor"]
    assert_array_equal(found, expected.numpy())


def empty(tiles: int, grid: tuple[int, int]) -> Pixels:
    return Pixels(np.zeros((tiles, 3, 336, 336), np.float32), (1, 1), grid)


def test_text_by_hand() -> None:
    images = Llama4Images(tokens_per_tile=2)
    tile = "<|patch|><|patch|>"
    assert images.text(empty(1, (0, 0))) == f"<|image_start|><|image|>{tile}<|image_end|>"
    across, down = "<|tile_x_separator|>", "<|tile_y_separator|>"
    assert images.text(empty(5, (2, 2))) == (
        f"<|image_start|>{tile}{across}{tile}{down}{tile}{across}{tile}{down}<|image|>{tile}<|image_end|>"
    )
    assert images.mark == "<|image|>"
    assert images.before(2) == "<|image|><|image|>"


def test_text_is_the_processors() -> None:
    ours = Llama4Images.read(SETTINGS | {"patch_size": 14, "pixel_shuffle_ratio": 0.5}, CONFIG)
    assert ours == Llama4Images.read(SETTINGS, CONFIG) == Llama4Images()
    theirs = object.__new__(Llama4Processor)
    theirs.patch_size, theirs.downsample_ratio = 14, 4
    for rows, columns in [(1, 1), (1, 2), (3, 1), (2, 5), (4, 4)]:
        n = rows * columns + 1 if rows * columns > 1 else 1
        pixels = empty(n, (rows, columns) if n > 1 else (0, 0))
        inputs = {"pixel_values": pixels.tiles, "aspect_ratios": [(rows, columns)]}
        text = ours.text(pixels)
        assert text == theirs.replace_image_token(inputs, 0)
        assert text.count(ours.image_token) == 144 * n


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"height": 336, "width": 300}}, "size = .*must have an equal height and width"),
        ({"size": {"shortest_edge": 336}}, "size = .*must have an equal height and width"),
        ({"size": 20}, "size = 20, but it is too small for a token"),
        ({"do_resize": False}, "do_resize = False, but it must be true"),
        ({"do_rescale": False}, "do_rescale = False, but it must be true where do_normalize is"),
        ({"max_patches": 0}, "max_patches = 0, but it must be a whole number from 1"),
        ({"max_patches": 1000}, "max_patches = 1000, but it makes more than 67108864 pixels"),
        ({"image_processor_type": "SiglipImageProcessor"}, "image_processor_type = .* is not implemented"),
        ({"patch_size": 28}, "patch_size = 28, but it is 14"),
        ({"pixel_shuffle_ratio": 0.25}, "pixel_shuffle_ratio = 0.25, but it is 0.5"),
        ({"patch_token": "<p>"}, r"patch_token = '<p>', but it must be <\|patch\|>"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: {message}"):
        Llama4Images.read(SETTINGS | settings, CONFIG)


def test_more_tokens_than_any_model_takes() -> None:
    settings = SETTINGS | {"size": 56, "max_patches": 16_000}
    with pytest.raises(ConfigError, match="max_patches = 16000, but it makes more than 100000 tokens"):
        Llama4Images.read(settings, {"vision_config": {"patch_size": 7}})


@pytest.mark.parametrize("ratio", [1e-300, 0.001, 1.5])
def test_a_ratio_that_shuffles_nothing(ratio: float) -> None:
    with pytest.raises(
        ConfigError, match=r"^config\.json: vision_config\.pixel_shuffle_ratio = .* a fraction"
    ):
        Llama4Images.read(SETTINGS, {"vision_config": {"pixel_shuffle_ratio": ratio}})


@pytest.fixture(scope="module")
def reference() -> Any:
    """transformers' module, which imports torchvision: no other does what it does."""
    reason = "torchvision is not installed: transformers has no other image processor for Llama 4"
    pytest.importorskip("torchvision", reason=reason, exc_type=ImportError)
    from transformers.models.llama4 import image_processing_llama4

    return image_processing_llama4


@pytest.mark.parametrize("is_enlarged", [False, True])
def test_pixels_are_transformers_but_for_the_resizing(reference: Any, is_enlarged: bool) -> None:
    settings = SETTINGS | {"resize_to_max_canvas": is_enlarged}
    theirs = reference.Llama4ImageProcessor(**settings)
    of_a_tile = Llama4Images.read(SETTINGS, CONFIG)
    as_bytes = {"do_rescale": False, "do_normalize": False}
    raw = Llama4Images.read(settings | as_bytes, CONFIG)
    for name, image in awkward_images().items():
        given = {"input_data_format": "channels_last", "return_tensors": "pt"}
        expected = theirs([image], **given)
        expected_bytes = theirs([image], **given, **as_bytes)["pixel_values"].numpy()
        found = raw.pixels(image)
        ratio = tuple(expected["aspect_ratios"][0].tolist())
        assert found.grid == (ratio if ratio != (1, 1) else (0, 0)), name
        assert found.tiles.shape == expected_bytes.shape, name
        # Pillow and torchvision round the filter's weights differently.
        differences = np.abs(found.tiles - expected_bytes)
        assert differences.max() <= 1 + is_enlarged, name
        assert differences.mean() <= 0.06, name
        tiles = [of_a_tile.pixels(np.moveaxis(tile, 0, -1)).tiles[0] for tile in expected_bytes]
        assert_array_equal(tiles, expected["pixel_values"].float().numpy(), err_msg=name)


@pytest.mark.parametrize("is_enlarged", [False, True])
def test_sizes_are_transformers(reference: Any, is_enlarged: bool) -> None:
    ours = Llama4Images(is_enlarged=is_enlarged)
    tile = reference.SizeDict(height=336, width=336)
    canvases = torch.tensor(reference.find_supported_resolutions(16, tile))
    rng = np.random.default_rng(0)
    drawn = [
        *rng.integers(1, 400, (200, 2)),
        *rng.integers(1, 6000, (200, 2)),
        *(16 * rng.integers(1, 200, (200, 2))),
    ]
    for height, width in drawn:
        size = int(height), int(width)
        canvas = reference.get_best_fit(size, canvases, resize_to_max_canvas=is_enlarged)
        limit = canvas
        if not is_enlarged:
            limit = [min(max(edge, 336), most) for edge, most in zip(size, canvas, strict=True)]
        fitting = [max(int(edge), 1) for edge in reference.get_max_res_without_distortion(size, limit)]
        grid = ours.canvas(size)
        assert [336 * tiles for tiles in grid] == canvas.tolist(), size
        assert list(ours.fitting(size, grid)) == fitting, size
