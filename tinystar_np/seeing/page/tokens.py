"""The text's tokens for the page: texts, ids, bytes, and the merges by which the tokenizer came to them."""

from typing import TYPE_CHECKING

from tinystar_np.seeing.shown_tokens import bytes_spelled, texts_in_order
from tinystar_np.seeing.tokens import TokenizerView, Word

if TYPE_CHECKING:
    from tinystar_np.seeing.look import Seen

Json = dict[str, object]
MOST_WORDS = 200


def token_rows(seen: "Seen") -> list[Json]:
    """Return the text's tokens."""
    if seen.tokenizer is None:
        return [{"id": id, "text": str(id), "spelled": "", "bytes": ""} for id in seen.ids]
    rows = zip(
        seen.ids,
        texts_in_order(seen.tokenizer, seen.ids),
        TokenizerView(seen.tokenizer).tokens(seen.ids),
        strict=True,
    )
    return [
        {
            "id": id,
            "text": text,
            # For a token that ends within a character, and so adds no text yet.
            "spelled": token.piece if text or token.bytes is None else bytes_spelled(token.bytes),
            "bytes": "" if token.bytes is None else token.bytes.hex(" "),
            "special": token.special,
        }
        for id, text, token in rows
    ]


def word_rows(seen: "Seen") -> Json | None:
    """Return how the prompt's words were joined from their first parts; None where that is not known."""
    if seen.tokenizer is None or seen.prompt is None:
        return None
    cut = TokenizerView(seen.tokenizer).cut(seen.prompt)
    words = [_word(word) for word in cut.words[:MOST_WORDS]]
    if tuple(token.id for token in cut.tokens) != seen.ids[: seen.prompt_length] or not words:
        return None
    return {"kind": cut.kind, "by": cut.by, "words": words}


def _word(word: Word) -> Json:
    merges = None if word.merges is None else [[m.order, m.place, m.left, m.right] for m in word.merges]
    return {"start": word.start, "end": word.end, "parts": list(word.parts), "merges": merges}
