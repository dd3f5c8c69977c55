"""The text part of models of text and images: its config and its tensors within those of the whole model.

Its config.json is an object within the whole one's, and its tensors are in one file with those of the image
encoder. Without an image the whole model computes what this part does.
"""

import re
from collections.abc import Mapping

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.json_file import JsonObject, shown
from tinystar_np.models.config import require
from tinystar_np.models.old_names import as_today

TEXT_PARTS = {
    "fuyu": ("persimmon",),
    "gemma3": ("gemma3_text",),
    "gemma3n": ("gemma3n_text",),
    "gemma4": ("gemma4_text",),
    "idefics3": ("llama",),
    "kimi_k25": ("deepseek_v3", "kimi_k2"),
    "llama4": ("llama4_text",),
    "llava": ("llama", "mistral", "qwen2", "mixtral", "qwen3", "phi3", "gemma", "granite"),
    "llava_next": ("llama", "mistral", "qwen2", "mixtral", "qwen3", "phi3", "granite"),
    "mistral3": ("mistral", "ministral3", "mistral4"),
    "paligemma": ("gemma", "gemma2"),
    "qwen2_5_vl": ("qwen2_5_vl_text",),
    "qwen2_vl": ("qwen2_vl_text",),
    "qwen3_5": ("qwen3_5_text",),
    "qwen3_5_moe": ("qwen3_5_moe_text",),
    "qwen3_vl": ("qwen3_vl_text",),
    "qwen3_vl_moe": ("qwen3_vl_moe_text",),
    "smolvlm": ("llama",),
    "vipllava": ("llama", "mistral"),
}
"""``model_type`` of the whole model, and of the text parts that it may have; the first is the usual one."""
FIRST_FILES = {"phi": ("n_embd", "phi-msft"), "olmo": ("d_model", "hf_olmo")}
"""Architectures whose first files have today's ``model_type``, but other keys: (one of these, our name)."""
FLAT = ("fuyu", "qwen2_5_vl", "qwen2_vl")
"""Those whose first files have the text part's keys beside ``vision_config``, and no ``text_config``."""
NOT_OF_TEXT = ("model_type", "vision_config", "text_config")
OF_THE_WHOLE = (
    "tie_word_embeddings",
    "eos_token_id",
    "quantization_config",
    "quantization",
    "dtype",
    "torch_dtype",
)
"""Keys of the whole model's config that hold for the text part."""
TIED_BY_EITHER = ("llava", "qwen2_5_vl", "qwen2_vl")
"""Models that are tied where the text part says so, although the whole says false, transformers' default."""
# The output layer is a matrix and no more, whatever that of the text part alone does beyond.
PLAIN_HEAD: JsonObject = {"final_logit_softcapping": None, "logits_scaling": 1.0}
SETTLED: dict[str, JsonObject] = {
    "gemma3": PLAIN_HEAD,
    "llava": PLAIN_HEAD,
    "llava_next": PLAIN_HEAD,
    # Which tokens see later ones says the prompt; transformers masks them alike whatever stands here.
    "paligemma": {"use_bidirectional_attention": None},
    "vipllava": PLAIN_HEAD,
}
"""Keys of the text part that do nothing in a whole model, and the values under which they do nothing."""
TEXT = re.compile(r"(model\.)?(language_model|text_model)\.")
ENCODER = re.compile(r"(model\.)?(vision_tower|vision_model|visual)\.")
PROJECTOR = re.compile(
    r"(model\.)?(?=(multi_modal_projector|mm_projector|connector|image_newline|vision_embed_tokens)\b)"
)
SENSES = dict.fromkeys(
    ("gemma3n", "gemma4"), re.compile(r"(model\.)?(audio_tower|embed_audio|embed_vision)\.")
)
"""What else stands beside the text part of some models: ears, and what turns images and sound into tokens."""
NOTHING = re.compile(r"(?!)")


def text_config(raw: JsonObject) -> JsonObject:
    """Return the config of the text part of a parsed config.json, or the whole for a model of text alone.

    First files of an architecture get the ``model_type`` by which they are told apart here, those with code
    of their own the one and the keys that they would have today (models/old_names.py).

    Raises ConfigError where a model of text and images has no text part, or another than it was published
    with.
    """
    whole = raw["model_type"]
    if whole not in TEXT_PARTS:
        key, older = FIRST_FILES.get(whole, ("", ""))
        return {**raw, "model_type": older} if key in raw else as_today(raw)
    part = raw.get("text_config")
    if part is None and whole in FLAT:
        part = {key: value for key, value in raw.items() if key not in NOT_OF_TEXT}
    require(isinstance(part, Mapping), f"text_config = {shown(part)}, but in {whole} it must be an object.")
    assert isinstance(part, Mapping)
    expected = TEXT_PARTS[whole]
    found = part.get("model_type", expected[0])
    names = " or ".join(map(repr, expected))
    require(found in expected, f"text_config.model_type = {shown(found)}, but {whole} has {names}.")
    beside = {key: raw[key] for key in OF_THE_WHOLE if raw.get(key) is not None}
    if whole in TIED_BY_EITHER and not beside.get("tie_word_embeddings", True):
        del beside["tie_word_embeddings"]
    return {**part, **beside, **SETTLED.get(whole, {}), "model_type": found}


def text_tensors(checkpoint: Checkpoint, raw: JsonObject) -> Checkpoint:
    """Return the text part's tensors, by the names that they have where it is saved alone.

    raw  the parsed config.json; where it is that of a model of text alone, the tensors stay as they are
    """
    if raw["model_type"] not in TEXT_PARTS:
        return checkpoint

    senses = SENSES.get(raw["model_type"], NOTHING)

    def named(name: str) -> str | None:
        if senses.match(name):
            return None
        return None if ENCODER.match(name) or PROJECTOR.match(name) else TEXT.sub("", name, count=1)

    return checkpoint.renamed(named)


def has_vision(checkpoint: Checkpoint) -> bool:
    """Say whether a checkpoint has a vision encoder's tensors; one of the text part alone has none."""
    return any(ENCODER.match(name) for name in checkpoint)


def vision_tensors(checkpoint: Checkpoint) -> Checkpoint:
    """Return the vision encoder's tensors, without what stands before their names in the whole model."""
    return checkpoint.renamed(lambda name: _after(ENCODER, name))


def without_vision(checkpoint: Checkpoint) -> Checkpoint:
    """Return all tensors but the vision encoder's, with their names."""
    return checkpoint.renamed(lambda name: None if ENCODER.match(name) else name)


def projector_tensors(checkpoint: Checkpoint) -> Checkpoint:
    """Return the tensors of what stands between encoder and decoder."""
    return checkpoint.renamed(lambda name: _after(PROJECTOR, name))


def _after(beginning: re.Pattern[str], name: str) -> str | None:
    found = beginning.match(name)
    return name[found.end() :] if found else None
