"""The keys of preprocessor_config.json and config.json, each checked where it is read.

To transformers' image processors null is no missing key: a step whose flag is null is left out, whatever the
default. A number or size of null is refused there by a step that needs it; here it is the default then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.errors import ConfigError
from tinystar_np.vision.transforms import Colours

PREPROCESSOR = "preprocessor_config.json"
LARGEST_EDGE = 16_384  # pixels; real files ask for up to 4 096
LARGEST_AREA = 2**26  # pixels; real files ask for up to 2²⁴
LEAST_DIVISOR = 1e-30  # float32 still holds a byte's value divided by it

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of each colour among the pictures that CLIP learned from, on a scale from 0 to 1."""


class Edges(NamedTuple):
    """A size as files spell it: ``height`` and ``width``, or one of the edges, or both edges."""

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None
    longest_edge: int | None = None


@dataclass(frozen=True)
class Settings:
    """An object of a JSON file, asked for one key after the other.

    values  the parsed object
    file    the file that it is from, for error messages
    within  the key of the file under which it stands, with a dot after it
    """

    values: JsonObject
    file: str = PREPROCESSOR
    within: str = ""

    def part(self, key: str) -> Self:
        """Return the object under a key, an empty one where there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "must be an object")
        return type(self)(value or {}, self.file, f"{self.within}{key}.")

    def wrong(self, key: str, why: str) -> ConfigError:
        """Make the error that names file, key and value, and says why the value cannot be used."""
        value = self.values.get(key)
        found = "is not given" if value is None else f"= {shown(value)}"
        return ConfigError(f"{self.file}: {self.within}{key} {found}, but it {why}.")

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false; null is false."""
        value = self.values.get(key, default)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def whole(self, key: str, default: int, *, least: int = 1, most: int = LARGEST_EDGE) -> int:
        """Return a whole number from ``least`` to ``most``."""
        value = self.values.get(key)
        return default if value is None else self._whole(key, value, most, least)

    def one_of(self, key: str, default: str, known: Sequence[str]) -> str:
        """Return one of the known names."""
        value = self.values.get(key)
        if value is not None and value not in known:
            raise self.wrong(key, f"must be one of {', '.join(known)}")
        return default if value is None else str(value)

    def same(self, key: str, expected: int) -> None:
        """Raise ConfigError for another number than config.json has of the encoder; null says nothing."""
        if self.whole(key, expected, least=0) != expected:
            raise self.wrong(key, f"is {expected} to the encoder of config.json")

    def number(self, key: str, default: float) -> float:
        """Return a number that is finite and above 0."""
        value = self.values.get(key)
        if value is None:
            return default
        if not _is_number(value) or value <= 0:
            raise self.wrong(key, "must be a number above 0")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """Return a token's text, which tokenizer files also write as an object with its ``content``."""
        value = self.values.get(key)
        if isinstance(value, dict):
            value = value.get("content")
        elif value is None:
            return default
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "must be a token's text")
        return value

    def colours(self, key: str, default: Colours) -> Colours:
        """Return a number for each of red, green and blue, from three or from one that holds for all."""
        value = self.values.get(key)
        if value is None:
            return default
        if _is_number(value):
            return (float(value),) * 3
        if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
            raise self.wrong(key, "must be three numbers, of red, green and blue")
        red, green, blue = map(float, value)
        return red, green, blue

    def resample(self, default: int) -> int:
        """Return the number that Pillow gives to a filter, 0 (nearest) to 5 (Hamming)."""
        value = self.values.get("resample")
        if value is None:
            return default
        if type(value) is not int or not 0 <= value <= 5:
            raise self.wrong("resample", "must be the number of one of Pillow's filters, 0 to 5")
        return value

    def scaling(self, mean: Colours, std: Colours) -> tuple[float | None, Colours | None, Colours | None]:
        """Return what pixels are multiplied by, what is then subtracted, and what they are divided by.

        Each is None where the file leaves the step out: ``do_rescale``, ``do_normalize``.
        """
        scale = self.number("rescale_factor", 1 / 255) if self.flag("do_rescale", True) else None
        if not self.flag("do_normalize", True):
            return scale, None, None
        mean, std = self.colours("image_mean", mean), self.colours("image_std", std)
        if min(map(abs, std)) < LEAST_DIVISOR:
            raise self.wrong("image_std", "must not be 0, nor about that")
        return scale, mean, std

    def size(self, key: str, default: Edges, *, square: bool = True, most: int = LARGEST_EDGE) -> Edges:
        """Return a size.

        square  whether a number alone is height and width, else the shortest edge; unless the file says which
        most    the largest number that may stand in it
        """
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, list) and len(value) == 2:
            height, width = (self._whole(key, edge, most) for edge in value)
            return Edges(height, width)
        if not isinstance(value, dict):
            edge = self._whole(key, value, most)
            is_square = self.flag("default_to_square", square)
            return Edges(edge, edge) if is_square else Edges(shortest_edge=edge)
        edges = {name: self._whole(key, edge, most) for name, edge in value.items() if edge is not None}
        if set(edges) not in SPELLINGS:
            raise self.wrong(
                key, "must have height and width, or shortest_edge, or longest_edge, or both of these"
            )
        return Edges(**edges)

    def _whole(self, key: str, value: object, most: int, least: int = 1) -> int:
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, f"must be a whole number from {least} to {most}, or be made of such")
        return value


SPELLINGS = ({"height", "width"}, {"shortest_edge"}, {"longest_edge"}, {"shortest_edge", "longest_edge"})


def _is_number(value: object) -> bool:
    """Say whether a JSON value is a number that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30
