"""A model of real size with random weights, and a tokenizer to go with it: as good as a real one for timing.

    python benchmarks/checkpoint.py gpt2 float32 DIRECTORY
    python benchmarks/checkpoint.py gpt-oss-20b mxfp4 DIRECTORY

"mxfp4" is gpt-oss' own type: experts in 4 bits, and all else in bfloat16; the file has 13.8 GB. Writes
config.json, model.safetensors, tokenizer.json and tokenizer_config.json. The config names no end-of-text
token, so that nobody stops early.
"""

import json
import os
import sys
from math import prod
from pathlib import Path

import numpy as np
from shapes import SHAPES
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tinystar_np.checkpoints.packed_mxfp4 import CODES, EXPONENTS
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.kernels.mxfp4 import BLOCK
from tinystar_np.models import model_class

Tensor = tuple[tuple[int, ...], str]
"""A tensor's shape, and its name here, or what sort of bytes it has."""

END_OF_TEXT = "<|endoftext|>"
MERGES = 50_000  # at most, as GPT-2 has
RANDOM = 1 << 24  # numbers drawn; every tensor takes a run of them, from a place of its own


def numbers(ours: str, drawn: np.ndarray) -> np.ndarray:
    """Turn random numbers from N(0, 1) into what a tensor holds that has this name here."""
    if ours.endswith(("gain", ".D")):
        return 1 + 0.02 * drawn
    if ours.endswith("A_log"):
        return np.log(1 + np.abs(drawn) * 4)
    return 0.02 * drawn


def in_mxfp4(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put codes and scales in the place of the experts' matrices (E, in, out), as in gpt-oss' files."""
    packed: dict[str, Tensor] = {}
    for name, (dims, ours) in tensors.items():
        if len(dims) < 3:
            packed[name] = dims, ours
            continue
        experts, inputs, outputs = dims
        packed[name + CODES] = (experts, outputs, inputs // BLOCK, BLOCK // 2), CODES
        packed[name + EXPONENTS] = (experts, outputs, inputs // BLOCK), EXPONENTS
    return packed


def write_weights(tensors: dict[str, Tensor], dtype: str, path: Path) -> None:
    """Write {theirs: (shape, ours)} tensor by tensor: a model larger than memory will do."""
    pool = np.random.default_rng(0).standard_normal(RANDOM, dtype=np.float32)
    codes = np.random.default_rng(1).integers(0, 256, RANDOM, dtype=np.uint8)
    pools = {CODES: codes, EXPONENTS: 118 + codes % 4}  # powers of two from 2⁻⁹ to 2⁻⁶
    wide, code = (4, "F32") if dtype == "float32" else (2, "BF16")
    header, end = {}, 0
    for name, (dims, ours) in tensors.items():
        start, end = end, end + prod(dims) * (1 if ours in pools else wide)
        kind = "U8" if ours in pools else code
        header[name] = {"dtype": kind, "shape": dims, "data_offsets": [start, end]}
    described = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    described += b" " * (-len(described) % 8)
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        for place, (dims, ours) in enumerate(tensors.values()):
            left, start = prod(dims), place * 977
            while left:
                if ours in pools:
                    drawn = pools[ours][start : start + left]
                    file.write(drawn)
                else:
                    drawn = numbers(ours, pool[start : start + left]).astype(np.float32, copy=False)
                    file.write((drawn.view(np.uint32) >> 16).astype(np.uint16) if wide == 2 else drawn)
                left, start = left - len(drawn), 0
        if hasattr(os, "posix_fadvise"):
            # Whoever reads it finds it as it is after a start of the machine. What has just been written lies
            # in memory in smaller pages than what is read from the disk, and is read more slowly.
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def tokenizer(vocabulary: int) -> Tokenizer:
    """Make a byte-level BPE tokenizer whose merges are simply pairs of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in alphabet for b in alphabet][: min(MERGES, vocabulary - 257)]
    tokens = alphabet + [a + b for a, b in merges]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END_OF_TEXT)])
    return made


def write(shape: str, dtype: str, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    architecture = model_class(str(SHAPES[shape]["model_type"]))
    config = architecture.Config.from_dict(SHAPES[shape])
    tensors = {}
    for row in expand(architecture.WEIGHTS, config).values():
        # In transformers the output layer stands beside the model that the prefix names.
        prefix = "" if row.ours.startswith("head.") else architecture.PREFIX
        tensors[prefix + row.theirs] = row.stored, row.ours
    described_type: dict[str, object] = {"dtype": dtype}
    if dtype == "mxfp4":
        tensors = in_mxfp4(tensors)
        described_type = {"dtype": "bfloat16", "quantization_config": {"quant_method": "mxfp4"}}
    write_weights(tensors, dtype, directory / "model.safetensors")
    tokenizer(config.sizes["V"]).save(str(directory / "tokenizer.json"))
    described = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    described["tokenizer_class"] = "PreTrainedTokenizerFast"
    (directory / "tokenizer_config.json").write_text(json.dumps(described, indent=2))
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    # Last, so that a directory with a config is a complete one.
    (directory / "config.json").write_text(json.dumps({**SHAPES[shape], **described_type, **ends}, indent=2))


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
