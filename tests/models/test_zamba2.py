"""Zamba 2: Δ has no lower limit, as in the makers' kernels."""

from pathlib import Path
from typing import Any

import numpy as np
from parity import assert_close, logits_of, random_ids, reference_model, save
from parity_cases import ROWS

from tinystar_np.loading import load

SMALL: dict[str, Any] = ROWS["zamba2"].smallest


def test_time_steps_have_no_lower_limit(tmp_path: Path) -> None:
    """transformers keeps them at ``time_step_min`` or above, which the row sets so low that none is below."""
    reference, limited = (reference_model("zamba2", **{**SMALL, "time_step_min": m}) for m in (1e-30, 0.5))
    ids = random_ids(2, 40)
    expected = logits_of(reference, ids)
    limited.load_state_dict(reference.state_dict())
    assert np.abs(logits_of(limited, ids) - expected).max() > 1e-3 * np.abs(expected).max()
    model, _ = load(save(limited, tmp_path))
    assert_close(model(ids), expected)
