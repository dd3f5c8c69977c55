"""CTRL's tokenizer: words in pieces, each of which says by "@@" that its word goes on.

    "Reviews ungainly\\n"  →  Reviews | un g a i n l y \\n  →  Reviews | un@@ gain@@ ly@@ \\n

A text is cut at spaces; a line end belongs to the word before it. Neighbours are joined in the order of the
merges (joining.py), in which the last letter of a word carries `</w>`. A piece that is not in the vocabulary
is the unknown token: no token stands for a byte. Sennrich et al. 2016, arXiv:1508.07909; their program,
subword-nmt, writes pieces so.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken

from tinystar_np.text.added_tokens import resolve_added_tokens
from tinystar_np.text.joining import join
from tinystar_np.text.piece_lookup import PieceLookup
from tinystar_np.text.scored_pieces import AddedTokens
from tinystar_np.text.sentencepiece import Encoding
from tinystar_np.text.tokenizer_settings import TokenizerSettings

WORDS = re.compile(r"\S+\n?")
END, GOES_ON = "</w>", "@@"


class MarkedPieces(PieceLookup):
    """Text to ids and back; it has the methods of the `tokenizers` package that ``Tokenizer`` uses.

    ids      {token: id}
    merges   pairs of neighbours, the first to be joined first
    added    {id: token}: those that are found in a text before it is cut
    unknown  the token for what is not in the vocabulary; without one it is left out
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        added: Mapping[int, AddedToken],
        unknown: str | None,
    ) -> None:
        super().__init__(ids, {}, added)
        self._tokens = {id: token for token, id in self._ids.items()}
        ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._order = lambda left, right: ranks.get((left, right))
        self._finder = AddedTokens(added)
        self._unknown = None if unknown is None else self._ids.get(unknown)
        self._words: dict[str, list[int]] = {}

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Cut a text into tokens; none begins or ends it."""
        ids: list[int] = []
        for part in self._finder.cut_out(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                for word in WORDS.findall(part):
                    ids += self._of_word(word)
        return Encoding(ids)

    def _of_word(self, word: str) -> list[int]:
        """Return the ids of a word, its line end included; those of short ones are kept."""
        known = self._words.get(word)
        if known is None:
            pieces, _ = join([*word[:-1], word[-1] + END], self._order)
            spelled = [*(piece + GOES_ON for piece in pieces[:-1]), pieces[-1].removesuffix(END)]
            found = [self._ids.get(piece, self._unknown) for piece in spelled]
            known = [id for id in found if id is not None]
            if len(self._words) < 100_000 and len(word) < 50:
                self._words[word] = known
        return known

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text; ids without a token give nothing."""
        text = ""
        for id in ids:
            token = self._tokens.get(id)
            if token is None or (skip_special_tokens and self.is_special(id)):
                continue
            goes_on = token.endswith(GOES_ON) and token != GOES_ON
            text += token.removesuffix(GOES_ON) if goes_on else f"{token} "
        return text.strip()


def load_marked_pieces(
    ids: Mapping[str, int], merges_path: Path, settings: TokenizerSettings
) -> tuple[MarkedPieces, TokenizerSettings]:
    """Build CTRL's tokenizer from a vocabulary, the `merges.txt` beside it, and the settings."""
    settings = settings.with_defaults({"unk_token": "<unk>"})
    lines = merges_path.read_text(encoding="utf-8").split("\n")[1:]  # the first is a heading
    pairs = [tuple(line.split()) for line in lines]
    merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    added = resolve_added_tokens(settings, ids, {})
    return MarkedPieces(ids, merges, added, settings.special_tokens.get("unk_token")), settings
