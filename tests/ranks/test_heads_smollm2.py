"""SmolLM2, whose nine heads in three groups two ranks share unevenly: the logits and texts of one process."""

import numpy as np
import pytest
from smollm2 import PROMPTS, smollm2_file
from thread_ranks import divided

from tinystar_np.checkpoints.model_source import open_source
from tinystar_np.generation import generate_ids
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.loading import load, model_config


@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_logits_and_texts(dtype: str) -> None:
    whole, tokenizer = load(smollm2_file(), dtype)
    assert tokenizer is not None
    source = open_source(smollm2_file())
    architecture, config = model_config(source, source.config)
    checkpoint = source.checkpoint(source.config)
    parts = divided(lambda part: architecture.from_checkpoint(config, checkpoint, (), dtype, part), 2)
    bytes_of = [sum(each.nbytes for each in model.weights.values()) for model in (whole, parts)]
    assert bytes_of[1] < 0.7 * bytes_of[0]  # rank 0 has two of three groups
    kinds = [isinstance(each, PackedMatrix) for each in whole.weights.values()]
    assert kinds == [isinstance(each, PackedMatrix) for each in parts.weights.values()]
    for prompt in PROMPTS[:2]:
        ids = tokenizer.encode(prompt)
        expected = whole(ids)
        np.testing.assert_allclose(parts(ids), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    ids = tokenizer.encode(PROMPTS[0])
    texts = [generate_ids(model, ids, max_new_tokens=3, temperature=0.0) for model in (whole, parts)]
    assert texts[0] == texts[1]
