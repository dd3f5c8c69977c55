"""Encoding a prompt; a text that is many times too long is refused after encoding its beginning.

Encoding ten million characters takes seconds with one tokenizer, minutes with another, and gigabytes with
either, only to find that a model with 512 positions cannot hold them. But the tokens of a text's beginning
are those of the whole text, except at the cut: if they alone are too many, the rest need not be encoded.
"""

from tinystar_np.errors import ContextFullError
from tinystar_np.generation.language_model import LanguageModel
from tinystar_np.text import Tokenizer

CHARACTERS = 16  # of the first beginning, for each position of the model: 4 times those of an English token
BEYOND_DOUBT = 2  # times as many tokens as positions, so that a few others at the cut do not matter


def encode_prompt(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str,
    name: str = "The prompt",
    add_special_tokens: bool = True,
) -> list[int]:
    """Cut a text into tokens, unless they would be far too many for the model.

    name                of the text, for messages
    add_special_tokens  see ``Tokenizer.encode``

    Returns the ids, which may still be too many. Raises ContextFullError for a text that is certainly too
    long.
    """
    most = model.context_length
    length = len(text) if most is None else CHARACTERS * most
    while most is not None and length < len(text):
        found = len(tokenizer.encode(text[:length], add_special_tokens))
        if found > BEYOND_DOUBT * most:
            raise ContextFullError(
                f"{name} has {len(text)} characters, of which the first {length} are {found} tokens already, "
                f"but the model holds {most}. Shorten it."
            )
        length *= 4
    return tokenizer.encode(text, add_special_tokens)
