"""Image files of every kind → pixels, against Pillow's own conversions and pixels written by hand."""

import struct
import sys
import tracemalloc
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_images import awkward_images, encoded, gradient, noise, photo
from numpy.testing import assert_array_equal
from PIL import Image
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import load_image

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.vision.reading import read_image

PHOTO = photo(37, 53)
MASK = (np.indices((37, 53)).sum(0) * 255 // 88).astype(np.uint8)


def test_a_lossless_file_gives_its_pixels(tmp_path: Path) -> None:
    for i, (name, image) in enumerate(awkward_images().items()):
        path = tmp_path / f"{i}.png"
        Image.fromarray(image).save(path)
        assert_array_equal(read_image(path), image, err_msg=name)
        if image.size < 100_000:
            assert_array_equal(read_image(str(path)), image)
            assert_array_equal(read_image(path.read_bytes()), image)
            assert_array_equal(read_image(Image.open(path)), image)
            assert_array_equal(read_image(image), image)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 30}),
        ("JPEG", {"progressive": True, "subsampling": 2}),
        ("WEBP", {"quality": 50}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG2000", {}),
        ("PPM", {}),
        ("TGA", {}),
        ("ICO", {}),
    ],
)
def test_files_of_each_format_are_as_load_image_reads_them(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(Image.fromarray(PHOTO), kind, **options))
    found = read_image(path)
    assert found.dtype == np.uint8
    assert_array_equal(found, np.array(load_image(str(path))))
    # ICO makes its pictures square and small.
    assert kind == "ICO" or abs(found.astype(int) - PHOTO).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned"
    path.write_bytes(encoded(Image.fromarray(PHOTO), kind, exif=exif))
    found = read_image(path)
    assert found.shape == ((37, 53, 3) if orientation < 5 else (53, 37, 3))
    assert_array_equal(found, np.array(load_image(str(path))))
    if kind == "PNG":  # what the standard says of where row 0 and column 0 are
        upright = PHOTO if orientation < 5 else PHOTO.transpose(1, 0, 2)
        rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
        columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
        assert_array_equal(found, upright[rows, columns])


@pytest.mark.filterwarnings("ignore")  # Pillow's, of tags that it skips
def test_a_picture_with_damaged_exif_is_read() -> None:
    image = Image.fromarray(PHOTO)
    for exif in (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        file = encoded(image, "JPEG", exif=exif)
        assert_array_equal(read_image(file), np.array(Image.open(BytesIO(file))))


def rgba() -> Image.Image:
    return Image.fromarray(np.dstack([PHOTO, MASK]))


def palette(transparency: int | bytes | None) -> bytes:
    image = Image.fromarray(PHOTO).quantize(16)
    return encoded(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


KINDS: dict[str, bytes] = {
    "RGBA": encoded(rgba(), "PNG"),
    "LA": encoded(rgba().convert("LA"), "PNG"),
    "RGB with one transparent colour": encoded(
        Image.fromarray(PHOTO), "PNG", transparency=tuple(PHOTO[3, 4].tolist())
    ),
    "L with one transparent grey": encoded(Image.fromarray(PHOTO).convert("L"), "PNG", transparency=100),
    "palette": palette(None),
    "palette with a transparent colour": palette(3),
    "palette with an alpha for each colour": palette(bytes(range(0, 256, 16))),
    "1 bit": encoded(Image.fromarray(PHOTO).convert("1"), "PNG"),
    "L": encoded(Image.fromarray(PHOTO).convert("L"), "PNG"),
    "CMYK JPEG": encoded(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"),
    "CMYK TIFF": encoded(Image.fromarray(PHOTO).convert("CMYK"), "TIFF"),
    "RGBA WebP": encoded(rgba(), "WEBP", lossless=True),
    "GIF with a transparent colour": encoded(Image.fromarray(PHOTO).quantize(8), "GIF", transparency=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_mode_is_as_transformers_converts_it(kind: str) -> None:
    image = Image.open(BytesIO(KINDS[kind]))
    expected = convert_to_rgb(image, return_numpy=True)
    assert_array_equal(read_image(KINDS[kind]), expected)
    assert_array_equal(read_image(Image.open(BytesIO(KINDS[kind]))), expected)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "CMYK", "RGBX", "LA", "PA", "P", "1", "L"])
def test_a_given_image_of_each_mode_is_as_transformers_converts_it(mode: str) -> None:
    image = Image.fromarray(PHOTO).convert("P" if mode == "PA" else mode).convert(mode)
    assert_array_equal(read_image(image), convert_to_rgb(image, return_numpy=True))


def test_what_is_transparent_becomes_white() -> None:
    hidden = np.zeros((2, 2, 4), np.uint8)
    hidden[0, 0] = (200, 10, 20, 255)
    found = read_image(encoded(Image.fromarray(hidden), "PNG"))
    assert found.tolist() == [[[200, 10, 20], [255, 255, 255]], [[255, 255, 255], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    grey = np.linspace(0, 65535, 37 * 53).astype(np.uint16).reshape(37, 53)
    found = read_image(encoded(Image.fromarray(grey), kind))
    assert_array_equal(found, np.repeat(np.round(grey / 257).astype(np.uint8)[..., None], 3, axis=-1))


def test_a_transparent_grey_of_16_bits_becomes_white() -> None:
    grey = np.array([[1000, 2000, 3000]], np.uint16)
    file = encoded(Image.fromarray(grey), "PNG")
    end = file.index(b"IDAT") - 4
    body = b"tRNS" + struct.pack(">H", 2000)
    checked = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    file = file[:end] + checked + file[end:]
    assert read_image(file)[0, :, 0].tolist() == [4, 255, 12]


def test_grey_of_other_ranges() -> None:
    floats = np.array([[0, 0.5, 1]], np.float32)
    assert read_image(encoded(Image.fromarray(floats), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(InputError, match=r"grey from -5 to 70000; up to 16 bits are read"):
        read_image(encoded(Image.fromarray(np.array([[-5, 70000]], np.int32)), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_is_read(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.full((8, 9, 3), grey, np.uint8)) for grey in (40, 90, 140)]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "moving"
    path.write_bytes(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    with pytest.warns(UserWarning, match=r"moving: has several pictures; the first is used\."):
        found = read_image(path)
    assert_array_equal(found, np.full((8, 9, 3), 40))


def test_a_phones_two_pictures_in_one_jpeg_are_one(recwarn: pytest.WarningsRecorder) -> None:
    second = Image.fromarray(noise(8, 8))
    file = encoded(Image.fromarray(PHOTO), "MPO", save_all=True, append_images=[second])
    assert Image.open(BytesIO(file)).format == "MPO"
    assert read_image(file).shape == (37, 53, 3)
    assert not recwarn.list


ARRAYS = {
    "grey": (gradient(5, 6)[..., 0], np.repeat(gradient(5, 6)[..., :1], 3, -1)),
    "grey with an axis": (gradient(5, 6)[..., :1], np.repeat(gradient(5, 6)[..., :1], 3, -1)),
    "channels first": (np.moveaxis(PHOTO, -1, 0), PHOTO),
    "one pixel": (PHOTO[:1, :1], PHOTO[:1, :1]),
    "whole numbers": (PHOTO.astype(np.int64), PHOTO),
    "floats to 1": ((PHOTO / 255).astype(np.float32), PHOTO),
    "whole floats to 255": (PHOTO.astype(np.float64), PHOTO),
    "a view with steps": (PHOTO[::2, ::-3], PHOTO[::2, ::-3].copy()),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_each_layout_and_type(kind: str) -> None:
    array, expected = ARRAYS[kind]
    found = read_image(array)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert_array_equal(found, expected)


def test_an_arrays_alpha_is_put_before_white_as_transformers_does() -> None:
    array = np.dstack([PHOTO, MASK])
    assert_array_equal(read_image(array), convert_to_rgb(array, return_numpy=True))
    assert_array_equal(read_image(np.moveaxis(array, -1, 0)), convert_to_rgb(array, return_numpy=True))


REFUSED_ARRAYS = [
    (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\) has no pixels"),
    (np.zeros((0, 0), np.uint8), r"shape \(0, 0\) has no pixels"),
    (np.zeros((5, 6, 7), np.uint8), r"shape \(5, 6, 7\) is no image's"),
    (np.zeros((1, 4, 5, 3), np.uint8), r"one image at a time"),
    (np.zeros(5, np.uint8), r"shape \(5,\) is no image's"),
    (np.zeros((1,) * 30, np.uint8), r"shape of 30 axes"),
    (np.zeros((2, 2, 3), bool), r"an array: bool are no pixels"),
    (np.full((2, 2, 3), "a"), r"are no pixels"),
    (np.full((2, 2, 3), np.nan), r"values from nan to nan"),
    (np.full((2, 2, 3), np.inf), r"values from inf to inf"),
    (np.full((2, 2, 3), -1), r"values from -1 to -1"),
    (np.full((2, 2, 3), 1000, np.uint16), r"values from 1000 to 1000"),
    (np.full((2, 2, 3), 1.5), r"its floats go up to 1.5, and not all are whole"),
]


@pytest.mark.parametrize(("array", "words"), REFUSED_ARRAYS)
def test_arrays_that_are_no_image(array: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_image(array)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, with next to nothing in it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 10)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + b"\0\0\0\0IEND\xaeB`\x82"


@pytest.mark.parametrize("pixels", [Image.MAX_IMAGE_PIXELS + 1, Image.MAX_IMAGE_PIXELS * 3])
def test_decompression_bombs_are_refused(
    tmp_path: Path, pixels: int, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(pixels, 1))
    with pytest.raises(InputError, match=r"bomb.png: has more than 89478485 pixels, Pillow's limit"):
        read_image(path)
    assert not recwarn.list


def test_a_bomb_within_an_icon_is_refused() -> None:
    inside = png_of(20_000, 10_000)
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inside), 22)
    with pytest.raises(InputError, match=r"more than 89478485 pixels"):
        read_image(directory + inside)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of tags that it skips
def test_broken_files_have_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken\x1b.jpg"
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = encoded(Image.fromarray(noise(60, 60)), kind)
        for length in (12, 60, len(whole) // 2, len(whole) - 40):
            path.write_bytes(whole[:length])
            with pytest.raises(InputError, match=r"broken\\x1b\.jpg: (the image is damaged|is no image)"):
                read_image(path)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of tags that it skips
def test_files_with_changed_bytes_end_in_pixels_or_a_sentence() -> None:
    rng = np.random.default_rng(5)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "JPEG2000", "TGA", "PPM"):
        whole = encoded(Image.fromarray(photo(20, 20)), kind)
        for _ in range(40):
            broken = np.frombuffer(whole, np.uint8).copy()
            broken[rng.integers(0, min(len(whole), 400), 5)] = rng.integers(0, 256, 5)
            with suppress(InputError):
                assert read_image(broken.tobytes()).ndim == 3


def test_what_is_no_image(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    empty = tmp_path / "empty.png"
    empty.touch()
    script = tmp_path / "picture.eps"
    script.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    for path, words in [
        (text, r"notes\.txt: is no image that is read here \(PNG, JPEG"),
        (empty, r"empty\.png: the file is empty"),
        (script, r"picture\.eps: is no image that is read here"),  # nor is Ghostscript started
        (tmp_path, r"is a directory"),
        (tmp_path / "none.png", r"none\.png: there is no such file"),
        ("\0.png", r"there is no such file|cannot be read"),
        ("x" * 5000, r"there is no such file|cannot be read"),
        ("/dev/zero", r"/dev/zero: there is no such file"),
        ("https://example.com/cat.jpg", r"addresses are not opened\. Download"),
        (Path("HTTPS://example.com/cat.jpg"), r"addresses are not opened\. Download"),
        ("file:///home/me/cat.jpg", r"addresses are not opened\. Download"),
        (b"", r"the given bytes are empty"),
        (b"GIF89a", r"the 6 given bytes"),
        (17, r"got a int\. Give a path"),
        ([PHOTO], r"got a list\."),
        (Image.new("RGB", (0, 3)), r"has no pixels: it is 0 wide and 3 high"),
    ]:
        with pytest.raises(InputError, match=words):
            read_image(path)  # type: ignore[arg-type]


def test_a_given_image_stays_as_it_is() -> None:
    image = rgba()
    image.getexif()[0x0112] = 6
    assert read_image(image).shape == (53, 37, 3)
    assert (image.mode, image.size) == ("RGBA", (53, 37))
    assert image.getexif()[0x0112] == 6


def test_without_pillow_arrays_are_read_and_files_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(PHOTO).save(path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert_array_equal(read_image(PHOTO), PHOTO)
    with pytest.raises(TinyStarError, match=r"pip install 'tinystar_np\[vision\]'"):
        read_image(path)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "RGB with a colour"]
)
def test_strips_are_converted_as_the_whole(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large picture some rows at a time are converted: as Pillow converts all of them at once."""
    monkeypatch.setattr("tinystar_np.vision.reading.AT_ONCE", 5 * PHOTO.shape[1] + 3)  # five rows, of 37
    path = tmp_path / "picture"
    options: dict[str, Any] = {}
    if mode == "I;16":
        grey = (np.arange(PHOTO[..., 0].size).reshape(PHOTO.shape[:2]) * 31 % 65536).astype(np.uint16)
        image = Image.fromarray(grey)
        expected = np.repeat(np.rint(grey[..., None] / 257).astype(np.uint8), 3, axis=-1)
    else:
        image = Image.fromarray(PHOTO)
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(MASK))
        if mode == "RGB with a colour":
            options = {"transparency": tuple(int(part) for part in PHOTO[20, 20])}
        elif image.mode != mode:
            image = image.convert(mode)
        if mode == "P":
            options = {"transparency": image.getpixel((20, 20))}
        path.write_bytes(encoded(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG", **options))
        expected = np.array(convert_to_rgb(Image.open(path)))
        image = Image.open(path)
        if mode in ("LA", "P", "RGBA") or options:
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            expected = np.array(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
            assert (expected == 255).all(-1).any()
    assert_array_equal(read_image(image), expected)


def test_reading_takes_little_more_than_the_pixels(tmp_path: Path) -> None:
    image = Image.new("RGBA", (6000, 4000), (10, 200, 30, 128))
    path = tmp_path / "large.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, compress_level=1)
    tracemalloc.start()  # of NumPy and of bytes, not of Pillow
    try:
        pixels = read_image(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pixels.shape == (6000, 4000, 3)
    assert peak < 1.6 * pixels.nbytes
