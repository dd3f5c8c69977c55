"""A model as one side of a comparison: its config and weights by our names, even where they do not fit."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.config_file import read_end_ids
from tinystar_np.checkpoints.gather import Faults, gather
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.checkpoints.model_source import ModelSource, open_source
from tinystar_np.checkpoints.weight_table import Row, expand
from tinystar_np.errors import TokenizerError
from tinystar_np.kernels.linear import Matrix, unpacked
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.models import Decoder, model_class
from tinystar_np.models.config import Config
from tinystar_np.models.fitted import fitting
from tinystar_np.models.text_part import text_config, text_tensors
from tinystar_np.seeing.comparison.orders import Heads

NO_FAULTS = Faults((), (), {})
SAMPLED = 32  # numbers that tell a tensor from others


@dataclass(frozen=True)
class Side:
    """One of two models that are compared.

    config   as its class has read it
    end_ids  the tokens that end a text; None where a GGUF file has no vocabulary, or a damaged one
    raw      config.json of the text part; None of a model that was loaded before
    rows     {our name: row of the weight table}, of what is there
    names    {our name: the name of the tensor that it is taken from}
    weights  {our name: array or matrix}
    faults   tensors that are missing, unknown or of another shape
    model    None where there are such faults
    """

    config: Config
    end_ids: tuple[int, ...] | None
    raw: JsonObject | None
    rows: Mapping[str, Row]
    names: Mapping[str, str]
    weights: Mapping[str, Matrix]
    faults: Faults
    model: Decoder | None

    def tensor(self, name: str) -> NDArray:
        """Return an array in the order of the file, but matrices with a row for each output."""
        array = unpacked(self.weights[name])
        return array.T if _is_multiplied(self.rows[name]) else array

    def sample(self, name: str) -> tuple[object, ...]:
        """Return what tells a tensor from most others: its shape and some of its numbers."""
        matrix, shape = self.weights[name], self.weights[name].shape
        if isinstance(matrix, PackedMatrix):
            numbers = matrix.rows(slice(0, 1)).ravel()
        else:
            some = tuple(np.linspace(0, size - 1, SAMPLED, dtype=int) for size in shape)
            numbers = np.atleast_1d(matrix[some])
        return (*shape, isinstance(matrix, PackedMatrix), *numbers[:SAMPLED].tolist())


def _is_multiplied(row: Row) -> bool:
    """Say whether an array is the matrix (in, out) of a linear layer."""
    return row.is_matrix and not row.is_table


def open_side(
    model: Decoder | str | Path,
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | Path | None = None,
) -> Side:
    """Open a model to be compared.

    model  a loaded one, or what ``load`` takes; the other arguments are those of ``load``

    Raises TinyStarError where the files cannot be read, but not where tensors are missing or misshapen.
    """
    if isinstance(model, Decoder):
        rows = expand(model.WEIGHTS, model.config)
        names = {name: type(model).PREFIX + row.theirs for name, row in rows.items()}
        return Side(model.config, tuple(model.end_ids), None, rows, names, model.weights, NO_FAULTS, model)
    source = open_source(find_model(str(model), revision=revision, offline=offline, cache_dir=cache_dir))
    raw = text_config(source.config)
    architecture = model_class(raw["model_type"])
    config = architecture.Config.from_dict(raw)
    checkpoint = text_tensors(source.checkpoint(raw), source.config)
    config, table, faults = fitting(architecture, config, checkpoint)
    weights = gather(checkpoint, table, "auto")
    names = {row.ours: tensor for tensor, its in table.tensors.items() for row in its}
    runs = None if any(faults) else architecture(config, weights)
    return Side(config, _end_ids(source, raw), raw, table.rows, names, weights, faults, runs)


def _end_ids(source: ModelSource, raw: JsonObject) -> tuple[int, ...] | None:
    if source.metadata is None:
        return read_end_ids(source.path, raw)
    from tinystar_np.text.gguf_tokenizer import gguf_end_ids  # late: other models need none of it

    try:
        return tuple(gguf_end_ids(source.metadata, source.path))
    except TokenizerError:
        return None


def heads_of(name: str, rows: int, columns: int, sizes: Mapping[str, int]) -> Sequence[Heads | None]:
    """Say how the rows (outputs) and columns (inputs) of a tensor are divided into heads.

    name   our name of it
    sizes  the config's shape letters
    """
    H, G = sizes.get("H"), sizes.get("G", sizes.get("H"))
    found = re.search(r"attention\.(\w+)\.(?:weight|bias|gain)$", name)
    layer = found[1] if found else ""
    if not H or not G:
        return None, None
    if layer == "qkv" and rows % (H + 2 * G) == 0:
        return Heads(rows // (H + 2 * G), parts=3 if H == G else 1), None
    if layer in ("q_norm", "k_norm"):  # of one head, or of all together
        K = sizes.get("K", rows)
        return (Heads(K) if rows % K == 0 else None), None
    count = {"q": H, "kv_up": H, "k": G, "v": G}.get(layer)
    if count is not None and rows % count == 0:
        return Heads(rows // count), None
    if layer == "out" and name.endswith("weight") and columns % H == 0:
        return None, Heads(columns // H)
    return None, None
