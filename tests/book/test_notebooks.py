"""examples/notebooks: written from the chapters, and each runs from its first cell to its last."""

from pathlib import Path

import nbformat
import notebooks
import pytest
from nbclient import NotebookClient

WRITTEN = notebooks.notebooks()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_it_is_up_to_date_and_runs(path: Path, tmp_path: Path) -> None:
    assert path.read_text(encoding="utf-8") == WRITTEN[path], "run: python docs/tools/notebooks.py"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/svg+xml" in output.get("data", {}) for output in shown), "a picture"


def test_nothing_of_sphinx_is_left() -> None:
    for path, text in WRITTEN.items():
        assert "{literalinclude}" not in text, path
        assert ":::" not in text, path


def test_pictures_are_shown_and_files_are_linked() -> None:
    start = WRITTEN[notebooks.FOLDER / "01_start.ipynb"]
    assert "/raw/main/docs/look.png)" in start
    assert "/blob/main/docs/one_token.md)" in start


def test_no_other_notebook_lies_there() -> None:
    assert set(notebooks.FOLDER.glob("*.ipynb")) == set(WRITTEN)
