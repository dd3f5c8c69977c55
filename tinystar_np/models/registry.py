"""The class of each ``model_type``: the one in the file of that name; there is no list to add it to."""

import re
from importlib import import_module
from pathlib import Path

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import ConfigError
from tinystar_np.models.base import Decoder
from tinystar_np.models.text_part import TEXT_PARTS

MODEL = re.compile(rb"\nclass \w+\(Decoder\[")
ARCHITECTURES = tuple(  # the files are read, not imported: all of them in a millisecond
    sorted(file.stem for file in Path(__file__).parent.glob("*.py") if MODEL.search(file.read_bytes()))
)
"""Every ``model_type`` that has a file."""
OLD_SPELLINGS = {
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "hf_olmo": "olmo",
    "mixformer-sequential": "phi",
    "phi-msft": "phi",
    "stablelm_epoch": "stablelm",
}
"""``model_type`` in the first files of some architectures, and today's."""


def model_class(model_type: str) -> type[Decoder]:
    """Return the class for a config's ``model_type``, importing its file only now.

    Raises ConfigError for a type that is not implemented here.
    """
    name = OLD_SPELLINGS.get(model_type, model_type)
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"config.json says model_type {shown(model_type)}, which is not implemented here.\n"
            f"Implemented: {', '.join(sorted({*ARCHITECTURES, *OLD_SPELLINGS, *TEXT_PARTS}))}."
        )
    module = import_module(f"tinystar_np.models.{name}")
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Decoder) and each.__module__ == module.__name__
    )
    return found
