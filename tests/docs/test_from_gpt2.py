"""What the chapters from GPT-2 to today count: published sizes, and models with random weights."""

from inspect import getsource

import numpy as np
import pytest
from from_gpt2 import PUBLISHED, costs, hollow, small_model, speed, tinystar
from tables import table

from tinystar_np.inspection.memory import weight_sizes
from tinystar_np.models import (
    deepseek_v2,
    gemma3_text,
    gpt2,
    gpt_oss,
    gptj,
    granitemoehybrid,
    llama,
    mistral,
    mixtral,
    qwen3_next,
)

# Billions of parameters, and of those that a token uses, as their makers published them.
SAID = {
    "GPT-2 XL": (1.558, 1.558),
    "GPT-J 6B": (6.05, 6.05),
    "Llama 1 7B": (6.7, 6.7),
    "Llama 1 65B": (65.2, 65.2),
    "Llama 2 70B": (69, 69),
    "Llama 3.1 8B": (8.03, 8.03),
    "Llama 3.2 1B": (1.23, 1.23),
    "Llama 3.2 3B": (3.21, 3.21),
    "Llama 4 Scout": (109, 17),
    "Mistral 7B v0.1": (7.24, 7.24),
    "Mixtral 8x7B": (46.7, 12.9),
    "DeepSeek-V2": (236, 21),
    "DeepSeek-V3": (671, 37),
    "Gemma 2 2B": (2.61, 2.61),
    "Gemma 3 4B": (3.88, 3.88),
    "Granite 4 H-Tiny": (7, 1),
    "Granite 4 H-Small": (32, 9),
    "Qwen3-Next 80B": (80, 3),
    # with the embedding's table, which is left out in what a token uses: 3.61 and 5.13
    "gpt-oss 20B": (20.91, 3.61 + 0.58),
    "gpt-oss 120B": (116.83, 5.13 + 0.58),
}


@pytest.mark.parametrize("name", sorted(SAID))
def test_published_sizes(name: str) -> None:
    sizes = weight_sizes(hollow(name))
    parameters, active = SAID[name]
    assert sizes.parameters / 1e9 == pytest.approx(parameters, rel=0.012)
    # What is said to be used is rounded to whole billions, and mostly leaves the embedding out.
    assert sizes.active / 1e9 == pytest.approx(active, rel=0.012, abs=0.9 if active < parameters else 0)


def test_every_published_model_is_checked_or_one_of_another_version() -> None:
    assert {*PUBLISHED} - {*SAID} == {"Llama 2 7B", "Llama 3 8B", "Mistral 7B v0.2"}


def test_random_weights_have_a_seed_and_the_gains_of_a_new_model() -> None:
    first, again, other = small_model("llama"), small_model("llama"), small_model("llama", seed=1)
    ids = [3, 1, 4]
    np.testing.assert_array_equal(first(ids), again(ids))
    assert np.abs(first(ids) - other(ids)).max() > 0.1
    assert (first.weights["final_norm.gain"] == 1).all()
    assert first.weights["blocks.0.attention.q.weight"].flags.f_contiguous  # as from a file


def test_a_table_of_numbers_is_flush_right() -> None:
    assert table([("", "n", "word"), ("a", "1", "b"), ("c", "–", "d")]).text.splitlines() == [
        "|  | n | word |",
        "|---|--:|---|",
        "| a | 1 | b |",
        "| c | – | d |",
    ]
    assert "| GPT-2 XL | 1.56 B | all | 614 KB | – | 3.4 | – |" in costs("GPT-2 XL").text.replace(
        "\u00a0", " "
    )


def test_speed_is_a_ratio_to_the_first() -> None:
    rows = speed({"one": tinystar(), "eight": tinystar(num_layers=16)}, 8, new=2, rounds=5).text.splitlines()
    assert "ms a token" in rows[2]
    assert float(rows[3].split("|")[2].split()[0]) < 0.6  # eight times the layers


def test_the_blocks_that_compute_as_gpt2s_does() -> None:
    """docs/from_gpt2/index.md says so of these, and of no other on the path."""
    said = (deepseek_v2, gpt2, gpt_oss, llama, mistral, mixtral)
    changed = (gemma3_text, gptj, granitemoehybrid, qwen3_next)
    first = getsource(gpt2.Block.__call__)
    assert {getsource(file.Block.__call__) for file in said} == {first}
    assert first not in {getsource(file.Block.__call__) for file in changed}
