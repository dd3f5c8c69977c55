"""What a token reads and computes: each matrix once, in every element type and wherever its weights lie."""

from math import prod
from pathlib import Path

import pytest
from parity import random_ids, reference_model, save
from parity_cases import ROWS
from small_models import ATTENTION

from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD, Row, expand
from tinystar_np.fast.layout import laid_together
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.speed import bytes_per_token
from tinystar_np.loading import load
from tinystar_np.models import Decoder

SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}


def expected(model: Decoder, dtype: str) -> float:
    """Count by the weight table alone; in 8 bits each output, or each token of a table, has a scale."""
    rows = expand(model.WEIGHTS, model.config)
    sizes = model.config.sizes
    keys = ((name, held.chosen_of) for name, held in model.config.keys().items() if held.chosen_of in sizes)
    share = next((getattr(model.config, name) / sizes[letter] for name, letter in keys), 1)
    return sum(
        _bytes_of(row, dtype) * (share if ".experts." in name else 1)
        for name, row in rows.items()
        if len(row.shape) == 2 and (not row.is_table or (name == EMBEDDING and HEAD not in rows))
    )


def _bytes_of(row: Row, dtype: str) -> int:
    if dtype == "float32" or not row.is_matrix:
        return 4 * prod(row.shape)
    scales = (row.shape[0] if row.is_table else row.shape[1]) if dtype == "int8" else 0
    return SIZES[dtype] * prod(row.shape) + 4 * scales


@pytest.mark.parametrize("model_type", sorted(ROWS))
def test_alike_in_all_element_types(model_type: str, tmp_path: Path) -> None:
    case = ROWS[model_type]
    directory = save(reference_model(model_type, **case.config("plain")), tmp_path)
    found = set()
    for dtype in SIZES:
        model, _ = load(directory, dtype)
        found.add(flops_per_token(model, 100))
        assert bytes_per_token(model) == pytest.approx(expected(model, dtype), rel=1e-12)
    assert len(found) == 1


def test_matrices_side_by_side_count_once(tmp_path: Path) -> None:
    """Small q, k, v, and gate and up, are copied together where one product is faster: fast/layout.py."""
    wide = {**ATTENTION, "hidden_size": 600, "num_attention_heads": 6, "num_key_value_heads": 2}
    directory = save(reference_model("llama", **wide), tmp_path)
    q, kv, out, each_of_three, V = 600 * 600, 2 * 600 * 200, 600 * 600, 600 * 80, 211
    numbers = 2 * (q + kv + out + 3 * each_of_three) + 600 * V
    for in_memory in (False, True):
        model, _ = load(directory, "float32", in_memory=in_memory)
        model(random_ids(3))  # what is laid out at the first product counts no more than before
        attention = model.blocks[0].attention
        assert laid_together([layer.weight for layer in (attention.q, attention.k, attention.v)]) is not None
        assert bytes_per_token(model) == 4 * numbers
        assert flops_per_token(model, 0) == 2 * numbers
