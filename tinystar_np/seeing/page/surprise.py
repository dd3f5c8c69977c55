"""The page of a text whose tokens are coloured by how little the model expected each: their surprise in bits.

It is one file, as the page of ``look`` is (file.py), and shares its styles and its small tools for drawing.
"""

import json
import math
from collections.abc import Sequence

from tinystar_np.generation.perplexity import Perplexity, Window
from tinystar_np.generation.scores import TokenScore
from tinystar_np.seeing.page.data import json_in_html
from tinystar_np.seeing.page.file import page_text
from tinystar_np.seeing.shown_tokens import texts_alone, texts_in_order
from tinystar_np.text import Tokenizer

Json = dict[str, object]

TEMPLATE = "surprise.html"


def surprise_page(
    tokenizer: Tokenizer,
    scores: Sequence[TokenScore],
    found: Perplexity,
    cut: Sequence[Window],
    model: str = "",
    text: str = "",
) -> str:
    """Return the page: one HTML file that needs no other, and no network.

    scores  of the text's tokens, or of its first ones, with the likeliest in their places
    found   the figures of the whole text
    cut     the windows in which it was read
    model   the model's name, for headings
    text    the text's
    """
    ids = [score.token_id for score in scores]
    texts = texts_in_order(tokenizer, ids)
    # A token that ends within a character adds no text yet.
    silent = {i: ids[i] for i, its in enumerate(texts) if not its}
    named = {id for score in scores for id, _ in score.top} | set(silent.values())
    data: Json = {
        "model": model,
        "text": text,
        "figures": found.as_json(),
        "windows": [each.first - 1 for each in cut if each.first <= len(ids)],
        "texts": texts,
        "silent": silent,
        "ids": ids,
        "bits": [_short(-_nats(score) / math.log(2)) for score in scores],
        "top": [[[id, _short(math.exp(logprob))] for id, logprob in score.top] for score in scores],
        "vocabulary": texts_alone(tokenizer, named),
    }
    written = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    title = f"{text or 'A text'}, as {model or 'a model'} expects it"
    return page_text(json_in_html(written), title, TEMPLATE)


def _nats(score: TokenScore) -> float:
    """Return a token's log-probability; the smallest float32 has for one that was impossible."""
    return max(score.logprob or 0.0, -3.4e38)


def _short(x: float) -> float:
    """Round to four digits."""
    return float(f"{x:.4g}")
