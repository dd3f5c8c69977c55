"""A GGUF file as a model's files (model_source.py)."""

from functools import cached_property
from pathlib import Path

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.checkpoints.gguf_checkpoint import GgufCheckpoint
from tinystar_np.checkpoints.gguf_config import attention_heads, gguf_config, gguf_names
from tinystar_np.checkpoints.gguf_file import map_gguf
from tinystar_np.checkpoints.gguf_keys import ModelKeys
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.model_source import ModelSource


class GgufModel(ModelSource):
    """A GGUF file, or the files of one that was split."""

    def __init__(self, path: Path) -> None:
        """Map the file; raises CheckpointError where it is damaged."""
        super().__init__(path)
        self.file = map_gguf(path)
        self.metadata = self.file.metadata
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
