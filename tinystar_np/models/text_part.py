"""The text part of models of text and images: its config and its tensors within those of the whole model.

Its config.json is an object within the whole one's, and its tensors are in one file with those of the image
encoder. Without an image the whole model computes what this part does.
"""

import re
from collections.abc import Mapping

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.models.config import require

TEXT_PARTS = {"gemma3": "gemma3_text", "llama4": "llama4_text", "mistral3": "mistral"}
"""``model_type`` of the whole model, and of its text part."""
FIRST_FILES = {"phi": ("n_embd", "phi-msft"), "olmo": ("d_model", "hf_olmo")}
"""Architectures whose first files have today's ``model_type``, but other keys: (one of these, our name)."""
OF_THE_WHOLE = (
    "tie_word_embeddings",
    "eos_token_id",
    "quantization_config",
    "quantization",
    "dtype",
    "torch_dtype",
)
"""Keys of the whole model's config that hold for the text part."""
TEXT = re.compile(r"(model\.)?language_model\.")
PICTURES = re.compile(r"(model\.)?(vision_tower|vision_model|multi_modal_projector)\.")


def text_config(raw: JsonObject) -> JsonObject:
    """Return the config of the text part of a parsed config.json, or the whole for a model of text alone.

    First files of an architecture get the ``model_type`` by which they are told apart here.

    Raises ConfigError where a model of text and images has no text part, or another than it was published
    with.
    """
    whole = raw["model_type"]
    if whole not in TEXT_PARTS:
        key, older = FIRST_FILES.get(whole, ("", ""))
        return {**raw, "model_type": older} if key in raw else raw
    part = raw.get("text_config")
    require(isinstance(part, Mapping), f"text_config = {shown(part)}, but in {whole} it must be an object.")
    assert isinstance(part, Mapping)
    expected = TEXT_PARTS[whole]
    found = part.get("model_type", expected)
    require(found == expected, f"text_config.model_type = {shown(found)}, but {whole} has {expected!r}.")
    beside = {key: raw[key] for key in OF_THE_WHOLE if raw.get(key) is not None}
    return {**part, **beside, "model_type": expected}


def text_tensors(checkpoint: Checkpoint, raw: JsonObject) -> Checkpoint:
    """Return the text part's tensors, by the names that they have where it is saved alone.

    raw  the parsed config.json; where it is that of a model of text alone, the tensors stay as they are
    """
    if raw["model_type"] not in TEXT_PARTS:
        return checkpoint
    return checkpoint.renamed(lambda name: None if PICTURES.match(name) else TEXT.sub("", name, count=1))
