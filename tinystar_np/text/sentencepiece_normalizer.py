"""What sentencepiece does to a text before it cuts it: characters replaced, spaces made visible.

    "Hello  ｗorld"  →  "▁Hello▁world"      (NFKC, one space for many, a space in front)

Which characters are replaced stands in the model, compiled: a double-array trie (Aoe 1989) from UTF-8 bytes
to places in a block of text. Each state of the trie has a base, and its child for byte c stands at base ⊕ c;
one array of 32-bit units holds them all. Units are packed as the darts-clone library does:

    bits 31, 0 – 7   the byte that leads here (bit 31 marks a value instead)
    bit  8           one of the children is a value
    bits 9, 10 – 31  base, relative to the unit's own place; shifted by 8 more if bit 9 is set

At each place of a text the longest entry counts.
"""

import re
import struct
from collections.abc import Iterator

SPACE = "▁"  # U+2581, what stands for a space within pieces


class CharacterMap:
    """Replaces the longest known beginning of a text.

    blob  the size of the trie in bytes, the trie, and the replacements, each ending in a zero byte
    """

    def __init__(self, blob: bytes) -> None:
        size = trie_size(blob)
        self._units = struct.unpack_from(f"<{size // 4}I", blob, 4)
        self._replacements = blob[4 + size :]

    def longest(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Look up what begins at a place of UTF-8 text.

        Returns the replacement and how many bytes it replaces: 0 if nothing is to be replaced there.
        """
        found, length = b"", 0
        place = _base(self._units[0])
        for end in range(start, len(data)):
            place ^= data[end]
            if place >= len(self._units) or self._units[place] & 0x800000FF != data[end]:
                break
            has_value = self._units[place] >> 8 & 1
            place ^= _base(self._units[place])
            if has_value and place < len(self._units):
                first = self._units[place] & 0x7FFFFFFF
                found = self._replacements[first : self._replacements.find(b"\0", first)]
                length = end + 1 - start
        return found, length


def _base(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


class Normalizer:
    """Prepares a text for being cut into pieces.

    charsmap  the compiled map, or nothing
    prefix    put a space before the text
    collapse  drop spaces at both ends, and all but one elsewhere
    escape    write spaces as ▁
    whole     matches what stays as it is: user-defined pieces
    """

    def __init__(
        self,
        charsmap: bytes,
        prefix: bool,
        collapse: bool,
        escape: bool,
        whole: re.Pattern[str] | None = None,
    ) -> None:
        self._characters = CharacterMap(charsmap) if charsmap else None
        self._prefix = prefix
        self._collapse = collapse
        self._space = SPACE if escape else " "
        self._whole = whole

    def __call__(self, text: str, prefix: bool = True) -> str:
        """Prepare a text.

        prefix  whether the text may get its space in front: not where it goes on after another one
        """
        parts: list[str] = []
        after_space = self._collapse
        for part in self._parts(text):
            if after_space:
                part = part.lstrip(" ")
            if part:
                parts.append(part.replace(" ", self._space))
                after_space = self._collapse and part.endswith(" ")
        if not text or (self._collapse and not parts):
            return ""  # nothing, or nothing but spaces
        result = (self._space if prefix and self._prefix else "") + "".join(parts)
        return result.rstrip(self._space) if self._collapse else result

    def _parts(self, text: str) -> Iterator[str]:
        position = 0
        for match in self._whole.finditer(text) if self._whole else ():
            yield from self._replaced(text[position : match.start()])
            yield match[0]
            position = match.end()
        yield from self._replaced(text[position:])

    def _replaced(self, text: str) -> Iterator[str]:
        """Cut a text into characters, or what else is replaced as one, and replace them."""
        if self._characters is None:
            yield from text if self._collapse else [text]
            return
        data = text.encode()
        position = 0
        while position < len(data):
            part, length = self._characters.longest(data, position)
            if not length:
                length = character_length(data[position])
                part = data[position : position + length]
            yield part.decode()
            position += length


def character_length(lead: int) -> int:
    """Return how many bytes a character has whose UTF-8 begins with this byte."""
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def trie_size(blob: bytes) -> int:
    """Return the size of a compiled map's trie in bytes; 0 where the blob is no such map."""
    size: int = struct.unpack_from("<I", blob)[0] if len(blob) >= 4 else 0
    return size if size % 4 == 0 and size <= len(blob) - 4 else 0
