"""docs/comparing.md: every phrase that it explains is one that the commands can say."""

import re
from pathlib import Path

import tinystar_np

ROOT = Path(tinystar_np.__file__).parent


def test_every_phrase_is_in_the_code() -> None:
    page = (ROOT.parent / "docs" / "comparing.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    phrases = [phrase for row in rows for phrase in re.findall("`([^`]+)`", row)]
    said = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "seeing").rglob("*.py")))
    assert len(phrases) > 30
    assert [phrase for phrase in phrases if phrase not in said] == []
