"""Which keys of each architecture's config.json a test holds against transformers, and with what values.

It is no list that somebody keeps. The tests' walk over transformers' config classes tries every key, writes
what it found into ``switches.json``, and fails where the file says otherwise:

    python tests/switches.py > tinystar_np/inspection/switches.json
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Switches:
    """What is known of one architecture's keys; a part of an object is called "object.part".

    compared             with each of these values the logits are transformers'
    refused              with each of these values a ConfigError names the key
    without_mathematics  keys that change nothing, in transformers and here
    """

    compared: dict[str, list[Any]]
    refused: dict[str, list[Any]]
    without_mathematics: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """Say it in words: (key, its values), each kind of keys after a row that says what it is."""
        return [
            ("The same logits as transformers, with each value:", ""),
            *((key, _listed(values)) for key, values in sorted(self.compared.items())),
            ("Refused by name:", ""),
            *((key, _listed(values)) for key, values in sorted(self.refused.items())),
            ("Without mathematics:", ", ".join(self.without_mathematics)),
        ]


def switches() -> dict[str, Switches]:
    """Read the file: {model_type: what is known of its keys}."""
    text = (files("tinystar_np.inspection") / "switches.json").read_text(encoding="utf-8")
    return {model_type: Switches(**found) for model_type, found in json.loads(text).items()}


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in values)
