"""How often ranks that share each layer add up T·D numbers: twice in a block, whatever its experts."""

from math import prod
from pathlib import Path
from typing import Any

import pytest
from divided_by_heads import CASES, IDS, config_of, from_random_file
from thread_ranks import divided

from tinystar_np.models import model_class

pytestmark = pytest.mark.usefixtures("one_blas_thread")

BRANCHES = {
    "falcon_mamba": 1,
    "mamba": 1,
    "mamba2": 1,
    "nemotron_h": 1,
    "zamba": 3,  # attention, feed-forward and Mamba, each of which reads what the one before gave
    "zamba2": 3,
}
"""How many sums a block has: 2 where it is not here."""
T = 7  # so that no other sum has as many numbers
MODELS = [
    pytest.param(config_of(case.model_type), id=case.model_type)
    for case in CASES
    if not model_class(case.model_type).DIVIDES.why_not
]


@pytest.mark.parametrize("raw", MODELS)
def test_sums_of_a_block(raw: dict[str, Any], tmp_path: Path) -> None:
    """Routed and shared experts are added up together, and so are mixers side by side."""
    model = divided(from_random_file(raw, tmp_path), 2)
    model(IDS[0, :T])
    large = [shape for shape in model.part.ranks.added if prod(shape) == T * model.config.sizes["D"]]
    of_embedding = 1
    assert len(large) == of_embedding + BRANCHES.get(raw["model_type"], 2) * len(model.blocks)
