"""Generating from lists of ids: one prompt with its cache, or many in a pool that they share.

A single prompt is a batch of one; a stream yields the tokens as they come, and ``generate`` joins them. The
loop itself is the scheduler's (scheduler.py).
"""

from collections.abc import Generator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from tinystar_np.cache import PREFILL, Cache, SeenImage
from tinystar_np.cache.images import piece_ends
from tinystar_np.cache.pool import Pool
from tinystar_np.cache.pooled_states import fits_a_pool
from tinystar_np.errors import InputError
from tinystar_np.fast.threads import beside_others
from tinystar_np.generation.language_model import LanguageModel, Progress, Read, room_after
from tinystar_np.generation.memory import Memory, OwnCaches, SharedPool
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.request import Request
from tinystar_np.generation.row import Piece, Row
from tinystar_np.generation.sampling import Logits
from tinystar_np.generation.scheduler import Scheduler, pieces_of
from tinystar_np.models import Decoder
from tinystar_np.ranks import Ranks, Results, dealt
from tinystar_np.text import Tokenizer

TOGETHER = 64
"""The most prompts of a list that are generated at the same time; others follow as these end."""
LIST_MEMORY = 4 << 30
"""The most bytes of a pool for the prompts of a list; where they need more, texts are preempted."""


def run(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokenizer: Tokenizer | None,
    options: SamplingOptions,
    cache: Cache | None = None,
    progress: Progress | None = None,
    images: Sequence[Sequence[SeenImage]] | None = None,
) -> Generator[Piece, None, None]:
    """Generate a continuation of each prompt, up to ``TOGETHER`` at the same time.

    Where ranks have copies of the model, each continues some of the prompts. A row's random numbers are its
    own, so that with a seed the text is the same on any rank.

    prompts    token ids, each at least one
    tokenizer  for the text of the pieces; None for ids alone
    cache      holds the tokens before a single prompt, and is extended; None for none
    progress   see ``Progress``
    images     those of each prompt; None for none

    Returns a generator of pieces, whose ``index`` is that of their prompt.
    """
    rows = [
        Row(index, prompt, tokenizer, options, model.end_ids, room_after(model, prompt, cache))
        for index, prompt in enumerate(prompts)
    ]
    if len(rows) == 1:
        seen = () if images is None else images[0]
        yield from generated(model, rows[0], prompts[0], cache, options, progress, seen)
        return
    if options.max_new_tokens == 0 or not rows:
        return
    if options.prompt_lookup_num_tokens:
        raise InputError("prompt_lookup_num_tokens works on one prompt at a time.")
    seen_in = images or [()] * len(rows)
    team = model.copies if isinstance(model, Decoder) else None
    if team is None:
        yield from together(model, rows, options, seen_in)
        return
    shares = dealt([len(row.ids) + row.left for row in rows], team.ranks.size)
    own = [rows[i] for i in shares[0]]
    message = "continued", [row.ids for row in rows], shares, options, seen_in, tokenizer is not None
    with Results(team, *message) as results:
        for piece in together(model, own, options, [seen_in[i] for i in shares[0]]):
            yield piece
            yield from results.come()
        yield from results.rest()


def continued_by_rank(
    model: Decoder,
    tokenizer: Tokenizer | None,
    ranks: Ranks,
    prompts: Sequence[Sequence[int]],
    shares: Sequence[Sequence[int]],
    options: SamplingOptions,
    images: Sequence[Sequence[SeenImage]],
) -> Generator[Piece, None, None]:
    """Generate a follower's share of what rank 0 runs.

    shares  the indices of each rank's prompts
    others  see ``run``
    """
    own = shares[ranks.rank]
    rows = [Row(i, prompts[i], tokenizer, options, model.end_ids, room_after(model, prompts[i])) for i in own]
    return together(model, rows, options, [images[i] for i in own])


def together(
    model: LanguageModel,
    rows: Sequence[Row],
    options: SamplingOptions,
    images: Sequence[Sequence[SeenImage]],
) -> Generator[Piece, None, None]:
    """Generate several texts in this process, up to ``TOGETHER`` at the same time; see ``run``."""
    if not rows:
        return
    scheduler = Scheduler(_memory_of(model, rows), most_together=TOGETHER)
    for row, its_images in zip(rows, images, strict=True):
        scheduler.add(Request(row, options.max_new_tokens, images=its_images))
    yield from pieces_of(scheduler, reading(model, options))


def generated(
    model: LanguageModel,
    row: Row,
    unread: Sequence[int],
    cache: Cache | None,
    options: SamplingOptions,
    progress: Progress | None = None,
    images: Sequence[SeenImage] = (),
) -> Generator[Piece, None, None]:
    """Read the unread rest of a prompt, then choose and read tokens until the text has ended.

    unread    the ids that the cache does not hold, at least one
    cache     extended by all tokens but the last one, which is never read; None for a new cache
    progress  see ``Progress``
    images    of the text, those that the cache holds or not

    Where the options say so, each pass also checks a guess (lookup.py); wrong tokens are removed from the
    cache. Raises InputError where the cache cannot be truncated.
    """
    if options.max_new_tokens == 0:
        return
    request = Request(
        row,
        options.max_new_tokens,
        cache=cache,
        read=len(row.ids) - len(unread),
        images=images,
        progress=progress,
    )
    memory = OwnCaches(model)
    memory.begin(request)
    most = options.prompt_lookup_num_tokens
    if most and request.cache is not None and not request.cache.rewindable:
        raise InputError(
            "prompt_lookup_num_tokens cannot be used with this model: what it remembers of a wrong guess "
            "cannot be taken back. Leave it out."
        )
    scheduler = Scheduler(memory, guesses=most)
    scheduler.add(request)
    yield from pieces_of(scheduler, reading(model, options))


def _memory_of(model: LanguageModel, rows: Sequence[Row]) -> Memory:
    """Return a pool that has room for all texts, or as much as a list may take."""
    if not fits_a_pool(model.new_cache(1)):
        return OwnCaches(model)
    together = min(len(rows), TOGETHER)
    lengths = [len(row.ids) + row.left for row in rows]
    return SharedPool(Pool.for_texts(model, lengths, together, LIST_MEMORY))


def reading(model: LanguageModel, options: SamplingOptions) -> Read:
    """Return the model with its threads limited to the cores that other processes leave free.

    With a seed the number of threads does not change: another number may sum in another order, and the text
    must be the same every time.
    """
    return model if options.seed is not None else beside_others(model)


def prefill(
    read: Read,
    ids: Sequence[int],
    cache: Cache,
    progress: Progress | None = None,
    images: Sequence[SeenImage] = (),
) -> Logits:
    """Read a prompt, or the rest of one, in pieces; none ends where tokens see later ones.

    ids       (T,) at least one, which follow the tokens in the cache
    progress  see ``Progress``; called where there is more than one piece
    images    of the whole text

    Returns the logits (1, V) after it.
    """
    rows = np.asarray(ids)[None]  # (1, T)
    if images:
        read = partial(read, images=[images])
    if len(ids) <= PREFILL:
        return read(rows, cache=cache, last_only=True)[:, -1]
    tell = progress or (lambda read, of: None)
    held = int(cache.lengths[0])
    ends = [end - held for end in piece_ends(images, held, held + len(ids), PREFILL)]
    with cache.reading(len(ids)):
        for start, end in pairwise([0, *ends]):
            tell(start, len(ids))
            logits = read(rows[:, start:end], cache=cache, last_only=True)  # (1, 1, V)
    tell(len(ids), len(ids))
    return logits[:, -1]
