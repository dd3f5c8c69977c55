"""A cache of every architecture, saved, loaded and gone on with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity_case import VOCABULARY
from parity_cases import CASES
from random_models import random_model

from tinystar_np.models import Decoder

IDS = np.random.default_rng(1).integers(1, VOCABULARY, (2, 30))
MODELS = [
    pytest.param({"model_type": case.model_type, **case.config("plain")}, id=case.model_type)
    for case in CASES
]


@pytest.mark.parametrize("raw", MODELS)
def test_goes_on_after_it_was_loaded(raw: dict[str, Any], tmp_path: Path) -> None:
    """Whatever its layers remember, and where some of them remember nothing; also before the first token."""
    check(random_model(raw), tmp_path / "cache")


def check(model: Decoder, path: Path) -> None:
    cache = model.new_cache(2)
    for start, end in ((0, 0), (0, 1), (1, 25)):
        if start < end:
            model(IDS[:, start:end], cache=cache)
        cache.save(path)
        loaded = model.load_cache(path)
        assert loaded.lengths.tolist() == [end, end]
        expected = model(IDS[:, end : end + 3], cache=cache.copy())
        assert np.array_equal(model(IDS[:, end : end + 3], cache=loaded), expected)
