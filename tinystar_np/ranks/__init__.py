"""Several processes that share one model: what they tell each other, and which of them has what.

A process is a *rank*, with a number from 0; the word is MPI's. Rank 0 leads: it alone reads the prompt,
chooses tokens and writes the text. The others follow: each holds its part of the weights and of what a cache
remembers, waits for what rank 0 sends, and computes its part of it.
"""

from tinystar_np.ranks.copies import Results, dealt
from tinystar_np.ranks.division import Divides, Division, HeadShare, layers_of_ranks, shares
from tinystar_np.ranks.part import Part
from tinystar_np.ranks.ranks import AUTO, DIVIDED, PARALLEL, PROMPTS, Ranks
from tinystar_np.ranks.team import Team

__all__ = [
    "AUTO",
    "DIVIDED",
    "PARALLEL",
    "PROMPTS",
    "Divides",
    "Division",
    "HeadShare",
    "Part",
    "Ranks",
    "Results",
    "Team",
    "dealt",
    "layers_of_ranks",
    "shares",
]
