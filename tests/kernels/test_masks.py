"""Masks with groups against those that transformers builds for Gemma 3 and PaliGemma, and by hand."""

import numpy as np
import pytest
import torch
from masks import last_queries, with_groups
from transformers import Gemma2Config, Gemma3TextConfig
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.models.gemma3.modeling_gemma3 import (
    create_masks_for_vision_model,
    get_block_sequence_ids_for_mask,
)

from tinystar_np.kernels.attention import attention
from tinystar_np.kernels.masks import Mask, visible

LENGTH = 40
IMAGES = [[], [(0, 9)], [(3, 9), (12 + 1, 20)], [(1, 1), (31, 9)], [(0, 40)]]


def kinds(images: list[tuple[int, int]]) -> torch.Tensor:
    """1 for the tokens of images: (1, T)."""
    found = torch.zeros(1, LENGTH, dtype=torch.long)
    for first, count in images:
        found[0, first : first + count] = 1
    return found


def shown(mask: torch.Tensor) -> np.ndarray:
    """Which keys transformers' eager mask shows: (1, 1, T, S) → (T, S)."""
    return (mask[0, 0] == 0).numpy()


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("window", [1, 5, 16, 100])
def test_as_gemma3_has_them(images: list[tuple[int, int]], window: int) -> None:
    """In a window earlier keys of an image are hidden too, where it is the longer."""
    config = Gemma3TextConfig(
        num_hidden_layers=2, hidden_size=8, sliding_window=window, attn_implementation="eager"
    )
    theirs = create_masks_for_vision_model(
        config=config,
        inputs_embeds=torch.zeros(1, LENGTH, 8),
        attention_mask=torch.ones(1, LENGTH, dtype=torch.long),
        cache=None,
        position_ids=torch.arange(LENGTH)[None],
        block_sequence_ids=get_block_sequence_ids_for_mask(kinds(images)),
    )
    whole = with_groups(last_queries(LENGTH, LENGTH), images)
    np.testing.assert_array_equal(visible(whole), shown(theirs["full_attention"]))
    near = with_groups(last_queries(LENGTH, LENGTH, window), images, groups_in_window=True)
    np.testing.assert_array_equal(visible(near), shown(theirs["sliding_attention"]))


@pytest.mark.parametrize("prefix", [0, 1, 25, 40])
@pytest.mark.parametrize("window", [None, 5, 100])
def test_as_paligemma_has_them(prefix: int, window: int | None) -> None:
    """The prefix sees all of itself; PaliGemma 2's window does not hold in it."""
    group = torch.where(torch.arange(LENGTH) < prefix, 0, -1)[None]
    make = create_causal_mask if window is None else create_sliding_window_causal_mask
    theirs = make(
        config=Gemma2Config(
            num_hidden_layers=2, hidden_size=8, sliding_window=window, attn_implementation="eager"
        ),
        inputs_embeds=torch.zeros(1, LENGTH, 8),
        attention_mask=torch.ones(1, LENGTH, dtype=torch.long),
        cache=None,
        position_ids=torch.arange(LENGTH)[None],
        block_sequence_ids=group,
    )
    found = with_groups(last_queries(LENGTH, LENGTH, window), [(0, prefix)])
    np.testing.assert_array_equal(visible(found), shown(theirs))


def test_one_pair_at_a_time() -> None:
    """The rules as the essay's formula has them, rows at different lengths, hidden keys among the groups."""
    rng = np.random.default_rng(0)
    queries, keys = np.array([[5, 6, 7], [2, 3, 4]]), np.array([[-1, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, -1]])
    own, others = rng.integers(-1, 2, queries.shape), rng.integers(-1, 2, keys.shape)
    for window in (None, 2):
        for chunk in (None, 3):
            for causal in (True, False):
                for strict in (True, False):
                    found = visible(Mask(queries, keys, window, chunk, causal, own, others, strict))
                    for b, i, j in np.ndindex(2, 3, 6):
                        t, s = queries[b, i], keys[b, j]
                        rules = (
                            (not causal or s <= t)
                            and (window is None or abs(t - s) < window)
                            and (chunk is None or s // chunk == t // chunk)
                        )
                        grouped = own[b, i] >= 0 and own[b, i] == others[b, j]
                        if strict and window is not None:
                            grouped = grouped and s > t - window
                        assert found[b, 0, i, j] == (s >= 0 and bool(rules or grouped))


def test_an_images_order_does_not_count() -> None:
    """Where all tokens of an image see each other, exchanging two of them exchanges their results alone."""
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 12, 8))
    mask = with_groups(last_queries(12, 12), [(3, 6)])
    other = np.arange(12)
    other[[4, 7]] = 7, 4
    before = attention(q, k, v, mask, scale=1.0)
    after = attention(q[:, other], k[:, other], v[:, other], mask, scale=1.0)
    np.testing.assert_allclose(after, before[:, other], rtol=1e-12)
    causal = attention(q[:, other], k[:, other], v[:, other], last_queries(12, 12), scale=1.0)
    assert np.abs(causal - attention(q, k, v, last_queries(12, 12), scale=1.0)[:, other]).max() > 0.1
