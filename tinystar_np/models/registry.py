"""The class of each ``model_type``: the one in the file of that name; there is no list to add it to."""

import re
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import ConfigError
from tinystar_np.models.base import Decoder
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.models.old_names import OLD_NAMES
from tinystar_np.models.text_part import TEXT_PARTS
from tinystar_np.models.vision_part import VisionPart

Kind = TypeVar("Kind")


HYPHENED = {"openai_gpt": "openai-gpt", "modernbert_decoder": "modernbert-decoder"}
"""Files whose ``model_type`` is no name of a module, and that type."""
MODEL = re.compile(rb"\nclass \w+\((Decoder|VisionPart|EmbeddingModel)\[")
FOUND = {  # the files are read, not imported: all of them in 3 ms
    HYPHENED.get(file.stem, file.stem): found[1].decode()
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if (found := MODEL.search(file.read_bytes()))
}
"""{``model_type``: the kind of class that its file defines}"""
ARCHITECTURES = tuple(name for name, kind in FOUND.items() if kind == "Decoder")
"""Every ``model_type`` of text that has a file."""
VISION_ARCHITECTURES = tuple(name for name, kind in FOUND.items() if kind == "VisionPart")
"""Every ``model_type`` of text and images of which a file says how images are read."""
EMBEDDING_ARCHITECTURES = tuple(name for name, kind in FOUND.items() if kind == "EmbeddingModel")
"""Every ``model_type`` of models that embed texts and images, and do not write."""
OLD_SPELLINGS = {
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "hf_olmo": "olmo",
    "MiniMaxText01": "minimax",
    "minimax_m1": "minimax",
    "minimax_text_01": "minimax",
    "mixformer-sequential": "phi",
    "phi-msft": "phi",
    "stablelm_epoch": "stablelm",
}
"""``model_type`` in the first files of some architectures, and today's."""
ALIKE = {
    "gpt-sw3": "gpt2",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl_text": "qwen2_vl_text",
}
"""Architectures that are equal to another, and that other."""


def model_class(model_type: str) -> type[Decoder]:
    """Return the class for a config's ``model_type``, importing its file only now.

    Raises ConfigError for a type that is not implemented here, or does not write.
    """
    if model_type in EMBEDDING_ARCHITECTURES:
        raise ConfigError(
            f"config.json says model_type {shown(model_type)}, which embeds texts and images and does not "
            "write.\ntinystar_np.load gives a model with embed_text, embed_image and similarity."
        )
    name = {**OLD_SPELLINGS, **ALIKE}.get(model_type, model_type)
    if name not in ARCHITECTURES:
        from tinystar_np.models.not_yet import refusal  # late: models that run do not wait for it

        known = {*ARCHITECTURES, *OLD_SPELLINGS, *ALIKE, *OLD_NAMES, *TEXT_PARTS, *EMBEDDING_ARCHITECTURES}
        raise ConfigError(refusal(model_type, sorted(known)))
    return _class_in(name, Decoder)


def vision_class(model_type: str) -> type[VisionPart] | None:
    """Return what reads images in a whole model of this ``model_type``; None for a model of text alone."""
    return _class_in(model_type, VisionPart) if model_type in VISION_ARCHITECTURES else None


def embedding_class(model_type: str) -> type[EmbeddingModel] | None:
    """Return the class of a model that embeds texts and images; None for a ``model_type`` of another kind."""
    return _class_in(model_type, EmbeddingModel) if model_type in EMBEDDING_ARCHITECTURES else None


def _class_in(name: str, kind: type[Kind]) -> type[Kind]:
    """Return the only class of a kind that a file defines."""
    module = import_module(f"tinystar_np.models.{name.replace('-', '_')}")
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, kind) and each.__module__ == module.__name__
    )
    return found
