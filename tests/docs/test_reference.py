"""docs/reference/: nothing that is public and no command is left out."""

from pathlib import Path

import pytest

import tinystar_np as ts
from tinystar_np.cli.parsers import COMMANDS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", ts.__all__)
def test_every_public_name_is_described(name: str) -> None:
    page = (REFERENCE / "python.md").read_text("utf-8")
    assert f"describe(ts.{name})" in page or f"`ts.{name}` is the base of all [errors]" in page


def test_every_command_is_shown() -> None:
    page = (REFERENCE / "command_line.md").read_text("utf-8")
    missing = [name for name in COMMANDS if f'show(commands["{name}"])' not in page]
    assert missing == []
