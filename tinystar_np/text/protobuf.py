"""Protocol buffers, as far as reading one needs them: a message is a row of numbered fields.

    field    = key, value
    key      = field number · 8 + kind of value, a varint
    varint   = 7 bits a byte, the lowest first; the top bit says that more bytes follow

What the numbers mean stands in no file but in the schema; a reader skips the fields that it does not know.
https://protobuf.dev/programming-guides/encoding
"""

import struct
from collections.abc import Iterator

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are no message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Walk through the fields of a message.

    Yields (number, value): an int for a varint, bytes for everything else, a message within it included.
    Raises WireError where the bytes are no message.
    """
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError(f"byte {position - 1} begins a field with the number 0")
        if kind == VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == BYTES:
            length, position = _varint(data, position)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if kind == EIGHT_BYTES else 4
        else:
            raise WireError(f"byte {position - 1} begins a field of the unknown kind {kind}")
        end = position + length
        if end > len(data):
            raise WireError(f"it ends at byte {len(data)}, within a field that goes to byte {end}")
        yield number, data[position:end]
        position = end


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read the varint at a position; returns it and the position behind it."""
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise WireError(f"the number before byte {position} does not end")


def as_int(value: int | bytes) -> int:
    """Read a field's value as a whole number from 0 on."""
    if not isinstance(value, int):
        raise WireError("a number was expected, and bytes were found")
    return value


def as_bytes(value: int | bytes) -> bytes:
    """Read a field's value as bytes."""
    if not isinstance(value, bytes):
        raise WireError("bytes were expected, and a number was found")
    return value


def as_text(value: int | bytes) -> str:
    """Read a field's value as UTF-8."""
    return as_bytes(value).decode()


def as_float(value: int | bytes) -> float:
    """Read a field's value as a 32-bit float."""
    if len(as_bytes(value)) != 4:
        raise WireError("a 32-bit float was expected")
    number: float = struct.unpack("<f", as_bytes(value))[0]
    return number
