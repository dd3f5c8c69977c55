"""What a release says about itself: one version, one home, documents that an installed package finds."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tinystar_np
from tinystar_np import documents
from tinystar_np.documents import HOME, document

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_one_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == tinystar_np.__version__
    heading = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading is not None
    newest = heading[1].split(" ")[0].strip("[]")
    assert newest in ("Unreleased", tinystar_np.__version__)
    assert newest == "Unreleased" or "date-released" in cited


def test_the_citation_has_what_its_format_asks_for() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["license"] == PROJECT["license"]


def test_one_home() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["repository-code"] == PROJECT["urls"]["Homepage"] == HOME
    assert all(url.startswith(HOME) for url in PROJECT["urls"].values())


def test_addresses_of_documents_are_of_files_that_there_are() -> None:
    for url in PROJECT["urls"].values():
        path = url.removeprefix(HOME).removeprefix("/blob/main/")
        assert path in ("", "/issues") or (ROOT / path).is_file(), url


def test_documents_in_a_checkout_and_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert document("docs/taps.md") == "docs/taps.md"
    monkeypatch.setattr(documents, "CHECKOUT", tmp_path)  # as site-packages is
    assert document("docs/taps.md") == f"{HOME}/blob/main/docs/taps.md"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "taps.md").touch()  # of another package
    assert document("docs/taps.md") == f"{HOME}/blob/main/docs/taps.md"


def test_whoever_is_pointed_to_a_document_gets_there() -> None:
    """No text that a user sees names a document by a path that only a checkout has."""
    import ast

    for file in (ROOT / "tinystar_np").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise | ast.Call):
                shown = [
                    each.value
                    for each in ast.walk(node)
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                ]
                named = [text for text in shown if re.search(r"\b(docs/\w+|[A-Z]{4,})\.md\b", text)]
                is_call = isinstance(node, ast.Call) and ast.unparse(node.func) == "document"
                inside = [
                    ast.unparse(each)
                    for each in ast.walk(node)
                    if isinstance(each, ast.Call) and ast.unparse(each.func) == "document"
                ]
                assert is_call or not named or inside, f"{file}:{node.lineno}: {named}"


def test_from_an_installed_package_too(tmp_path: Path) -> None:
    """A copy of the package alone, as a wheel puts it: errors name an address."""
    import shutil

    shutil.copytree(ROOT / "tinystar_np", tmp_path / "tinystar_np", ignore=shutil.ignore_patterns("shipped"))
    code = """
import tinystar_np as ts
try:
    ts.ablate("no.such.tap")
except ts.TinyStarError as error:
    print(error)
from tinystar_np.cli.main import tinystar
tinystar(["--help"])
"""
    run = [sys.executable, "-c", code]
    done: Any = subprocess.run(
        run, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert f"{HOME}/blob/main/docs/taps.md lists them" in done.stdout
    assert f"{HOME}/blob/main/README.md" in done.stdout


def files_of(target: str) -> dict[str, int]:
    """The files of a release and their bytes, by the rules that build it."""
    builder = pytest.importorskip(f"hatchling.builders.{target}", reason="hatchling is not installed")
    kind = getattr(builder, f"{target.capitalize()}Builder")
    included = kind(str(ROOT)).recurse_included_files()
    return {file.distribution_path.replace("\\", "/"): Path(file.path).stat().st_size for file in included}


def test_the_wheel_has_the_shipped_models_and_nothing_from_elsewhere() -> None:
    files = files_of("wheel")
    assert {path.split("/")[0] for path in files} == {"tinystar_np"}
    shipped = {path for path in files if path.endswith(".safetensors")}
    assert shipped == {f"tinystar_np/shipped/{name}/model.safetensors" for name in ("letters", "stories")}
    assert "tinystar_np/shipped/letters/LICENSE" in files
    assert "tinystar_np/shipped/seven_designs.json" in files
    assert sum(files.values()) < 12_000_000


def test_the_source_has_the_cards_of_the_trained_designs_without_their_weights() -> None:
    files = files_of("sdist")
    ours = [path for path in files if path.startswith("examples/seven_designs/")]
    assert "examples/seven_designs/README.md" in ours
    assert "examples/seven_designs/v0.2-modern/config.json" in ours
    assert not [path for path in ours if path.endswith(".safetensors")]
    assert sum(files.values()) < 20_000_000
