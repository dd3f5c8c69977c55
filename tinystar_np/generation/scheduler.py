"""The scheduler: which texts the model reads next, until each has ended. The one loop that generates text.

    waiting → being read → being generated → ended

**Continuous batching.** A step is one call of the model. The texts that are being generated form a batch, one
new token of each, so that the weights are read from memory once for all of them; a text joins it when its
prompt is read, and leaves when it has ended. Orca: Yu et al. 2022, "A distributed serving system for
transformer-based generative models".

**Prompts** are read in pieces (chunked prefill), and between two steps of the batch only so many tokens of
them, so that no one waits long for the next token because somebody else sends a long prompt. Texts are read
in the order in which they came. Pieces of the same length are read together.

**Preemption.** Where the memory is full, the youngest text loses its place. It keeps its tokens and its
random numbers, waits before all that came after it, is read again, and goes on as if nothing had happened.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from tinystar_np.cache import PREFILL, Cache, join_caches
from tinystar_np.cache.images import piece_ends
from tinystar_np.generation.language_model import Read
from tinystar_np.generation.lookup import look_up
from tinystar_np.generation.memory import Memory
from tinystar_np.generation.request import Request
from tinystar_np.generation.row import Piece
from tinystar_np.generation.sampling import Logits
from tinystar_np.generation.scores import scored
from tinystar_np.tap import numbered

SCORED = 256
"""The most tokens of a piece whose logits are all wanted: (T, V) numbers."""

NewPieces = list[tuple[Request, list[Piece]]]
"""The requests of a step, each with its new pieces; an empty list where it ended without one."""


@dataclass(frozen=True)
class Call:
    """A call of the model.

    tokens      {a request: how many of its tokens were read}; empty where the model was not called
    of_prompts  whether they are those of prompts, or each is the newest of a text
    """

    tokens: dict[Request, int] = field(default_factory=dict)
    of_prompts: bool = False


class Scheduler:
    """The texts that one model generates at the same time.

    memory         where they are remembered
    most_together  the most texts that are read or generated at once; None for as many as the memory holds
    prompt_tokens  the most tokens of prompts that are read between two steps of the batch; None for all that
                   wait
    guesses        tokens that are guessed and checked at once, while a single text is generated
                   (lookup.py); 0 for none
    """

    def __init__(
        self,
        memory: Memory,
        *,
        most_together: int | None = None,
        prompt_tokens: int | None = None,
        guesses: int = 0,
    ) -> None:
        self._memory = memory
        self._most = memory.rows if most_together is None else min(most_together, memory.rows)
        self._prompt_tokens = prompt_tokens
        self._guesses = guesses
        self.waiting: deque[Request] = deque()
        self.reading: list[Request] = []
        self.running: list[Request] = []
        """Those that are generated: the rows of the batch, and then those that join it at the next step."""
        self._batch: Cache | None = None
        self._in_batch = 0
        self._read_since = 0  # tokens of prompts since the batch's last step
        self._arrived = 0
        self.preempted = 0
        self.call = Call()
        """What the latest step called the model with."""

    @property
    def is_busy(self) -> bool:
        """Whether any text has not ended."""
        return bool(self.waiting or self.reading or self.running)

    def add(self, request: Request) -> None:
        """Let a text wait for its turn."""
        self._arrived += 1
        request.number = self._arrived
        self.waiting.append(request)

    def cancel(self, request: Request) -> None:
        """End a text where it is."""
        if request in self.running:
            self._leave([request])
        elif request in self.reading:
            self.reading.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        request.ended = True
        self._memory.end(request)

    def step(self, read: Read) -> NewPieces:
        """Call the model at most once, and return each request's new pieces.

        read  the model

        Raises what the model raises; the texts of that ``call`` cannot go on then, and are to be
        cancelled. An error in choosing a text's next token ends that text alone: it is in ``request.error``.
        """
        self.call = Call()
        self._begin_texts()
        if self.reading and self._may_read_prompts():
            return self._read_prompts(read)
        return self._read_batch(read) if self.running else []

    def _may_read_prompts(self) -> bool:
        return not self.running or self._prompt_tokens is None or self._read_since < self._prompt_tokens

    def _begin_texts(self) -> None:
        """Let texts that wait begin, as long as there is room.

        One that should begin later keeps its place in the batch: nobody who came after it takes that.
        """
        free = self._most - len(self.reading) - len(self.running)
        for request in list(islice(self.waiting, free)):
            if self._memory.should_wait(request, self.reading):
                continue
            if not self._memory.begin(request):
                return
            self.waiting.remove(request)
            if request.cached is None:
                request.cached = request.read
            self.reading.append(request)

    # Prompts

    def _read_prompts(self, read: Read) -> NewPieces:
        """Read a piece of the first prompt, and of others whose next pieces are as long."""
        together, tokens = self._pieces_alike()
        if not together:
            return []
        if not tokens:  # a single token that is only to be scored: nothing comes before it
            return [self._end_of_prompt(request, None) for request in together]
        first = together[0]
        caches = [request.cache for request in together if request.cache is not None]
        cache = caches[0] if len(caches) == 1 else join_caches(caches)
        ids = np.array([request.row.ids[request.read : request.read + tokens] for request in together])
        whole = first.wants_all(tokens)
        given = {"images": [list(first.images)]} if first.images else {}
        self._report_progress(first)
        # Where rotations go by the length of a text, those of a piece go by the whole; also where
        # its last token is only scored, and not read.
        left = len(first.row.ids) - first.read
        in_pieces = cache.reading(left) if len(together) == 1 and left > tokens else nullcontext()
        self.call = Call(dict.fromkeys(together, tokens), of_prompts=True)
        with numbered([request.row.index for request in together]), in_pieces:
            logits = read(ids, cache=cache, last_only=not whole, **given)  # (B, T or 1, V)
        self._read_since += ids.size
        said: NewPieces = []
        for i, request in enumerate(together):
            if len(together) > 1:
                request.cache = cache.select([i])
            self._record(request, tokens, logits[i] if whole else None)
            if request.read == request.to_read:
                said.append(self._end_of_prompt(request, logits[i, -1]))
        return said

    def _pieces_alike(self) -> tuple[list[Request], int]:
        """Return the texts whose next pieces are read together, and how many tokens each piece has."""
        first, *others = self.reading
        tokens = self._next_piece(first)
        together = [first]
        most = min(self._budget(), SCORED if first.wants_all(tokens) else PREFILL)
        for other in others:
            if (len(together) + 1) * tokens > most or not _can_join(first, other, tokens):
                continue
            if self._next_piece(other) == tokens and self._memory.make_room(other, tokens):
                together.append(other)
        while not self._memory.make_room(first, tokens):
            loser = max([*self.reading, *self.running], key=lambda request: request.number)
            together = [request for request in together if request is not loser]
            self._preempt(loser)
            if loser is first:
                return [], 0
        return together, tokens

    def _budget(self) -> int:
        """Return how many tokens of prompts may be read in the next call."""
        if not self.running or self._prompt_tokens is None:
            return PREFILL
        return max(1, min(PREFILL, self._prompt_tokens - self._read_since))

    def _next_piece(self, request: Request) -> int:
        """Return how many tokens of a prompt to read next; none ends where tokens see later ones."""
        start, end, most = request.read, request.to_read, self._budget()
        if request.wants_all(min(most, end - start)):
            most = min(most, SCORED)
        if start >= end:
            return 0
        if request.images:
            assert request.cache is not None
            before = int(request.cache.lengths[0]) - start  # tokens of the cache that the row does not have
            end = piece_ends(request.images, start + before, end + before, most)[0] - before
        else:
            end = min([end, start + most, *(cut for cut in request.cuts if cut > start)])
        return end - start

    def _record(self, request: Request, tokens: int, logits: Logits | None) -> None:
        """Record that so many more tokens of a prompt are read, and score those that are to be scored.

        logits  (T, V) after each; None where they are not wanted
        """
        start, ids = request.read, request.row.ids
        begin, end = request.unscored, min(start + tokens + 1, request.prompt_length)
        if logits is not None and begin is not None and begin < end:
            its = logits[begin - 1 - start : end - 1 - start]
            request.scores += scored(its, ids[begin:end], request.top)
        request.read += tokens
        self._memory.note(request)
        others_may_go_on = request.read % PREFILL == 0 or request.read in (request.to_read, *request.cuts)
        if others_may_go_on and request.cache is not None:
            self._memory.keep(request, request.cache, 0)

    def _end_of_prompt(self, request: Request, logits: Logits | None) -> tuple[Request, list[Piece]]:
        """Choose the first token of a text whose prompt is read."""
        self._report_progress(request)
        self.reading.remove(request)
        if not request.wanted or logits is None:
            request.ended = True
            self._memory.end(request)
            return request, []
        self.running.append(request)
        pieces = self._chosen(request, [], logits[None])
        if request.ended:
            self._leave([request])
            self._memory.end(request)
        return request, pieces

    def _report_progress(self, request: Request) -> None:
        """Call ``progress`` with how far a prompt is read, where it takes more than one piece."""
        start = request.cached or 0
        if request.progress is not None and request.to_read - start > PREFILL:
            request.progress(request.read - start, request.to_read - start)

    # The batch

    def _read_batch(self, read: Read) -> NewPieces:
        """Read the newest token of each text that is being generated, and choose the next one."""
        self._make_room()
        if not self.running:
            return []
        batch = self._joined()
        guess = self._guess(batch)
        newest = np.array([[request.row.ids[-1], *guess] for request in self.running])  # (B, 1 + G)
        self.call = Call(dict.fromkeys(self.running, 1 + len(guess)))
        with numbered([request.row.index for request in self.running]):
            logits = read(newest, cache=batch, last_only=not guess)  # (B, 1 + G, V)
        self._read_since = 0
        said: NewPieces = []
        for i, request in enumerate(self.running):
            request.read = len(request.row.ids)
            self._memory.note(request)
            pieces = self._chosen(request, guess, logits[i])
            request.read += max(len(pieces) - 1, 0)
            if guess:  # before anyone sees them: whoever stops here must find a correct cache
                batch.truncate(int(batch.lengths[0]) - len(guess) - 1 + max(len(pieces), 1))
            said.append((request, pieces))
        ended = [request for request in self.running if request.ended]
        for request in ended:
            self._memory.keep(request, batch, self.running.index(request))
        self._leave(ended)
        for request in ended:
            self._memory.end(request)
        return said

    def _chosen(self, request: Request, guess: Sequence[int], logits: Logits) -> list[Piece]:
        """Choose the next tokens of a text from logits (1 + G, V)."""
        try:
            pieces = request.row.check(guess, logits)
        except Exception as error:  # whatever it is, the others of the batch go on
            request.error, request.ended = error, True
            return []
        request.ended = pieces[-1].finish_reason is not None
        return pieces

    def _make_room(self) -> None:
        """Make room for a token of each text; where memory is full, the youngest texts lose their places."""
        batch = self._joined()
        if self._memory.reads_again and batch.text is not None:
            outdated = batch.text.outdated(batch.span(1))  # their rotations change with the next token
            for request, again in zip(list(self.running), outdated.tolist(), strict=True):
                if again:
                    self._preempt(request)
        for request in list(self.running):
            while request in self.running and not self._memory.make_room(request, 1 + self._guesses):
                self._preempt(max([*self.reading, *self.running], key=lambda other: other.number))

    def _joined(self) -> Cache:
        """Let texts whose prompts are read join the batch, and return its cache."""
        joining = [request.cache for request in self.running[self._in_batch :] if request.cache is not None]
        if joining:
            caches = [*([] if self._batch is None else [self._batch]), *joining]
            self._batch = caches[0] if len(caches) == 1 else join_caches(caches)
            for request in self.running[self._in_batch :]:
                request.cache = None  # it is in the batch, and need not be held twice
            self._in_batch = len(self.running)
        assert self._batch is not None
        return self._batch

    def _leave(self, requests: Sequence[Request]) -> None:
        """Take texts out of the batch."""
        if not requests:
            return
        stay = [i for i, request in enumerate(self.running) if request not in requests]
        in_batch = [i for i in stay if i < self._in_batch]
        if not in_batch:
            self._batch = None
        elif len(in_batch) < self._in_batch and self._batch is not None:
            self._batch = self._batch.select(in_batch)
        self.running, self._in_batch = [self.running[i] for i in stay], len(in_batch)

    def _preempt(self, request: Request) -> None:
        """Take a text's place from it; it waits before all that came after it."""
        if request in self.running:
            self._leave([request])
        else:
            self.reading.remove(request)
        self._memory.end(request)
        before = sum(1 for other in self.waiting if other.number < request.number)
        self.waiting.insert(before, request)
        self.preempted += 1

    def _guess(self, batch: Cache) -> list[int]:
        """Guess the tokens after the newest one, where a single text is generated; G ids, or none."""
        if not self._guesses or len(self.running) > 1:
            return []
        row = self.running[0].row
        # No guess beyond a length at which rotations change: its tokens would be rotated by other angles.
        return look_up(row.ids, min(self._guesses, row.left - 1, batch.alike(1 + self._guesses) - 1))


def _can_join(first: Request, other: Request, tokens: int) -> bool:
    """Say whether pieces of two prompts can be read in one call."""
    if first.images or other.images or first.cache is None or other.cache is None:
        return False
    return first.wants_all(tokens) == other.wants_all(tokens) and first.cache.text is None


def pieces_of(scheduler: Scheduler, read: Read) -> Iterator[Piece]:
    """Generate until every text has ended; raises the error of one that cannot go on."""
    while scheduler.is_busy:
        for request, pieces in scheduler.step(read):
            yield from pieces
            if request.error is not None:
                raise request.error
