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
"""Other values of keys where those of switch_values.py do not fit; parts of an object as "object.part"."""
INERT_OF = {f"{file.CASE.model_type}.{key}" for file in FILES for key in getattr(file, "INERT", "").split()}
"""Keys that are in transformers' class of one architecture and read by nothing there."""
READ_OF = {f"{file.CASE.model_type}.{key}" for file in FILES for key in getattr(file, "READ", "").split()}
"""Keys that have mathematics in one architecture, and in no other."""
MISREAD_OF = {
    f"{file.CASE.model_type}.{key}" for file in FILES for key in getattr(file, "MISREAD", "").split()
}
"""Keys that transformers reads and the makers do not, or the other way round: ours does as the makers."""
