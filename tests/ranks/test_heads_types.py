"""Element types of a model divided by heads: weights that are rounded while they load, and those of files."""

from pathlib import Path

import numpy as np
import pytest
from divided_by_heads import alike
from divided_models import builder_of_parts
from thread_ranks import divided

from tinystar_np.conversion import convert
from tinystar_np.loading import load
from tinystar_np.models import Decoder

PROMPT = "Once upon a time there was a little"


def check(name: str | Path, dtype: str) -> None:
    """Compare a model in one process with the same on two and three ranks: a text, then in pieces."""
    whole, tokenizer = load(name, dtype)
    assert tokenizer is not None
    ids = tokenizer.encode(PROMPT)
    expected = whole(ids)
    for size in (2, 3):
        parts = divided(builder_of_parts(name, dtype), size)
        alike(parts(ids), expected)
        cache = parts.new_cache()
        alike(np.concatenate([parts(piece, cache=cache) for piece in (ids[:3], ids[3:4], ids[4:])]), expected)
        kinds = [{name: type(each) for name, each in model.weights.items()} for model in (whole, parts)]
        assert kinds[0] == kinds[1]
        assert _of_blocks(parts) < 1.15 / size * _of_blocks(whole)  # norms, biases and finer scales


def _of_blocks(model: Decoder) -> int:
    return sum(each.nbytes for name, each in model.weights.items() if name.startswith("blocks."))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_rounded_while_it_loads(dtype: str) -> None:
    check("stories", dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "mxfp4"])
def test_as_the_file_has_it(dtype: str, tmp_path: Path) -> None:
    """Where outputs are columns, as in GPT-2, a rank has three runs of those of queries, keys and values."""
    convert("stories", tmp_path / dtype, dtype)
    check(tmp_path / dtype, "auto")
