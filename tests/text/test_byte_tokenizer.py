"""Bytes as tokens: ids are UTF-8, any ids are text, and a stream never prints half a character."""

import random
from pathlib import Path

import pytest

from tinystar_np.errors import InputError
from tinystar_np.text import TextStream, Tokenizer, tokenizer_of_bytes
from tinystar_np.text.byte_tokenizer import byte_letters

TEXTS = [
    "",
    "né",
    " spaces  at\tboth ends\r\n ",
    "<0x41> <|endoftext|> <s>",
    "日本語 🤦🏽‍♀️ \x00 \x7f \u00a0 \u00ad \ufffd",
    "".join(map(chr, range(0x300))),
    "x" * 5000,
]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tokenizer_of_bytes(tmp_path / "config.json")


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_utf8(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text)
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_nothing_else_is_there(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 256
    assert tokenizer.special_ids == frozenset()
    assert tokenizer.end_id is None
    assert tokenizer.chat_template is None
    assert [tokenizer.token(id) for id in (33, 255, 256)] == ["!", "ÿ", ""]
    assert len(set(byte_letters())) == 256
    with pytest.raises(InputError, match="not valid Unicode"):
        tokenizer.encode("\ud800")


def test_any_bytes_are_text_and_the_same_as_a_stream(tokenizer: Tokenizer) -> None:
    """Whole characters, cut ones, and noise; what is no character is U+FFFD as Python has it."""
    rng = random.Random(0)
    for length in range(400):
        if length % 2:
            ids = [rng.randrange(256) for _ in range(length % 50)]
        else:
            parts = [rng.choice("é日🤦a ß").encode()[: rng.randint(1, 4)] for _ in range(length % 12)]
            ids = list(b"".join(parts))
        text = bytes(ids).decode(errors="replace")
        assert tokenizer.decode(ids) == text
        for after in ([], [0x61], [0xE6]):
            stream = TextStream(tokenizer, after)
            assert "".join(map(stream.push, ids)) + stream.flush() == text


def test_a_stream_waits_for_the_whole_character(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    assert [stream.push(byte) for byte in "a🤦é".encode()] == ["a", "", "", "", "🤦", "", "é"]
    assert stream.push(0xF0) == ""
    assert stream.flush() == "\ufffd"
