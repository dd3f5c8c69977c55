"""Which class runs which ``model_type``. A new architecture is one file here and one row below."""

from importlib import import_module

from tinystar_np.errors import ConfigError
from tinystar_np.models.decoder import Decoder

ARCHITECTURES = {  # model_type, which is also the module's name: the class in it
    "falcon": "Falcon",
    "gpt2": "GPT2",
    "granite": "Granite",
    "granitemoe": "GraniteMoe",
    "granitemoehybrid": "GraniteMoeHybrid",
    "llama": "Llama",
    "mistral": "Mistral",
    "mamba": "Mamba",
    "mamba2": "Mamba2",
}


def model_class(model_type: str) -> type[Decoder]:
    """Return the class for a config's ``model_type``, importing its module only now.

    Raises ConfigError for a type that is not implemented here.
    """
    if model_type not in ARCHITECTURES:
        raise ConfigError(
            f"config.json says model_type {model_type!r}, which is not implemented here.\n"
            f"Implemented: {', '.join(sorted(ARCHITECTURES))}."
        )
    module = import_module(f"tinystar_np.models.{model_type}")
    found: type[Decoder] = getattr(module, ARCHITECTURES[model_type])
    return found
