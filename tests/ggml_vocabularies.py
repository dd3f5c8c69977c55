"""llama.cpp's vocabularies (GGUF files without weights), the texts of its tests, and the ids they expect."""

from pathlib import Path
from typing import Any

from tinystar_np.checkpoints.gguf_file import map_gguf

NAMES = (
    *("deepseek-coder", "deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2"),
    "starcoder",
)
SEPARATOR = "\n__ggml_vocab_test__\n"

_read: dict[Path, dict[str, Any]] = {}


def metadata_of(path: Path) -> dict[str, Any]:
    """Read a file's keys, once."""
    if path not in _read:
        _read[path] = dict(map_gguf(path).metadata)
    return dict(_read[path])


def vocabulary(shared: Path, name: str) -> Path:
    return shared / "ggml-vocab" / f"ggml-vocab-{name}.gguf"


def texts_and_ids(path: Path) -> list[tuple[str, list[int]]]:
    """Read the texts of llama.cpp's test and the ids that it expects."""
    texts = Path(f"{path}.inp").read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
    lines = Path(f"{path}.out").read_text().splitlines()
    assert len(texts) == len(lines)
    return [(text, [int(id) for id in line.split()]) for text, line in zip(texts, lines, strict=True)]
