"""Settings from files that anybody may have written: honoured, or refused with file, key and value."""

from typing import Any

import pytest
from transformers.image_processing_utils import get_size_dict

from tinystar_np.errors import ConfigError
from tinystar_np.vision.settings import OPENAI_MEAN, OPENAI_STD, Edges, Settings


@pytest.mark.parametrize(
    "value", [336, [300, 200], {"height": 3, "width": 4}, {"shortest_edge": 5}, {"longest_edge": 7}]
)
@pytest.mark.parametrize("square", [False, True])
def test_sizes_are_spelled_as_transformers_spells_them(value: Any, square: bool) -> None:
    found = Settings({"size": value}).size("size", Edges(1, 1), square=square)
    given = {name: edge for name, edge in found._asdict().items() if edge is not None}
    assert given == get_size_dict(value, default_to_square=square)
    other = Settings({"size": value, "default_to_square": not square}).size(
        "size", Edges(1, 1), square=square
    )
    given = {name: edge for name, edge in other._asdict().items() if edge is not None}
    assert given == get_size_dict(value, default_to_square=not square)


def test_null_as_number_or_text_is_the_default() -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ["size", "resample", "rescale_factor", "image_mean", "image_token"]
    )
    for settings in (Settings(nothing), Settings({})):
        assert settings.size("size", Edges(shortest_edge=9)) == Edges(shortest_edge=9)
        assert settings.resample(3) == 3
        assert settings.scaling(OPENAI_MEAN, OPENAI_STD) == (1 / 255, OPENAI_MEAN, OPENAI_STD)
        assert settings.text("image_token", "<image>") == "<image>"
        assert settings.part("size").values == {}


@pytest.mark.parametrize("default", [False, True])
def test_null_as_flag_is_false(default: bool) -> None:
    assert not Settings({"do_resize": None}).flag("do_resize", default)
    assert Settings({}).flag("do_resize", default) == default
    assert Settings({"do_resize": not default}).flag("do_resize", default) != default


def test_steps_that_are_left_out() -> None:
    assert Settings({"do_rescale": False, "image_mean": 0.5}).scaling(OPENAI_MEAN, (1.0, 2.0, 3.0)) == (
        None,
        (0.5, 0.5, 0.5),
        (1.0, 2.0, 3.0),
    )
    assert Settings({"do_normalize": None, "rescale_factor": 2}).scaling(OPENAI_MEAN, OPENAI_STD) == (
        2.0,
        None,
        None,
    )


def read_all(file: Settings) -> None:
    """Ask for a key of each kind."""
    file.size("size", Edges(1, 1))
    file.resample(3)
    file.scaling(OPENAI_MEAN, OPENAI_STD)
    file.text("image_token", "<image>")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"height": 3}}, "size = {'height': 3}, but it must have height and width"),
        ({"size": {}}, "size = {}, but it must have height and width"),
        ({"size": 0}, "size = 0, but it must be a whole number from 1 to 16384"),
        ({"size": {"shortest_edge": True}}, "must be a whole number"),
        ({"size": [3.0, 4]}, "must be a whole number"),
        ({"size": 10**30}, "must be a whole number from 1 to 16384"),
        ({"size": {"height": 3, "width": 4, "depth": 5}}, "must have height and width"),
        ({"default_to_square": "yes", "size": 3}, "default_to_square = 'yes', but it must be true or false"),
        ({"resample": 6}, "resample = 6, but it must be the number of one of Pillow's filters"),
        ({"resample": "bicubic"}, "resample = 'bicubic', but"),
        ({"do_rescale": 1}, "do_rescale = 1, but it must be true or false"),
        ({"rescale_factor": 0}, "rescale_factor = 0, but it must be a number above 0"),
        ({"rescale_factor": float("nan")}, "rescale_factor = nan, but"),
        ({"rescale_factor": 10**400}, "rescale_factor = .*, but it must be a number above 0"),
        ({"image_mean": [0.5, 0.5]}, "must be three numbers, of red, green and blue"),
        ({"image_mean": [0.5, 0.5, "0.5"]}, "must be three numbers"),
        ({"image_mean": float("inf")}, "must be three numbers"),
        ({"image_std": [0.5, 0, 0.5]}, r"image_std = \[0.5, 0, 0.5\], but it must not be 0"),
        ({"image_std": 1e-300}, "image_std = 1e-300, but it must not be 0"),
        ({"image_token": ""}, "image_token = '', but it must be a token's text"),
        ({"image_token": {"content": 3}}, "must be a token's text"),
        ({"image_token": "\x1b[2J", "size": "\x1b[2J"}, r"size = '\\x1b\[2J', but"),
    ],
)
def test_what_no_image_can_be_prepared_with_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^preprocessor_config.json: .*{message}"):
        read_all(Settings(settings))


def test_objects_within_a_file() -> None:
    config = Settings({"vision_config": {"patch_size": 0}, "text_config": 3}, "config.json")
    with pytest.raises(
        ConfigError, match=r"^config.json: vision_config.patch_size = 0, but it must be a whole"
    ):
        config.part("vision_config").whole("patch_size", 14)
    with pytest.raises(ConfigError, match=r"^config.json: text_config = 3, but it must be an object"):
        config.part("text_config")
    with pytest.raises(
        ConfigError, match=r"^preprocessor_config.json: kind = 'c', but it must be one of a, b\.$"
    ):
        Settings({"kind": "c"}).one_of("kind", "a", ("a", "b"))
    assert Settings({"kind": "b"}).one_of("kind", "a", ("a", "b")) == "b"


def test_what_config_json_says_of_the_encoder_holds() -> None:
    Settings({"patch_size": 14}).same("patch_size", 14)
    Settings({}).same("patch_size", 14)
    with pytest.raises(ConfigError, match=r"patch_size = 16, but it is 14 to the encoder of config\.json"):
        Settings({"patch_size": 16}).same("patch_size", 14)
