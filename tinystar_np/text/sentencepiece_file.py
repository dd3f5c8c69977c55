"""`tokenizer.model`: a vocabulary and its rules, as the sentencepiece program trains them.

The file is one protocol buffer, `ModelProto` of sentencepiece_model.proto: pieces with their scores, what the
training was told, and how a text is prepared before it is cut. Kudo & Richardson 2018, arXiv:1808.06226.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from tinystar_np.checkpoints.json_file import download_again, one_line, shown
from tinystar_np.errors import TokenizerError
from tinystar_np.text.protobuf import as_bytes, as_float, as_int, as_text, fields
from tinystar_np.text.sentencepiece_normalizer import trie_size

# What a piece is. Only normal, user-defined and unused ones stand for their own text.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

UNIGRAM, BPE = 1, 2
MODEL_TYPES = {UNIGRAM: "unigram", BPE: "bpe", 3: "word", 4: "char"}

# Field numbers of sentencepiece_model.proto.
PIECES, TRAINER, NORMALIZER = 1, 2, 3


@dataclass
class SentencePieceModel:
    """What a `tokenizer.model` says; the defaults are those of the schema.

    pieces, scores, types       the vocabulary; a piece's place is its id
    model_type                  UNIGRAM or BPE
    byte_fallback               write characters that no piece has as the tokens of their bytes
    bos_piece, eos_piece        what begins and ends a text
    charsmap                    which characters to replace by which, compiled; empty where none are
    add_dummy_prefix            put a space before the text, so that a word is the same at its beginning
    remove_extra_whitespaces    drop spaces at both ends, and all but one elsewhere
    escape_whitespaces          write a space as ▁
    """

    pieces: list[str]
    scores: list[float]
    types: list[int]
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    bos_piece: str = "<s>"
    eos_piece: str = "</s>"
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True

    def ids_of(self, *types: int) -> list[int]:
        """List the ids of all pieces of these types."""
        return [id for id, type in enumerate(self.types) if type in types]


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read and check a `tokenizer.model`.

    Raises TokenizerError where it is damaged, or asks for what is not implemented here.
    """
    try:
        model = _parsed(path.read_bytes())
        problem = _problem(model)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:  # WireError and UnicodeDecodeError are ValueErrors
        problem = str(error)
    if problem:
        raise TokenizerError(
            f"{path} is no sentencepiece model: {one_line(problem)}.\n{download_again(path)} {BESIDE}"
        ) from None
    if missing := _not_implemented(model):
        raise TokenizerError(f"{path}: {missing}.\n{BESIDE}")
    return model


BESIDE = "A tokenizer.json beside this file would be used in its place."


def _parsed(data: bytes) -> SentencePieceModel:
    model = SentencePieceModel([], [], [])
    for number, value in fields(data):
        if number == PIECES:
            piece, score, type = "", 0.0, NORMAL
            for inner, content in fields(as_bytes(value)):
                if inner == 1:
                    piece = as_text(content)
                elif inner == 2:
                    score = as_float(content)
                elif inner == 3:
                    type = as_int(content)
            model.pieces.append(piece)
            model.scores.append(score)
            model.types.append(type)
        elif number == TRAINER:
            for inner, content in fields(as_bytes(value)):
                if inner == 3:
                    model.model_type = as_int(content)
                elif inner == 24:
                    model.whitespace_as_suffix = bool(as_int(content))
                elif inner == 35:
                    model.byte_fallback = bool(as_int(content))
                elif inner == 46:
                    model.bos_piece = as_text(content)
                elif inner == 47:
                    model.eos_piece = as_text(content)
        elif number == NORMALIZER:
            for inner, content in fields(as_bytes(value)):
                if inner == 2:
                    model.charsmap = as_bytes(content)
                elif inner == 3:
                    model.add_dummy_prefix = bool(as_int(content))
                elif inner == 4:
                    model.remove_extra_whitespaces = bool(as_int(content))
                elif inner == 5:
                    model.escape_whitespaces = bool(as_int(content))
    return model


def _problem(model: SentencePieceModel) -> str | None:
    """Say what is wrong with a model, if anything is."""
    if not model.pieces:
        return "it has no pieces"
    if "" in model.pieces:
        return f"piece {model.pieces.index('')} is empty"
    if len(first := {piece: id for id, piece in reversed([*enumerate(model.pieces)])}) < len(model.pieces):
        twice = next(piece for id, piece in enumerate(model.pieces) if first[piece] < id)
        return f"the piece {shown(twice)} stands there twice"
    if not all(map(math.isfinite, model.scores)):
        return "a piece has a score that is no finite number"
    if model.model_type not in MODEL_TYPES:
        return f"its model_type is {model.model_type}"
    if len(model.ids_of(UNKNOWN)) != 1:
        return f"it has {len(model.ids_of(UNKNOWN))} pieces for unknown text instead of one"
    if model.charsmap and not trie_size(model.charsmap):
        return "its character map (precompiled_charsmap) is damaged"
    if model.byte_fallback:
        bytes_there = {model.pieces[id] for id in model.ids_of(BYTE)}
        missing = next((name for name in map(byte_piece, range(256)) if name not in bytes_there), None)
        if missing:
            return f"it falls back to bytes, but has no piece {missing}"
    return None


def _not_implemented(model: SentencePieceModel) -> str | None:
    """Say what a sound model asks for that is not implemented here, if anything is."""
    if model.model_type not in (UNIGRAM, BPE):
        return f"its model_type is {MODEL_TYPES[model.model_type]}, and only unigram and bpe are implemented"
    if model.whitespace_as_suffix:
        return "it puts spaces behind words (treat_whitespace_as_suffix), which is not implemented"
    return None


def byte_piece(byte: int) -> str:
    """Spell the piece that stands for a byte: `<0x0A>`."""
    return f"<0x{byte:02X}>"
