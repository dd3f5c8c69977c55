"""A model of real size with random weights, and a tokenizer to go with it: as good as a real one for timing.

    python benchmarks/checkpoint.py gpt2 DIRECTORY

Writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json. The config names no
end-of-text token, so that nobody stops early.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTEXT = 1024
END_OF_TEXT = "<|endoftext|>"
MERGES = 50_000
VOCABULARY = 256 + MERGES + 1

SIZES = {  # name: layers, width, heads
    "tiny": (2, 64, 2),  # to try the benchmark itself
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
}


def config(size: str) -> dict:
    layers, width, heads = SIZES[size]
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_embd": width,
        "n_head": heads,
        "n_layer": layers,
        "n_positions": CONTEXT,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
        "dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": None,
    }


def shapes(size: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name every tensor as GPT-2's files do, with its shape."""
    layers, width, _ = SIZES[size]
    yield "wte.weight", (VOCABULARY, width)
    yield "wpe.weight", (CONTEXT, width)
    for i in range(layers):
        for norm in ("ln_1", "ln_2"):
            yield f"h.{i}.{norm}.weight", (width,)
            yield f"h.{i}.{norm}.bias", (width,)
        for name, rows, columns in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            yield f"h.{i}.{name}.weight", (rows, columns)
            yield f"h.{i}.{name}.bias", (columns,)
    yield "ln_f.weight", (width,)
    yield "ln_f.bias", (width,)


def random_weights(size: str) -> dict[str, np.ndarray]:
    """Draw every tensor from N(0, 0.02), the gains of the norms from N(1, 0.02)."""
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in shapes(size):
        weight = rng.standard_normal(shape, dtype=np.float32)
        weight *= 0.02
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
            weight += 1
        weights[name] = weight
    return weights


def tokenizer() -> Tokenizer:
    """Make a byte-level BPE tokenizer of GPT-2's size, whose merges are simply pairs of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in alphabet for b in alphabet][:MERGES]
    tokens = alphabet + [a + b for a, b in merges]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(END_OF_TEXT)])
    return made


def write(size: str, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(directory / "tokenizer.json"))
    described = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": CONTEXT}
    described |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    (directory / "tokenizer_config.json").write_text(json.dumps(described, indent=2))
    save_file(random_weights(size), directory / "model.safetensors", metadata={"format": "pt"})
    # Last, so that a directory with a config is a complete one.
    (directory / "config.json").write_text(json.dumps(config(size), indent=2))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
