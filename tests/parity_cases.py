"""One row for each architecture: its small model, and the variants of it that are held against transformers.

The rows are in parity_rows/, a file for each, named as the model's file; what they are made of is in
parity_case.py. ``CASE.small`` is also what the walk over all keys (switches.py) starts from.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from parity_case import Case

FILES: list[ModuleType] = [
    import_module(f"parity_rows.{file.stem}")
    for file in sorted(Path(__file__).with_name("parity_rows").glob("*.py"))
]
CASES: list[Case] = [file.CASE for file in FILES]
ROWS = {case.model_type: case for case in CASES}
OTHERS_OF: dict[str, dict[str, list[Any]]] = {
    file.CASE.model_type: getattr(file, "OTHERS", {}) for file in FILES
}
"""{architecture: its OTHERS}; this and the next three are explained in parity_case.py."""


def keys_named(name: str) -> set[str]:
    """What all files list under a name: "architecture.key"."""
    return {f"{file.CASE.model_type}.{key}" for file in FILES for key in getattr(file, name, "").split()}


INERT_OF, READ_OF, MISREAD_OF = keys_named("INERT"), keys_named("READ"), keys_named("MISREAD")
