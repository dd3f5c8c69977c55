"""Which class runs which ``model_type``. A new architecture is one file here and one row below."""

from importlib import import_module

from tinystar_np.errors import ConfigError
from tinystar_np.models.base import Decoder
from tinystar_np.models.text_part import TEXT_PARTS

ARCHITECTURES = {  # model_type, which is also the module's name: the class in it
    "bloom": "Bloom",
    "cohere": "Cohere",
    "dbrx": "Dbrx",
    "deepseek_v2": "DeepseekV2",
    "deepseek_v3": "DeepseekV3",
    "falcon": "Falcon",
    "falcon_h1": "FalconH1",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3Text",
    "gpt2": "GPT2",
    "gpt_neo": "GPTNeo",
    "gpt_neox": "GPTNeoX",
    "gpt_oss": "GptOss",
    "gptj": "GPTJ",
    "granite": "Granite",
    "granitemoe": "GraniteMoe",
    "granitemoehybrid": "GraniteMoeHybrid",
    "llama": "Llama",
    "llama4_text": "Llama4Text",
    "mamba": "Mamba",
    "mamba2": "Mamba2",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "mpt": "Mpt",
    "olmo": "Olmo",
    "olmo2": "Olmo2",
    "olmoe": "Olmoe",
    "phi": "Phi",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen2_moe": "Qwen2Moe",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "qwen3_next": "Qwen3Next",
    "smollm3": "SmolLM3",
    "stablelm": "StableLm",
    "starcoder2": "Starcoder2",
    "tinystar": "TinyStar",
}

OLD_SPELLINGS = {  # model_type in the first files of some architectures: (module, the class in it)
    "RefinedWeb": ("falcon", "Falcon"),
    "RefinedWebModel": ("falcon", "Falcon"),
    "hf_olmo": ("olmo", "Olmo"),
    "mixformer-sequential": ("phi", "Phi"),
    "phi-msft": ("phi", "Phi"),
    "stablelm_epoch": ("stablelm", "StableLm"),
}


def model_class(model_type: str) -> type[Decoder]:
    """Return the class for a config's ``model_type``, importing its module only now.

    Raises ConfigError for a type that is not implemented here.
    """
    if model_type in ARCHITECTURES:
        name, in_it = model_type, ARCHITECTURES[model_type]
    elif model_type in OLD_SPELLINGS:
        name, in_it = OLD_SPELLINGS[model_type]
    else:
        raise ConfigError(
            f"config.json says model_type {model_type!r}, which is not implemented here.\n"
            f"Implemented: {', '.join(sorted({*ARCHITECTURES, *OLD_SPELLINGS, *TEXT_PARTS}))}."
        )
    module = import_module(f"tinystar_np.models.{name}")
    found: type[Decoder] = getattr(module, in_it)
    return found
