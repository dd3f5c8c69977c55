"""A GGUF file's keys about its tokenizer, checked: `tokenizer.ggml.tokens`, `tokenizer.ggml.merges`, ….

    tokenizer.ggml.model         the kind of tokenizer: "gpt2", "llama", … (gguf_tokenizer.py)
    tokenizer.ggml.pre           by whose rules a text is cut into words (words.py)
    tokenizer.ggml.tokens        each id's text
    tokenizer.ggml.token_type    each id's kind: a piece, a byte, a control token, …
    tokenizer.ggml.scores        each id's score
    tokenizer.ggml.merges        "left right": the pairs that are joined, the first of them first
    tokenizer.ggml.bos_token_id, eos_token_id, …     ids with a role
    tokenizer.ggml.add_bos_token, …                  what is put around and before a text
    tokenizer.chat_template, tokenizer.chat_template.NAME

What a missing key means, and which tokens are control tokens by their names whatever the file says, is as in
llama.cpp.
"""

import math
import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np

from tinystar_np.checkpoints.json_file import download_again, shown
from tinystar_np.errors import TokenizerError
from tinystar_np.text.unigram import Charsmap

PREFIX = "tokenizer.ggml."
MODEL, PRE, TOKENS, MERGES = (PREFIX + name for name in ("model", "pre", "tokens", "merges"))
KINDS, SCORES, CHARSMAP = (PREFIX + name for name in ("token_type", "scores", "precompiled_charsmap"))
TEMPLATE = "tokenizer.chat_template"
NAME = "general.name"

MOST_TOKENS = 1 << 22  # real models have up to 262 144

# {role: the key's name}; the last of several spellings counts.
ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "eot_token": "eot_token_id",
    "eom_token": "eom_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # sic
    "pad_token": "padding_token_id",
    "mask_token": "mask_token_id",
}
# Where a file does not say which they are.
SENTENCEPIECE_IDS = {"bos_token": 1, "eos_token": 2, "unk_token": 0}
WORD_PIECE_IDS = {"bos_token": 101, "unk_token": 100, "sep_token": 102, "pad_token": 0, "mask_token": 103}
UNIGRAM_IDS = {"eos_token": 1, "unk_token": 2}
DEFAULT_IDS = {"llama": SENTENCEPIECE_IDS, "t5": UNIGRAM_IDS, "bert": WORD_PIECE_IDS}

END_OF_TURN = (
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>"),
    *("_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>"),
)
# Each of these ends an answer: by its id's key, or by its name.
ENDS = (
    *END_OF_TURN,
    *("<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<|eom_id|>", "[EOS]", "<eos>", "<turn|>"),
    *("<|tool_response>", "[e~[", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<|fim_repo|>", "<|repo_name|>"),
    *("<fim-repo>", "<reponame>", "<|file_sep|>"),
)
# With these an answer has parts, and this token ends a part only (gpt-oss, Solar).
PARTS = ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"})
END_OF_PART = "<|end|>"

BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


class Kind(IntEnum):
    """The kinds of tokens."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class GgufVocabulary:
    """What a file's keys say, checked where it is asked for.

    metadata  the file's keys; texts are str, arrays of texts lists, arrays of numbers NumPy's
    path      the file, for messages

    Every property raises TokenizerError where a key is missing or of a wrong type or length.
    """

    def __init__(self, metadata: Mapping[str, object], path: Path) -> None:
        self._metadata = metadata
        self.path = path

    @cached_property
    def model(self) -> str | None:
        """The kind of tokenizer; None where the file has none."""
        model = self._text(MODEL)
        if model is None and any(key.startswith(PREFIX) for key in self._metadata):
            raise self.fault(MODEL, "is missing, while the file has other keys of a tokenizer")
        return None if model in ("none", "no_vocab") else model

    @cached_property
    def pre(self) -> str:
        """The name of the rules that cut a text into words; "" where there is none."""
        return self._text(PRE) or ""

    @cached_property
    def tokens(self) -> list[str]:
        """The text of each id; of the empty ones, which stand for nothing, `[EMPTY_7]`."""
        found = self._metadata.get(TOKENS)
        if not isinstance(found, list) or not found or not all(type(token) is str for token in found):
            raise self.fault(TOKENS, f"is {shown(found)}, expected a list of texts")
        if len(found) > MOST_TOKENS:
            raise self.fault(TOKENS, f"lists {len(found)} tokens; more than {MOST_TOKENS} are not read")
        tokens = [token or f"[EMPTY_{id}]" for id, token in enumerate(found)]
        try:
            "".join(tokens).encode()
        except UnicodeEncodeError:
            raise self.fault(TOKENS, "has a token that is no valid Unicode") from None
        return tokens

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token."""
        ids: dict[str, int] = {}
        for id, token in enumerate(self.tokens):
            if ids.setdefault(token, id) != id:
                raise self.fault(TOKENS, f"lists {shown(token)} twice, as {ids[token]} and as {id}")
        return ids

    @cached_property
    def kinds(self) -> list[int]:
        """The kind of each id."""
        given = self._numbers(KINDS, "iu")
        kinds = [int(Kind.NORMAL)] * len(self.tokens) if given is None else [int(kind) for kind in given]
        ends = [self.ids[name] for name in ENDS if name in self.ids]
        for id in (*ends, *(self.roles[role] for role in ("eot_token", "eom_token") if role in self.roles)):
            kinds[id] = Kind.CONTROL
        return kinds

    def byte_of(self, id: int) -> int:
        """Return the byte that an id stands for."""
        match = BYTE.fullmatch(self.tokens[id])
        if match is None:
            raise self.fault(KINDS, f"says that {shown(self.tokens[id])} is a byte, such as <0x0A>")
        return int(match[1], 16)

    @cached_property
    def silent(self) -> frozenset[int]:
        """The ids that have no text."""
        given = self._metadata.get(TOKENS)
        empty = {id for id, token in enumerate(given if isinstance(given, list) else ()) if not token}
        unused = {id for id, kind in enumerate(self.kinds) if kind in (Kind.UNUSED, Kind.UNDEFINED)}
        return frozenset(empty | unused)

    @cached_property
    def scores(self) -> list[float]:
        """The score of each id."""
        given = self._numbers(SCORES, "iuf")
        if given is None:
            raise self.fault(SCORES, "is missing")
        scores = [float(score) for score in given]
        if not all(map(math.isfinite, scores)):
            raise self.fault(SCORES, "has a score that is no finite number")
        return scores

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs of tokens that are joined, in their order."""
        found = self._metadata.get(MERGES)
        if not isinstance(found, list) or not all(type(merge) is str for merge in found):
            raise self.fault(MERGES, f"is {shown(found)}, expected a list of texts")
        merges: dict[tuple[str, str], None] = {}
        for merge in found:
            space = merge.find(" ", 1)  # the first of both may be a space
            left, right = merge[:space], merge[space + 1 :]
            if space < 0 or not {left, right, left + right} <= self.ids.keys():
                raise self.fault(MERGES, f"has {shown(merge)}, which does not join two tokens to a third")
            merges.setdefault((left, right))
        return list(merges)

    @cached_property
    def roles(self) -> dict[str, int]:
        """The ids with a role: {"bos_token": 1, …}."""
        defaults = DEFAULT_IDS.get(self.model or "", {})
        count = len(self.ids)
        found = {role: id for role, id in defaults.items() if id < count}
        for role, name in ROLES.items():
            id = self._metadata.get(PREFIX + name)
            if id is None:
                continue
            if isinstance(id, bool) or not isinstance(id, int | np.integer):
                raise self.fault(PREFIX + name, f"is {shown(id)}, expected the id of a token")
            if 0 <= id < count:
                found[role] = int(id)
            elif id != 2**32 - 1:  # -1, which some files say where there is none
                raise self.fault(PREFIX + name, f"is {id}, but the file has {count} tokens")
        if self.pre in ("glm4", "chatglm-bpe") and PREFIX + ROLES["bos_token"] not in self._metadata:
            found.pop("bos_token", None)
        turn = [self.ids[name] for name in END_OF_TURN if name in self.ids]
        if "eot_token" not in found and turn:
            found["eot_token"] = turn[0]
        return found

    @cached_property
    def end_ids(self) -> list[int]:
        """The ids that end an answer: eos_token, the end of a turn, and those known by their names."""
        if self.model is None:
            return []
        roles = [self.roles[role] for role in ("eos_token", "eot_token", "eom_token") if role in self.roles]
        ends = dict.fromkeys((*roles, *(self.ids[name] for name in ENDS if name in self.ids)))
        if any(part <= self.ids.keys() for part in PARTS):
            ends.pop(self.ids.get(END_OF_PART, -1), None)
        return list(ends)

    @cached_property
    def charsmap(self) -> Charsmap | None:
        """The table by which sentencepiece normalises a text; None where there is none."""
        found = self._metadata.get(CHARSMAP)
        if found is None:
            return None
        data = np.asarray(found) if isinstance(found, list) else found
        if not isinstance(data, np.ndarray) or data.dtype.kind not in "iu" or data.ndim != 1:
            raise self.fault(CHARSMAP, f"is {shown(found)}, expected a list of bytes")
        try:
            return Charsmap(data.astype(np.uint8).tobytes())
        except ValueError as error:
            raise self.fault(CHARSMAP, f"is damaged: {error}") from error

    @cached_property
    def templates(self) -> dict[str, str]:
        """The chat templates by their names; that without a name is the default."""
        templates = {}
        for key in self._metadata:
            if key == TEMPLATE or key.startswith(TEMPLATE + "."):
                templates[key[len(TEMPLATE) + 1 :] or "default"] = self._text(key) or ""
        return {name: text for name, text in templates.items() if text}

    @cached_property
    def is_phi3(self) -> bool:
        """Whether it is Phi 3, whose special tokens swallow the space after them; only the name says so."""
        name = self._metadata.get(NAME)
        return isinstance(name, str) and any(word in name.lower() for word in ("phi-3", "phi3"))

    def flag(self, name: str, default: bool) -> bool:
        """Return a key's yes or no, or the default where it is missing."""
        value = self._metadata.get(PREFIX + name)
        if value is None:
            return default
        if isinstance(value, bool | np.bool_):
            return bool(value)
        raise self.fault(PREFIX + name, f"is {shown(value)}, expected true or false")

    def plain(self) -> dict[str, object]:
        """Return the keys that are read here as plain data, for another process."""
        return {
            key: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
            for key, value in self._metadata.items()
            if key.startswith("tokenizer.") or key == NAME
        }

    def fault(self, key: str, problem: str) -> TokenizerError:
        """Return the error for a key."""
        return TokenizerError(
            f"{self.path}: the tokenizer's key {key} {problem}.\n{download_again(self.path)}"
        )

    def _text(self, key: str) -> str | None:
        value = self._metadata.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self.fault(key, f"is {shown(value)}, expected a text")

    def _numbers(self, key: str, kinds: str) -> Sequence[float] | None:
        """Return a key's numbers, one for each token, or None where it is missing.

        kinds  the types that are expected, by NumPy's letters
        """
        value = self._metadata.get(key)
        if value is None:
            return None
        numbers = np.asarray(value) if isinstance(value, list) else value
        if not isinstance(numbers, np.ndarray) or numbers.ndim != 1 or numbers.dtype.kind not in kinds:
            raise self.fault(key, f"is {shown(value)}, expected a list of numbers")
        if len(numbers) != len(self.tokens):
            raise self.fault(key, f"has {len(numbers)} values for {len(self.tokens)} tokens")
        return numbers.tolist()
