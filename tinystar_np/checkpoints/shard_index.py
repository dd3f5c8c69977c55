"""model.safetensors.index.json: which of several files holds which tensor.

    {"metadata": {...}, "weight_map": {"wte.weight": "model-00001-of-00002.safetensors", ...}}

The metadata (a total size, often wrong) is not needed and not read.
"""

from pathlib import Path

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import download_again, read_json_object, shown
from tinystar_np.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


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
    """List the safetensors files of a model, each checked to be there.

    A single model.safetensors is preferred to an index, as transformers does. Raises CheckpointError if there
    is neither, or a shard is missing.
    """
    if (directory / SINGLE_FILE).exists():
        return [file_inside(directory, SINGLE_FILE)]
    return [file_inside(directory, name) for name in sorted(set(read_index(directory).values()))]
