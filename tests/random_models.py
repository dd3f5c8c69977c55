"""Small models with random weights, made from the table of weight names: without torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tinystar_np.checkpoints.model_source import ModelSource, open_source
from tinystar_np.checkpoints.weight_table import Row, WeightTable, expand
from tinystar_np.kernels.linear import Matrix
from tinystar_np.models import Decoder, model_class
from tinystar_np.models.config import Config


def random_weights(architecture: type[Decoder], config: Config, seed: int = 0) -> dict[str, Matrix]:
    """Make every array of an architecture's table."""
    random = np.random.default_rng(seed)
    return {name: _array(random, row, config) for name, row in expand(architecture.WEIGHTS, config).items()}


def random_model(raw: dict[str, Any], **others: Any) -> Decoder:
    """Make the model of a config.json; other arguments are those of ``Decoder``."""
    architecture = model_class(raw["model_type"])
    config = architecture.Config.from_dict(raw)
    return architecture(config, random_weights(architecture, config), **others)


def save_random_model(raw: dict[str, Any], directory: Path, form: WeightTable | None = None) -> ModelSource:
    """Write config.json and the tensors of an architecture's table.

    form  rows instead of those of the table with the same names: one of ``OTHER_FORMS``
    """
    architecture = model_class(raw["model_type"])
    config, random = architecture.Config.from_dict(raw), np.random.default_rng(0)
    tensors: dict[str, Matrix] = {}
    for row in expand({**architecture.WEIGHTS, **(form or {})}, config).values():
        if row.theirs not in tensors:
            whole = row._replace(expert=None, block=row.stored, part=(), transposed=False)
            tensors[row.theirs] = _array(random, whole, config)
    (directory / "config.json").write_text(json.dumps(raw))
    save_file(tensors, directory / "model.safetensors")
    return open_source(directory)


def _array(random: np.random.Generator, row: Row, config: Config) -> Matrix:
    if row.names_experts:  # different ones for each token
        tokens, chosen = row.shape
        return random.random((tokens, config.sizes["E"])).argsort(axis=1)[:, :chosen]
    noise = np.asarray(random.standard_normal(row.shape, dtype=np.float32))
    if row.ours.endswith(("A_log", "time_step.bias", "dt_bias")):
        return random.random(row.shape, dtype=np.float32) * 4 - 3
    if row.ours.endswith(("gain", "scale")):
        return np.asarray(1 + np.float32(0.3) * noise)
    return np.asarray(np.float32(0.2) * noise)


def deeper(raw: dict[str, Any]) -> dict[str, Any]:
    """Say of a model of two layers that it has four, of the same kinds in the same order."""
    config = model_class(raw["model_type"]).Config
    number = config.letters().get("L")
    spelled = [key for key in (number, *config.keys()[number].aliases) if key in raw] if number else []
    if not spelled:
        return raw
    L = raw[spelled[0]]
    if L > 2:
        return raw
    of_layers = [key for key, each in raw.items() if isinstance(each, list) and len(each) == L]
    lists = {key: 2 * raw[key] for key in (*of_layers, "attention_types") if key in raw}
    lists.pop("mlp_multipliers", None)  # of its parts
    return {**raw, **lists, spelled[0]: 2 * L}
