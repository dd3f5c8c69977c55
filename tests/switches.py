"""What every key of a config.json does, by trial: the walk over transformers' config classes.

For each architecture there is a small model, and for each key of its config class one or more values other
than the small model's. A key that counts must change what transformers computes; then ours has to compute the
same, or to refuse the value by the key's name. A key that does not count stands in ``WITHOUT_MATHEMATICS``
with the reason, or among those of one architecture (parity_case.py), and must change nothing.
tests/models/test_config_walk.py holds all of it. What was found is kept in a file, from which
docs/config_keys.md is written:

    python tests/switches.py > tests/switches.json
    python docs/tools/config_keys.py
"""

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parity import assert_close, logits_of, random_ids, reference_model
from parity_case import class_fields
from parity_cases import INERT_OF, MISREAD_OF, OTHERS_OF, READ_OF, ROWS
from switch_values import INERT, NAMES, OTHERS, SIZES, SPELLINGS, Other
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models import ARCHITECTURES, model_class
from tinystar_np.models.config import Config

FILE = Path(__file__).with_name("switches.json")
TYPES = sorted(set(ARCHITECTURES) - {"tinystar"})  # whose config is our own


@cache
def keys_of(model_type: str) -> dict[str, Any]:
    """Every key there is for an architecture, those inside of its objects too, and their defaults."""
    config_class = CONFIG_MAPPING[model_type]
    found = class_fields(config_class)
    for name, inner in config_class.sub_configs.items():
        del found[name]
        found |= {f"{name}.{key}": value for key, value in class_fields(inner, inherited=False).items()}
    # Every class takes these, though they are fields of none.
    return found | {"per_layer_config": None, "quantization_config": None}


def other_names(config_class: type[Config]) -> dict[str, str]:
    """Other spellings of keys that a config class of ours knows: {theirs: the field's name}."""
    return {alias: name for name, held in config_class.keys().items() for alias in held.aliases}


@cache
def our_keys(model_type: str) -> dict[str, Any]:
    """Keys that our config class knows and transformers' has not, and their defaults.

    Other spellings that stand for a field of transformers' class are none of them.
    """
    ours, theirs = model_class(model_type).Config, keys_of(model_type)
    spelled = {name for name, held in ours.keys().items() if not held.aliases}
    known = {f.name: f.default for f in fields(ours) if f.name in spelled}
    known |= {key: harmless[0] for key, harmless in ours.REFUSED.items()}
    theirs_and_parts = {part for key in theirs for part in (key, *key.split("."))}
    return {key: default for key, default in known.items() if key not in theirs_and_parts}


def is_inert(model_type: str, key: str) -> bool:
    """Whether a key has no mathematics: by its name (``WITHOUT_MATHEMATICS``), or in this architecture."""
    if f"{model_type}.{key}" in {*READ_OF, *MISREAD_OF}:
        return False
    return bool({key.rpartition(".")[2], f"{model_type}.{key}"} & {*INERT, *INERT_OF})


def small(model_type: str) -> dict[str, Any]:
    """The config.json of the small model."""
    return ROWS[model_type].smallest


def changed(raw: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A config.json with a key changed, or a part of an object."""
    outer, dot, inner = key.partition(".")
    return {**raw, outer: {**raw.get(outer, {}), inner: value} if dot else value}


def others(model_type: str, key: str) -> list[Other]:
    """The other values of a key."""
    default = (keys_of(model_type) | our_keys(model_type))[key]
    flipped = [not default] if isinstance(default, bool) else []
    short = key.rpartition(".")[2]
    values = OTHERS_OF.get(model_type, {}).get(key)
    if values is None and key in our_keys(model_type):
        values = SPELLINGS.get(key)
    values = values or OTHERS.get(short) or flipped
    assert values, (
        f"{model_type} has a key {key!r} of which nothing is known (default: {default!r}): say in its file "
        "in parity_rows/ what another value is (OTHERS), or that nothing reads it (INERT)."
    )
    return [value if isinstance(value, Other) else Other(value) for value in values]


IDS = random_ids(1, 12)


class Trial:
    """transformers' model for a config.json, and what it says."""

    def __init__(self, model_type: str, raw: dict[str, Any]):
        self.raw = {"model_type": model_type, **copy.deepcopy(raw)}
        torch.manual_seed(0)  # some weights begin at random numbers, and noise is added to them
        self.model = reference_model(model_type, **raw)
        tables = {n: b for n, b in self.model.named_buffers() if n.endswith(("tid2eid", "correction_bias"))}
        self.weights = dict(self.model.named_parameters()) | tables
        self.logits = logits_of(self.model, IDS)

    @cached_property
    def folder(self) -> Path:
        """Where the weights are saved."""
        self._folder = tempfile.TemporaryDirectory()  # as long as the trial lives
        self.model.save_pretrained(self._folder.name)
        return Path(self._folder.name)

    def fits(self, other: "Trial") -> bool:
        """Whether the weights have the same names and shapes."""
        mine, theirs = ({name: w.shape for name, w in trial.weights.items()} for trial in (self, other))
        return mine == theirs

    def computes_as(self, other: "Trial") -> bool:
        """Whether another config.json makes no difference, neither to the weights nor to the logits."""
        largest = np.abs(other.logits).max()
        return self.fits(other) and bool(np.abs(self.logits - other.logits).max() <= 1e-6 * largest)

    def check_ours(self, before: "Trial") -> None:
        """Hold our model of this config.json against it: at once and in pieces.

        before  another trial; where its weights are the same, they need not be saved again
        """
        same = self.fits(before) and all(torch.equal(w, before.weights[n]) for n, w in self.weights.items())
        folder = (before if same else self).folder
        (folder / "config.json").write_text(json.dumps(self.raw))
        model, _ = load(folder, dtype="float32")
        assert_close(model(IDS), self.logits, what="at once")
        cache = model.new_cache()
        pieces = [model(piece, cache=cache) for piece in np.split(IDS, [7], axis=1)]
        assert_close(np.concatenate(pieces, axis=1), self.logits, what="in pieces")


def trial(model_type: str, raw: Mapping[str, Any]) -> Trial:
    """Make a trial, or take the one that was made."""
    return _trial(model_type, json.dumps(raw, sort_keys=True))


@lru_cache(maxsize=16)
def _trial(model_type: str, text: str) -> Trial:
    return Trial(model_type, json.loads(text))


def refuses(model_type: str, raw: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether our config class refuses a config.json, by the name of the key or of what is in its value."""
    try:
        model_class(model_type).Config.from_dict(json.loads(json.dumps(raw)))
    except ConfigError as error:
        words = str(error)
    else:
        return False
    names = [key.rpartition(".")[2], *(value if isinstance(value, dict) else ())]
    assert any(name in words for name in names), f"{key} is refused without its name: {words}"
    return True


def sizes(model_type: str) -> dict[str, Any]:
    """Other values of all keys that say a size and nothing else."""
    found = {key: others(model_type, key)[0] for key in SIZES if key in keys_of(model_type)}
    return {key: case.value for key, case in found.items() if case == Other(case.value)}


def walk(model_type: str, key: str) -> dict[str, dict[str, list[Any]]]:
    """Try every other value of a key: {"compared": {key: values}, "refused": {key: values}}.

    The values that were compared begin with the small model's. Of an object, each part is a key of its own.
    Raises AssertionError where a value is neither: it changes what transformers computes and ours ignores it
    or computes something else; or it changes nothing, and then the trial proves nothing.
    """
    found: dict[str, dict[str, list[Any]]] = {"compared": {}, "refused": {}}
    foreign = key in our_keys(model_type)
    for case in others(model_type, key):
        before = {**small(model_type), **case.given}
        after = changed({**before, **case.also}, key, case.value)
        if not foreign and case.value == sizes(model_type).get(key, MISSING):
            after |= sizes(model_type)
        usual = dict(_parts(key, value_of(model_type, before, key)))
        if refuses(model_type, after, key, case.value):
            parts = [(key, case.value)] if key in usual else _parts(key, case.value)
            for part, value in parts:
                if part not in usual or value != usual[part]:
                    _add(found["refused"], part, value)
            continue
        try:
            theirs = trial(model_type, after)
        except (AttributeError, RuntimeError):
            assert foreign, f"transformers cannot run {key} = {case.value!r}"
            continue
        same = theirs.computes_as(trial(model_type, before))
        assert same == case.same, (
            f"{key} = {case.value!r} {'changes' if case.same else 'does not change'} what transformers does"
            f"{'; no field of ours should read it' if foreign else ''}"
        )
        theirs.check_ours(trial(model_type, before))
        for part, value in (*usual.items(), *_parts(key, case.value)):
            _add(found["compared"], part, value)
    return found


def _parts(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Lay an object open: ("rope_parameters", {"factor": 4}) is ("rope_parameters.factor", 4)."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _parts(f"{key}.{name}", inner)
    else:
        yield key, value


def _add(table: dict[str, list[Any]], key: str, value: Any) -> None:
    values = table.setdefault(key, [])
    if not any(value == known and type(value) is type(known) for known in values):
        values.append(value)


def value_of(model_type: str, raw: Mapping[str, Any], key: str) -> Any:
    """What a config.json says about a key, or the class's default, as JSON says it."""
    found: Any = raw
    for part in key.split("."):
        found = found.get(part, MISSING) if isinstance(found, Mapping) else MISSING
    if found is MISSING:
        found = (keys_of(model_type) | our_keys(model_type))[key]
    return json.loads(json.dumps(found).replace("Infinity", '"Infinity"'))


def check_without_mathematics(model_type: str) -> list[str]:
    """Change all keys at once that are said to have no mathematics; returns which."""
    keys = {key: default for key, default in keys_of(model_type).items() if is_inert(model_type, key)}
    raw = small(model_type)
    for key, default in keys.items():
        said = OTHERS_OF.get(model_type, {}).get(key)
        (value,) = said or [_something_else(key.rpartition(".")[2], default)]
        raw = changed(raw, key, value)
    theirs, before = Trial(model_type, raw), trial(model_type, small(model_type))
    theirs.model.load_state_dict(before.model.state_dict())  # some of them say how weights begin
    theirs.logits = logits_of(theirs.model, IDS)
    assert theirs.computes_as(before), "one of them has mathematics"
    theirs.check_ours(before)
    return sorted(keys)


def _something_else(key: str, default: Any) -> Any:
    if key in NAMES:
        return NAMES[key]
    if isinstance(default, bool):
        return not default
    if isinstance(default, float):
        return 0.37
    return 1 if default == 0 else 4


def walked_keys(model_type: str) -> list[str]:
    """The keys of an architecture that a walk tries one by one."""
    keys = [key for key in keys_of(model_type) if not is_inert(model_type, key)]
    keys = [key for key in keys if f"{model_type}.{key}" not in MISREAD_OF]
    return sorted([*keys, *our_keys(model_type)])


def report(model_type: str) -> dict[str, Any]:
    """Walk over all keys of an architecture: what the file says about it."""
    found: dict[str, Any] = {"compared": {}, "refused": {}}
    for key in walked_keys(model_type):
        for name, values in walk(model_type, key).items():
            found[name] |= values
    return found | {"without_mathematics": check_without_mathematics(model_type)}


def write_all() -> None:
    """Print the file, a line for each key, so that a change of it can be read."""
    blocks = []
    for model_type in TYPES:
        found = report(model_type)
        parts = [f' "without_mathematics": {json.dumps(found["without_mathematics"])}']
        for name in ("refused", "compared"):
            lines = [f"  {json.dumps(key)}: {json.dumps(values)}" for key, values in found[name].items()]
            parts.insert(0, f' "{name}": {{\n' + ",\n".join(lines) + "}")
        blocks.append(f"{json.dumps(model_type)}: {{\n" + ",\n".join(parts) + "}")
    print("{" + ",\n".join(blocks) + "}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_all()
