"""The house keeps its own rules: floors, the README's commands and code, what ships."""

import ast
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import tinystar_np
from tinystar_np.layers.module import Module
from tinystar_np.models.facts import model_file

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinystar_np"
README = (ROOT / "README.md").read_text(encoding="utf-8")

# From the ground up. What is no folder lies under all floors; loading, conversion and the package lie above.
FLOORS = [
    "kernels",
    "fast",
    "ranks",
    "checkpoints",
    "cache",
    "layers",
    "models",
    "text",
    "vision",
    "generation",
    "inspection",
    "seeing",
    "serving",
    "cli",
]
GROUND = {"amounts", "documents", "errors", "processes", "progress_bar", "tap", "whole_file"}


def test_every_folder_is_a_floor() -> None:
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")} - {"."}
    assert folders == {*FLOORS, "models/vision", "seeing/comparison", "seeing/page"}
    assert all((PACKAGE / folder / "__init__.py").exists() for folder in folders)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, by full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down(floor: str) -> None:
    below = set(FLOORS[: FLOORS.index(floor) + 1]) | GROUND
    if floor == "cli":
        below |= {"loading", "following", "conversion"}
    files = list((PACKAGE / floor).rglob("*.py"))
    assert files
    for file in files:
        for module in imports(file):
            if module.startswith("tinystar_np."):
                assert module.split(".")[1] in below, f"{file.name} imports {module}"


def test_kernels_import_numpy_and_nothing_else() -> None:
    allowed = {"numpy", "math", "collections", "abc", "copy", "typing", "tinystar_np"}
    for file in (PACKAGE / "kernels").glob("*.py"):
        assert {module.split(".")[0] for module in imports(file)} <= allowed
        inside = {module for module in imports(file) if module.startswith("tinystar_np")}
        assert all(module.startswith("tinystar_np.kernels") for module in inside)


def test_the_engine_needs_no_framework() -> None:
    for file in PACKAGE.rglob("*.py"):
        modules = {module.split(".")[0] for module in imports(file)}
        assert not modules & {"scipy", "numba", "jax"}, file
        if file != PACKAGE / "seeing" / "comparison" / "transformers_model.py":
            assert not modules & {"torch", "transformers"}, file


def decoders(path: Path) -> list[str]:
    """The classes of a file that are models."""
    classes = [
        node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
    ]
    return [node.name for node in classes if any(ast.unparse(b).startswith("Decoder") for b in node.bases)]


def test_every_model_file_has_one_model_and_imports_no_other() -> None:
    from tinystar_np.models import ARCHITECTURES, Decoder, model_class

    assert {model_file(name).stem for name in ARCHITECTURES} == {
        path.stem for path in (PACKAGE / "models").glob("*.py") if decoders(path)
    }
    models = {f"tinystar_np.models.{model_file(model_type).stem}" for model_type in ARCHITECTURES}
    assert len(models) > 35
    for model_type in ARCHITECTURES:
        found = model_class(model_type)
        assert found.__module__ == f"tinystar_np.models.{model_file(model_type).stem}"
        assert found.__bases__ == (Decoder,)
        assert found.Config.__module__ in (found.__module__, f"{found.__module__}_config")
        path = model_file(model_type)
        assert decoders(path) == [found.__name__]
        used = imports(path)
        assert not used & models, f"{model_type} imports another model"


def test_no_class_of_models_stands_on_more_than_one_other() -> None:
    """What a reader of a class must look up: itself, and one class that it is a kind of.

    ``Module`` is not counted: it is the text of an object and nothing else, as this test sees to.
    """
    assert [name for name in vars(Module) if callable(vars(Module)[name])] == ["__repr__"]
    for path in (PACKAGE / "models").glob("*.py"):
        module = import_module(f"tinystar_np.models.{path.stem}")
        for found in vars(module).values():
            if isinstance(found, type) and found.__module__ == module.__name__:
                above = [each for each in found.__mro__ if each is not Module]
                ours = [each.__name__ for each in above if each.__module__.startswith("tinystar_np")]
                assert len(ours) <= 2, f"{path.name}: {' < '.join(ours)}"


def test_what_ships_is_code_and_the_shipped_model() -> None:
    """No pictures, no tables of tests, nothing that only the documentation needs."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["tinystar_np"]}
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    others = {path.relative_to(PACKAGE) for path in files if path.suffix != ".py"}
    page = {path for path in others if path.parts[:2] == ("seeing", "page")}
    assert {path.suffix for path in page} == {".html", ".css", ".js"}
    chat = {Path("serving/page") / name for name in ("index.html", "chat.css", "chat.js", "icon.svg")}
    assert {path for path in others - page if path.parts[0] != "shipped"} == {Path("py.typed"), *chat}


def shell_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def test_ci_calls_the_test_command_of_the_readme() -> None:
    command = next(line for line in shell_commands() if "-m pytest" in line)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_code_in_the_readme_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it writes files
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert len(capsys.readouterr().out) > 200


def test_the_public_face() -> None:
    for name in ("load", "generate", "generate_ids", "stream", "record", "__version__"):
        assert hasattr(tinystar_np, name)


@pytest.mark.parametrize(("name", "most"), [("stories", 8_000_000), ("letters", 400_000)])
def test_the_shipped_models_are_small_and_complete(name: str, most: int) -> None:
    directory = PACKAGE / "shipped" / name
    files = {path.name for path in directory.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files
    assert sum(path.stat().st_size for path in directory.iterdir()) <= most


def test_each_promise_names_tests_that_exist() -> None:
    """In SECURITY.md's tables, the last column is what attacks the promise in the first."""
    rows = [
        line
        for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    rows = [row for row in rows if not row.startswith("| promise")]
    assert len(rows) > 15
    for row in rows:
        promise, _, tests = row.strip("| ").split(" | ")
        named = re.findall(r"`([\w/]+\.py)(?: -k \"?([\w ]+)\"?)?`", tests)
        assert named, promise
        for file, names in named:
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            for name in names.split(" or ") if names else ():
                assert f"def {name}" in text, f"{file}: {name}"
