"""Logits → tokens: the sampler, the stop rules, and the loop that generates text."""

from tinystar_np.generation.generate import generate, generate_ids, stream
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.row import Piece
from tinystar_np.generation.sampling import sample

TYPE_CHECKING = False  # as in typing
if TYPE_CHECKING:
    from tinystar_np.generation.conversation import Conversation

__all__ = ["Conversation", "Piece", "SamplingOptions", "generate", "generate_ids", "sample", "stream"]


def __getattr__(name: str) -> "type[Conversation]":
    """Import Conversation at its first use: a text that is only continued does not wait for it."""
    if name != "Conversation":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tinystar_np.generation.conversation import Conversation

    return Conversation
