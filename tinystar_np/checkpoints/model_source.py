"""A model's files as one thing, whatever they are: a directory as on the hub, or a GGUF file.

config      what config.json says
end_ids     the tokens that end a text
checkpoint  the tensors, by transformers' names
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tinystar_np.checkpoints.checkpoint import Checkpoint, open_checkpoint
from tinystar_np.checkpoints.config_file import read_config
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.model_files import GGUF


class ModelSource(ABC):
    """A model's files.

    path      the directory or the file
    metadata  of a GGUF file; None of a directory
    """

    metadata: Mapping[str, object] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def config(self) -> JsonObject:
        """What config.json says; raises CheckpointError or ConfigError where that cannot be known."""

    @abstractmethod
    def checkpoint(self, config: JsonObject) -> Checkpoint:
        """Open the weights; raises CheckpointError where they are missing or damaged.

        config  of the text part, where the model has more than one
        """

    @abstractmethod
    def tensors(self) -> Checkpoint:
        """Open the weights as ``checkpoint`` does, but packed ones in the parts that the files have."""


class Directory(ModelSource):
    """A directory with config.json and safetensors files."""

    @cached_property
    def config(self) -> JsonObject:
        """The content of config.json."""
        return read_config(self.path)

    def checkpoint(self, config: JsonObject) -> Checkpoint:
        """Open the safetensors files, and put packed tensors together."""
        if all(config.get(key) is None for key in ("quantization_config", "quantization")):
            return self.tensors()
        from tinystar_np.checkpoints.packed_formats import with_packed  # late: most models need none of it

        return with_packed(self.tensors(), config)

    def tensors(self) -> Checkpoint:
        """Open the safetensors files."""
        return open_checkpoint(self.path)


def open_source(path: Path) -> ModelSource:
    """Open a model's files: a directory, or a file that ends in ".gguf"."""
    if path.suffix != GGUF:
        return Directory(path)
    from tinystar_np.checkpoints.gguf_source import GgufModel  # late: other models need none of it

    return GgufModel(path)
