"""From the keys of a Hugging Face config.json to a frozen, checked dataclass."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from tinystar_np.errors import ConfigError

MOST_LAYERS = 10_000  # names are written out layer by layer: a billion of them would fill the memory


@dataclass(frozen=True)
class DecoderConfig:
    """What the configs of all architectures have in common: how they are read.

    A subclass lists the keys that change the mathematics as fields, under their Hugging Face names and with
    the defaults of transformers' config class for that model. Keys about training, tasks and saving are left
    out and ignored. Keys that would change the mathematics in a way that is not implemented here stand in
    ``REFUSED`` with the values under which they change nothing.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {}
    """Other spellings, old or new: {theirs: the field's name}. The field's own name wins."""
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Keys that must have one of these values, or be absent."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Build the config from the parsed config.json.

        Raises ConfigError, naming key and value, for a value of the wrong type or out of range, and for a
        key that asks for what is not implemented.
        """
        for key, harmless in ({"quantization_config": (None,)} | dict(cls.REFUSED)).items():
            if key in raw and raw[key] not in harmless:
                raise ConfigError(
                    f"config.json: {key} = {raw[key]!r} is not implemented for this architecture."
                )
        hints = get_type_hints(cls)
        given = {name: raw[alias] for alias, name in cls.ALIASES.items() if alias in raw}
        given |= {field.name: raw[field.name] for field in fields(cls) if field.name in raw}
        config = cls(**{name: _typed(name, value, hints[name]) for name, value in given.items()})
        config.check()
        return config

    @property
    def sizes(self) -> Mapping[str, int]:
        """The shape letters of the weight table: {"D": 768, …}."""
        raise NotImplementedError

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
        return getattr(self, "max_position_embeddings", self.context_length)

    def check(self) -> None:
        """Raise ConfigError where values contradict each other; subclasses add to it."""
        for letter, size in self.sizes.items():
            if not 1 <= size <= (MOST_LAYERS if letter == "L" else sys.maxsize):
                most = f" and at most {MOST_LAYERS}" if letter == "L" else ""
                raise ConfigError(
                    f"config.json: its sizes make {letter} = {size}; it must be at least 1{most}."
                )


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Check a JSON value against a field's type; whole numbers are accepted where floats are meant."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    allowed = [get_origin(choice) or choice for choice in choices]  # dict[str, Any] is checked as dict
    if value is None and NoneType in allowed:
        return None
    if isinstance(value, bool):
        if bool in allowed:
            return value
    elif isinstance(value, int | float) and float in allowed and abs(value) <= sys.float_info.max:
        return float(value)
    elif isinstance(value, tuple(t for t in allowed if t is not float)):
        return value
    names = " or ".join({NoneType: "null", dict: "an object"}.get(t, t.__name__) for t in allowed)
    raise ConfigError(f"config.json: {key} = {value!r}, but it must be {names}.")


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with this message unless the condition holds."""
    if not condition:
        raise ConfigError(f"config.json: {message}")


def check_heads(config: Any) -> None:
    """Raise ConfigError where D cannot be divided among H heads (unless K is given), or H among G."""
    H, G = config.sizes["H"], config.sizes["G"]
    require(
        config.head_dim is not None or config.hidden_size % H == 0,
        f"hidden_size = {config.hidden_size} cannot be divided among num_attention_heads = {H} heads.",
    )
    require(
        H % G == 0, f"num_attention_heads = {H} cannot be divided among num_key_value_heads = {G} groups."
    )


def known(table: Mapping[str, Any], key: str, value: str) -> Any:
    """Look up a named choice of the config, such as an activation.

    Raises ConfigError with the key, the value and the names there are.
    """
    require(value in table, f"{key} = {value!r} is not known here. Known: {', '.join(sorted(table))}.")
    return table[value]
