"""A model of files, built in several threads that share it."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from thread_ranks import divided

from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.loading import load, model_config
from tinystar_np.models import Decoder
from tinystar_np.ranks import Part


def runs(*ends: int) -> list[range]:
    """Layers up to these ends, one run after the other."""
    return [range(a, b) for a, b in pairwise((0, *ends))]


def loaded(name: str | Path, *ends: int, dtype: str = "auto") -> tuple[Decoder, Decoder, Any]:
    """Load a model whole and in parts that end with these layers; returns both and the tokenizer."""
    whole, tokenizer = load(name, dtype)
    source = open_source(find_model(str(name)))
    architecture, config = model_config(source, source.config)

    def build(part: Part) -> Decoder:
        return architecture.from_checkpoint(
            config, source.checkpoint(source.config), whole.end_ids, dtype, part
        )

    return whole, divided(build, len(ends), runs(*ends)), tokenizer
