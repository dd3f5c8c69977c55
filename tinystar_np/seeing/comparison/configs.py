"""The keys of two configs that differ in what they mean, however they are spelled.

A config.json leaves out what is the default, has old names beside new ones, and says the same about rotary
embedding in two ways. So the values that count are compared: those that the model class has read.
"""

from collections.abc import Mapping
from dataclasses import fields

from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.models.config import Config

OF_ROTARY = {
    "rope_theta": "rope_theta",
    "rotary_emb_base": "rope_theta",
    "partial_rotary_factor": "partial_rotary_factor",
    "rotary_pct": "partial_rotary_factor",
    "rope_local_base_freq": "rope_local_base_freq",
}
"""Keys about rotary embedding outside its dictionary, and their names of today."""
DICTIONARIES = ("rope_scaling", "rope_parameters")
SAYING_NOTHING = (("rope_type", "default"), ("partial_rotary_factor", 1.0))
Pair = tuple[object, object]
Values = dict[str, object]


def differing_keys(a: Config, b: Config) -> dict[str, Pair]:
    """Return the keys whose values differ: {key: (in A, in B)}; None where a config has no such key."""
    values_a, values_b = _values(a), _values(b)
    if type(a) is not type(b):
        values_a, values_b = _same_sizes(a, b, values_a, values_b)
    names = [*values_a, *(name for name in values_b if name not in values_a)]
    names.sort(key=lambda name: name not in values_a or name not in values_b)  # what both have comes first
    pairs = {name: (values_a.get(name), values_b.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _same_sizes(a: Config, b: Config, values_a: Values, values_b: Values) -> tuple[Values, Values]:
    """Name alike the sizes that two architectures name otherwise: "hidden_size / n_embd"."""
    names_a, names_b = a.letters(), b.letters()
    both_a, both_b = {}, {}
    for letter in names_a.keys() & names_b.keys():
        one, other = names_a[letter], names_b[letter]
        if one != other and one in values_a and other in values_b:
            both_a[one] = both_b[other] = f"{one} / {other}"
    return (
        {both_a.get(name, name): value for name, value in values_a.items()},
        {both_b.get(name, name): value for name, value in values_b.items()},
    )


def _values(config: Config) -> dict[str, object]:
    """Return the values that count, with those about rotary embedding under their names of today."""
    found: dict[str, object] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name not in OF_ROTARY and each.name not in DICTIONARIES:
            found[each.name] = value
    sizes = config.sizes
    for letter, name in config.letters().items():  # a missing size is computed
        if letter in sizes:
            found[name] = sizes[letter]
    return found | _rotary(vars(config))


def _rotary(keys: Mapping[str, object]) -> dict[str, object]:
    """Write out what a config says about rotary embedding, whichever way it says it."""
    said: dict[str, object] = {}
    inside = keys.get("rope_scaling") or keys.get("rope_parameters")
    for name, today in OF_ROTARY.items():
        if keys.get(name) is not None:
            said[today] = keys[name]
    for name, value in (inside if isinstance(inside, Mapping) else {}).items():
        if isinstance(value, Mapping):  # of one kind of layer
            said |= {f"{name}.{key}": each for key, each in _renamed(value).items()}
        else:
            said |= _renamed({name: value})
    return {key: value for key, value in said.items() if (key, value) not in SAYING_NOTHING}


def _renamed(keys: Mapping[str, object]) -> dict[str, object]:
    """Give keys of the old spelling their names of today, and leave out those that are null."""
    return {"rope_type" if key == "type" else key: value for key, value in keys.items() if value is not None}


def keys_without_effect(a: JsonObject, b: JsonObject, config: type[Config]) -> list[str]:
    """Return the keys of two parsed config.json that differ and are none of the model's.

    config  the class that reads them
    """
    read = {alias for name, held in config.keys().items() for alias in (name, *held.aliases)} | {"model_type"}
    return sorted(key for key in a.keys() | b.keys() if key not in read and a.get(key) != b.get(key))
