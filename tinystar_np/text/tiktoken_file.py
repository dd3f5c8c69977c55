"""tiktoken's files: `tokenizer.model` of Llama 3 and 4 as Meta ships it, `qwen.tiktoken` of the first Qwen.

A line is a token in base64 and its rank. How a text is cut, and the special tokens that follow the others,
are not in the file but in their makers' code: llama-models of Meta, tokenization_qwen.py.
"""

import binascii
import re
from pathlib import Path

import tokenizers

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import TokenizerError
from tinystar_np.text.ranked_bytes import Family, build, special_tokens
from tinystar_np.text.tokenizer_classes import END_OF_TEXT, QWEN2_WORDS
from tinystar_np.text.tokenizer_faults import damaged
from tinystar_np.text.tokenizer_settings import TokenizerSettings
from tinystar_np.text.words import CL100K_WORDS, O200K_WORDS

QWEN_FILE = "qwen.tiktoken"
LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]{1,9})")

LLAMA_BEGIN, LLAMA_END = "<|begin_of_text|>", "<|end_of_text|>"
LLAMA_3_TOKENS, LLAMA_4_TOKENS, QWEN_TOKENS = 128_000, 200_000, 151_643

LLAMA_3_SPECIAL = (
    *(LLAMA_BEGIN, LLAMA_END, "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>"),
    *("<|eot_id|>", "<|python_tag|>", "<|image|>"),
)


def _reserved(name: str, first: int, count: int) -> list[str]:
    return [f"<|{name}reserved_special_token_{number}|>" for number in range(first, first + count)]


LLAMA_4_SPECIAL = (
    *(LLAMA_BEGIN, LLAMA_END, "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *("<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>"),
    *_reserved("text_post_train_", 0, 6),
    *("<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>"),
    *_reserved("text_post_train_", 8, 61),
    *("<|image_start|>", "<|image_end|>", *_reserved("vision_", 0, 2)),
    *("<|tile_x_separator|>", "<|tile_y_separator|>", *_reserved("vision_", 2, 4)),
    *("<|image|>", *_reserved("vision_", 6, 1), "<|patch|>", *_reserved("vision_", 7, 1041)),
    *_reserved("reasoning_", 0, 8),
    *("<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>"),
)
QWEN_SPECIAL = (
    *(END_OF_TEXT, "<|im_start|>", "<|im_end|>"),
    *(f"<|extra_{number}|>" for number in range(205)),
)


def llama_3(count: int) -> Family:
    """Return what Meta's code says of Llama 3, of so many tokens."""
    special = (*LLAMA_3_SPECIAL, *_reserved("", 2, 256 - len(LLAMA_3_SPECIAL)))
    named = {"bos_token": LLAMA_BEGIN, "eos_token": LLAMA_END, "pad_token": "<|finetune_right_pad_id|>"}
    return Family((CL100K_WORDS,), special_tokens(special, count), named, adds_bos=True)


def llama_4(count: int) -> Family:
    """Return what Meta's code says of Llama 4, of so many tokens."""
    special = (*LLAMA_4_SPECIAL, *_reserved("", 0, 2048 - len(LLAMA_4_SPECIAL)))
    named = {"bos_token": LLAMA_BEGIN, "eos_token": LLAMA_END, "pad_token": "<|finetune_right_pad|>"}
    return Family((O200K_WORDS,), special_tokens(special, count), named, adds_bos=True)


def qwen(count: int) -> Family:
    """Return what the first Qwen's code says, of so many tokens."""
    named = {"eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT}
    return Family((QWEN2_WORDS,), special_tokens(QWEN_SPECIAL, count), named, composes=True)


OF_MODEL_TYPE = {
    "llama": llama_3,
    "mllama": llama_3,
    "mllama_text_model": llama_3,
    "llama4": llama_4,
    "llama4_text": llama_4,
    "qwen": qwen,
}
OF_COUNT = {LLAMA_3_TOKENS: llama_3, LLAMA_4_TOKENS: llama_4, QWEN_TOKENS: qwen}


def is_tiktoken(path: Path) -> bool:
    """Say whether a file is one of tiktoken's, by its first line."""
    with path.open("rb") as file:
        return LINE.fullmatch(file.readline(1000).rstrip(b"\r\n")) is not None


def load_tiktoken(
    path: Path, settings: TokenizerSettings, ordinary_only: bool
) -> tuple[tokenizers.Tokenizer, TokenizerSettings]:
    """Load a file of tiktoken's form.

    Raises TokenizerError where it is damaged, or of a model that is not known, and NotOrdinaryError.
    """
    tokens = read_ranks(path)
    family = OF_MODEL_TYPE.get(settings.model_type or "") or OF_COUNT.get(len(tokens))
    if path.name == QWEN_FILE:
        family = qwen
    if family is None:
        raise TokenizerError(
            f"{path}: a file of tiktoken's form, which does not say how a text is cut, nor special "
            f"tokens. That is known for Llama 3, 4 and Qwen; model_type is {shown(settings.model_type)}.\n"
            "A tokenizer.json beside it would say it. Let transformers write one: "
            "AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIRECTORY)."
        )
    return build(tokens, family(len(tokens)), settings, ordinary_only)


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read {token: rank}, in the order of the ranks, which are 0, 1, 2, …; raises TokenizerError."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line)
        try:
            token = binascii.a2b_base64(match[1], strict_mode=True) if match else b""
        except binascii.Error:
            token = b""
        if match is None or not token:
            raise damaged(path, f"line {number} is {shown(line)}, expected a token in base64 and its rank")
        if ranks.setdefault(token, int(match[2])) != int(match[2]):
            raise damaged(path, f"line {number} has the token {shown(token)} again")
    return in_order(ranks, path)


def in_order(ranks: dict[bytes, int], path: Path) -> dict[bytes, int]:
    """Sort tokens by their ranks.

    Raises TokenizerError unless these are 0, 1, 2, … and all bytes are tokens.
    """
    tokens = sorted(ranks, key=ranks.__getitem__)
    wrong = next((rank for rank, token in enumerate(tokens) if ranks[token] != rank), None)
    if wrong is not None:
        raise damaged(path, f"there is none or more than one token of the rank {wrong}")
    missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if missing is not None:
        raise damaged(path, f"there is no token for the byte {missing}, so that not every text has tokens")
    return {token: rank for rank, token in enumerate(tokens)}
