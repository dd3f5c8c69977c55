"""Writes `tokenizer.model` files for tests, so that they need no training."""

import struct
from collections.abc import Sequence

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
Piece = tuple[str, float, int]

START: list[Piece] = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
BYTES: list[Piece] = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def model_proto(
    pieces: Sequence[Piece],
    model_type: int = 2,
    byte_fallback: bool = False,
    prefix: bool = True,
    collapse: bool = False,
    charsmap: bytes = b"",
    more: bytes = b"",
) -> bytes:
    """A model as sentencepiece writes it, with a field that readers must skip (self_test_data)."""
    data = b""
    for text, score, type in pieces:
        piece = field(1, text.encode()) + field(2, float(score))
        data += field(1, piece if type == NORMAL else piece + field(3, type))
    trainer = field(3, model_type) + field(4, len(pieces)) + field(35, int(byte_fallback)) + field(40, 0)
    trainer += field(41, 1) + field(42, 2) + field(43, -1)  # no padding: a negative number
    normalizer = field(1, b"identity") + (field(2, charsmap) if charsmap else b"")
    normalizer += field(3, int(prefix)) + field(4, int(collapse)) + field(5, 1)
    return data + field(2, trainer + more) + field(3, normalizer) + field(4, b"")


def llama_like() -> bytes:
    """A few merges, every byte, and the characters of some words; scores are the order of the merges."""
    merges = ["▁t", "he", "▁the", "▁c", "at", "▁cat", "▁▁", "▁▁▁▁", "in", "ing", "日本"]
    characters = "▁abcdeghinorst.,日本😀"
    words: list[Piece] = [(word, -float(rank), NORMAL) for rank, word in enumerate([*merges, *characters])]
    return model_proto([*START, *BYTES, *words], byte_fallback=True)
