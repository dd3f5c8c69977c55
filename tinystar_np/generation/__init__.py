"""Logits → tokens: the sampler, the stop rules, and the loop that generates text."""

from tinystar_np.generation.conversation import Conversation
from tinystar_np.generation.generate import generate, generate_ids, stream
from tinystar_np.generation.loop import Piece
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.sampling import sample

__all__ = ["Conversation", "Piece", "SamplingOptions", "generate", "generate_ids", "sample", "stream"]
