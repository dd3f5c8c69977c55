"""Tokens as a page or a terminal shows them: the text that each one adds to what stands before it."""

from collections.abc import Iterable, Sequence

from tinystar_np.text import TextStream, Tokenizer

SPACE = "▁"
"""How sentencepiece spells the space before a word."""


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
    """Return the text of each token by itself, the space before it included; a broken character is U+FFFD."""
    return {id: text_alone(tokenizer, id) for id in ids}


def text_alone(tokenizer: Tokenizer | None, id: int) -> str:
    """Return the text of one token by itself."""
    if tokenizer is None:
        return str(id)
    spelled = tokenizer.token(id)
    if id in tokenizer.special_ids:
        return spelled
    text = tokenizer.decode([id], skip_special_tokens=False)
    if spelled.startswith(SPACE) and not text.startswith(" "):
        return " " + text
    return text or spelled
