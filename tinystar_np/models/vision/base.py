"""What all vision encoders share: how they are found in a checkpoint, and how their weights are held."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import ClassVar, Generic, Self

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Step
from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gather import gather
from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.kernels.linear import Matrix
from tinystar_np.layers.basic import Mixer
from tinystar_np.layers.weights import Weights
from tinystar_np.models.config import AnyConfig, Config
from tinystar_np.models.fitted import fitted
from tinystar_np.models.memory import side_by_side
from tinystar_np.tap import scope, tap


class VisionEncoder(Generic[AnyConfig]):
    """A transformer that reads the patches of an image, each of which sees all the others.

    config   a checked config of the encoder's own class
    weights  {our name: array, or packed matrix}, as the weight table names them
    """

    Config: ClassVar[type[Config]]
    WEIGHTS: ClassVar[WeightTable]
    OTHER_FORMS: ClassVar[Sequence[WeightTable]] = ()
    PREFIX: ClassVar[str] = ""
    OTHER_NAMES: ClassVar[Mapping[str, str]] = {}
    IGNORED: ClassVar[str] = ""
    """What checkpoints may have otherwise, and besides: see ``HasWeights`` (models/fitted.py)."""

    blocks: Sequence[Mixer]

    def __init__(self, config: AnyConfig, weights: Mapping[str, Matrix]):
        self.config = config
        self.weights = weights
        self.parameters = sum(prod(array.shape) for array in weights.values())
        self.build(Weights(weights), config)

    def build(self, w: Weights, c: AnyConfig) -> None:
        """Build ``blocks`` and what stands before and after them."""
        raise NotImplementedError

    def embed(self, tiles: NDArray[np.float32]) -> NDArray:
        """Turn images (n, C, h, w) of one size into the first vectors of the residual stream (n, …, D).

        ``residuals`` taps them as "embedding".
        """
        raise NotImplementedError

    def step(self, x: NDArray) -> Step:
        """Say where patches stand: one after the other, in every image alike.

        x  (n, …, D) what ``embed`` returned
        """
        return Step(np.zeros(len(x), dtype=np.int64), prod(x.shape[1:-1]))

    @classmethod
    def from_checkpoint(cls, config: AnyConfig, checkpoint: Checkpoint, dtype: str = "auto") -> Self:
        """Build the encoder that a config describes, with a checkpoint's weights.

        checkpoint  the encoder's tensors, and no others
        dtype       the element type to keep matrices in, see ``load``

        Raises CheckpointError where the weights do not fit the config.
        """
        config, table = fitted(cls, config, checkpoint)
        return cls(config, side_by_side(gather(checkpoint, table, dtype)))

    def through_blocks(self, x: NDArray) -> NDArray:
        """Run all blocks on vectors that stand one after the other: (n, N, D) → (n, N, D)."""
        return self.residuals(x, [-1], self.step(x))[0]

    def hidden_states(self, tiles: NDArray[np.float32], numbers: Sequence[int]) -> list[NDArray]:
        """Encode images (n, C, h, w): the residual stream at some places, each (n, N, D).

        numbers  of the places: 0 is before the first block, i after so many of them, −1 after the last
        """
        x = self.embed(tiles)
        return self.residuals(x.reshape(len(x), -1, x.shape[-1]), numbers, self.step(x))

    def residuals(self, x: NDArray, numbers: Sequence[int], step: Step) -> list[NDArray]:
        """Run the blocks as far as needed: the residual stream at some places, each (n, N, D).

        x        (n, N, D) the vectors before the first block
        numbers  as in ``hidden_states``
        step     where the vectors stand
        """
        wanted = [number % (len(self.blocks) + 1) for number in numbers]
        x = tap("embedding", x)
        found = {0: x}
        for i in range(max(wanted)):
            with scope(f"blocks.{i}"):
                x = self.blocks[i](x, step, None)
            if i + 1 in wanted:
                found[i + 1] = x
        return [found[number] for number in wanted]
