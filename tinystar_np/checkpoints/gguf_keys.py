"""The keys of a GGUF file that describe its architecture, read one by one, so that none is overlooked.

A key that nobody asks for may change the mathematics: at the end, those that were not read are refused.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.gguf_file import GgufTensor, Value
from tinystar_np.checkpoints.json_file import download_again, shown
from tinystar_np.errors import CheckpointError, ConfigError

NO_MATTER = ("vocab_size", "context_length", "tensor_data_layout", "pooling_type", "embedding_length_out")
"""Keys that say what tensors say as well, or what is not for generating text."""
MOST_LAYERS = 1000  # the deepest models have 126
SAYS_NOTHING: tuple[object, ...] = (0, 0.0, False, "")
"""Values with which any other key changes nothing."""


class ModelKeys:
    """The keys about the architecture of one file, without its name before them.

    path     the file
    tensors  of the file
    name     the architecture's
    """

    def __init__(self, path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, GgufTensor]) -> None:
        """Find the architecture; raises CheckpointError where the file does not say it."""
        self.path = path
        self.tensors = tensors
        name = metadata.get("general.architecture")
        if not isinstance(name, str):
            raise CheckpointError(
                f'{path}: general.architecture is {shown(name)}, expected a name such as "llama".\n'
                f"{download_again(path)}"
            )
        self.name = name
        self._values = {
            key.removeprefix(f"{name}."): value
            for key, value in metadata.items()
            if key.startswith(f"{name}.")
        }
        self._read = set(NO_MATTER)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def has(self, tensor: str) -> bool:
        """Say whether the file has a tensor of this name, or one in which it is (gguf_fused.py)."""
        return tensor in self.tensors or tensor.replace("attn_q.", "attn_qkv.") in self.tensors

    def value(self, key: str, otherwise: object = None) -> object:
        """Return a value as JSON has it: a list, where it is an array."""
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            return otherwise
        if isinstance(value, np.ndarray):
            return value.tolist()
        return shortest(value) if isinstance(value, float) else value

    def number(self, key: str, otherwise: float | None = None) -> float:
        """Return a number; without ``otherwise`` the key must be there.

        An array with one number for each layer is that number, where all are alike.
        Raises CheckpointError where it is missing, or something else.
        """
        value = self.value(key, otherwise)
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "a number")
        return value

    def whole(self, key: str, otherwise: int | None = None) -> int:
        """Return a whole number of at least 0; raises as ``number`` does."""
        value = self.number(key, otherwise)
        if not isinstance(value, int) or value < 0:
            raise self.error(key, "a whole number")
        return value

    @property
    def layers(self) -> int:
        """How many layers there are; raises CheckpointError for more than any model has."""
        count = self.whole("block_count")
        if count > MOST_LAYERS:
            raise self.error("block_count", f"at most {MOST_LAYERS}")
        return count

    def vector(self, tensor: str) -> NDArray[np.float32] | None:
        """Return the numbers of a tensor of one axis, None where there is none of this name."""
        found = self.tensors.get(tensor)
        if found is None:
            return None
        if len(found.shape) != 1:
            raise CheckpointError(
                f"{self.path}: tensor {shown(tensor)} has shape {found.shape}, not one axis."
            )
        return found.float32()

    def error(self, key: str, expected: str) -> CheckpointError:
        """Return the error for a value that is missing or something else."""
        full = f"{self.name}.{key}"
        value = self._values.get(key)
        value = value.tolist() if isinstance(value, np.ndarray) else value
        said = f"has no {shown(full)}" if value is None else f"{shown(full)} is {shown(value)}"
        return CheckpointError(f"{self.path}: {said}; it must be {expected}.\n{download_again(self.path)}")

    def refuse_unread(self) -> None:
        """Raise ConfigError, naming key and value, where a key was not read and says something."""
        for key, value in self._values.items():
            says_nothing = not isinstance(value, list | np.ndarray) and value in SAYS_NOTHING
            if key not in self._read and not says_nothing:
                full = f"{self.name}.{key}"
                raise ConfigError(
                    f"{self.path}: {shown(full)} = {shown(value)} is not implemented for this architecture."
                )


def shortest(number: float) -> float:
    """Return the shortest decimal number that is the same float32: 1e-5, where a file has 9.99999975e-06."""
    with np.errstate(over="ignore"):
        single = np.float32(number)
    return float(str(single)) if float(single) == number else number
