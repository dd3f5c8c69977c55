"""Log-probabilities in the two forms of OpenAI's interface: of completions, and of chats."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tinystar_np.serving.token_texts import Offsets, TokenTexts


class Scored(NamedTuple):
    """A token of a prompt or of an answer.

    token_id  the token
    logprob   the logarithm of its probability; None for the first of a text
    top       the likeliest in its place
    """

    token_id: int
    logprob: float | None
    top: Sequence[tuple[int, float]] = ()


def of_completion(
    tokens: Iterable[Scored], texts: TokenTexts, offsets: Offsets, start: int
) -> dict[str, Any]:
    """Write tokens as /v1/completions does.

    texts    of the tokens
    offsets  counts the characters of the text
    start    how many characters of the choice's text stand before the first token

    The token itself is among the likeliest, even where it is not one of them.
    """
    spelled, logprobs, likeliest, places = [], [], [], []
    for token in tokens:
        spelled.append(texts.text_of(token.token_id))
        logprobs.append(token.logprob)
        places.append(start + offsets.of(token.token_id))
        likeliest.append(None if token.logprob is None else _by_text(token, texts))
    return {
        "tokens": spelled,
        "token_logprobs": logprobs,
        "top_logprobs": likeliest,
        "text_offset": places,
    }


def _by_text(token: Scored, texts: TokenTexts) -> dict[str, float]:
    """Return {text: log-probability} of the likeliest; of two tokens with one text it is the likelier one."""
    found: dict[str, float] = {}
    for id, logprob in token.top:
        found.setdefault(texts.text_of(id), logprob)
    if token.logprob is not None:
        found.setdefault(texts.text_of(token.token_id), token.logprob)
    return found


def of_chat(tokens: Iterable[Scored], texts: TokenTexts) -> dict[str, Any]:
    """Write tokens as /v1/chat/completions does."""
    content = []
    for token in tokens:
        own = _entry(token.token_id, token.logprob or 0.0, texts)
        content.append(own | {"top_logprobs": [_entry(id, logprob, texts) for id, logprob in token.top]})
    return {"content": content, "refusal": None}


def _entry(id: int, logprob: float, texts: TokenTexts) -> dict[str, Any]:
    return {"token": texts.text_of(id), "logprob": logprob, "bytes": list(texts.bytes_of(id))}
