"""llama.cpp's vocabularies (GGUF files without weights), the texts of its tests, and the ids they expect."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAMES = (
    *("deepseek-coder", "deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2"),
    "starcoder",
)
SEPARATOR = "\n__ggml_vocab_test__\n"

_read: dict[Path, dict[str, Any]] = {}


def metadata_of(path: Path) -> dict[str, Any]:
    """Read a file's keys with the gguf package: arrays of texts as lists, arrays of numbers as NumPy's."""
    if path not in _read:
        reader = pytest.importorskip("gguf").GGUFReader(path)
        _read[path] = {
            key: _value(field.contents())
            for key, field in reader.fields.items()
            if not key.startswith("GGUF.")
        }
    return dict(_read[path])


def _value(value: Any) -> Any:
    return np.array(value) if isinstance(value, list) and not isinstance(value[0], str) else value


def vocabulary(shared: Path, name: str) -> Path:
    return shared / "ggml-vocab" / f"ggml-vocab-{name}.gguf"


def texts_and_ids(path: Path) -> list[tuple[str, list[int]]]:
    """Read the texts of llama.cpp's test and the ids that it expects."""
    texts = Path(f"{path}.inp").read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
    lines = Path(f"{path}.out").read_text().splitlines()
    assert len(texts) == len(lines)
    return [(text, [int(id) for id in line.split()]) for text, line in zip(texts, lines, strict=True)]
