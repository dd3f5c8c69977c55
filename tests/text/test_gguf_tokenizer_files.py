"""The tokenizer files that are written from a GGUF file: transformers and this package make its ids."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ggml_vocabularies import NAMES, metadata_of, texts_and_ids, vocabulary
from transformers import AutoTokenizer

from tinystar_np.text import load_tokenizer
from tinystar_np.text.gguf_tokenizer import load_gguf_tokenizer
from tinystar_np.text.gguf_tokenizer_files import gguf_tokenizer_files

ALPHABET = [*"aaabehinorstT   .,\n\t1209é→漢🦄", "the", "▁", "<s>", " a", "aaaa", "        ", "-----"]


def written(metadata: dict[str, Any], path: Path, folder: Path) -> Path:
    """Write the files as a conversion does, beside a config.json, by which transformers chooses a class."""
    files, missing = gguf_tokenizer_files(metadata, path)
    assert missing is None
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    model_type = {"gpt-2": "gpt2", "qwen2": "qwen2", "falcon": "falcon", "mpt": "mpt", "phi-3": "phi3"}
    kind = model_type.get(path.stem.removeprefix("ggml-vocab-"), "llama")
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


def random_texts(count: int, seed: int = 1) -> list[str]:
    dice = random.Random(seed)
    return ["".join(dice.choices(ALPHABET, k=dice.randrange(1, 60))) for _ in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_texts(name: str, shared: Path, tmp_path: Path) -> None:
    path = vocabulary(shared, name)
    metadata = metadata_of(path)
    folder = written(metadata, path, tmp_path / "new")
    ours, again = load_gguf_tokenizer(metadata, path), load_tokenizer(folder)
    assert ours is not None
    assert again is not None
    theirs = AutoTokenizer.from_pretrained(folder)
    for text in [*(text for text, _ in texts_and_ids(path)), *random_texts(300)]:
        ids = ours.encode(text)
        assert theirs(text)["input_ids"] == ids, text
        assert again.encode(text) == ids, text
        for skip in (False, True):
            expected = ours.decode(ids, skip_special_tokens=skip)
            assert theirs.decode(ids, skip_special_tokens=skip) == expected, text
            assert again.decode(ids, skip_special_tokens=skip) == expected, text
    for role in ("bos_token", "eos_token", "pad_token"):
        assert getattr(theirs, role) == ours.settings.special_tokens.get(role)


def missing(*more: str, **keys: Any) -> str | None:
    """What is missing of the files of a small sentencepiece vocabulary."""
    bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["▁", "t", "h", "e", "he", "▁the", "▁t", "-", "--", "----", "---", "a", "b", *more]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *bytes, *words],
        "tokenizer.ggml.token_type": np.array([2, 3, 3] + [6] * 256 + [1] * len(words), np.int32),
        "tokenizer.ggml.scores": np.array([0.0] * 259 + [-float(i) for i in range(len(words))], "f4"),
    }
    for key, change in keys.items():
        change(metadata[f"tokenizer.ggml.{key}"])
    return gguf_tokenizer_files(metadata, Path("model.gguf"))[1]


def test_equal_scores() -> None:
    """Of one character's rows they may be equal, where the package gives the same ids; no others."""

    def equal(*positions: int) -> Any:
        def change(scores: Any) -> None:
            scores[[259 + position for position in positions]] = -99

        return change

    assert missing() is None
    assert missing(scores=equal(8, 9, 10)) is None
    assert "no exact" in str(missing(scores=equal(4, 6)))  # "he" and "▁t"
    assert "no exact" in str(missing(scores=equal(8, 9)))  # without the third of the rows
    longer = ["-" * 2**power for power in range(3, 8)]  # too long to be tried
    assert "no exact" in str(missing(*longer, scores=equal(8, 9, 10, *range(13, 18))))
    assert "no exact" in str(missing("-" * 6, scores=equal(8, 9, 10, 13)))  # 7: the package makes 4 and 3


def test_bytes_by_other_names() -> None:
    def lower(tokens: list[str]) -> None:
        tokens[3 + 0xAB] = "<0xab>"

    assert "no exact" in str(missing(tokens=lower))
