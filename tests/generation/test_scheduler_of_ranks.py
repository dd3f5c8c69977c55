"""Texts in one pool of a model that several ranks share are what they are in one process."""

from functools import cache

import numpy as np
import pytest
from in_one_pool import NEW, texts, together
from small_models import DENSE, EXPERTS, small_model
from thread_ranks import divided

from tinystar_np.cache.pool import Pool
from tinystar_np.cache.pooled_states import fits_a_pool
from tinystar_np.errors import InputError
from tinystar_np.generation import generate_ids
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.models import Decoder

ALL = [*DENSE, *EXPERTS]
GREEDY = SamplingOptions(max_new_tokens=NEW, temperature=0.0)
STATES = {"mamba 2 and attention", "delta rule"}


@cache
def by_layers(name: str) -> Decoder:
    """Return the small model of that name, a rank for each layer."""
    model = small_model(name)
    layers = [range(i, i + 1) for i in range(len(model.blocks))]
    made: Decoder = divided(
        lambda part: type(model)(model.config, model.weights, model.end_ids, part), len(layers), layers
    )
    return made


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_memory(name: str) -> None:
    """Texts begin alike, come later, and lose their places; each layer is on a rank of its own."""
    model = by_layers(name)
    for blocks, prompt_tokens in ((60, 7), (8, 20)):
        expected, one = together(small_model(name), texts(), GREEDY, blocks, prompt_tokens)
        found, ranks = together(model, texts(), GREEDY, blocks, prompt_tokens)
        assert found == expected
        assert ranks.preempted == one.preempted
        if blocks == 8 and name == "rope, groups":
            assert ranks.preempted
