"""examples/adding_an_architecture.md, followed block by block in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "examples" / "adding_an_architecture.md").read_text(encoding="utf-8")
NEEDED = ("tinystar_np", "tests", "pyproject.toml", "README.md")

BLOCK = r"\n\n```python\n(.*?)```\n"
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


def follow(directory: Path) -> list[str]:
    """Do what the guide says; returns the files that it touches."""
    created, replaced = CREATE.findall(GUIDE), REPLACE.findall(GUIDE)
    assert GUIDE.count("```python") == len(created) + 2 * len(replaced), "a block that belongs to no step"
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


def test_the_guide_works(tmp_path: Path) -> None:
    copy_of_the_project(tmp_path)
    touched = follow(tmp_path)
    assert {path for path in touched if path.startswith("tests/")} == {
        "tests/models/test_arcee_parity.py",
        "tests/tinystar/test_dynamic_tanh.py",
    }
    run(tmp_path, "ruff", "check", *touched)
    run(tmp_path, "ruff", "format", "--check", *touched)
    tests: list[str] = []
    for command in COMMAND.findall(GUIDE):
        python, m, pytest, *some = shlex.split(command.replace("\\\n", " "))
        assert (python, m, pytest) == ("python", "-m", "pytest")
        tests += some
    # One run for all commands: starting torch takes longer than the tests. It is the copy that is tested: the
    # package itself knows neither.
    found = run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert re.search(r"\b1[0-9] passed", found)
    assert "skipped" not in found
    assert not (ROOT / "tinystar_np" / "models" / "arcee.py").exists()
