"""SigLIP's tokenizer: a sentencepiece model for captions in small letters and without punctuation.

    "A photo of 2 Cats!" → "a photo of 2 cats" → pieces → ids, and eos_token

The captions that it has learned from were all written so. Special tokens are found first, as they are written
with punctuation.
"""

import re
import string
from dataclasses import replace
from pathlib import Path

from tinystar_np.text.sentencepiece import Encoding, SentencePiece, load_sentencepiece
from tinystar_np.text.tokenizer_settings import TokenizerSettings

SPACE = "▁"
"""What sentencepiece writes for a space."""
BEFORE = "<unk>"
"""What transformers puts before a text, and takes off again, letter by letter."""
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class SiglipPieces(SentencePiece):
    """Text to ids and back, with SigLIP's sentencepiece model; arguments as of ``SentencePiece``."""

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Cut a text into tokens, with eos_token at the end unless it is there."""
        marked = SPACE + text.replace(SPACE, " ")
        ids = super().encode(marked, add_special_tokens=False).ids
        first = self._finder.encode(marked, add_special_tokens=False).offsets[0][1]
        if first < len(marked) and self._ids_of(marked[:first], first=True) == [self.token_to_id(SPACE)]:
            ids = ids[1:]  # the space before a text that begins with a special token
        if add_special_tokens and ids[-1:] != self._end:
            ids = [*ids, *self._end]
        return Encoding(ids)

    def _ids_of(self, text: str, first: bool) -> list[int]:
        # sentencepiece drops the space before a text, which this text has for its first word to be a word:
        # something before it prevents that.
        before: list[int] = self._processor.encode(BEFORE)
        ids: list[int] = self._processor.encode(BEFORE + canonical(text))
        return ids[len(before) :]


def canonical(text: str) -> str:
    """Write a text in small letters, without ASCII's punctuation, and with single spaces between words."""
    return re.sub(r"\s+", " ", text.lower().translate(NO_PUNCTUATION)).strip()


def load_siglip_pieces(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[SentencePiece, TokenizerSettings]:
    """Load SigLIP's `spiece.model`; errors as of ``load_sentencepiece``."""
    settings = replace(settings, add_bos=False, add_eos=True)
    return load_sentencepiece(path, settings, ordinary_only, SiglipPieces)
