"""config.json and generation_config.json: what a model is, and which tokens end its text."""

from pathlib import Path

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import JsonObject, read_json_object, shown
from tinystar_np.errors import CheckpointError

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
CONFIG_LIMIT = 4_000_000  # bytes; real ones are of a few thousand, or of some 100 000 where they list labels


def read_config(directory: Path) -> JsonObject:
    """Read a model's config.json.

    directory  the model's directory

    Returns its content. Raises CheckpointError if it is missing, damaged, or does not say ``model_type``.
    """
    if not (directory / CONFIG_FILE).exists():
        raise CheckpointError(
            f"{directory}: has no {CONFIG_FILE}.\n"
            "Give a directory as it is on the hub, or as save_pretrained writes it."
        )
    path = file_inside(directory, CONFIG_FILE)
    config = read_json_object(path, CONFIG_LIMIT)
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            f"{path}: 'model_type' is {shown(config.get('model_type'))}, expected a name such as \"gpt2\".\n"
            "Without it nobody knows which architecture the weights are for."
        )
    return config


def read_end_ids(directory: Path, config: JsonObject) -> tuple[int, ...]:
    """Find the ids of the tokens after which generation stops.

    As in transformers, a generation_config.json alone decides where there is one, even if it names none;
    otherwise config.json does.

    directory  the model's directory
    config     what ``read_config`` returned for it

    Returns the ids, () if there are none. Raises CheckpointError if they are no ids.
    """
    source = directory / CONFIG_FILE
    if (directory / GENERATION_FILE).exists():
        source = file_inside(directory, GENERATION_FILE)
        config = read_json_object(source, CONFIG_LIMIT)
    found = config.get("eos_token_id")
    if found is None:
        return ()
    ids = found if isinstance(found, list) else [found]
    # bool is an int in Python, so isinstance would let true pass as id 1.
    if not all(type(number) is int and number >= 0 for number in ids):
        raise CheckpointError(
            f"{source}: 'eos_token_id' is {shown(found)}, expected an id or a list of ids.\n"
            "Correct it, or download the file again."
        )
    return tuple(ids)
