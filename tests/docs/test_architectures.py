"""docs/*.md: what docs/tools writes is up to date, every model file says enough, no link is broken."""

import re
from pathlib import Path

import architectures
import config_keys
import pytest
from architectures import FACTS, TYPES, docstring, headline, name_of, parts, steps

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("tool", [architectures, config_keys], ids=lambda tool: tool.__name__)
def test_the_page_is_up_to_date(tool) -> None:
    run = f"run: python docs/tools/{tool.__name__}.py"
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), run


@pytest.mark.parametrize("model_type", TYPES)
def test_every_model_file_says_enough(model_type: str) -> None:
    text = docstring(model_type)
    assert 2018 <= int(headline(model_type)[0]) <= 2026
    assert 0 < len(name_of(model_type)) < 60
    for column in ("attention", "position", "norm", "block"):
        assert parts(text)[column], column
    assert len(text.split("\nNew in it")[1]) > 100
    assert "arXiv:" in text or model_type == "gpt2"  # whose paper is on no server


def test_the_family_tree_has_every_architecture_after_what_it_grew_from() -> None:
    assert len(list(steps())) == len(TYPES)  # a circle would not be reached
    for model_type, facts in FACTS.items():
        assert facts.grew_from is None or headline(facts.grew_from)[0] <= headline(model_type)[0]


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_leads_nowhere(page: Path) -> None:
    prose = re.sub(
        r"^```.*?^```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for target in re.findall(r"\]\((.+?)\)", prose):
        if not target.startswith("https://"):
            file, _, heading = target.partition("#")
            there = page.parent / file if file else page
            assert there.exists(), target
            assert not heading or heading in headings(there), target


def test_docs_name_every_kernel() -> None:
    text = (ROOT / "docs" / "blocks.md").read_text(encoding="utf-8")
    kernels = {path.stem for path in (ROOT / "tinystar_np" / "kernels").glob("*.py")} - {"__init__"}
    assert kernels == set(re.findall(r"tinystar_np/kernels/(\w+)\.py", text))
