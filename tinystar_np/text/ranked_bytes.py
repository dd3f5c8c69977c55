"""Byte-level BPE from tokens and their ranks alone: what tiktoken's files and Mistral's tekken.json hold.

    "IQ== 0"        the token `!` has the rank 0; a token is written in base64, as it need not be text
    "IHRoZQ== 279"  ` the` has 279, which is also its id

There is no list of merges: of all neighbours that together are a token those with the lowest rank are joined,
and a word that is a token stays whole. The `tokenizers` package wants merges. So each token becomes a merge
for every way to cut it in two tokens, in the order of the ranks. More than one way does no harm: when it is
a token's turn, all joins of a lower rank have been made, and its bytes are always in the same two parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers

from tinystar_np.text.added_tokens import resolve_added_tokens
from tinystar_np.text.ordinary import LONGEST_TOKEN
from tinystar_np.text.tokenizer_classes import set_ends, with_ids
from tinystar_np.text.tokenizer_faults import NotOrdinaryError
from tinystar_np.text.tokenizer_settings import TokenizerSettings
from tinystar_np.text.words import Expressions, cut_by

MOST_WORK = 100_000_000  # bytes that the search for merges copies; of known models up to 15 million

# Every byte as a letter: printable ones as themselves, the others as letters from U+0100 on.
PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
LETTERS = {byte: chr(byte) for byte in PRINTABLE} | {
    byte: chr(0x100 + place) for place, byte in enumerate(OTHERS)
}


@dataclass(frozen=True)
class Family:
    """What a file with ranks leaves open.

    expressions  that cut a text into words
    special      the special tokens by their ids
    named        {role: token} of some of them
    adds_bos     whether a text begins with bos_token where no file says it
    composes     whether characters are composed first (NFC)
    """

    expressions: Expressions
    special: Mapping[int, AddedToken]
    named: Mapping[str, str]
    adds_bos: bool = False
    composes: bool = False


def letters_of(token: bytes) -> str:
    """Write a token as letters, as GPT-2's vocabularies do (`Ġthe`)."""
    return token.decode("latin-1").translate(LETTERS)


def merges_of(ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the merges of a vocabulary whose ids are in the order of the ranks."""
    merges = []
    for token in sorted(ids, key=ids.__getitem__):
        cuts = ((token[:place], token[place:]) for place in range(1, len(token)))
        ways = [(left, right) for left, right in cuts if left in ids and right in ids]
        merges += ways if len(ways) < 2 else sorted(ways, key=lambda way: (ids[way[0]], ids[way[1]]))
    return merges


def build(
    tokens: Mapping[bytes, int], family: Family, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[tokenizers.Tokenizer, TokenizerSettings]:
    """Build a tokenizer.

    tokens         {token: its id}, in the order of the ranks
    family         what the file leaves open
    settings       of the files beside it, which overrule the family's
    ordinary_only  raise NotOrdinaryError where tokens are longer than those of known models

    Returns it, and the settings with the special tokens of the family.
    """
    work = sum(len(token) ** 2 for token in tokens)
    if ordinary_only and (max(map(len, tokens), default=0) > LONGEST_TOKEN or work > MOST_WORK):
        raise NotOrdinaryError
    settings = settings.with_defaults(family.named)
    ids = {letters_of(token): id for token, id in tokens.items()}
    # A token that the files beside it state replaces the family's of the same id.
    special = {id: token for id, token in family.special.items() if id not in settings.added}
    present = {id: token for id, token in special.items() if token.content not in ids}
    known = ids | {token.content: id for id, token in present.items()}
    added = resolve_added_tokens(settings, known, present)
    vocabulary = ids | {token.content: id for id, token in added.items()}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges_of(ids), ignore_merges=True))
    if family.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = cut_by(family.expressions)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([added[id] for id in sorted(added)])
    adds_bos = family.adds_bos if settings.add_bos is None else settings.add_bos
    roles = settings.special_tokens
    set_ends(
        backend,
        with_ids(backend, roles.get("bos_token")) if adds_bos else [],
        with_ids(backend, roles.get("eos_token")) if settings.add_eos else [],
    )
    backend.encode_special_tokens = settings.split_special_tokens
    return backend, settings


def special_tokens(texts: Sequence[str], first: int) -> dict[int, AddedToken]:
    """Number special tokens from an id on."""
    return {
        first + place: AddedToken(text, special=True, normalized=False) for place, text in enumerate(texts)
    }
