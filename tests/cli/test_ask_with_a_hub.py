"""``ask-gpt2`` with a hub: fetched the first time, found the second, and plain words where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import serve_hub

PROGRAM = "import sys; from tinystar_np.cli.main import ask_gpt2; sys.exit(ask_gpt2())"


def ask(home: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "--temperature", "0", "-n", "8", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=home,
        check=False,
    )


@pytest.fixture
def files(talking_model: Path) -> dict[str, bytes]:
    kept = {path.name: path.read_bytes() for path in talking_model.iterdir()}
    return kept | {"pytorch_model.bin": b"never", "onnx/model.onnx": b"never", "README.md": b"never"}


def test_fetched_once_and_found_afterwards(files: dict[str, bytes], tmp_path: Path) -> None:
    with serve_hub({"openai-community/gpt2": files}) as hub:
        first = ask(tmp_path, hub.url, "Once upon")
        assert (first.returncode, first.stderr) == (0, "")
        assert hub.downloads == sorted(set(files) - {"pytorch_model.bin", "onnx/model.onnx", "README.md"})
        asked = len(hub.requests)
        for name in ("openai-community/gpt2", "gpt2"):
            again = ask(tmp_path, hub.url, "-m", name, "Once upon")
            assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
        assert len(hub.requests) == asked


def test_no_hub(tmp_path: Path) -> None:
    for endpoint, flags, words in (
        ("http://127.0.0.1:9", [], "127.0.0.1:9 cannot be reached"),
        ("http://127.0.0.1:9", ["--offline"], "not on this machine"),
    ):
        result = ask(tmp_path, endpoint, *flags, "Once upon")
        assert (result.returncode, result.stdout) == (1, "")
        assert words in result.stderr
        assert len(result.stderr.splitlines()) <= 2


def test_repository_without_safetensors(files: dict[str, bytes], tmp_path: Path) -> None:
    del files["model.safetensors"]
    with serve_hub({"openai-community/gpt2": files}) as hub:
        result = ask(tmp_path, hub.url, "Once upon")
        assert hub.downloads == []
    assert (result.returncode, result.stdout) == (1, "")
    assert "has no safetensors" in result.stderr
