"""Numbers of any size in a config: refused with the key named, or computed with, without a word from NumPy.

Every number that an architecture's small model has, and every float key of its config, gets each of some
values at the ends of float32, of float64, and beyond both.
"""

import copy
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from bad_files import CONFIG, good_tensors, write_good, write_tensors
from parity_cases import ROWS

from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.errors import ConfigError
from tinystar_np.loading import load
from tinystar_np.models import Decoder, model_class

ZERO_AND_BELOW = (0.0, 1e-320, 1e-45, 1.2e-38, 1e-30)
LARGE = (1e15, 1e20, 3e38, 3.5e38, 1e308, 10**400)
OTHERS = (-1.0, -1e38, float("nan"), float("inf"), float("-inf"))
IDS = np.random.default_rng(1).integers(1, 200, (2, 24))
LENGTHS = {"rope_theta": 100.0, "original_max_position_embeddings": 16}
YARN = {"factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 0.5}
RULES: dict[str, dict[str, Any]] = {  # every number of every rule
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {**YARN, "attention_factor": 1.2},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "longrope": {"factor": 4.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "attention_factor": 1.2},
}


def numbers_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Say where numbers are: the keys and indices that lead to each; of a list to its first."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers_in(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from numbers_in(value[0], (*path, 0))
    elif isinstance(value, float):
        yield path


def changed(raw: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a config with one of its numbers changed."""
    raw = copy.deepcopy(raw)
    place = raw
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return raw


def built(model_type: str, raw: dict[str, Any]) -> Decoder:
    """Build a model with random weights."""
    cls = model_class(model_type)
    config = cls.Config.from_dict(raw)
    random = np.random.default_rng(0)
    rows = expand(cls.WEIGHTS, config)
    weights = {name: random.standard_normal(row.shape).astype("f4") * 0.2 for name, row in rows.items()}
    numbers = {name: np.zeros(row.shape, "f4") for name, row in rows.items() if row.names_experts}
    return cls(config, {**weights, **numbers})


def try_all(model_type: str, raw: dict[str, Any], paths: set[tuple[Any, ...]]) -> None:
    for path in sorted(paths, key=str):
        for value in (*ZERO_AND_BELOW, *LARGE, *OTHERS):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    model = built(model_type, changed(raw, path, value))
                    cache = model.new_cache(2)
                    model(IDS[:, :20], cache=cache)
                    model(IDS[:, 20:21], cache=cache, last_only=True)
            except ConfigError as error:
                last = next(step for step in reversed(path) if isinstance(step, str))
                assert last in str(error), (path, value)  # noqa: PT017


@pytest.mark.parametrize("model_type", ROWS)
def test_every_number(model_type: str) -> None:
    raw = {**ROWS[model_type].smallest, **ROWS[model_type].more}
    config_class = model_class(model_type).Config
    hints, held = get_type_hints(config_class), config_class.keys()
    # Keys of objects that the file calls otherwise are among the paths.
    keys = {(name,) for name in held if "float" in str(hints[name])}
    try_all(model_type, raw, keys | set(numbers_in(raw)))


@pytest.mark.parametrize("rule", RULES)
def test_every_number_of_a_rule_for_rotations(rule: str) -> None:
    numbers = {"rope_type": rule, **LENGTHS, **RULES[rule]}
    raw = {**ROWS["llama"].smallest, "max_position_embeddings": 16, "rope_parameters": numbers}
    built("llama", raw)
    try_all("llama", raw, set(numbers_in(raw)))


def test_lists_of_numbers() -> None:
    raw = {**ROWS["falcon_h1"].smallest, "ssm_multipliers": [1.0] * 5, "mlp_multipliers": [1.0] * 2}
    built("falcon_h1", raw)
    for key in ("ssm_multipliers", "mlp_multipliers", "time_step_limit"):
        try_all("falcon_h1", {"time_step_limit": [0.0, 1.0], **raw}, {(key, 0), (key, 1)})


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "int8"])
@pytest.mark.parametrize("value", [1e20, 3e38, float("inf"), float("nan")])
def test_weights_of_any_size(value: float, dtype: str, tmp_path: Path) -> None:
    write_good(tmp_path)
    tensors = good_tensors()
    for name, (kind, shape, data) in tensors.items():
        with np.errstate(all="ignore"):
            tensors[name] = (kind, shape, (np.frombuffer(data, "<f4") * np.float32(value)).tobytes())
    write_tensors(tmp_path / "model.safetensors", tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, _ = load(tmp_path, dtype)
        model([1, 2, 3])


def test_nothing_but_an_error_on_the_screen(tmp_path: Path) -> None:
    """In a process of its own, where no test turns warnings into errors."""
    write_good(tmp_path)
    tensors = {
        name: (kind, shape, np.full(shape, 3e38, "<f4").tobytes())
        for name, (kind, shape, _) in good_tensors().items()
    }
    write_tensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    program = "import sys, tinystar_np as t; m = t.load(sys.argv[1])[0]; t.generate_ids(m, [1, 2])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert "Warning" not in done.stderr
    assert "The model's logits are not finite numbers" in done.stderr
