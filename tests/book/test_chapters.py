"""The book's chapters: their code runs, tests solve their exercises, and no block is left out silently."""

import ast
import os
import re
from pathlib import Path

import numpy as np
import pytest
from chapters import DOCS, Chapter, chapters, run

ROOT = DOCS.parent
CHAPTERS = chapters()
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
FENCE = re.compile(r"^(`{3,}|:{3,})(\{?[\w+-]*\}?).*$")
NOT_CODE = {
    "text",
    "pycon",
    "mermaid",
    "{mermaid}",
    "{toctree}",
    "{code-cell}",
    "{literalinclude}",
    "{dropdown}",
}
NOT_CODE |= {"{note}", "{include}"}
RUN_ELSEWHERE = {
    # pages whose examples have a test of their own
    "chat.md": "docs/test_page_examples.py",
    "comparing.md": "docs/test_page_examples.py",
    "images.md": "docs/test_image_examples.py",
    "looking_inside.md": "docs/test_looking_inside.py",
    "taps.md": "docs/test_page_examples.py",
}
REASON = "<!-- not executed: "


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_its_code_runs_and_what_it_shows_can_be_shown(
    chapter: Chapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for shown in run(chapter.code()):
        for form in ("_repr_svg_", "_repr_markdown_", "_repr_html_"):
            if hasattr(shown, form):
                assert getattr(shown, form)()
    assert list(tmp_path.iterdir()) == [], "a chapter writes no file that stays"


def exercises(chapter: Chapter) -> list[tuple[str, str]]:
    """The solutions that a chapter includes: (file, function)."""
    last = chapter.text.rpartition("\n## ")[2]
    assert last.startswith("Exercises\n"), "exercises end a chapter"
    found = re.findall(r"\{literalinclude\} (\S+)\n:pyobject: (\w+)", last)
    asked = re.findall(r"^\d\. ", last, re.MULTILINE)
    assert len(asked) == len(found), "a solution for each exercise"
    return found


@pytest.mark.parametrize(
    "chapter",
    [each for each in CHAPTERS if not each.name.startswith("reference/")],
    ids=lambda chapter: chapter.name,
)
def test_it_ends_with_three_exercises_whose_solutions_are_tests(chapter: Chapter) -> None:
    found = exercises(chapter)
    assert len(found) == 3
    for file, function in found:
        path = (chapter.path.parent / file).resolve()
        assert path.parent == Path(__file__).parent
        defined = [
            node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
        ]
        assert function in defined
        assert function.startswith("test_")


def blocks(text: str) -> list[tuple[str, str]]:
    """The outermost fenced blocks of a page: (language or directive, the line before that is not empty)."""
    found, end, before = [], "", ""
    for line in text.splitlines():
        fence = FENCE.match(line)
        if end:
            end = "" if line.strip() == end else end
        elif fence:
            found.append((fence[2], before))
            end = fence[1]
        if line.strip():
            before = line
    return found


def test_print_options_of_a_chapter_end_with_it() -> None:
    before, variables = np.get_printoptions(), dict(os.environ)
    assert list(run(["import numpy", "numpy.set_printoptions(precision=1)", "str(numpy.array(1 / 3))"]))[1:]
    assert list(run(["import os", "os.environ['COLUMNS'] = '17'", "os.environ.pop('HOME', '')"]))
    assert np.get_printoptions() == before
    assert dict(os.environ) == variables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_block_of_code_runs_or_says_why_not(page: Path) -> None:
    name = page.relative_to(DOCS).as_posix()
    fine = set(NOT_CODE)
    if name in RUN_ELSEWHERE:
        assert name in (ROOT / "tests" / RUN_ELSEWHERE[name]).read_text("utf-8")
        fine.add("python")
    found = blocks(page.read_text("utf-8"))
    silent = [kind for kind, before in found if kind not in fine and REASON not in before]
    assert silent == [], f"these run nowhere, and no line '{REASON}reason -->' before them says why"
