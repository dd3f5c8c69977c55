"""What a worker with a tokenizer runs: isolated.py asks, and this answers.

Every answer is {"result": …}, or {"error": …} with the message for the user.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.text.tokenizer import Tokenizer
from tinystar_np.text.tokenizer_files import load_in_this_process

_loaded: list[Tokenizer] = []


def prepare(source: dict[str, Any]) -> dict[str, Any]:
    """Load a tokenizer, and describe it.

    source  {"directory": …} of a model, or the {"metadata": …, "path": …} of a GGUF file
    """
    try:
        if "metadata" in source:
            from tinystar_np.text.gguf_tokenizer import load_gguf_in_this_process  # late: few need it

            tokenizer = load_gguf_in_this_process(source["metadata"], Path(source["path"]))
        else:
            tokenizer = load_in_this_process(Path(source["directory"]))
    except TinyStarError as error:
        return {"error": str(error)}
    if tokenizer is None:
        return {"error": f"{source['directory']}: the tokenizer's files are no longer there."}
    _loaded[:] = [tokenizer]
    with suppress(TinyStarError):
        tokenizer.decode(tokenizer.encode("a"))  # the packages open what they need
    backend, special_tokens = tokenizer.backend, tokenizer.settings.special_tokens
    added = backend.get_added_tokens_decoder().items()
    return {
        "result": {
            "special_tokens": special_tokens,
            "ids": {token: backend.token_to_id(token) for token in special_tokens.values()},
            "size": tokenizer.vocab_size,
            "added": [[id, token.content, token.special] for id, token in added],
        }
    }


def answer(request: tuple[str, Any]) -> dict[str, Any]:
    """Answer one call."""
    what, *given = request
    (tokenizer,) = _loaded
    calls: dict[str, Callable[..., Any]] = {
        "encode": tokenizer.encode,
        "decode": tokenizer.decode,
        "token": tokenizer.token,
        "id": tokenizer.backend.token_to_id,
    }
    try:
        return {"result": calls[what](*given)}
    except TinyStarError as error:
        return {"error": str(error), "of_input": isinstance(error, InputError)}
