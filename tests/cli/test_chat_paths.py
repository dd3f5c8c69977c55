"""Names of files in a conversation: typed, dropped onto the terminal, and completed."""

from pathlib import Path

import pytest

from tinystar_np.cli.chat_paths import completions_of, path_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files, which is the current one and the home."""
    (tmp_path / "my pictures").mkdir()
    for name in ("my photo.png", "my plan.txt", "it's.png", "'quoted'.png", "my pictures/a b.png"):
        (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("my photo.png", "my photo.png"),
        ("'my photo.png'", "my photo.png"),
        ('"my photo.png"', "my photo.png"),
        (r"my\ photo.png", "my photo.png"),
        (r"~/my\ photo.png", "my photo.png"),
        ("~/my photo.png", "my photo.png"),
        ("it's.png", "it's.png"),
        (r"it\'s.png", "it's.png"),
        ("'quoted'.png", "'quoted'.png"),  # a file of that very name
        ("my pictures/a b.png", "my pictures/a b.png"),
        ("'new talk.json'", "new talk.json"),
        ("new talk.json", "new talk.json"),
        ("'not closed.json", "'not closed.json"),
    ],
)
def test_paths(typed: str, name: str, folder: Path) -> None:
    assert path_of(typed).absolute() == folder / name


def test_completions(folder: Path) -> None:
    """Of a name with blanks, what is typed after the last blank is what a terminal replaces."""
    assert completions_of("my") == ["my photo.png", "my pictures", "my plan.txt"]
    assert completions_of("my p") == ["photo.png", "pictures", "plan.txt"]
    assert completions_of("my photo.p") == ["photo.png"]
    assert completions_of("my pictures/a") == ["pictures/a b.png"]
    assert completions_of("~/my pictures/a b") == ["b.png"]
    assert completions_of(f"{folder}/it") == [f"{folder}/it's.png"]
    assert completions_of("nowhere/x") == []
