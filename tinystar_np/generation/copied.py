"""What a rank does that has the whole model, as others have: it reads its share of texts when it is told."""

from collections.abc import Iterator, Sequence
from typing import Any

from tinystar_np.generation.loop import continued_by_rank
from tinystar_np.generation.perplexity import scores_of_rank
from tinystar_np.models import Decoder
from tinystar_np.ranks import Ranks
from tinystar_np.text import Tokenizer


class Copied:
    """A follower's copy of a model, and of its tokenizer; see ranks/copies.py.

    model, tokenizer  the whole of them
    ranks             all ranks
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer | None, ranks: Ranks):
        self.model, self.tokenizer, self.ranks = model, tokenizer, ranks

    def do(self, waiting: Sequence[tuple[Any, ...]], message: tuple[Any, ...]) -> None:
        """Do what rank 0 says; nothing waits, as nothing of a copy's is kept between messages."""
        what, *how = message
        if what == "scores":
            self._send(scores_of_rank(self.model, self.ranks, *how))
        elif what == "continued":
            *how, as_text = how
            tokenizer = self.tokenizer if as_text else None
            self._send(continued_by_rank(self.model, tokenizer, self.ranks, *how))

    def _send(self, found: Iterator[Any]) -> None:
        """Send what is found, as it is found, until rank 0 says anything: then it wants no more."""
        for each in found:
            if self.ranks.ready(0):
                break
            self.ranks.send(each, to=0)
        self.ranks.send(None, to=0)
