"""Loading a model by its name: find the files, read the config, map the weights."""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.config_file import CONFIG_FILE, read_end_ids
from tinystar_np.checkpoints.files_inside import are_links_followed, links_followed
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.model_source import ModelSource, open_source
from tinystar_np.errors import ConfigError, InputError, TokenizerError
from tinystar_np.fast.machine import give_back_memory as give_back
from tinystar_np.fast.threads import use_threads
from tinystar_np.models import Decoder, EmbeddingModel, embedding_class, model_class, vision_class
from tinystar_np.models.config import Config
from tinystar_np.models.text_part import TEXT_PARTS, has_vision, text_config, text_tensors
from tinystar_np.models.vision_part import VisionPart

if TYPE_CHECKING:
    from tinystar_np.ranks.mpi import MpiRanks
    from tinystar_np.text import Tokenizer
    from tinystar_np.text.gguf_metadata import GgufVocabulary

DTYPES = ("auto", "float32", "bfloat16", "int8")
OF_GGUF = (
    "A GGUF file holds the text part of a model. The encoder of images, in a file of its own (mmproj), "
    "is not read here: use the model's safetensors."
)
OF_TEXT_ALONE = "Its files hold the text part, without the encoder of images: use those of the whole model."
OF_WHOLE = "Of these models the text part is implemented here, and the encoder of images is not."
"""Why a model reads text alone though others of its kind see, or its own files could."""


def load(
    name: str | Path,
    dtype: str = "auto",
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    in_memory: bool = False,
    isolated: bool = False,
    follow_links: bool = False,
    ranks: "MpiRanks | None" = None,
    parallel: str = "auto",
) -> "tuple[Decoder | Any, Tokenizer | None]":
    """Load a model and its tokenizer.

    name       a directory with config.json and *.safetensors, a GGUF file, the name of a shipped model
               ("stories", "letters") or of one in an installed package ("smollm2"), or a hub id such as
               "openai-community/gpt2", which is downloaded unless it is already on this disk
               ("owner/model:Q4_K_M" of a repository of GGUF files)
    dtype      the type of the weight matrices in memory: "float32"; "bfloat16", half the memory; "int8", a
               quarter; "auto", the file's own type, packed ones of 4 and 8 bits included, where float16 and
               float64 become float32. Rounding is done at each call; ``convert`` (conversion.py) writes
               rounded files. Vectors and activations are float32 in any case.
    revision   a branch, tag or commit of the hub's repository
    offline    never touch the network
    cache_dir  where downloads are, instead of the hub's shared cache
    in_memory  copy float32 matrices out of the file, which takes a while: generating and prompts are faster
               then, see models/memory.py
    isolated   run the tokenizer in a process of its own with limits of time and memory, for files that you do
               not trust
    follow_links
               follow links in the model's directory that lead out of it, such as yours to weights on another
               disk; those in a stranger's directory could lead to any file of yours
    ranks      the processes that share the model, where there are several: rank 0 loads it, and with it each
               of the others its part (``ts.follow``)
    parallel   how they share it: "layers", each has some of them, or "heads", each has a share of every
               layer; "auto" chooses one of these. "prompts": each has the whole model, and of several
               texts ("generate" with a list, "scores_of_texts") each takes some

    Returns (model, tokenizer); the tokenizer is None where the directory has no tokenizer files and the model
    does not read bytes. Of a model that sees, it takes images too (vision/processor.py). Of CLIP and SigLIP
    the model is an ``EmbeddingModel`` (models/embedding_model.py), and no ``Decoder``.
    Warns where packed files have scales for rounding activations, which is not done here.
    Raises TinyStarError of the kind that fits, with a message that says what to do.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype = {dtype!r}, but it must be one of {', '.join(DTYPES)}.")
    if follow_links:
        others: Any = {"revision": revision, "offline": offline, "cache_dir": cache_dir}
        others |= {"ranks": ranks, "parallel": parallel}
        with links_followed():
            found = load(name, dtype, **others, in_memory=in_memory, isolated=isolated)
            if found[1] is not None:
                with suppress(TokenizerError):  # raised again where it is used
                    found[1].chat_template  # noqa: B018 — read now, while links are followed
        return found
    from tinystar_np.text import load_tokenizer, tokenizer_of_bytes  # late: ranks that follow read no text

    use_threads()
    where: dict[str, Any] = {"revision": revision, "offline": offline, "cache_dir": cache_dir}
    source = open_source(find_model(str(name), **where))
    embedding = embedding_class(source.config["model_type"])
    if embedding is not None and source.metadata is None:
        if ranks is not None and ranks.size > 1:
            raise InputError(
                f"{name} embeds texts and images, and ranks cannot share it: load it in one process."
            )
        return _load_embedding(embedding, source, dtype, in_memory, isolated)
    raw = text_config(source.config)
    architecture, config = model_config(source, raw)  # raises its errors before any weight is read
    sees = vision_config(source, config)
    vocabulary = _vocabulary(source)
    end_ids = read_end_ids(source.path, raw) if vocabulary is None else tuple(vocabulary.end_ids)
    if getattr(config, "tokens", None) == "bytes":
        tokenizer: Tokenizer | None = tokenizer_of_bytes(source.path / CONFIG_FILE)
    elif vocabulary is None:
        tokenizer = load_tokenizer(source.path, isolated)
    else:
        from tinystar_np.text.gguf_tokenizer import gguf_tokenizer  # late: other models need none of it

        tokenizer = gguf_tokenizer(vocabulary, isolated)
    give_back()
    whole = source.checkpoint(raw)
    checkpoint = text_tensors(whole, source.config)
    if checkpoint.unused:
        warnings.warn(
            f"{len(checkpoint.unused)} scales for rounding activations are ignored: activations stay float32 "
            "here, which is more exact.",
            stacklevel=2,
        )
    if ranks is None or ranks.size == 1:
        model = architecture.from_checkpoint(config, checkpoint, end_ids, dtype)
    else:
        from tinystar_np.dividing import Opened, divided_model  # late: one process needs none of it

        with ranks.turn:
            model = divided_model(
                Opened(architecture, config, checkpoint),
                *(end_ids, dtype),
                ranks=ranks,
                parallel=parallel,
                where={"name": str(name), "follow_links": are_links_followed(), **where},
                in_memory=in_memory,
                isolated=isolated,
                beside=0 if sees is None else _nbytes(whole) - _nbytes(checkpoint),
            )
    if sees is not None and has_vision(whole):
        part, its_config = sees
        model.vision = part.from_checkpoint(its_config, whole, dtype)
        if tokenizer is not None:
            from tinystar_np.vision.processor import read_processor  # late: models of text need none of it

            tokenizer = read_processor(tokenizer, source.path, source.config)
    elif source.metadata is not None:
        model.why_text_alone = OF_GGUF
    elif sees is not None:
        model.why_text_alone = OF_TEXT_ALONE
    elif source.config["model_type"] in TEXT_PARTS:
        model.why_text_alone = OF_WHOLE
    if in_memory:
        model.move_into_memory()
    if tokenizer is not None:
        tokenizer.rows = model.vocab_size
    return model, tokenizer


def _nbytes(checkpoint: Checkpoint) -> int:
    return sum(map(checkpoint.nbytes_of, checkpoint))


def _load_embedding(
    kind: type[EmbeddingModel], source: ModelSource, dtype: str, in_memory: bool, isolated: bool
) -> "tuple[EmbeddingModel, Tokenizer | None]":
    """Load a model that embeds texts and images, and its processor; see ``load``."""
    from tinystar_np.text import load_tokenizer  # late, as in ``load``

    config = kind.Config.from_dict(source.config)
    tokenizer = load_tokenizer(source.path, isolated)
    give_back()
    model = kind.from_checkpoint(config, source.checkpoint(source.config), dtype)
    if in_memory:
        model.move_into_memory()
    if tokenizer is None:
        return model, None
    from tinystar_np.vision.embedding_processor import embedding_processor  # late: others need none of it

    tokenizer.rows = model.vocab_size
    return model, embedding_processor(
        tokenizer, source.path, source.config, model.padded_length, model.pad_token_id
    )


def model_config(source: ModelSource, raw: JsonObject) -> tuple[type[Decoder], Config]:
    """Return a model's architecture and its config; raises ConfigError where that is not implemented.

    raw  the config of its text part, as config.json has it
    """
    architecture = model_class(raw["model_type"])
    try:
        return architecture, architecture.Config.from_dict(raw)
    except ConfigError as error:
        if source.metadata is None:
            raise
        raise ConfigError(f"{source.path}: as a {error}") from None  # as a config.json: …


def vision_config(source: ModelSource, text: Config) -> tuple[type[VisionPart], Config] | None:
    """Return what reads a model's images, and its config; None for a model of text alone.

    Raises ConfigError where it asks for what is not implemented.
    """
    part = vision_class(source.config["model_type"])
    if part is None or source.metadata is not None:
        return None
    return part, part.config_of(source.config, text)


def _vocabulary(source: ModelSource) -> "GgufVocabulary | None":
    """Return what a GGUF file says of its tokenizer, to be checked once; None for a directory."""
    if source.metadata is None:
        return None
    from tinystar_np.text.gguf_metadata import GgufVocabulary  # late: other models need none of it

    return GgufVocabulary(source.metadata, source.path)
