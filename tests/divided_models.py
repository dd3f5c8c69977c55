"""A model of files, built in several threads that share it."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from thread_ranks import divided

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.loading import load, model_config
from tinystar_np.models import Decoder
from tinystar_np.models.text_part import text_config, text_tensors
from tinystar_np.ranks import Part


def runs(*ends: int) -> list[range]:
    """Layers up to these ends, one run after the other."""
    return [range(a, b) for a, b in pairwise((0, *ends))]


def loaded(name: str | Path, *ends: int, dtype: str = "auto") -> tuple[Decoder, Decoder, Any]:
    """Load a model whole and in parts that end with these layers; returns both and the tokenizer."""
    whole, tokenizer = load(name, dtype)
    build = builder_of_parts(name, dtype, whole.end_ids)
    return whole, divided(build, len(ends), runs(*ends)), tokenizer


def builder_of_parts(
    name: str | Path, dtype: str = "auto", end_ids: Sequence[int] = ()
) -> Callable[[Part], Decoder]:
    """Return what builds a part of a model of files; of one that sees, a part of what reads its text."""
    source = open_source(find_model(str(name)))
    raw = text_config(source.config)
    architecture, config = model_config(source, raw)
    checkpoint = text_tensors(source.checkpoint(raw), source.config)
    return lambda part: architecture.from_checkpoint(config, checkpoint, end_ids, dtype, part)
