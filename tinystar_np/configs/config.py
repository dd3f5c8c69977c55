"""From the keys of a Hugging Face config.json to a frozen, checked dataclass."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from tinystar_np.checkpoints.compressed_tensors import is_int8_per_output
from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import ConfigError
from tinystar_np.kernels.activations import ACTIVATIONS

# Names are written out layer by layer and expert by expert: a billion of them would fill the memory.
MOST_LAYERS = 1_000  # the deepest models have 126
MOST_EXPERTS = 100_000  # of all layers together; the largest models have 25 000
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""What configs call the number of layers."""
REFUSED_ANYWHERE: dict[str, tuple[Any, ...]] = {
    "per_layer_config": (None, {}),  # transformers 5: other values of keys in some of the layers
    "quantization_config": (None,),  # but for 8 bits with a scale per output
    # The name of another file with the weights.
    "transformers_weights": (None, "model.safetensors", "model.safetensors.index.json"),
}
"""Keys that any config.json may have; see ``DecoderConfig.REFUSED``."""
LARGEST_INT = 2**53  # sums with positions stay within 64 bits
LARGEST_FLOAT = 3.4028234663852886e38
"""All is computed in float32."""
LONGEST_MESSAGE = 1000

# What holds for these keys in every architecture; one that calls them otherwise adds its name here. Null is
# allowed where the type allows it.
KEYS_ABOVE_0 = (
    *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    *("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"),
    *("clip_qkv", "rope_local_base_freq", "swiglu_limit", "moe_normalize_expert_weights"),
)
KEYS_AT_LEAST_0 = ("first_k_dense_replace",)
KEYS_NOT_0 = {
    "logits_scaling": "but the logits are divided by it",
    "lm_head_multiplier": "which makes all tokens alike",
}
ACTIVATION_KEYS = ("activation_function", "hidden_act", "hidden_activation")
"""They name a function of kernels/activations.py."""
NULL_IS_NOTHING = (
    *("rope_theta", "rope_local_base_freq", "rotary_emb_base", "rotary_pct"),
    "seq_length",
)
"""Keys of which null says as little as silence; of others it is a value, or none that they can have."""
CHOSEN_KEYS = ("num_experts_per_tok", "moe_top_k")
"""How many of E experts a token uses."""


@dataclass(frozen=True)
class DecoderConfig:
    """What the configs of all architectures have in common: how they are read.

    A subclass lists the keys that change the mathematics as fields, under their Hugging Face names and with
    the defaults of transformers' config class for that model. Keys about training, tasks and saving are left
    out and ignored. Keys that would change the mathematics in a way that is not implemented here stand in
    ``REFUSED`` with the values under which they change nothing.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {}
    """Other spellings, old or new: {theirs: the field's name}."""
    REFUSED: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Keys that must have one of these values, or be absent."""
    UNUSED: ClassVar[Sequence[str]] = ()
    """Keys that mean nothing here, though a field is called so: what a file says there is not looked at."""
    LETTERS: ClassVar[Mapping[str, str]] = {
        "V": "vocab_size",
        "D": "hidden_size",
        "L": "num_hidden_layers",
        "H": "num_attention_heads",
        "G": "num_key_value_heads",
        "K": "head_dim",
        "F": "intermediate_size",
    }
    """Which key gives each shape letter of the weight table."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Build the config from the parsed config.json.

        Raises ConfigError, naming key and value, for a value of the wrong type or out of range, and for a
        key that asks for what is not implemented.
        """
        for key, harmless in (REFUSED_ANYWHERE | dict(cls.REFUSED)).items():
            if key == "quantization_config" and is_int8_per_output(raw.get(key)):
                continue
            if key in raw and raw[key] not in harmless:
                raise ConfigError(
                    f"config.json: {key} = {shown(raw[key])} is not implemented for this architecture."
                )
        hints = get_type_hints(cls)
        spelled = cls._spelled(raw)
        given = {name: _typed(key, raw[key], hints[name]) for name, key in spelled.items()}
        for name in LAYERS:
            # Before anything is counted layer by layer, properties of the config included.
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
    def _spelled(cls, raw: Mapping[str, Any]) -> dict[str, str]:
        """Find what the fields are called in a file: {the field's name: the key there}."""
        names = {field.name: field.name for field in fields(cls)} | dict(cls.ALIASES)
        spelled: dict[str, str] = {}
        for key in sorted(names.keys() & raw.keys() - {*cls.UNUSED}):
            if raw[key] is None and key in NULL_IS_NOTHING:
                continue
            other = spelled.get(names[key], key)
            if raw[other] is None or other == key:
                spelled[names[key]] = key
            elif raw[key] is not None:
                same = raw[key] == raw[other]
                both = " and ".join(sorted(f"{k} = {shown(raw[k])}" for k in (key, other)))
                require(same, f"{both}, but these are two names of one key.")
        return spelled

    @property
    def sizes(self) -> dict[str, int]:
        """The shape letters of the weight table: {"D": 768, …}.

        Where a key is null, or there is none, each query head has a key head, heads divide the width among
        themselves, and a feed-forward layer is four times as wide. Other letters are then left out, and so
        are those of layers that this config has none of.
        """
        given = {letter: getattr(self, key, None) for letter, key in self.LETTERS.items()}
        D, H = given.get("D") or 0, given.get("H") or 0
        usual = {"G": H, "K": D // max(H, 1), "F": 4 * D}
        found = {letter: usual.get(letter) if size is None else size for letter, size in given.items()}
        absent = self.absent_letters
        return {letter: size for letter, size in found.items() if size is not None and letter not in absent}

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
        return getattr(self, "max_position_embeddings", self.context_length)

    @property
    def rope(self) -> Any:
        """The rule of the rotations (configs/rope_parameters.py), None where nothing turns."""
        return None

    @property
    def windows(self) -> Sequence[int | None]:
        """How far each layer sees: its window, None where it sees everything."""
        return (None,) * self.sizes["L"]

    @property
    def is_parallel(self) -> bool:
        """Whether attention and feed-forward stand side by side."""
        return False

    def check(self) -> None:
        """Raise ConfigError where values contradict each other; subclasses add to it."""
        check_keys(self)
        self._check_heads()
        sizes = self.sizes
        for letter, size in sizes.items():
            most = MOST_LAYERS if letter == "L" else LARGEST_INT
            if not 1 <= size <= most:
                key = self.LETTERS.get(letter)
                raise ConfigError(
                    f"config.json: {self._made_by(size, key)} {letter} = {size}; it must be at least 1 "
                    f"and at most {most}."
                )
        L, E = sizes.get("L", 1), sizes.get("E", 1)
        require(
            L * E <= MOST_EXPERTS,
            f"{self._made_by(E, self.LETTERS.get('E'))} {L} layers of {E} experts, more than "
            f"{MOST_EXPERTS} experts.",
        )
        longest = self.trained_length
        require(
            longest is None or longest >= 1,
            f"{self._made_by(longest, 'max_position_embeddings')} texts of {longest} tokens at most; it must "
            "be at least 1.",
        )
        self._check_experts()
        _ = self.rope, self.windows  # whatever is wrong with them shows when they are read

    def _made_by(self, size: int | None, key: str | None) -> str:
        """Say which key makes a size; of one that is computed, those that may have made it."""
        read = {field.name for field in fields(self)} - ({*self.UNUSED} - {*self.ALIASES.values()})
        same = [
            name for name in sorted(read) if type(getattr(self, name)) is int and size == getattr(self, name)
        ]
        keys = [name for name in same if name == key] or same
        return f"{' and '.join(keys)} = {size} makes" if keys else "its sizes make"

    def _check_heads(self) -> None:
        sizes, key_of = self.sizes, self.LETTERS
        D, H, G = (sizes.get(letter, 0) for letter in "DHG")
        if "K" in sizes and getattr(self, key_of["K"], None) is None and H >= 1:
            require(D % H == 0, f"{key_of['D']} = {D} cannot be divided among {key_of['H']} = {H} heads.")
        if G >= 1:
            require(H % G == 0, f"{key_of['H']} = {H} cannot be divided among {key_of['G']} = {G} groups.")

    def _check_experts(self) -> None:
        E = self.sizes.get("E")
        for key in CHOSEN_KEYS:
            if hasattr(self, key) and E is not None and getattr(self, "layers_with_experts", True):
                k = getattr(self, key)
                can_be = k is not None and 1 <= k <= E
                require(can_be, f"{key} = {k} of {self.LETTERS['E']} = {E} cannot be chosen.")


def _readable(message: str, spelled: Mapping[str, str]) -> str:
    """Say what the keys in a message are called in the file, and keep short what is quoted from there."""
    if len(message) > LONGEST_MESSAGE:
        half = LONGEST_MESSAGE // 2
        message = f"{message[:half]} … {message[-half:]}"
    others = [
        f"{name} is {key}"
        for name, key in spelled.items()
        if name != key and re.search(rf"\b{name}\b", message)
    ]
    return f"{message} In this file {', '.join(others)}." if others else message


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Check a JSON value against a field's type; whole numbers are accepted where floats are meant."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    allowed = [get_origin(choice) or choice for choice in choices]  # dict[str, Any] is checked as dict
    if value is None and NoneType in allowed:
        return None
    if isinstance(value, bool):
        if bool in allowed:
            return value
    elif isinstance(value, int | float) and float in allowed and abs(value) <= LARGEST_FLOAT:
        return float(value)
    elif isinstance(value, tuple(t for t in allowed if t is not float)):
        if isinstance(value, list):
            _check_items(key, value, choices)
        _check_numbers(key, value)
        return value
    names = " or ".join({NoneType: "null", dict: "an object"}.get(t, t.__name__) for t in allowed)
    finite = ", finite in float32" if isinstance(value, float) and float in allowed else ""
    raise ConfigError(f"config.json: {key} = {shown(value)}, but it must be {names}{finite}.")


def _check_items(key: str, items: list[Any], choices: Iterable[Any]) -> None:
    """Check a list's items against what the type says of them."""
    kinds = {get_args(choice)[0] for choice in choices if get_args(choice)}
    allowed = (int, float) if kinds == {float} else tuple(kinds)
    words = " or ".join(kind.__name__ for kind in kinds)
    for i, item in enumerate(items if Any not in kinds else ()):
        is_right = isinstance(item, allowed) and not isinstance(item, bool)
        require(is_right, f"{key}[{i}] = {shown(item)}, but it must be {words}.")


def _check_numbers(key: str, value: Any) -> None:
    """Refuse whole numbers beyond any use, in lists and objects as well."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            _check_numbers(f"{key}[{i}]", item)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _check_numbers(f"{key}.{name}", item)
    elif isinstance(value, int):
        require(abs(value) <= LARGEST_INT, f"{key} = {shown(value)}, but no number beyond 2**53 is of use.")


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with this message unless the condition holds."""
    if not condition:
        raise ConfigError(f"config.json: {message}")


def check_keys(config: DecoderConfig) -> None:
    """Raise ConfigError for a value that its key cannot have, whatever the others are."""
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    there = {key: value for key, value in given.items() if value is not None}
    for key, value in there.items():
        require(key not in KEYS_ABOVE_0 or value > 0, f"{key} = {value} must be above 0.")
        require(key not in KEYS_AT_LEAST_0 or value >= 0, f"{key} = {value} must be at least 0.")
        require(key not in KEYS_NOT_0 or value != 0, f"{key} = {value}, {KEYS_NOT_0.get(key)}.")
        if key in ACTIVATION_KEYS:
            known(ACTIVATIONS, key, value)


def at_least_1(key: str, value: int | None) -> int:
    """Return a number that layers are counted or tokens divided by, where it is in use.

    Raises ConfigError, naming key and value.
    """
    require(value is not None and value >= 1, f"{key} = {value} must be at least 1.")
    assert value is not None
    return value


def known(table: Mapping[str, Any], key: str, value: str) -> Any:
    """Look up a named choice of the config, such as an activation.

    Raises ConfigError with the key, the value and the names there are.
    """
    require(value in table, f"{key} = {shown(value)} is not known here. Known: {', '.join(sorted(table))}.")
    return table[value]
