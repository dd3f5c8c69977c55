"""Tokens as a page or a terminal shows them: the text that each one adds to what stands before it."""

from collections.abc import Iterable, Sequence

from tinystar_np.seeing.tokens import TokenizerView
from tinystar_np.text import TextStream, Tokenizer

SPACE = "▁"
"""How sentencepiece spells the space before a word."""
BROKEN = "\ufffd"
"""What stands for bytes that are no whole character."""


def texts_in_order(tokenizer: Tokenizer | None, ids: Sequence[int]) -> list[str]:
    """Return the text that each token of a text adds: they join to the text itself.

    A token that ends within a character adds nothing, and the one that completes it the character. Special
    tokens are spelled out. Without a tokenizer a token is its id.
    """
    if tokenizer is None:
        return [str(id) for id in ids]
    stream = TextStream(tokenizer)
    texts = []
    for id in ids:
        special = id in tokenizer.special_ids
        texts.append(stream.flush() + tokenizer.token(id) if special else stream.push(id))
    if texts:
        texts[-1] += stream.flush()
    return texts


def texts_alone(tokenizer: Tokenizer | None, ids: Iterable[int]) -> dict[int, str]:
    """Return the text of each token by itself, the space before it included.

    Bytes that are no whole character are spelled out, `<0xC3>`, where they are known: many tokens of one byte
    would look alike.
    """
    texts = {id: text_alone(tokenizer, id) for id in ids}
    broken = [id for id, text in texts.items() if BROKEN in text]
    if tokenizer is not None and broken:
        for token in TokenizerView(tokenizer).tokens(broken):
            if token.bytes is not None:
                texts[token.id] = bytes_spelled(token.bytes)
    return texts


def bytes_spelled(given: bytes) -> str:
    """Return the text of UTF-8 bytes, in which those that are no whole character are spelled `<0xC3>`."""
    text = given.decode("utf-8", "surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if "\udc80" <= c <= "\udcff" else c for c in text)


def text_alone(tokenizer: Tokenizer | None, id: int) -> str:
    """Return the text of one token by itself; a broken character is U+FFFD."""
    if tokenizer is None:
        return str(id)
    spelled = tokenizer.token(id)
    if id in tokenizer.special_ids:
        return spelled
    text = tokenizer.decode([id], skip_special_tokens=False)
    if spelled.startswith(SPACE) and not text.startswith(" "):
        return " " + text
    return text or spelled
