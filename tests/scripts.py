"""Scripts outside the package, imported as if they were run where they lie."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


def import_script(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script by its path, with what lies beside it, until the test ends."""
    monkeypatch.syspath_prepend(str(path.parent))
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module
