"""The keys of a config.json about rotary embedding: where they are, and whether their values are valid.

Files come in two spellings. Old ones have ``rope_theta`` and, where frequencies are scaled, ``rope_scaling``
with a ``type`` or ``rope_type``; transformers 5 writes all of it into ``rope_parameters``, for some models
once per kind of layer. ``rope_theta`` and ``partial_rotary_factor`` may be inside or outside. Which one wins
is as in transformers.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Self, TypeGuard

from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.models.config import require

INSIDE_OR_OUTSIDE = ("rope_theta", "partial_rotary_factor")

Kind = tuple[str, Callable[[object], bool]]
"""What a value must be: in words, and as a test."""


LEAST, MOST = 1e-15, 1e15
"""What a number other than 0 may be: products of any two, and powers, are far from the ends of float32."""


def _is_number(value: object) -> TypeGuard[int | float]:
    # Bounded by what a float holds: JSON can spell infinity, NaN and whole numbers beyond.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


ABOVE_0: Kind = ("a number above 0", lambda n: _is_number(n) and n > 0)
AT_LEAST_0: Kind = ("a number, at least 0", lambda n: _is_number(n) and n >= 0)
AT_LEAST_1: Kind = ("a number, at least 1", lambda n: _is_number(n) and n >= 1)
FRACTION: Kind = ("a number above 0, at most 1", lambda n: _is_number(n) and 0 < n <= 1)
LENGTH: Kind = ("a whole number of tokens, at least 1", _is_length)
OBJECT_OR_NULL: Kind = ("an object or null", lambda value: value is None or isinstance(value, Mapping))
TRUE_OR_FALSE: Kind = ("true or false", lambda value: isinstance(value, bool))


class RopeKeys:
    """A config's keys about rotary embedding, with their full names for messages.

    inside   the dictionary ``rope_scaling`` or ``rope_parameters``; its own keys win
    outside  the config's other keys
    called   that dictionary's name
    """

    def __init__(self, inside: Mapping[str, object], outside: Mapping[str, object], called: str):
        self.inside = inside
        self.outside = outside
        self.called = called

    @classmethod
    def of(cls, keys: Mapping[str, object], kind: str | None) -> Self:
        """Find the dictionary; the old spelling wins where both are filled.

        kind  the kind of layer whose dictionary is meant, where each has one. A kind that is missing there,
              or null, has an empty one.
        """
        outside = cls({}, keys, "")
        for called in ("rope_scaling", "rope_parameters"):
            outside.check(called, keys.get(called), OBJECT_OR_NULL)
        called = "rope_scaling" if keys.get("rope_scaling") else "rope_parameters"
        inside = _object(keys.get(called))
        kinds = [name for name, value in inside.items() if isinstance(value, Mapping)]
        if not kinds and (kind is None or kind not in inside):
            return cls(inside, keys, called)
        require(
            kind is not None,
            f"{called} is given for each kind of layer ({one_line(', '.join(kinds))}), "
            "but the layers of this architecture are of one kind.",
        )
        assert kind is not None
        one = f"{called}.{kind}"
        outside.check(one, inside.get(kind), OBJECT_OR_NULL)
        # transformers looks for this key outside only where there is one dictionary for all layers.
        keys = {key: value for key, value in keys.items() if key != "original_max_position_embeddings"}
        return cls(_object(inside.get(kind)), keys, one)

    def get(self, key: str) -> object:
        """Return a value, wherever it is; null is as good as nothing."""
        value = self.inside.get(key)
        return self.outside.get(key) if value is None and key in INSIDE_OR_OUTSIDE else value

    def name(self, key: str) -> str:
        """Return a key's full name in the file, or the one that it should have."""
        is_outside = key in INSIDE_OR_OUTSIDE and self.inside.get(key) is None
        return key if is_outside else f"{self.called}.{key}"

    def check(self, name: str, value: object, kind: Kind) -> None:
        """Raise ConfigError, naming key and value, unless the value is of this kind."""
        words, is_right = kind
        require(is_right(value), f"{name} = {_shortened(value)}, but it must be {words}.")

    def number(self, key: str, kind: Kind, otherwise: float | None = None) -> float:
        """Return a number of this kind; without ``otherwise`` it must be there."""
        value = self.get(key)
        if value is None and otherwise is not None:
            return otherwise
        require(value is not None, f"{self.name(key)} is missing; it must be {kind[0]}.")
        self.check(self.name(key), value, kind)
        assert isinstance(value, int | float)  # all these kinds are
        return _in_range(self.name(key), value)

    def factors(self, key: str, count: int) -> tuple[float, ...]:
        """Return a list of so many numbers above 0, one for each pair."""
        value = self.get(key)
        numbers = value if isinstance(value, list) and all(map(ABOVE_0[1], value)) else []
        words = f"a list of {count} numbers above 0, one for each pair"
        require(len(numbers) == count, f"{self.name(key)} = {_shortened(value)}, but it must be {words}.")
        return tuple(_in_range(f"{self.name(key)}[{i}]", number) for i, number in enumerate(numbers))

    def longest(self) -> int:
        """Return the length of text that the model is made for."""
        return self._length("max_position_embeddings", self.outside.get("max_position_embeddings"))

    def trained(self) -> int:
        """Return the length of text before any scaling: the longest, unless the config has another."""
        key = "original_max_position_embeddings"
        value = self.outside.get(key)
        name = key  # the one outside wins: Phi-3 has it there
        if value is None:
            value, name = self.inside.get(key), f"{self.called}.{key}"
        if value is None:
            return self.longest()
        return self._length(name, value)

    def _length(self, name: str, value: object) -> int:
        self.check(name, value, LENGTH)
        assert isinstance(value, int)
        return value


def _in_range(name: str, number: float) -> float:
    """Return a number as a float; raises ConfigError, naming key and value, where it has no use."""
    words = f"but rotations need 0 or a size from {LEAST:g} to {MOST:g}"
    require(number == 0 or LEAST <= abs(number) <= MOST, f"{name} = {shown(number)}, {words}.")
    return float(number)


def _object(value: object) -> Mapping[str, object]:
    """Return a value that was checked to be an object or null; null is as good as an empty one."""
    return value if isinstance(value, Mapping) else {}


def _shortened(value: object) -> str:
    """Show a value, or of a long list its beginning and length."""
    if isinstance(value, list) and len(value) > 4:
        return f"[{', '.join(map(shown, value[:3]))}, …] ({len(value)} entries)"
    return shown(value)
