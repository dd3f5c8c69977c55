"""What all decoders share: tokens in, blocks in a row, logits out, and a cache between calls."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.configs.config import DecoderConfig
from tinystar_np.errors import CheckpointError, ContextFullError, InputError
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.layers import Block, Embedding, Linear, Weights
from tinystar_np.layers.blocks import Norm
from tinystar_np.layers.rope import rules_by_length
from tinystar_np.state import PREFILL, Cache, HeldText, Span, join_caches, read_states
from tinystar_np.tap import listening, scope, tap, unheard
from tinystar_np.weights.in_memory import move_into_memory
from tinystar_np.weights.side_by_side import side_by_side
from tinystar_np.weights.weight_table import EMBEDDING, HEAD, WeightTable, gather, known_as


class Decoder(ABC):
    """A language model that reads from left to right.

    A subclass is a recipe. It names its config class and its weight table, and says how tokens are embedded,
    what a block is, and what stands between the last block and the logits. How a model is called is here.

    config   a checked config of the subclass's own class
    weights  {our name: float32 array, or matrix of a narrower type}, as the weight table names them
    end_ids  the token ids that end a text
    """

    Config: ClassVar[type[DecoderConfig]]
    PREFIX: ClassVar[str] = ""
    """What some checkpoints put before the names in the weight table and others do not."""
    OTHER_NAMES: ClassVar[Mapping[str, str]] = {}
    """{regular expression for what some checkpoints call a tensor, without prefix: the table's name}"""
    IGNORED: ClassVar[str] = ""
    """Regular expression for tensors in checkpoints that are no weights."""

    tokens: Embedding
    positions: Embedding | None = None
    final_norm: Norm
    head: Callable[[NDArray], NDArray]

    def __init__(
        self, config: Any, weights: Mapping[str, NDArray | PackedMatrix], end_ids: Sequence[int] = ()
    ):
        self.config = config
        self.end_ids = tuple(end_ids)
        self.vocab_size: int = config.sizes["V"]
        self.context_length: int | None = config.context_length
        self.trained_length: int | None = config.trained_length
        self.weights = weights
        self.parameters = sum(prod(array.shape) for array in weights.values())
        w = Weights(weights)
        self.blocks = [self.block(i, w.branch(f"blocks.{i}")) for i in range(config.sizes["L"])]
        self.build_ends(w)

    @classmethod
    def from_checkpoint(
        cls,
        config: Any,
        checkpoint: Checkpoint,
        end_ids: Sequence[int] = (),
        dtype: str = "auto",
    ) -> Self:
        """Build the model that a config describes, with a checkpoint's weights.

        config  of the subclass's own class
        dtype   the element type to keep matrices in, see ``load``

        Raises CheckpointError where the weights do not fit the config.
        """
        tied_head = None
        if getattr(config, "tie_word_embeddings", False):
            untied = replace(config, tie_word_embeddings=False)
            (head, head_axes), (embedding, axes) = map(
                cls.weight_table(untied).__getitem__, (HEAD, EMBEDDING)
            )
            if cls._differ(checkpoint, head, embedding):
                config = untied
            elif head_axes.startswith(axes):  # stored the same way round, so that one can stand for the other
                tied_head = head
        weights = gather(
            checkpoint,
            cls.weight_table(config),
            config.sizes,
            prefix=cls.PREFIX,
            other_names=cls.OTHER_NAMES,
            ignored=cls.IGNORED,
            tied_head=tied_head,
            dtype=dtype,
        )
        return cls(config, side_by_side(weights), end_ids)

    @classmethod
    def _differ(cls, checkpoint: Checkpoint, *names: str) -> bool:
        """Say whether the file has both tables of the vocabulary, and not the same twice, though tied.

        transformers then believes the file and so do we. A few rows tell: what was trained apart differs
        everywhere.
        """
        stored = [name for name in checkpoint if known_as(name, cls.PREFIX, cls.OTHER_NAMES) in names]
        if len(stored) != 2:
            return False
        shapes = [checkpoint.shape(name) for name in stored]
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or 0 in shapes[0]:
            return False  # which of them is wrong is found when they are gathered
        one, other = (checkpoint[name] for name in stored)
        rows = np.linspace(0, len(one) - 1, 16, dtype=int)
        return not np.array_equal(one[rows], other[rows])

    @staticmethod
    @abstractmethod
    def weight_table(config: Any) -> WeightTable:
        """Name every array: {our name: (the checkpoint's name, its shape in letters)}."""

    @abstractmethod
    def block(self, i: int, w: Weights) -> Block:
        """Build block i from its weights."""

    @abstractmethod
    def norm(self, w: Weights) -> Norm:
        """Build a norm."""

    def build_ends(self, w: Weights) -> None:
        """Build what stands around the blocks: ``tokens`` before them, ``final_norm`` and ``head`` behind.

        Learned positions are there where the weight table has some, a bias of the output layer likewise.
        """
        self.tokens = Embedding(w.embedding.tokens)
        self.positions = Embedding(w.embedding.positions) if w.embedding.positions else None
        self.final_norm = self.norm(w.final_norm)
        tied = self.config.tie_word_embeddings
        head = Linear(self.tokens.tied_head() if tied else w.head)
        head.bias = w.head.get("bias")
        self.head = head

    def embed(self, ids: NDArray[np.integer], span: Span) -> NDArray:
        """Turn ids (B, T) at the span's positions into the first vectors of the residual stream (B, T, D)."""
        x = tap("embedding.tokens", self.tokens(ids))
        if self.positions is not None:  # what the token means is added to where it stands
            x = x + tap("embedding.positions", self.positions(span.positions))
        return tap("embedding", x)

    def score(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary: (B, T, D) → (B, T, V)."""
        return self.head(x)

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Cache:
        """Make an empty cache.

        batch_size  B, rows that will be fed together
        capacity    tokens to make room for at once; a cache grows by itself where this is too little
        """
        if batch_size < 1:
            raise InputError(f"batch_size = {batch_size}, but a cache needs at least one row.")
        if self.context_length is not None:
            capacity = min(capacity, self.context_length)
        states = [block.new_state(batch_size, max(capacity, 0)) for block in self.blocks]
        rules = rules_by_length(self.blocks)
        text = HeldText.empty(rules, batch_size) if rules else None
        return Cache(states, np.zeros(batch_size, dtype=np.int64), self.fingerprint, text)

    def load_cache(self, path: str | Path) -> Cache:
        """Read a cache that ``cache.save(path)`` wrote for this very model.

        Raises CheckpointError where the file is missing, damaged, or of another model.
        """
        lengths, layers, texts = read_states(Path(path), self.fingerprint())
        tokens = int(lengths.max())
        try:
            if self.context_length is not None and tokens > self.context_length:
                raise ValueError(f"{tokens} tokens, where the context holds {self.context_length}")
            if len(layers) != len(self.blocks):
                raise ValueError(f"{len(layers)} layers, not {len(self.blocks)}")
            cache = self.new_cache(len(lengths))
            kept = cache.text
            if texts and kept is None:
                raise ValueError(f"its tokens ({', '.join(texts)}), which this model does not keep")
            text = None if kept is None else kept.restored(texts, lengths, self.vocab_size)
            for state, arrays in zip(cache.states, layers, strict=True):
                state.restore(arrays, tokens)
        except (ValueError, MemoryError) as error:
            raise CheckpointError(
                f"{path}: this cache does not fit the model ({one_line(str(error))}). Read the prompt again."
            ) from error
        return Cache(cache.states, lengths, self.fingerprint, text)

    def move_into_memory(self) -> None:
        """Copy float32 matrices out of their file, to where products read them faster (weights/in_memory.py).

        Raises InputError where there is no room.
        """
        move_into_memory([self.blocks, self.head])

    def fingerprint(self) -> str:
        """Tell this model from others by a few numbers of each of its arrays."""
        sums = sha256(repr(self.config).encode())
        for name, array in sorted(self.weights.items()):
            numbers = array if isinstance(array, np.ndarray) else array.stored
            sums.update(f"{name} {numbers.dtype} {numbers.shape}".encode())
            sums.update(numbers[(0,) * (numbers.ndim - 1)][:8].tobytes())
        return sums.hexdigest()

    def __call__(
        self, ids: ArrayLike, cache: Cache | None = None, last_only: bool = False
    ) -> NDArray[np.float32]:
        """Compute the logits of the next token after each given token.

        ids        (T,) or (B, T) ints
        cache      what came before; the new tokens are added to it. Without one, the text begins here.
        last_only  only the logits after the last token, which is all that generation needs

        Where rotations depend on the length of a text (longrope, dynamic NTK) and change with this call, rows
        of the cache are read again: when they cross the trained length, and beyond it under dynamic NTK with
        every call. So the logits are those of the same text without a cache, and cost as much.

        Returns float32 (T, V) or (B, T, V); (1, V) or (B, 1, V) with ``last_only``.
        Raises InputError for ids that are no tokens of this model, and ContextFullError where they do not
        fit; the cache is then as it was.
        """
        given = self._checked(ids)
        rows = np.atleast_2d(given)  # (B, T)
        span = self._span(rows, cache)
        current = None if cache is None else self._up_to_date(cache, span)
        x = self.embed(rows, span)  # (B, T, D)
        for i, block in enumerate(self.blocks):
            # Whoever listens gets whole arrays from every block.
            shorten = last_only and block is self.blocks[-1] and not listening()
            with scope(f"blocks.{i}"):
                x = block(x, span, None if current is None else current.states[i], shorten)
        if last_only:
            x = x[:, -1:]
        logits = tap("logits", self.score(tap("final_norm", self.final_norm(x))))
        if cache is not None and current is not None:
            text = current.text
            current.advance(span.length, None if text is None else text.extended(rows, span))
            cache.become(current)
        return logits if given.ndim == 2 else logits[0]

    def _checked(self, ids: ArrayLike) -> NDArray[np.integer]:
        try:
            given = np.asarray(ids)
        except ValueError:
            raise InputError("ids have rows of different lengths; give those one by one.") from None
        if given.size == 0 or given.ndim not in (1, 2):
            raise InputError(
                f"ids have shape {given.shape}, but must be (T,) or (B, T) with at least one token."
            )
        if given.dtype.kind not in "iu":
            raise InputError(f"ids are of type {given.dtype}, but token ids are integers.")
        outside = given[(given < 0) | (given >= self.vocab_size)]
        if outside.size:
            raise InputError(f"token id {outside[0]} is outside the vocabulary, 0 to {self.vocab_size - 1}.")
        return given

    def _span(self, rows: NDArray[np.integer], cache: Cache | None) -> Span:
        if cache is None:
            span = Span(np.zeros(len(rows), dtype=np.int64), rows.shape[1])
        elif cache.batch_size != len(rows):
            raise InputError(f"ids have {len(rows)} rows, but the cache was made for {cache.batch_size}.")
        else:
            span = cache.span(rows.shape[1])
        if self.context_length is not None and span.end > self.context_length:
            taken = span.end - span.length
            raise ContextFullError(
                f"The model's context is {self.context_length} tokens: "
                f"{taken} are taken and {span.length} more were given."
            )
        return span

    def _up_to_date(self, cache: Cache, span: Span) -> Cache:
        """Return the cache, or in its place one in which rows are read anew that turn otherwise in this call.

        The given one stays as it is, whatever happens meanwhile.
        """
        if cache.text is None:
            return cache
        outdated = cache.text.outdated(span)
        if not outdated.any():
            return cache
        with unheard():
            rows = [
                self._read_again(cache.text.ids[b : b + 1, : span.start[b]], int(span.text_lengths[b]))
                if again
                else cache.select([b])
                for b, again in enumerate(outdated)
            ]
        return rows[0] if len(rows) == 1 else join_caches(rows)

    def _read_again(self, ids: NDArray[np.integer], text_length: int) -> Cache:
        """Read tokens (1, T) into a cache of their own, as the beginning of a text of this length."""
        cache = self.new_cache(1, capacity=text_length)
        with cache.reading(text_length):
            for start in range(0, ids.shape[1], PREFILL):
                self(ids[:, start : start + PREFILL], cache=cache, last_only=True)
        return cache
