"""From the keys of a Hugging Face config.json to a frozen, checked dataclass."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from tinystar_np.checkpoints.json_file import JsonObject, one_line, shown
from tinystar_np.errors import ConfigError
from tinystar_np.kernels.activations import ACTIVATIONS

if TYPE_CHECKING:
    from tinystar_np.models.rope_parameters import RopeParameters

# Names are written out layer by layer and expert by expert: a billion of them would fill the memory.
MOST_LAYERS = 1_000  # the deepest models have 126
MOST_EXPERTS = 100_000  # of all layers together; the largest models have 25 000
REFUSED_ANYWHERE: dict[str, tuple[object, ...]] = {
    "per_layer_config": (None, {}),  # transformers 5: other values of keys in some of the layers
    "quantization_config": (None,),  # but for the formats of checkpoints/packed_formats.py
    # The name of another file with the weights.
    "transformers_weights": (None, "model.safetensors", "model.safetensors.index.json"),
}
"""Keys that any config.json may have; see ``Config.REFUSED``."""
LARGEST_INT = 2**53  # sums with positions stay within 64 bits
LEAST_FLOAT, LARGEST_FLOAT = 1.1754943508222875e-38, 3.4028234663852886e38
"""All is computed in float32, where numbers beyond are infinite, and those below lose their digits."""
IN_FLOAT32 = f", finite in float32, and 0 or at least {LEAST_FLOAT:.2g} in size"
LONGEST_MESSAGE = 1000
KEY = "key"

Value = TypeVar("Value")
AnyConfig = TypeVar("AnyConfig", bound="Config")


class Key(NamedTuple):
    """What holds for one key of a config.json, whatever the others are; see ``key``."""

    letter: str
    aliases: tuple[str, ...]
    above: float | None
    least: float | None
    not_zero: str
    known: Mapping[str, object] | None
    chosen_of: str
    is_trained_length: bool
    null_is_silence: bool


def key(
    default: Value,
    *,
    letter: str = "",
    aliases: tuple[str, ...] = (),
    above: float | None = None,
    least: float | None = None,
    not_zero: str = "",
    known: Mapping[str, object] | None = None,
    chosen_of: str = "",
    is_trained_length: bool = False,
    null_is_silence: bool = False,
) -> Value:
    """Declare a key of a config with its constraints: ``rms_norm_eps: float = key(1e-6, above=0)``.

    default            transformers' default for this architecture
    letter             the shape letter that it gives, such as "D"
    aliases            other spellings of the key, old or new
    above, least       a number that is given must be above this, or at least this
    not_zero           why it must not be 0
    known              it must be one of these names
    chosen_of          the letter of what so many are chosen of: "E" for the experts that a token uses
    is_trained_length  whether it says how long the texts were that the model learned from
    null_is_silence    whether null says as little as a missing key; of others it is a value, or an error
    """
    held = Key(letter, aliases, above, least, not_zero, known, chosen_of, is_trained_length, null_is_silence)
    declared: Value = field(default=default, metadata={KEY: held})
    return declared


def activation_key(default: str, *aliases: str) -> str:
    """Declare a key that names an activation of kernels/activations.py."""
    return key(default, known=ACTIVATIONS, aliases=aliases)


def not_in_files(default: Value) -> Value:
    """Declare a field that no key of a config.json gives: ``from_dict`` sets it, or ``from_checkpoint``."""
    declared: Value = field(default=default, metadata={KEY: None})
    return declared


NOTHING_HELD = Key("", (), None, None, "", None, "", False, False)


@dataclass(frozen=True)
class Config:
    """What the configs of all architectures have in common: how they are read.

    A subclass lists the keys that change the mathematics as fields, under their Hugging Face names, with the
    defaults of transformers' config class for that model, and the constraints of each beside it. Keys about
    training, tasks and saving are left out and ignored.
    """

    REFUSED: ClassVar[Mapping[str, tuple[object, ...]]] = {}
    """Keys that would change the mathematics in a way that is not implemented: they must have one of these
    values, under which they change nothing, or be absent."""

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Build the config from the parsed config.json.

        Raises ConfigError, naming key and value, for a value of the wrong type or out of range, and for a
        key that asks for what is not implemented.
        """
        for name, harmless in (REFUSED_ANYWHERE | dict(cls.REFUSED)).items():
            if name == "quantization_config" and raw.get(name) is not None:
                from tinystar_np.checkpoints.packed_formats import (  # few need it
                    is_readable,
                    rounds_activations,
                )

                knows = any(each.name == name for each in fields(cls))
                if is_readable(raw[name]) and (knows or not rounds_activations(raw[name])):
                    continue
            if name in raw and raw[name] not in harmless:
                raise ConfigError(
                    f"config.json: {name} = {shown(raw[name])} is not implemented for this architecture."
                )
        hints = get_type_hints(cls)
        spelled = cls._spelled(raw)
        given = {name: _typed(called, raw[called], hints[name]) for name, called in spelled.items()}
        for name, held in cls.keys().items():
            # Before anything is counted layer by layer, properties of the config included.
            if held.letter == "L":
                L = given.get(name, 1)
                require(
                    1 <= L <= MOST_LAYERS,
                    f"{spelled.get(name)} = {L}, but it must be at least 1 and at most {MOST_LAYERS}.",
                )
        try:
            config = cls(**given)
            config.check()
        except ConfigError as error:
            raise ConfigError(_readable(str(error), spelled)) from None
        return config

    @classmethod
    def keys(cls) -> dict[str, Key]:
        """What holds for each key: {the field's name: its constraints}."""
        held = {each.name: each.metadata.get(KEY, NOTHING_HELD) for each in fields(cls)}
        return {name: its for name, its in held.items() if its is not None}

    @classmethod
    def _spelled(cls, raw: JsonObject) -> dict[str, str]:
        """Find what the fields are called in a file: {the field's name: the key there}."""
        held = cls.keys()
        names = {alias: name for name, its in held.items() for alias in (name, *its.aliases)}
        spelled: dict[str, str] = {}
        for called in sorted(names.keys() & raw.keys()):
            name = names[called]
            if raw[called] is None and held[name].null_is_silence:
                continue
            other = spelled.get(name, called)
            if raw[other] is None or other == called:
                spelled[name] = called
            elif raw[called] is not None:
                same = raw[called] == raw[other]
                both = " and ".join(sorted(f"{k} = {shown(raw[k])}" for k in (called, other)))
                require(same, f"{both}, but these are two names of one key.")
        return spelled

    @classmethod
    def letters(cls) -> dict[str, str]:
        """Which key gives each shape letter: {"D": "hidden_size", …}."""
        return {held.letter: name for name, held in cls.keys().items() if held.letter}

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters of the weight table: {"D": 768, …}.

        Where a key is null, or there is none, each query head has a key head, heads divide the width among
        themselves, and a feed-forward layer is four times as wide. Other letters are then left out, and so
        are those of layers that this config has none of.
        """
        given: dict[str, int | None] = {
            letter: getattr(self, name) for letter, name in self.letters().items()
        }
        D, H = given.get("D") or 0, given.get("H") or 0
        usual = {"G": H, "K": D // max(H, 1), "F": 4 * D}
        if "H" in given:
            given |= {letter: None for letter in usual if letter not in given}
        found = {letter: usual.get(letter) if size is None else size for letter, size in given.items()}
        absent = self.absent_letters
        return {letter: size for letter, size in found.items() if size is not None and letter not in absent}

    @property
    def other_sizes(self) -> Mapping[int, Mapping[str, int]]:
        """Letters that mean other numbers in some layers: {the layer: {"F": 16384, …}}."""
        return {}

    @property
    def home(self) -> Mapping[int, int]:
        """{a layer that runs with an earlier one's weights: that one}; none in most models."""
        return {}

    @property
    def absent_letters(self) -> str:
        """The letters of layers that there are none of: their keys say nothing then, and may be 0."""
        return ""

    @property
    def context_length(self) -> int | None:
        """How many tokens fit, or None where the architecture sets no limit."""
        return None

    @property
    def trained_length(self) -> int | None:
        """How long the texts were that the model learned from, where the config says so.

        An architecture without a limit (rotations, slopes and recurrences go on for ever) computes beyond it;
        what it says there is another matter.
        """
        named = [getattr(self, name) for name, held in self.keys().items() if held.is_trained_length]
        length: int | None = named[0] if named else self.context_length
        return length

    @property
    def rope(self) -> "RopeParameters | None":
        """The rotary embedding's parameters, None where there is none."""
        return None

    @property
    def windows(self) -> Sequence[int | None]:
        """The window (or chunk) of each layer, None where it sees everything."""
        return (None,) * self.sizes.get("L", 1)

    def check(self) -> None:
        """Raise ConfigError where values contradict each other; subclasses add to it."""
        self._check_keys()
        self._check_heads()
        sizes, letters = self.sizes, self.letters()
        for letter, size in sizes.items():
            most = MOST_LAYERS if letter == "L" else LARGEST_INT
            if not 1 <= size <= most:
                raise ConfigError(
                    f"config.json: {self._made_by(size, letters.get(letter))} {letter} = {size}; it must be "
                    f"at least 1 and at most {most}."
                )
        L, E = sizes.get("L", 1), sizes.get("E", 1)
        require(
            L * E <= MOST_EXPERTS,
            f"{self._made_by(E, letters.get('E'))} {L} layers of {E} experts, more than {MOST_EXPERTS} "
            "experts.",
        )
        longest = self.trained_length
        require(
            longest is None or longest >= 1,
            f"{self._made_by(longest, 'max_position_embeddings')} texts of {longest} tokens at most; it must "
            "be at least 1.",
        )
        for name, held in self.keys().items():
            if held.chosen_of in sizes:
                k, E = getattr(self, name), sizes[held.chosen_of]
                can_be = all(n is not None and 1 <= n <= E for n in (k if isinstance(k, list) else [k]))
                require(
                    can_be,
                    f"{name} = {k} of {letters.get(held.chosen_of, held.chosen_of)} = {E} cannot be chosen.",
                )
        _ = self.rope, self.windows  # whatever is wrong with them shows when they are read

    def _check_keys(self) -> None:
        """Refuse a value that its key cannot have, whatever the others are."""
        for name, held in self.keys().items():
            value = getattr(self, name)
            if value is None:
                continue
            if held.above is not None:
                require(value > held.above, f"{name} = {value} must be above {held.above}.")
            if held.least is not None:
                require(value >= held.least, f"{name} = {value} must be at least {held.least}.")
            require(not held.not_zero or value != 0, f"{name} = {value}, {held.not_zero}.")
            if held.known is not None:
                known(held.known, name, value)

    def _made_by(self, size: int | None, name: str | None) -> str:
        """Say which key makes a size; of one that is computed, those that may have made it."""
        values = {each: getattr(self, each) for each in sorted(self.keys())}
        same = [each for each, value in values.items() if type(value) is int and size == value]
        keys = [each for each in same if each == name] or same
        return f"{' and '.join(keys)} = {size} makes" if keys else "its sizes make"

    def _check_heads(self) -> None:
        sizes, key_of = self.sizes, self.letters()
        D, H, G = (sizes.get(letter, 0) for letter in "DHG")
        if "K" in sizes and H >= 1 and ("K" not in key_of or getattr(self, key_of["K"]) is None):
            require(D % H == 0, f"{key_of['D']} = {D} cannot be divided among {key_of['H']} = {H} heads.")
        if G >= 1 and H >= 1:
            require(
                H % G == 0,
                f"{key_of['H']} = {H} cannot be divided among {key_of.get('G', 'G')} = {G} groups.",
            )


def _readable(message: str, spelled: Mapping[str, str]) -> str:
    """Say what the keys in a message are called in the file."""
    others = [
        f"{name} is {called}"
        for name, called in spelled.items()
        if name != called and re.search(rf"\b{name}\b", message)
    ]
    return f"{message} In this file {', '.join(others)}." if others else message


def _typed(key: str, value: Any, hint: object) -> Any:
    """Check a JSON value against a field's type; whole numbers are accepted where floats are meant."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    # JsonObject, dict[str, Any], is checked as dict.
    allowed: list[type] = [get_origin(choice) or choice for choice in choices]
    if value is None and NoneType in allowed:
        return None
    if isinstance(value, bool):
        if bool in allowed:
            return value
    elif float in allowed and _is_float32(value):
        return float(value)
    elif isinstance(value, tuple(t for t in allowed if t is not float)):
        if isinstance(value, list):
            _check_items(key, value, choices)
        _check_numbers(key, value)
        return value
    names = " or ".join({NoneType: "null", dict: "an object"}.get(t, t.__name__) for t in allowed)
    size = IN_FLOAT32 if isinstance(value, float) and float in allowed else ""
    raise ConfigError(f"config.json: {key} = {shown(value)}, but it must be {names}{size}.")


def _is_float32(value: object) -> bool:
    """Say whether a value is a number that float32 can hold."""
    if not isinstance(value, int | float):
        return False
    return value == 0 or LEAST_FLOAT <= abs(value) <= LARGEST_FLOAT  # false for NaN


def _check_items(key: str, items: list[object], choices: Iterable[object]) -> None:
    """Check a list's items against what the type says of them."""
    kinds = {get_args(choice)[0] for choice in choices if get_args(choice)}
    allowed = (int, float) if kinds == {float} else tuple(kinds)
    words = " or ".join(kind.__name__ for kind in kinds)
    for i, item in enumerate(items if Any not in kinds else ()):
        is_right = isinstance(item, allowed) and not isinstance(item, bool)
        require(is_right, f"{key}[{i}] = {shown(item)}, but it must be {words}.")
        # Infinity stands for no limit in some lists.
        holds = kinds != {float} or item == math.inf or _is_float32(item)
        require(holds, f"{key}[{i}] = {shown(item)}, but it must be {words}{IN_FLOAT32}.")


def _check_numbers(key: str, value: object) -> None:
    """Refuse whole numbers beyond any use, in lists and objects as well."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_numbers(f"{key}[{i}]", item)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _check_numbers(f"{key}.{one_line(name, 40)}", item)
    elif isinstance(value, int):
        require(abs(value) <= LARGEST_INT, f"{key} = {shown(value)}, but no number beyond 2**53 is of use.")


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with this message, which is kept short, unless the condition holds."""
    if not condition:
        if len(message) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            message = f"{message[:half]} … {message[-half:]}"
        raise ConfigError(f"config.json: {one_line(message, LONGEST_MESSAGE + 3)}")


def at_least_1(name: str, value: int | None) -> int:
    """Return a number that layers are counted or tokens divided by, where it is in use.

    Raises ConfigError, naming key and value.
    """
    require(value is not None and value >= 1, f"{name} = {value} must be at least 1.")
    assert value is not None
    return value


def known(table: Mapping[str, object], name: str, value: str) -> None:
    """Raise ConfigError with the key, the value and the names there are, unless it is one of them."""
    require(value in table, f"{name} = {shown(value)} is not known here. Known: {', '.join(sorted(table))}.")


def check_time_step_limit(limit: Sequence[float]) -> None:
    """Raise ConfigError unless these are the least and the largest step of a Mamba layer."""
    require(
        len(limit) == 2
        and all(type(number) in (int, float) for number in limit)
        and 0 <= limit[0] <= limit[1],  # false for NaN
        f"time_step_limit = {shown(list(limit))}, but it must be two numbers, the least and the largest.",
    )
