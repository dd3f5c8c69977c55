"""A byte tokenizer: the ids of a text are its UTF-8 bytes, and there is no vocabulary to learn.

    "né" → 110 195 169

Any text can be encoded. The price is length: English takes about four times as many tokens as with a learned
vocabulary. Xue et al. 2022 (ByT5), arXiv:2105.13626.

It is GPT-2's byte-level BPE of the `tokenizers` package with 256 tokens and no merges. There each byte is
written as a visible character: one that is visible in Latin-1 as itself, the others as the characters from
256 on. Decoding replaces invalid UTF-8, which a model may well write, by U+FFFD, and keeps the valid
characters around it.
"""

from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from tinystar_np.text.tokenizer import Tokenizer

VISIBLE = (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, 0x100))
"""Bytes that are visible characters in Latin-1."""


def tokenizer_of_bytes(path: Path) -> Tokenizer:
    """Make a tokenizer of 256 tokens, whose ids are the bytes.

    path  the config file, for messages; a chat template is searched for beside it
    """
    backend = Backend(models.BPE({letter: byte for byte, letter in enumerate(byte_letters())}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend, path)


def byte_letters() -> list[str]:
    """Return the character by which byte-level BPE writes each of the 256 bytes."""
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if any(byte in some for some in VISIBLE) else next(hidden)) for byte in range(256)]
