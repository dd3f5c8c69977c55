"""The settings of sampling that a publisher recommends: generation_config.json, or keys of a GGUF file.

    {"do_sample": true, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [128001, 128008, 128009]}

What the file does not name is off, as the model was tried with nothing else: the numbers of one publisher
and the defaults of somebody else are no recommendation of either. (transformers' own default is a top_k of
50, and greedy decoding where `do_sample` is not there. Here a file that names settings of drawing is
understood to mean drawing.) A GGUF file has them as `general.sampling.temp` and the like.
"""

from pathlib import Path

import numpy as np

from tinystar_np.checkpoints.config_file import CONFIG_LIMIT, GENERATION_FILE
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import JsonObject, read_json_object, shown
from tinystar_np.checkpoints.model_files import GGUF
from tinystar_np.errors import CheckpointError, InputError
from tinystar_np.generation.options import Sampling, SamplingOptions

OF_DRAWING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
OF_ANY_CHOICE = ("repetition_penalty", "no_repeat_ngram_size", "max_new_tokens")
OF_GGUF = {
    "temp": "temperature",
    **{name: name for name in ("top_k", "top_p", "min_p")},
    "penalty_repeat": "repetition_penalty",
}
OFF = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0)


def read_model_settings(place: Path) -> Sampling:
    """Return the settings that a model's files recommend; none where they name none.

    place  the model's directory, or its GGUF file

    Raises CheckpointError where a file is damaged, or a value is out of its range.
    """
    if place.suffix == GGUF:
        path, config = place, _of_gguf(place)
    elif (place / GENERATION_FILE).exists():
        path = file_inside(place, GENERATION_FILE)
        config = read_json_object(path, CONFIG_LIMIT)
    else:
        return Sampling()
    found = settings_of(config)
    for name, value in found.items():
        try:
            SamplingOptions(**{name: value})  # type: ignore[arg-type]
        except InputError as error:
            raise CheckpointError(
                f"{path}: {name} is {shown(value)}, which is out of its range. Correct it, or leave out "
                "--model-settings."
            ) from error
    return found


def _of_gguf(path: Path) -> JsonObject:
    """Return the settings that a GGUF file has, under the names of a generation_config.json."""
    from tinystar_np.checkpoints.gguf_file import map_gguf  # late: other models need none of it

    metadata = map_gguf(path).metadata
    named = {name: metadata.get(f"general.sampling.{key}") for key, name in OF_GGUF.items()}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in named.items()}


def settings_of(config: JsonObject) -> Sampling:
    """Return the settings that a generation_config.json names, unchecked."""
    named = {name: config[name] for name in (*OF_DRAWING, *OF_ANY_CHOICE) if config.get(name) is not None}
    others = {name: value for name, value in named.items() if name in OF_ANY_CHOICE}
    if config.get("do_sample") is False:
        return Sampling(temperature=0.0, **others)  # type: ignore[typeddict-item]
    if config.get("do_sample") is True or any(name in OF_DRAWING for name in named):
        return Sampling(**{**OFF, **named})  # type: ignore[typeddict-item]
    return Sampling(**others)  # type: ignore[typeddict-item]
