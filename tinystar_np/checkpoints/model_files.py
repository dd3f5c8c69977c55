"""Which of a repository's files are a model, as this package reads it.

A repository on the hub often holds the same weights several times: as pickles, for other frameworks, once
whole and once in shards, in Mistral's own form (consolidated.safetensors), in a narrower type
(model.fp16.safetensors). The weights are model.safetensors; where there is none, the files that
model.safetensors.index.json names, whatever they are called. Nothing but these and ``small_files`` is ever
downloaded.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE, GENERATION_FILE
from tinystar_np.checkpoints.shard_index import INDEX_FILE, SINGLE_FILE, weight_files
from tinystar_np.errors import CheckpointError

# Any of these sets is a tokenizer.
TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"})

# Loading one of these may run any code: they are only ever mentioned.
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
CONVERT = "Convert it with transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)."

MORE_TEMPLATES = "additional_chat_templates"
TEMPLATE = re.compile(rf"{MORE_TEMPLATES}/[^/]+\.jinja")

SMALL_FILES = {
    CONFIG_FILE,
    GENERATION_FILE,
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
}


def small_files(names: Iterable[str]) -> set[str]:
    """Choose from the names of files those that belong to a model beside its weights."""
    return {name for name in names if name in SMALL_FILES or TEMPLATE.fullmatch(name)}


def instead_of_weights(names: Iterable[str]) -> tuple[str, str]:
    """Say what there is in place of weights, and what to do, of files without model.safetensors or an index.

    names  of all files of a directory or repository

    Returns the end of a sentence that begins with "It has", and another sentence.
    """
    # Named first is what is most likely the model.
    names = sorted((name for name in names if "/" not in name), key=lambda n: (not n.startswith("model"), n))
    safetensors = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(PICKLE_ENDINGS)]
    if safetensors and all(name.startswith("adapter_") for name in safetensors):
        return (
            f"only an adapter to another model, {safetensors[0]}",
            "Load both with peft, then merge_and_unload() and save_pretrained() write a model.",
        )
    if safetensors and all(name.startswith("consolidated") for name in safetensors):
        return f"only {safetensors[0]}, the weights under Mistral's own names", CONVERT
    if safetensors:
        return (
            f"safetensors files ({safetensors[0]}), but neither {SINGLE_FILE} nor {INDEX_FILE}",
            f"Rename the only file to {SINGLE_FILE}, or download the index as well.",
        )
    if pickles:
        return f"no safetensors, only {pickles[0]}, which is not opened: it can run code", CONVERT
    return f"no {SINGLE_FILE}", "Give a directory or repository that holds a model's weights in safetensors."


def has_model(directory: Path) -> bool:
    """Tell whether a directory holds config.json and all weights."""
    if not (directory / CONFIG_FILE).exists():
        return False
    try:
        return bool(weight_files(directory))
    except CheckpointError:
        return False


def has_tokenizer(directory: Path) -> bool:
    """Tell whether a directory holds the files of a tokenizer."""
    return any(all((directory / name).exists() for name in names) for names in TOKENIZERS)
