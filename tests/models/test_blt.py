"""BLT: where patches end, and a cache with two clocks."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_close, logits_of, random_ids, reference_model, save
from parity_rows.blt import CASE, of
from transformers import PreTrainedModel

import tinystar_np as ts
from tinystar_np.cache import RecurrentState, join_caches
from tinystar_np.cache.cache import Cache
from tinystar_np.cache.pool import Pool
from tinystar_np.errors import ConfigError
from tinystar_np.generation import generate_ids
from tinystar_np.generation.memory import SharedPool
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.generation.request import Request
from tinystar_np.generation.row import Row
from tinystar_np.generation.scheduler import Scheduler
from tinystar_np.models.blt import Blt, BltConfig

ENDS = "blocks.0.patches.ends"


def both(directory: Path, **keys: Any) -> tuple[PreTrainedModel, Blt]:
    reference = reference_model("blt", **{**CASE.smallest, **keys})
    model, _ = ts.load(save(reference, directory), dtype="float32")
    assert isinstance(model, Blt)
    return reference, model


def fixed(cache: Cache) -> RecurrentState:
    """What the first block keeps beside keys and values."""
    state: Any = cache.states[0]
    part = state.states[0].states[0]
    assert isinstance(part, RecurrentState)
    return part


def ends_of(reference: PreTrainedModel, ids: np.ndarray) -> np.ndarray:
    """Which bytes are the last of their patch, by transformers' lengths of the patches of each row."""
    found = np.zeros_like(ids)
    for row, own in enumerate(ids):
        with torch.no_grad():
            _, (lengths,), _ = reference.model.patcher(
                torch.from_numpy(own[None]), patch_size=4, threshold=reference.config.patching_threshold
            )
        last = lengths.cumsum(0).numpy() - 1
        found[row, last[:-1]] = 1  # the last patch is open, or has not begun
    return found


def test_patches_end_where_those_of_transformers_do(tmp_path: Path) -> None:
    reference, model = both(tmp_path)
    ids = random_ids(3, 70)
    with ts.record(ENDS) as recording:
        model(ids)
    ends = recording[ENDS]
    assert 10 < ends.sum(axis=1).min() < ends.sum(axis=1).max() < 60
    assert len({tuple(row) for row in ends.tolist()}) == 3  # each row has its own borders
    np.testing.assert_array_equal(ends, ends_of(reference, ids))


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_any_length(seed: int, tmp_path: Path) -> None:
    """Rows have their own borders, and calls end within patches, at their ends and before any has ended."""
    reference, model = both(tmp_path, patching_threshold=4.93 if seed % 2 else 4.87)
    ids = random_ids(3, 90, seed=seed)
    expected = logits_of(reference, ids)
    cuts = np.random.default_rng(seed).choice(np.arange(1, 90), 25, replace=False)
    cache, found = model.new_cache(batch_size=3), []
    for a, b in pairwise([0, *sorted(cuts.tolist()), 90]):
        found.append(model(ids[:, a:b], cache=cache))
        with ts.record(ENDS) as recording:
            model(ids[:, :b])
        assert fixed(cache)["patches"].tolist() == recording[ENDS].sum(axis=1).tolist()
    assert_close(np.concatenate(found, axis=1), expected)


def test_rows_of_different_lengths(tmp_path: Path) -> None:
    """Global layers then stand at different patches, and take in different numbers of new ones."""
    reference, model = both(tmp_path)
    ids, lengths = random_ids(3, 80), [1, 13, 40]
    caches = []
    for row, length in zip(ids, lengths, strict=True):
        caches.append(model.new_cache())
        model(row[:length], cache=caches[-1])
    cache = join_caches(caches)
    assert len(set(fixed(cache)["patches"].tolist())) == 3
    for n in (1, 7, 1, 20, 1):
        new = np.stack([row[a : a + n] for row, a in zip(ids, lengths, strict=True)])
        found = model(new, cache=cache)
        for row, length, logits in zip(ids, lengths, found, strict=True):
            assert_close(logits, logits_of(reference, row[: length + n])[0, length:])
        lengths = [length + n for length in lengths]


def test_an_open_patch_takes_no_step_of_the_global_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, model = both(tmp_path, patching_threshold=100.0)  # no byte but the first ends a patch
    ids = random_ids(30)
    cache = model.new_cache()
    first = model(ids[:1], cache=cache)
    called: list[int] = []
    for layer in model.blocks[0].bytes_to_latents.layers:  # type: ignore[attr-defined]
        monkeypatch.setattr(layer, "attention", lambda *given: called.append(1))
    rest = [model(ids[t : t + 1], cache=cache) for t in range(1, 30)]
    assert not called
    assert_close(np.concatenate([first, *rest]), logits_of(reference, ids)[0])


def test_bytes_see_no_later_patch(tmp_path: Path) -> None:
    """Where a border is put, or taken away, all before it stays as it was."""
    _, model = both(tmp_path)
    ids = random_ids(40)
    plain = model(ids)
    for position in (5, 20, 38):
        with ts.intervene({ENDS: lambda x: 1 - x}, positions=[position]):
            found = model(ids)
        assert_close(found[:position], plain[:position], 1e-6)
        assert np.abs(found[position:] - plain[position:]).max() > 1e-3


def test_a_batch_is_not_padded(tmp_path: Path) -> None:
    """A row with fewer patches than another is as it is alone."""
    reference, model = both(tmp_path)
    ids = random_ids(4, 60, seed=5)
    found = model(ids)
    for row, logits in zip(ids, found, strict=True):
        assert_close(logits, logits_of(reference, row)[0])


@pytest.mark.parametrize(("blocks", "piece"), [(60, None), (60, 7), (8, 20)])
def test_texts_in_a_pool(blocks: int, piece: int | None, tmp_path: Path) -> None:
    """They begin alike, and share nothing: a block of bytes is none of patches."""
    _, model = both(tmp_path)
    base = random_ids(40).tolist()
    own = ((40, 3), (40, 20), (40, 9), (32, 1), (40, 14), (0, 50))
    prompts = [base, *(base[:same] + random_ids(n, seed=n).tolist() for same, n in own)]
    options = SamplingOptions(max_new_tokens=12, temperature=0.0)
    pool = Pool(model, blocks, 12, 8)
    scheduler = Scheduler(SharedPool(pool), prompt_tokens=piece)
    found: list[list[int]] = []
    for together in (prompts[:1], prompts[1:], prompts):  # later ones would find what the first has left
        for prompt in together:
            found.append([])
            row = Row(len(found) - 1, prompt, None, options, model.end_ids, None)
            scheduler.add(Request(row, options.max_new_tokens))
        while scheduler.is_busy:
            for request, pieces in scheduler.step(model):
                assert request.error is None
                found[request.row.index] += [each.token_id for each in pieces]
    alone = [generate_ids(model, prompt, max_new_tokens=12, temperature=0.0) for prompt in prompts]
    assert found == alone + alone
    assert not pool.blocks.in_use


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_patch_length": 8}, "max_patch_length"),
    ({"patching_mode": "space"}, "patching_mode"),
    ({"patch_size": None}, "patch_size"),
    (of("encoder", num_hidden_layers=2, cross_attn_all_layers=True), "cross_attn_all_layers"),
    (of("encoder", hidden_size=48), "hidden_size = 48 in encoder_config and 32"),
    (of("encoder", cross_attn_k=3), "encoder_config.cross_attn_k = 3"),
    (of("global", hidden_size=64), "hidden_size_global = 48"),
    (of("patcher", vocab_size=100), "100 in patcher_config"),
    (of("encoder", vocab_size=300), "300 in encoder_config"),
    (of("decoder", num_attention_heads=5), "cannot be divided"),
    (of("global", rope_parameters={"rope_type": "dynamic", "factor": 2.0}), "rope_type = 'dynamic'"),
    ({"encoder_hash_byte_group_size": [3, 0]}, "encoder_hash_byte_group_size"),
]


@pytest.mark.parametrize(("keys", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BltConfig.from_dict({**CASE.smallest, **keys})
    BltConfig.from_dict(CASE.smallest)
