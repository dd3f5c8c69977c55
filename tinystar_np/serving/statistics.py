"""Statistics of an engine: counts of its work, and a record of each call of the model."""

from dataclasses import dataclass, field

from tinystar_np.serving.handle import Handle


@dataclass
class Statistics:
    """What an engine has done, and what it holds now.

    waiting           requests that nothing was read of yet
    reading           requests whose prompts are being read
    generating        requests whose texts are being generated
    finished          {reason: how many requests ended by it}: those of ``Piece``, and "cancelled", "timeout",
                      "error", and "scored" for prompts that were only scored
    prompt_tokens     tokens of prompts, counted when they are read to their end
    cached_tokens     those of them that were in the prefix cache, and not read again
    generated_tokens  new tokens
    steps             calls of the model
    preempted         how often a text lost its place to another, and was read again
    blocks            blocks of the cache
    blocks_in_use     those that hold running texts
    blocks_kept       those that hold earlier texts, for requests that begin alike (the prefix cache)
    """

    waiting: int = 0
    reading: int = 0
    generating: int = 0
    finished: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    preempted: int = 0
    blocks: int = 0
    blocks_in_use: int = 0
    blocks_kept: int = 0


@dataclass(frozen=True)
class Turn:
    """One call of the model, as a timeline draws it (serving/timeline.py).

    begun, ended   in seconds, by ``time.perf_counter``
    read           {a handle of whose prompt a piece was read: how many tokens the piece had}
    generated      the handles that got a token
    blocks         {a handle whose text has begun and has not ended: how many blocks it holds}
    blocks_in_use  how many hold running texts: those that several share count once
    blocks_kept    how many hold earlier texts, for requests that begin alike
    """

    begun: float
    ended: float
    read: dict[Handle, int]
    generated: tuple[Handle, ...]
    blocks: dict[Handle, int]
    blocks_in_use: int
    blocks_kept: int
