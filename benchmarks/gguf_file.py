"""The random model as a GGUF file, which llama.cpp reads: the same weights in its own format.

    python benchmarks/gguf_file.py DIRECTORY int8

Matrices are F32, BF16 or Q8_0 (blocks of 32 numbers with a scale each); vectors and the table of positions
stay F32, as llama.cpp's own converter leaves them. What differs from the safetensors file:

    GPT-2  keeps matrices as (in, out), llama.cpp as (out, in)
    Llama  turns the first half of a head against the second, llama.cpp each number against its neighbour:
           the rows of q and k change places, from a₀ a₁ … b₀ b₁ … to a₀ b₀ a₁ b₁ …

The vocabulary is a list of made-up names, for nobody tokenises here. Needs gguf.
"""

import json
import sys
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

Config = dict[str, Any]
KINDS = {"float32": "F32", "bfloat16": "BF16", "int8": "Q8_0"}


def converted(directory: Path, dtype: str) -> Path:
    """Return the path of a model's GGUF file, beside the model; it is written the first time."""
    if dtype not in KINDS:
        raise SystemExit(f"There is no GGUF file in {dtype}, only in {', '.join(KINDS)}.")
    path = directory / f"model-{KINDS[dtype]}.gguf"
    if not path.exists():
        partial = path.with_suffix(".partial")
        write(directory, dtype, partial)
        partial.rename(path)
    return path


def write(directory: Path, dtype: str, path: Path) -> None:
    """Write tensor by tensor: a model larger than memory will do."""
    import gguf

    config = json.loads((directory / "config.json").read_text())
    kind_of_model = config["model_type"]
    if kind_of_model not in DESCRIPTIONS:
        raise SystemExit(f"A GGUF file is made of {' and '.join(DESCRIPTIONS)}, not of {kind_of_model}.")
    describe, layout = DESCRIPTIONS[kind_of_model]
    writer = gguf.GGUFWriter(path, kind_of_model)
    describe(writer, config)
    add_vocabulary(writer, config["vocab_size"])

    def kind_of(name: str, shape: tuple[int, ...]) -> Any:
        narrow = len(shape) == 2 and not name.startswith("position_embd")
        return gguf.GGMLQuantizationType[KINDS[dtype] if narrow else "F32"]

    # Twice: the header, with the size of every tensor, comes before the first.
    for name, tensor in tensors(directory, config, layout):
        kind = kind_of(name, tensor.shape)
        numbers, nbytes = gguf.GGML_QUANT_SIZES[kind]  # of one block
        size = prod(tensor.shape) // numbers * nbytes
        writer.add_tensor_info(name, tensor.shape, tensor.dtype, size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in tensors(directory, config, layout):
        kind = kind_of(name, tensor.shape)
        writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(tensor), kind))
    writer.close()


def tensors(
    directory: Path, config: Config, layout: Callable[[str, np.ndarray, Config], np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every tensor as llama.cpp names it and lays it out, in float32."""
    import gguf

    from tinystar_np.checkpoints.checkpoint import open_checkpoint

    architectures = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    blocks = config.get("num_hidden_layers", config.get("n_layer"))
    names = gguf.get_tensor_name_map(architectures[config["model_type"]], blocks)
    checkpoint = open_checkpoint(directory)
    for theirs in checkpoint:
        name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise SystemExit(f"{directory}: llama.cpp has no name for {theirs}.")
        yield name, layout(theirs, checkpoint.float32(theirs), config)


def describe_gpt2(writer: Any, config: Config) -> None:
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])


def gpt2_layout(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    conv1d = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
    return tensor.T if conv1d else tensor


def describe_llama(writer: Any, config: Config) -> None:
    heads = config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])


def llama_layout(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    for part, key in heads.items():
        if part in name:
            halves = tensor.reshape(config[key], 2, -1, tensor.shape[1])
            return halves.swapaxes(1, 2).reshape(tensor.shape)
    return tensor


DESCRIPTIONS = {"gpt2": (describe_gpt2, gpt2_layout), "llama": (describe_llama, llama_layout)}


def add_vocabulary(writer: Any, size: int) -> None:
    import gguf

    names = [f"token{i}" for i in range(size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types([gguf.TokenType.NORMAL] * size)
    writer.add_token_merges([f"{names[0]} {names[1]}"])  # llama.cpp wants at least one
    writer.add_eos_token_id(size - 1)


if __name__ == "__main__":
    print(converted(Path(sys.argv[1]), sys.argv[2]))
