"""GPT-NeoX Japanese's tokenizer: short pieces of a language that puts no spaces between words.

    "実は慶應 😀"  →  "実は慶應<SP><|emoji1|>"  →  実は | 慶応 | <SP> | <|emoji1|>

Spaces, line ends and emoji are written as tags. Then at each place, of the pieces of up to three characters
that the text goes on with, the one with the smallest id is taken; a tag is one piece however long. A line of
`vocab.txt` has the spellings of one piece, with commas between: 慶応,慶應. What is no piece is a symbol of
two kinds, or else its UTF-8 bytes. The rules are those of tanreinama's Japanese-BPEEncoder_V2. transformers
decodes such bytes one by one, to U+FFFD each; here they are the character again.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken

from tinystar_np.checkpoints.json_file import read_json_object, shown
from tinystar_np.errors import TokenizerError
from tinystar_np.text.added_tokens import resolve_added_tokens
from tinystar_np.text.byte_run import ByteRun
from tinystar_np.text.ordinary import are_ordinary
from tinystar_np.text.piece_lookup import PieceLookup
from tinystar_np.text.scored_pieces import AddedTokens
from tinystar_np.text.sentencepiece import Encoding
from tinystar_np.text.tokenizer_faults import (
    SIZE_LIMIT,
    NotOrdinaryError,
    damaged,
    package_faults,
    small_file,
)
from tinystar_np.text.tokenizer_settings import CONFIG_FILE, TokenizerSettings, read_beside

CLASS, MODEL_TYPE = "GPTNeoXJapaneseTokenizer", "gpt_neox_japanese"
EMOJI_FILE = "emoji.json"
LONGEST = 3
"""Characters of a piece that is no tag."""
TAGS = {" ": "<SP>", "\u3000": "<SP>", "\r\n": "<BR>", "\n": "<BR>", "\r": "<BR>", "\t": "<TAB>"}
TAGS |= {"\u2014": "\u30fc", "\u2212": "\u30fc"}  # a dash and a minus become the mark of a long vowel
SHOWN = {"<SP>": " ", "<BR>": "\n", "<TAB>": "\t", "<BLOCK>": "▀", "<KIGOU>": "\u01c0", "<U2000U2BFF>": "‖"}
"""What tags are in a text."""
EMOJI = re.compile(r"<\|emoji\d+\|>")
BYTE = re.compile(r"<\|byte(\d{1,3})\|>")
OF_TAGS = set("<|>emoji0123456789")
SYMBOLS = ((0xC2A1, 0xC2BF), (0xC780, 0xC783), (0xCAB9, 0xCBBF), (0xCC80, 0xCDA2))
"""UTF-8 of symbols of two bytes, from and up to; KIGOU stands for each of them."""
SYMBOLS_OF_3 = (0xE28080, 0xE2B07F)


class JapanesePieces(PieceLookup):
    """Text to ids and back; it has the methods of the `tokenizers` package that ``Tokenizer`` uses.

    lines    each id's spellings
    emoji    {what stands in a text: its tag}, replaced in this order
    shown    {tag: what is written for it}
    added    {id: token}: those that are found in a text before it is cut
    unknown  the token for what cannot be written
    """

    def __init__(
        self,
        lines: Sequence[Sequence[str]],
        emoji: Mapping[str, str],
        shown: Mapping[str, str],
        added: Mapping[int, AddedToken],
        unknown: str | None,
    ) -> None:
        ids = {spelling: id for id, spellings in enumerate(lines) for spelling in spellings}
        super().__init__(ids, {id: spellings[0] for id, spellings in enumerate(lines)}, added)
        self._tags = {**TAGS, **emoji}
        self._shown = {**SHOWN, **shown}
        self._longest = max(map(len, self._ids), default=0)
        self._finder = AddedTokens(added)
        self._unknown = None if unknown is None else self._ids.get(unknown)

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Cut a text into tokens; none begins or ends it."""
        ids: list[int] = []
        for part in self._finder.cut_out(text):
            ids += [part] if isinstance(part, int) else self._of_text(part)
        return Encoding(ids)

    def _of_text(self, text: str) -> Iterator[int]:
        for found, tag in self._tags.items():
            text = text.replace(found, tag)
        place = 0
        while place < len(text):
            id, place = self._piece_at(text, place) or (None, place + 1)
            if id is None:
                known = (self._ids.get(token, self._unknown) for token in spelled(text[place - 1]))
                yield from (one for one in known if one is not None)
            else:
                yield id

    def _piece_at(self, text: str, place: int) -> tuple[int, int] | None:
        """Return the id of the piece that a text goes on with, and where it ends; None for none."""
        longest = self._longest + 1 if text[place] == "<" else LONGEST
        found: list[tuple[int, int]] = []
        for end in range(min(place + longest, len(text)), place, -1):
            id = self._ids.get(text[place:end])
            if id is not None:
                if text[place] == "<" and end - place > 2:
                    return id, end
                found.append((id, end))
        return min(found, default=None, key=lambda one: one[0])

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Join tokens to text; ids without a token give nothing."""
        text, run = "", ByteRun()
        for id in ids:
            token = self._tokens.get(id, "")
            if skip_special_tokens and self.is_special(id):
                continue
            byte = BYTE.fullmatch(token)
            if byte and int(byte[1]) < 256:
                text += run.push(int(byte[1]))
            else:
                text += run.flush() + self._shown.get(token, token)
        return (text + run.flush()).strip()


def spelled(letter: str) -> list[str]:
    """Return the tokens of a character that is no piece."""
    data = letter.encode()
    number = int.from_bytes(data, "big")
    if any(first <= number <= last for first, last in SYMBOLS):
        return ["<KIGOU>"]
    if SYMBOLS_OF_3[0] <= number <= SYMBOLS_OF_3[1]:
        return ["<U2000U2BFF>"]
    return [f"<|byte{byte}|>" for byte in data]


def is_japanese(settings: TokenizerSettings) -> bool:
    """Say whether a `vocab.txt` is GPT-NeoX Japanese's; BERT and others have one that is read otherwise."""
    return settings.class_name == CLASS or (settings.class_name is None and settings.model_type == MODEL_TYPE)


def load_japanese_pieces(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[JapanesePieces, TokenizerSettings]:
    """Build the tokenizer from `vocab.txt`, the `emoji.json` beside it, and the settings.

    Raises TokenizerError where a file is damaged or missing, and NotOrdinaryError.
    """
    if not path.with_name(EMOJI_FILE).exists():
        raise TokenizerError(
            f"{path} has no {EMOJI_FILE} beside it; the two belong together.\n"
            "The model is incomplete: download it again."
        )
    if read_beside(path.parent, CONFIG_FILE).get("do_clean_text"):
        raise TokenizerError(
            f"{path.parent / CONFIG_FILE}: do_clean_text is true, which writes addresses, dates and prices "
            "as tags. That is not implemented; false is how the model was published."
        )
    emoji_path = small_file(path.parent, EMOJI_FILE)
    with package_faults(path, emoji_path):
        rows = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        lines = [row.split(",") for row in rows]  # a comma alone is no spelling of itself, as in transformers
        tables = read_json_object(emoji_path, SIZE_LIMIT)
        emoji, inverse = (_texts(tables.get(name), name, emoji_path) for name in ("emoji", "emoji_inv"))
        # Each replacement takes a character out that no tag has: the text grows by a tag for each.
        bounded = all(EMOJI.fullmatch(tag) for tag in emoji.values()) and not any(
            set(found) <= OF_TAGS for found in emoji
        )
        if ordinary_only and not (bounded and are_ordinary(map("".join, lines)) and are_ordinary(emoji)):
            raise NotOrdinaryError
        end = "<|endoftext|>"
        ends = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": end}
        settings = settings.with_defaults(ends)
        ids = {spelling: id for id, spellings in enumerate(lines) for spelling in spellings}
        added = resolve_added_tokens(settings, ids, {})
        unknown = settings.special_tokens.get("unk_token")
        return JapanesePieces(lines, emoji, inverse, added, unknown), settings


def _texts(table: object, name: str, path: Path) -> dict[str, str]:
    """Check that a table of emoji.json is of texts."""
    if not isinstance(table, dict) or not all(type(one) is str and one for one in (*table, *table.values())):
        raise damaged(path, f"{name} is {shown(table)}, expected an object of texts")
    return table
