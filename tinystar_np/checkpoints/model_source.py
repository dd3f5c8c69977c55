"""A model's files as one thing, whatever they are: a directory as on the hub, or a GGUF file.

config      what config.json says
end_ids     the tokens that end a text
checkpoint  the tensors, by transformers' names
"""

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

from tinystar_np.checkpoints.checkpoint import Checkpoint, open_checkpoint
from tinystar_np.checkpoints.config_file import read_config
from tinystar_np.checkpoints.gguf_checkpoint import GgufCheckpoint
from tinystar_np.checkpoints.gguf_config import attention_heads, gguf_config, gguf_names
from tinystar_np.checkpoints.gguf_file import map_gguf
from tinystar_np.checkpoints.gguf_keys import ModelKeys
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.model_files import GGUF
from tinystar_np.checkpoints.packed_formats import with_packed


class ModelSource(ABC):
    """A model's files.

    path  the directory or the file
    """

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
        return with_packed(self.tensors(), config)

    def tensors(self) -> Checkpoint:
        """Open the safetensors files."""
        return open_checkpoint(self.path)


class GgufModel(ModelSource):
    """A GGUF file, or the files of one that was split."""

    def __init__(self, path: Path) -> None:
        """Map the file; raises CheckpointError where it is damaged."""
        super().__init__(path)
        self.file = map_gguf(path)
        self.keys = ModelKeys(path, self.file.metadata, self.file.tensors)

    @cached_property
    def config(self) -> JsonObject:
        """What config.json would say."""
        return gguf_config(self.keys)

    def checkpoint(self, config: JsonObject) -> Checkpoint:
        """Name the tensors as transformers does."""
        return self.tensors()

    def tensors(self) -> Checkpoint:
        """Name the tensors as transformers does."""
        return GgufCheckpoint(self.file, gguf_names(self.keys), attention_heads(self.keys))


def open_source(path: Path) -> ModelSource:
    """Open a model's files: a directory, or a file that ends in ".gguf"."""
    return GgufModel(path) if path.suffix == GGUF else Directory(path)
