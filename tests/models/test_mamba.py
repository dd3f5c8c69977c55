"""Mamba 1 and 2: the size of their states, what is inside, threads and narrow types."""

from pathlib import Path

import numpy as np
import pytest
from parity import LONG_TEXT, assert_close, check_long_text, logits_of, random_ids, reference_model, save

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.fast.deferred_state import MOST
from tinystar_np.fast.threads import FEWEST_ROWS
from tinystar_np.loading import load

SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "state_size": 8}


def test_a_missing_rank_follows_from_the_width(tmp_path: Path) -> None:
    reference = reference_model("mamba", **{**SMALL, "hidden_size": 40})
    save(reference, tmp_path, time_step_rank=None, intermediate_size=None)
    ids = random_ids(2, 20)
    assert_close(load(tmp_path)[0](ids), logits_of(reference, ids))


def test_the_state_has_one_size_and_no_way_back(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba", **SMALL), tmp_path))
    cache = model.new_cache(batch_size=2)
    inputs, h = 3 * 96, 8 * 96
    assert cache.nbytes == 2 * 2 * 4 * (inputs + h)  # layers, rows, bytes
    for length, arrays in ((1, 1), (50, 2), (1, 2), (1, 2)):  # two take turns
        model(random_ids(2, length), cache=cache)
        assert cache.nbytes == 2 * 2 * 4 * (inputs + arrays * h)
    with pytest.raises(InputError, match="cannot be cut back"):
        cache.truncate(10)
    copy = cache.copy()
    expected = model(random_ids(2, 5), cache=copy)
    np.testing.assert_array_equal(model(random_ids(2, 5), cache=cache), expected)


def test_the_names_of_what_is_inside(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba", **SMALL), tmp_path))
    with ts.record("blocks.1.*") as caught:
        model(random_ids(2, 7))
    shapes = {name.removeprefix("blocks.1."): caught[name].shape[2:] for name in caught}
    assert shapes == {
        "mixer_norm": (48,),
        "mixer.in": (192,),
        "mixer.convolution": (96,),
        "mixer.x": (96,),
        "mixer.selection": (3 + 2 * 8,),
        "mixer.B": (8,),
        "mixer.C": (8,),
        "mixer.time_step": (96,),
        "mixer.scan": (96,),
        "mixer.gated": (96,),
        "mixer.out": (48,),
        "residual": (48,),
    }


MAMBA2 = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_heads": 6,
    "head_dim": 16,
    "n_groups": 2,
    "state_size": 12,
    "chunk_size": 16,
}


def test_heads_in_threads(tmp_path: Path) -> None:
    reference = reference_model("mamba2", **{**MAMBA2, "n_groups": 3})
    assert FEWEST_ROWS < LONG_TEXT
    check_long_text(reference, tmp_path)


def test_narrow_matrices_leave_the_recurrence_in_float32(tmp_path: Path) -> None:
    reference = reference_model("mamba2", **MAMBA2)
    save(reference, tmp_path)
    exact, _ = load(tmp_path, dtype="float32")
    ids = random_ids(2, 30)
    for dtype, tolerance in (("bfloat16", 0.05), ("int8", 0.1)):
        model, _ = load(tmp_path, dtype=dtype)
        cache = model.new_cache(batch_size=2)
        assert_close(model(ids, cache=cache), exact(ids), tolerance)
        mixer, state = model.blocks[1].mixer, cache.states[1]
        for array in (mixer.A, mixer.D, mixer.convolution, mixer.gain, state["ssm"], state["convolution"]):
            assert array.dtype == np.float32


def test_the_state_has_one_size(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba2", **MAMBA2), tmp_path))
    cache = model.new_cache(batch_size=2)
    inputs, h = 3 * (96 + 4 * 12), 96 * 12
    heads, token = 6, 6 + 2 * 12 + 96  # how far h has faded; a token, its keys and its values
    one = 2 * 2 * 4  # layers, rows, bytes
    assert cache.nbytes == one * (inputs + h)
    for length, beside in ((1, heads + token), (70, 0), (1, heads + token)):
        model(random_ids(2, length), cache=cache)
        assert cache.nbytes == one * (inputs + h + beside)
    for _ in range(40):
        model(random_ids(2, 1), cache=cache)
    assert cache.nbytes == one * (inputs + 2 * h + heads + (41 - 2 * MOST) * token)  # two take turns


def test_the_names_of_what_is_inside_mamba2(tmp_path: Path) -> None:
    model, _ = load(save(reference_model("mamba2", **MAMBA2), tmp_path))
    with ts.record("blocks.1.*") as caught:
        model(random_ids(2, 7))
    shapes = {name.removeprefix("blocks.1."): caught[name].shape[2:] for name in caught}
    assert shapes == {
        "mixer_norm": (48,),
        "mixer.in": (2 * 96 + 4 * 12 + 6,),
        "mixer.convolution": (96 + 4 * 12,),
        "mixer.x": (6, 16),
        "mixer.B": (2, 12),
        "mixer.C": (2, 12),
        "mixer.time_step": (6,),
        "mixer.scan": (96,),
        "mixer.gated_norm": (96,),
        "mixer.out": (48,),
        "residual": (48,),
    }
