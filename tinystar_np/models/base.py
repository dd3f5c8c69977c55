"""What all decoders share: tokens in, blocks in a row, logits out, and a cache between calls.

A model file says what its config, its weights and its blocks are; how a model is called is here. How its
weights are found in a checkpoint is in fitted.py, how a saved cache is loaded in caches.py.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from math import prod
from pathlib import Path
from typing import ClassVar, Generic, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinystar_np.cache import Cache, HeldText, LayerState, SeenImage, Step
from tinystar_np.cache.images import merged
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import gather
from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD, WeightTable
from tinystar_np.errors import ContextFullError, InputError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.basic import Embedding, Mixer, Norm
from tinystar_np.layers.rope import rules_by_length
from tinystar_np.layers.weights import Weights
from tinystar_np.models import caches
from tinystar_np.models.as_text import one_line_of, picture_of
from tinystar_np.models.config import AnyConfig, Config
from tinystar_np.models.cut_groups import read_cut
from tinystar_np.models.divided import in_step, new_states_elsewhere, own_blocks
from tinystar_np.models.fitted import fitted
from tinystar_np.models.memory import move_into_memory, side_by_side
from tinystar_np.models.part_weights import weights_of_part
from tinystar_np.models.vision_part import Image, VisionPart, check_places, images_of_rows, with_images
from tinystar_np.ranks import Divides, Part, Team
from tinystar_np.tap import at, listening, scope, tap, timed

in_silence = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Weights and configs may be of any size: what overflows is infinity or NaN in the result, and not a warning
on the screen. Sampling says so (generation/sampling.py)."""


class Decoder(Generic[AnyConfig]):
    """A language model that reads from left to right.

    config   a checked config of the model's own class
    weights  {our name: float32 array, or packed matrix}, as the weight table names them
    end_ids  the token ids that end a text
    part     which part of the model this process has, where several share it; None for all of it
    """

    Config: ClassVar[type[Config]]
    WEIGHTS: ClassVar[WeightTable]
    OTHER_FORMS: ClassVar[Sequence[WeightTable]] = ()
    PREFIX: ClassVar[str] = ""
    OTHER_NAMES: ClassVar[Mapping[str, str]] = {}
    IGNORED: ClassVar[str] = ""
    """What checkpoints may have otherwise, and besides: see ``HasWeights`` (models/fitted.py)."""
    WHY_NO_SUM: ClassVar[str] = ""
    """Why a logit is no sum of what the parts of a model add to the stream: a sentence for errors."""
    FROM_THE_START: ClassVar[str] = ""
    """Why blocks cannot run from any of them on, given the stream alone: a sentence for errors."""
    DIVIDES: ClassVar[Divides] = Divides()
    """What ranks share of each layer, by the letters of the weight table, with ``--parallel heads``."""

    embedding: Embedding
    blocks: Sequence[Mixer]
    final_norm: Norm
    head: Callable[[NDArray], NDArray]
    vision: VisionPart | None = None
    """What reads images, in models of text and images."""
    copies: Team | None = None
    """The other ranks, where each has the whole model and takes some of the texts (ranks/copies.py)."""
    why_text_alone: str = ""
    """Why a model reads no images that others of its kind read, and what to do: a sentence for errors."""

    @in_silence
    def __init__(
        self,
        config: AnyConfig,
        weights: Mapping[str, Matrix],
        end_ids: Sequence[int] = (),
        part: Part | None = None,
    ):
        self.config = config
        self.weights = weights
        self.end_ids = tuple(end_ids)
        self.vocab_size: int = config.sizes["V"]
        self.context_length, self.trained_length = config.context_length, config.trained_length
        self.parameters = sum(prod(array.shape) for array in weights.values())
        tied = {} if HEAD in weights else {HEAD: weights[EMBEDDING].T}  # the embedding once more
        self.part = part
        self.build(Weights({**tied, **weights}, division=None if part is None else part.division), config)
        self.rules_by_length = rules_by_length(self.blocks)
        self.blocks = own_blocks(self.blocks, part)

    @property
    def first_layer(self) -> int:
        """The first of the layers that this process has: 0, but on the later ranks of a divided model."""
        return 0 if self.part is None or self.part.layers is None else self.part.own_layers.start

    def build(self, w: Weights, c: AnyConfig) -> None:
        """Build ``embedding``, ``blocks``, ``final_norm`` and ``head``."""
        raise NotImplementedError

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Turn ids (B, T) into the first vectors of the residual stream (B, T, D)."""
        x = tap("embedding.tokens", self.embedding(ids))
        return tap("embedding", x if step.images is None else with_images(x, step))

    def logits(self, x: NDArray) -> NDArray:
        """Score every token of the vocabulary: (B, T, D) → (B, T, V)."""
        return self.head(x)

    @in_silence
    def __call__(
        self,
        ids: ArrayLike,
        cache: Cache | None = None,
        last_only: bool = False,
        images: Sequence[Image] | Sequence[Sequence[Image]] = (),
    ) -> NDArray[np.float32]:
        """Compute the logits of the next token after each given token.

        ids        (T,) or (B, T) ints
        cache      what came before; the new tokens are added to it. Without one, the text begins here.
        last_only  only the logits after the last token, which is all that generation needs
        images     of the whole text, or of each row, in any order; those that the cache holds may be left out

        Where rotations depend on a text's length (longrope, dynamic NTK) the cache's rows may have to be read
        again: models/caches.py. Calls that end within an image are in models/cut_groups.py.

        Returns float32 (T, V) or (B, T, V); (1, V) or (B, 1, V) with ``last_only``.
        Raises InputError for ids that are no tokens of this model, or images that do not fit them, and
        ContextFullError where they do not fit; the cache is then as it was.
        """
        given = self.checked(ids)
        tokens = np.atleast_2d(given)  # (B, T)
        without = isinstance(images, tuple) and not images
        seen = None if without else images_of_rows(self.vision, images, given)
        step = self._step(tokens, cache, seen)
        if step.images is not None and step.cuts_groups:
            logits = read_cut(self, tokens, cache, step, last_only)
            return logits if given.ndim == 2 else logits[0]
        current = cache if cache is None or cache.text is None else caches.up_to_date(self, cache, step)
        states = None if current is None else current.states
        call = nullcontext() if self.part is None else in_step(self.part, states, tokens, step, last_only)
        with call, at(step.positions):
            with timed("embedding"):
                x = self.embed(tokens, step)  # (B, T, D)
            logits = self.from_block(0, x, step, states, last_only)  # (B, T, V)
        if cache is not None and current is not None:
            cache.commit(current, tokens, step)
        return logits if given.ndim == 2 else logits[0]

    @in_silence
    def from_block(
        self,
        first: int,
        x: NDArray,
        step: Step,
        states: Sequence[LayerState] | None = None,
        last_only: bool = False,
    ) -> NDArray[np.float32]:
        """Run the blocks from number ``first`` on, the last norm and the output layer: → (B, T, V).

        x          (B, T, D), the residual stream before that block
        step       where the tokens stand
        states     of all layers, extended by the tokens; None where nothing came before
        last_only  only the logits after the last token: (B, 1, V)
        """
        for i in range(first, len(self.blocks)):
            if last_only and i + 1 == len(self.blocks) and step.length > 1 and not listening():
                step = step.for_last_token()  # the rest of the last block's work would be thrown away
            with scope(f"blocks.{i}"):
                x = self.blocks[i](x, step, None if states is None else states[i])
        x = x[:, -1:] if last_only else x
        with timed("output"):
            return tap("logits", self.logits(tap("final_norm", self.final_norm(x))))

    def checked(self, ids: ArrayLike) -> NDArray[np.integer]:
        """Return ids as an array of ints, (T,) or (B, T); raises InputError for any others."""
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

    def _step(
        self,
        tokens: NDArray[np.integer],
        cache: Cache | None,
        images: Sequence[tuple[SeenImage, ...]] | None = None,
    ) -> Step:
        """Say where the new tokens (B, T) stand; raises InputError or ContextFullError where they cannot."""
        if cache is None:
            start = np.zeros(len(tokens), dtype=np.int64)
            step = Step(start, tokens.shape[1], images=images and merged(None, images, start))
        elif cache.batch_size != len(tokens):
            raise InputError(f"ids have {len(tokens)} rows, but the cache was made for {cache.batch_size}.")
        else:
            step = cache.span(tokens.shape[1], images)
        if self.context_length is not None and step.end > self.context_length:
            raise ContextFullError(
                f"The model's context is {self.context_length} tokens: "
                f"{step.end - step.length} are taken and {step.length} more were given."
            )
        if self.vision is not None:
            check_places(tokens, step, self.vision.image_token_id)
        return step

    @classmethod
    @in_silence
    def from_checkpoint(
        cls,
        config: AnyConfig,
        checkpoint: Checkpoint,
        end_ids: Sequence[int] = (),
        dtype: str = "auto",
        part: Part | None = None,
    ) -> Self:
        """Build the model that a config describes, with a checkpoint's weights.

        dtype  the element type to keep matrices in, see ``load``
        part   which part of the model to build

        Raises CheckpointError where the weights do not fit the config.
        """
        if part is not None:
            config, weights, parameters = weights_of_part(cls, config, checkpoint, dtype, part)
            model = cls(config, weights, end_ids, part)
            model.parameters = parameters  # of all parts
            return model
        config, table = fitted(cls, config, checkpoint)
        return cls(config, side_by_side(gather(checkpoint, table, dtype)), end_ids)

    def move_into_memory(self) -> None:
        """Copy float32 matrices out of their file, to where products read them faster (models/memory.py).

        Raises InputError where there is no room.
        """
        move_into_memory([self.blocks, self.head, self.vision])

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
        if self.part is not None and self.part.team is not None and self.part.layers is None:
            states.append(new_states_elsewhere(self.part.team, batch_size, max(capacity, 0)))
        rules = self.rules_by_length
        text = HeldText.empty(rules, batch_size) if rules else None
        return Cache(states, np.zeros(batch_size, dtype=np.int64), self.fingerprint, text)

    def load_cache(self, path: str | Path) -> Cache:
        """Read a cache that ``cache.save(path)`` wrote for this very model.

        Raises CheckpointError where the file is missing, damaged, or of another model.
        """
        return caches.load_cache(self, path)

    def fingerprint(self) -> str:
        """Tell this model from others by a few numbers of each of its arrays."""
        own = caches.fingerprint(self.config, self.weights)
        return own if self.part is None else self.part.fingerprint(own)

    def __repr__(self) -> str:
        sizes = self.config.sizes
        line = one_line_of(type(self).__name__, sizes["L"], sizes["D"], self.weights)
        return line if self.vision is None else f"{line[:-1]}, images by {self.vision!r})"

    def _repr_html_(self) -> str:
        """Return the model's parts and their sizes as a picture, for notebooks."""
        parts = {"embedding": self.embedding, "blocks": self.blocks, "final_norm": self.final_norm}
        return picture_of(repr(self), {**parts, "head": self.head}, self.weights)
