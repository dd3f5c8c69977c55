"""The names of a model's files, in a repository of the hub or in a directory.

A repository on the hub often holds the same weights several times: as pickles, for other frameworks, once
whole and once in shards, in Mistral's own form (consolidated.safetensors), in a narrower type
(model.fp16.safetensors). The weights are model.safetensors; where there is none, the files that
model.safetensors.index.json names, whatever they are called:

    {"metadata": {...}, "weight_map": {"wte.weight": "model-00001-of-00002.safetensors", ...}}

(The metadata, a total size that is often wrong, is not read.) Nothing but these and ``small_files`` is ever
downloaded, or nothing but one GGUF file (gguf_choice.py).
"""

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from tinystar_np.checkpoints.config_file import CONFIG_FILE, GENERATION_FILE
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import download_again, one_line, read_json_object, shown
from tinystar_np.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
GGUF = ".gguf"
FIRST_OF_SEVERAL = re.compile(r"(.*)-00001-of-([0-9]{5})\.gguf", re.DOTALL)

# Each of these sets is enough for a tokenizer.
TOKENIZERS = (
    *({"tokenizer.json"}, {"tekken.json"}, {"tokenizer.model"}, {"spiece.model"}, {"qwen.tiktoken"}),
    *({"vocab.json", "merges.txt"}, {"vocab.txt", "emoji.json"}),
)
LARGE_TOKENIZERS = {"tekken.json"}  # of no use beside a tokenizer.json

# Loading one of these may run any code: they are never opened.
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
CONVERT = "Convert it with transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)."

MORE_TEMPLATES = "additional_chat_templates"
TEMPLATE = re.compile(rf"{MORE_TEMPLATES}/[^/]+\.jinja")

SMALL_FILES = {
    CONFIG_FILE,
    GENERATION_FILE,
    "tokenizer.json",
    "tekken.json",
    "tokenizer.model",
    "spiece.model",
    "qwen.tiktoken",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "emoji.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
}

CONFIG_FILES = {CONFIG_FILE, "preprocessor_config.json", "processor_config.json"}
"""What says what a model is made of, images included, and holds nothing that it has learned."""


def small_files(names: Iterable[str]) -> set[str]:
    """Return the names of a model's files other than weights, of these names."""
    found = {name for name in names if name in SMALL_FILES or TEMPLATE.fullmatch(name)}
    if "emoji.json" not in found:
        found -= {"vocab.txt"}  # of other models, which are not read
    return found - LARGE_TOKENIZERS if "tokenizer.json" in found else found


def read_index(directory: Path) -> dict[str, str]:
    """Read the index of a model in several files.

    Returns the file name of each tensor. Raises CheckpointError if the index is missing or damaged, or names
    anything but plain file names ending in .safetensors.
    """
    path = file_inside(directory, INDEX_FILE)
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{path}: 'weight_map' is {shown(weight_map)}, expected an object that names each tensor's "
            f"file.\n{download_again(path)}"
        )
    for tensor, name in weight_map.items():
        plain = isinstance(name, str) and not any(character in name for character in "/\\\0")
        if not plain or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"{path}: tensor {shown(tensor)} is said to be in {shown(name)}, which is no plain name "
                "of a safetensors file.\n"
                "The index is damaged or not to be trusted: take the model from another source."
            )
    return weight_map


def weight_files(directory: Path) -> list[Path]:
    """List the safetensors files of a model, or the GGUF files of one.

    A single model.safetensors is preferred to an index, as in transformers. Raises CheckpointError if there
    is neither, or a shard is missing.
    """
    if directory.suffix == GGUF:
        first = FIRST_OF_SEVERAL.fullmatch(directory.name)
        return (
            sorted(
                filter(
                    Path.is_file, directory.parent.glob(f"{glob.escape(first[1])}-?????-of-{first[2]}.gguf")
                )
            )
            if first
            else [directory]
        )
    if (directory / SINGLE_FILE).exists():
        return [file_inside(directory, SINGLE_FILE)]
    return [file_inside(directory, name) for name in sorted(set(read_index(directory).values()))]


def has_model(directory: Path) -> bool:
    """Say whether a directory holds config.json and all weights, or is a GGUF file."""
    if directory.suffix == GGUF:
        return directory.is_file()
    if not (directory / CONFIG_FILE).exists():
        return False
    try:
        return bool(weight_files(directory))
    except CheckpointError:
        return False


def gguf_models(directory: Path) -> list[Path]:
    """List the GGUF files of a directory; of a model in several files, the first."""
    files = sorted(path for path in directory.glob("*.gguf") if path.is_file())
    return [path for path in files if "-of-" not in path.stem or FIRST_OF_SEVERAL.fullmatch(path.name)]


def model_in(directory: Path) -> Path | None:
    """Return a directory that has a config.json, or its only GGUF file; None for any other."""
    if (directory / CONFIG_FILE).exists():
        return directory
    files = gguf_models(directory)
    return files[0] if len(files) == 1 else None


def has_tokenizer(directory: Path) -> bool:
    """Say whether a directory holds the files of a tokenizer."""
    return any(all((directory / name).exists() for name in names) for names in TOKENIZERS)


def instead_of_weights(names: Iterable[str]) -> tuple[str, str]:
    """Return what there is in place of safetensors weights, and what to do.

    names  of all files of a directory or repository

    Returns the end of a sentence that begins with "It has", and another sentence.
    """
    # The first is most likely the model.
    names = sorted((name for name in names if "/" not in name), key=lambda n: (not n.startswith("model"), n))
    safetensors = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(PICKLE_ENDINGS)]
    if safetensors and all(name.startswith("adapter_") for name in safetensors):
        return (
            f"only an adapter to another model, {one_line(safetensors[0])}",
            "Load both with peft, then merge_and_unload() and save_pretrained() write a model.",
        )
    if safetensors and all(name.startswith("consolidated") for name in safetensors):
        return f"only {one_line(safetensors[0])}, the weights under Mistral's own names", CONVERT
    if safetensors:
        return (
            f"safetensors files ({one_line(safetensors[0])}), but neither {SINGLE_FILE} nor {INDEX_FILE}",
            f"Rename the only file to {SINGLE_FILE}, or download the index as well.",
        )
    if pickles:
        return f"no safetensors, only {one_line(pickles[0])}, which is not opened: it can run code", CONVERT
    return f"no {SINGLE_FILE}", "Give a directory or repository that holds a model's weights in safetensors."
