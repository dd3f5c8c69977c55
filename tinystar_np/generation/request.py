"""A request: a text that is to be generated, and how far its tokens have been read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tinystar_np.cache import Cache, SeenImage
from tinystar_np.cache.pool import PooledText
from tinystar_np.generation.language_model import Progress
from tinystar_np.generation.row import Row
from tinystar_np.generation.scores import TokenScore


@dataclass(eq=False)
class Request:
    """A text that is to be generated.

    row         its ids, the prompt's first, and the rules for choosing tokens and for ending
    wanted      how many new tokens at most; with 0 only the prompt is read, and scored
    cache       holds what comes before the unread tokens, and is extended by all but the last one, which is
                never read; None for a new cache, and while the text is a row of a batch
    read        how many of the row's ids the cache holds
    images      of the whole text
    progress    see ``Progress``; called where the prompt is read in more than one piece
    score_from  the first of the prompt's tokens to score; None for none
    top         how many of the likeliest tokens to name in place of each scored one
    marks       lengths up to which other texts may share this one, as where a message ends

    scores      of the prompt's tokens from ``score_from`` on, complete once the prompt is read
    cached      how many of the prompt's tokens were in the prefix cache when it first began; None before
    error       what ended it early; None for nothing
    ended       whether nothing more will come
    number      its place in the order of arrival
    text        its blocks, where it is in a pool
    cuts        where pieces of it must end: at marks, and where it parts from earlier texts
    prompt_length  how many of the row's ids are the prompt's; new tokens follow them, and are not scored
    """

    row: Row
    wanted: int
    cache: Cache | None = None
    read: int = 0
    images: Sequence[SeenImage] = ()
    progress: Progress | None = None
    score_from: int | None = None
    top: int = 0
    marks: Sequence[int] = ()
    scores: list[TokenScore] = field(default_factory=list)
    cached: int | None = None
    error: Exception | None = None
    ended: bool = False
    number: int = 0
    text: PooledText | None = None
    cuts: Sequence[int] = ()
    prompt_length: int = field(init=False)

    def __post_init__(self) -> None:
        """Score the first token where that is asked for: nothing comes before it."""
        self.prompt_length = len(self.row.ids)
        if self.score_from == 0:
            self.scores.append(TokenScore(self.row.ids[0], None))

    @property
    def to_read(self) -> int:
        """How many of its ids the model must read before the next token can be chosen."""
        return len(self.row.ids) if self.wanted else len(self.row.ids) - 1

    @property
    def unscored(self) -> int | None:
        """The next of the prompt's tokens to score; None where there is none, or none is left."""
        if self.score_from is None:
            return None
        place = self.score_from + len(self.scores)
        return place if place < self.prompt_length else None

    @property
    def most_cached(self) -> int:
        """How many of its ids may come from the prefix cache: the logits of the others are wanted."""
        last = self.to_read - 1 if self.wanted else self.to_read
        return last if self.unscored is None else min(last, self.unscored - 1)

    def wants_all(self, tokens: int) -> bool:
        """Say whether the logits after each of the next tokens are wanted, and not of the last one alone."""
        return self.unscored is not None and self.read + tokens >= self.unscored
