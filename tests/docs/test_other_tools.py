"""docs/other_tools.md: what it says is here is here, and no cell is empty or uncertain."""

import re
from pathlib import Path

import pytest

import tinystar_np as ts
from tinystar_np.cli.chat_commands import COMMANDS as CHAT_COMMANDS
from tinystar_np.cli.chat_texts import EDITORS
from tinystar_np.cli.parsers import COMMANDS, CommandParser, tinystar_parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "other_tools.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "---" not in line
]
TABLE = [row for row in ROWS if len(row) > 3 and row[0] != "you expect"]


def options() -> set[str]:
    """The options of all commands."""
    found = set()
    for action in tinystar_parser()._actions:
        for parser in (action.choices or {}).values() if action.choices else ():
            assert isinstance(parser, CommandParser)
            parser.declare()
            found |= {name for each in parser._actions for name in each.option_strings}
    return found


def test_every_cell_says_yes_part_or_no() -> None:
    assert len(TABLE) > 45
    for row in TABLE:
        assert all(cell[:1] in "●◐·" and cell for cell in row[1:]), row


def test_each_row_is_something_that_somebody_has_and_ours_is_never_a_no() -> None:
    for row in TABLE:
        assert row[1].startswith("●"), row


def test_what_is_named_as_ours_is_there() -> None:
    known = options()
    names = 0
    for row in TABLE:
        for code in re.findall(r"`([^`]+)`", row[1]):
            for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code):
                inside_chat = word == "--cache" and code.startswith("/save")
                assert word in known or inside_chat, f"{row[0]}: {word}"
            if found := re.search(r"tinystar (\w+)", code):
                assert found[1] in COMMANDS, f"{row[0]}: {code}"
            for word in re.findall(r"(?<![\w.])/[a-z]+", code):
                assert word in CHAT_COMMANDS, f"{row[0]}: {word}"
            for word in re.findall(r"\bts\.(\w+)", code):
                assert hasattr(ts, word), f"{row[0]}: {word}"
            if code.endswith(".py"):
                assert (ROOT / "tinystar_np" / code).is_file()
            names += 1
    assert names > 30
    assert "EDITOR" in EDITORS


@pytest.mark.parametrize("name", ["intervene", "ablate", "patch", "steer"])
def test_names_in_a_row_of_several(name: str) -> None:
    assert any(name in row[1] for row in TABLE)
    assert callable(getattr(ts, name))


def test_versions_of_installed_peers() -> None:
    """The page names the versions that this machine has, where it has them."""
    from importlib.metadata import version

    for package, tool in (("transformers", "transformers chat"), ("transformer-lens", "TransformerLens")):
        try:
            installed = version(package)
        except ImportError:
            continue
        said = next(row for row in ROWS if row[0] == tool)[1]
        assert said.split(".")[0] == installed.split(".")[0], f"{tool}: check the page against {installed}"
