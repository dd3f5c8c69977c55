"""tinystar_np: Hugging Face language models in pure NumPy, to be read, used and believed.

import tinystar_np as ts

model, tokenizer = ts.load("stories")
print(ts.generate(model, tokenizer, "Once upon a time", max_new_tokens=50, temperature=0.0))

print(ts.TinyStar(ts.TinyStarConfig(attention="mla", positions="alibi")))  # a decoder of chosen parts
"""

import os

# Before NumPy is imported: see fast/threads.py.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")

TYPE_CHECKING = False  # as in typing, which is not imported here: see cli/main.py
if TYPE_CHECKING:
    from typing import Any

    from tinystar_np.errors import TinyStarError
    from tinystar_np.following import follow
    from tinystar_np.generation import Conversation, Piece
    from tinystar_np.generation.generate import generate, generate_ids, stream
    from tinystar_np.loading import load
    from tinystar_np.models.tinystar import TinyStar
    from tinystar_np.models.tinystar_config import TinyStarConfig
    from tinystar_np.ranks.mpi import MpiRanks
    from tinystar_np.seeing import record
    from tinystar_np.seeing.attribution import attribute
    from tinystar_np.seeing.comparison.models import diff
    from tinystar_np.seeing.interventions import ablate, intervene, patch, steer
    from tinystar_np.seeing.lens import logit_lens, read_lens
    from tinystar_np.seeing.look import look
    from tinystar_np.seeing.patching import patching
    from tinystar_np.seeing.without import without
    from tinystar_np.serving.engine import Engine

__version__ = "0.1.0"
__all__ = [
    "Conversation",
    "Engine",
    "MpiRanks",
    "Piece",
    "TinyStar",
    "TinyStarConfig",
    "TinyStarError",
    "ablate",
    "attribute",
    "diff",
    "follow",
    "generate",
    "generate_ids",
    "intervene",
    "load",
    "logit_lens",
    "look",
    "patch",
    "patching",
    "read_lens",
    "record",
    "steer",
    "stream",
    "without",
]


FOUND_IN = {
    "Conversation": "generation",
    "Engine": "serving.engine",
    "MpiRanks": "ranks.mpi",
    "Piece": "generation",
    "TinyStar": "models.tinystar",
    "TinyStarConfig": "models.tinystar_config",
    "TinyStarError": "errors",
    "ablate": "seeing.interventions",
    "attribute": "seeing.attribution",
    "diff": "seeing.comparison.models",
    "follow": "following",
    "generate": "generation",
    "generate_ids": "generation",
    "intervene": "seeing.interventions",
    "load": "loading",
    "logit_lens": "seeing.lens",
    "look": "seeing.look",
    "patch": "seeing.interventions",
    "patching": "seeing.patching",
    "read_lens": "seeing.lens",
    "record": "seeing",
    "steer": "seeing.interventions",
    "stream": "generation",
    "without": "seeing.without",
}


def __getattr__(name: str) -> "Any":
    """Import each name at its first use.

    So nothing waits for modules that it does not use, and the command line handles Ctrl-C before it imports
    NumPy.
    """
    if name not in FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{FOUND_IN[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
