"""examples/adding_an_architecture.md, followed block by block in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "examples" / "adding_an_architecture.md").read_text(encoding="utf-8")
NEEDED = ("tinystar_np", "tests", "pyproject.toml", "README.md", "CHANGELOG.md")
ARCHITECTURE, COMPONENT = GUIDE.split("\n## A component")

BLOCK = r"\n\n```(?:python|markdown)\n(.*?)```\n"
CREATE = re.compile(rf"^Create `([^`]+)`:{BLOCK}", re.MULTILINE | re.DOTALL)
REPLACE = re.compile(rf"^In `([^`]+)`, replace{BLOCK}\nwith{BLOCK}", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def copy_of_the_project(directory: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, directory / name)


def follow(guide: str, directory: Path) -> list[str]:
    """Do what the guide says; returns the files that it touches."""
    created, replaced = CREATE.findall(guide), REPLACE.findall(guide)
    blocks = guide.count("```python") + guide.count("```markdown")
    assert blocks == len(created) + 2 * len(replaced), "a block that belongs to no step"
    for name, content in created:
        path = directory / name
        assert not path.exists(), f"{name} is there already"
        path.write_text(content, encoding="utf-8")
    for name, old, new in replaced:
        path = directory / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} has {text.count(old)} times\n{old}"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return sorted({name for name, *_ in created + replaced})


def run(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("guide", [ARCHITECTURE, COMPONENT], ids=["architecture", "component"])
def test_the_guide_works(guide: str, tmp_path: Path) -> None:
    copy_of_the_project(tmp_path)
    touched = follow(guide, tmp_path)
    python_files = [name for name in touched if name.endswith(".py")]
    run(tmp_path, "ruff", "check", *python_files)
    run(tmp_path, "ruff", "format", "--check", *python_files)
    (command,) = COMMAND.findall(guide)
    python, m, *pytest_arguments = shlex.split(command.replace("\\\n", " "))
    assert (python, m, pytest_arguments[0]) == ("python", "-m", "pytest")
    found = run(tmp_path, *pytest_arguments, "-q", "-p", "no:cacheprovider")  # it is the copy that is tested
    passed = re.search(r"\b(\d+) passed", found)
    assert passed
    assert int(passed[1]) >= 3
    assert "skipped" not in found


def test_an_architecture_is_three_files(tmp_path: Path) -> None:
    copy_of_the_project(tmp_path)
    assert follow(ARCHITECTURE, tmp_path) == [
        "CHANGELOG.md",
        "tests/parity_rows/cwm.py",
        "tinystar_np/models/cwm.py",
    ]
    assert not (ROOT / "tinystar_np" / "models" / "cwm.py").exists()
