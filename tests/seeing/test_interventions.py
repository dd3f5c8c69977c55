"""Interventions: what they change, against a forward pass by hand; and that each mistake is an error."""

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt2_by_hand import forward
from numpy.typing import NDArray
from opened import Opened
from parity import assert_close, random_ids, reference_model, save
from parity_case import Case
from parity_cases import CASES
from small_models import DENSE, EXPERTS, small_model, small_reference

import tinystar_np as ts
from tinystar_np.cache import join_caches
from tinystar_np.errors import InputError
from tinystar_np.models import Decoder

pytestmark = pytest.mark.usefixtures("one_blas_thread")

HEADS = 4
IDS = random_ids(12)
OTHER = random_ids(12, seed=7)
D = 48


@pytest.fixture
def gpt2() -> Decoder:
    return small_model("learned positions")


@pytest.fixture(scope="module")
def stories() -> Any:
    return ts.load("stories", dtype="float32")


def by_hand(model: Decoder, changes: dict[str, Any], ids: np.ndarray = IDS) -> np.ndarray:
    return forward(model, ids, HEADS, lambda name, x: changes[name](x) if name in changes else x)


def recorded_by_hand(model: Decoder, ids: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    forward(model, ids, HEADS, lambda name, x: found.setdefault(name, x))
    return found


def put(x: np.ndarray, where: Any, value: Any) -> np.ndarray:
    y = x.copy()
    y[where] = value
    return y


def check(found: np.ndarray, expected: np.ndarray, unchanged: np.ndarray) -> None:
    assert np.abs(expected - unchanged).max() > 1e-3 * np.abs(unchanged).max()  # it makes a difference
    assert_close(found, expected.astype(np.float32), 1e-5)


# What is changed, against the forward pass by hand.


def test_the_forward_pass_by_hand_is_the_models(gpt2: Decoder) -> None:
    assert_close(gpt2(IDS), by_hand(gpt2, {}).astype(np.float32), 1e-5)


def test_a_function(gpt2: Decoder) -> None:
    with ts.intervene({"blocks.1.attention.probabilities": lambda x: np.roll(x, 1, axis=1)}):
        found = gpt2(IDS)
    changes = {"blocks.1.probabilities": lambda x: np.roll(x, 1, axis=0)}
    check(found, by_hand(gpt2, changes), gpt2(IDS))


def test_a_function_may_write_into_what_it_is_given_and_only_the_chosen_part_counts(gpt2: Decoder) -> None:
    def double(x: np.ndarray) -> np.ndarray:
        x *= 2
        return x

    with ts.intervene({"blocks.0.attention.v": double}, heads=1, positions=range(3, 6)):
        found = gpt2(IDS)
    changes = {"blocks.0.v": lambda x: put(x, (1, slice(3, 6)), 2 * x[1, 3:6])}
    check(found, by_hand(gpt2, changes), gpt2(IDS))


def test_zeros_in_place_of_heads(gpt2: Decoder) -> None:
    with ts.ablate("blocks.0.attention.mixed", heads=[1, 3]):
        found = gpt2(IDS)
    check(found, by_hand(gpt2, {"blocks.0.mixed": lambda x: put(x, [1, 3], 0)}), gpt2(IDS))


def test_the_mean_of_recordings_in_place_of_heads(gpt2: Decoder) -> None:
    """Over all their tokens, however many each has."""
    texts = [random_ids(5, seed=3), random_ids(2, 9, seed=4)]
    recordings = []
    for text in texts:
        with ts.record("blocks.1.attention.mixed") as recording:
            gpt2(text)
        recordings.append(recording)
    with ts.ablate("blocks.1.attention.mixed", mean_of=recordings, heads=[2]):
        found = gpt2(IDS)
    rows = [texts[0], *texts[1]]
    mixed = [recorded_by_hand(gpt2, row)["blocks.1.mixed"][2] for row in rows]  # (T, K) each
    mean = np.concatenate(mixed).mean(axis=0)
    check(found, by_hand(gpt2, {"blocks.1.mixed": lambda x: put(x, 2, mean)}), gpt2(IDS))


@pytest.mark.parametrize(
    ("tap", "name"), [("residual", "residual"), ("attention.out", "out"), ("feed_forward.down", "down")]
)
def test_a_patch(gpt2: Decoder, tap: str, name: str) -> None:
    clean = recorded_by_hand(gpt2, OTHER)
    with ts.record("blocks.*." + tap) as recording:
        gpt2(OTHER)
    with ts.patch(recording, "blocks.0." + tap, positions=[4, 9]):
        found = gpt2(IDS)
    path = "blocks.0." + name
    check(found, by_hand(gpt2, {path: lambda x: put(x, [4, 9], clean[path][[4, 9]])}), gpt2(IDS))


def test_a_patch_of_heads_and_of_everything(gpt2: Decoder) -> None:
    clean = recorded_by_hand(gpt2, OTHER)
    with ts.record() as recording:
        gpt2(OTHER)
    with ts.patch(recording, "blocks.1.attention.mixed", heads=[0], positions=5):
        found = gpt2(IDS)
    value = clean["blocks.1.mixed"][0, 5]
    check(found, by_hand(gpt2, {"blocks.1.mixed": lambda x: put(x, (0, 5), value)}), gpt2(IDS))
    with ts.patch(recording, "blocks.1.residual"):
        assert_close(gpt2(IDS), gpt2(OTHER), 1e-6)
    longer = np.concatenate([IDS, IDS])
    with ts.patch(recording, "blocks.0.residual"):
        found = gpt2(longer)
    value = clean["blocks.0.residual"]
    expected = by_hand(gpt2, {"blocks.0.residual": lambda x: put(x, slice(12), value)}, longer)
    check(found, expected, gpt2(longer))


def test_a_direction(gpt2: Decoder) -> None:
    direction = np.random.default_rng(0).normal(size=D)
    with ts.steer("blocks.0.residual", direction, scale=1.5, positions=slice(7, None)):
        found = gpt2(IDS)
    changes = {"blocks.0.residual": lambda x: put(x, slice(7, None), x[7:] + 1.5 * direction)}
    check(found, by_hand(gpt2, changes), gpt2(IDS))


def test_rows_of_a_batch(gpt2: Decoder) -> None:
    ids = np.stack([IDS, OTHER, IDS])
    with ts.ablate("blocks.0.attention.mixed", heads=0, rows=[1]):
        found = gpt2(ids)
    changed = by_hand(gpt2, {"blocks.0.mixed": lambda x: put(x, 0, 0)}, OTHER)
    check(found[1], changed, gpt2(OTHER))
    assert_close(found[[0, 2]], gpt2(ids)[[0, 2]], 1e-6)


def test_experts_are_taken_out_by_their_weights() -> None:
    """What a layer gives without an expert: its share of the weighted sum is missing."""
    model = small_model("experts")
    with ts.record("blocks.1.*") as before:
        plain = model(IDS)
    with (
        ts.ablate("blocks.1.feed_forward.weights", experts=[2]),
        ts.record("blocks.1.*") as after,
    ):
        found = model(IDS)
    x, path = before["blocks.1.feed_forward_norm"][0], "blocks.1.feed_forward."
    chosen, weights = before[path + "chosen"][0], before[path + "weights"][0]
    share = (weights * (chosen == 2)).sum(axis=-1, keepdims=True)
    assert 0 < np.count_nonzero(share) < len(share)
    expected = before[path + "experts"][0] - share * model.blocks[1].feed_forward.experts[2](x)
    assert_close(after[path + "experts"][0], expected, 1e-5)
    assert np.abs(found - plain).max() > 1e-3
    never = {path + "router": lambda x: np.full_like(x, -np.inf)}
    with ts.intervene(never, experts=[2, 3]), ts.record(path + "chosen") as recording:
        model(IDS)
    assert not np.isin(recording[path + "chosen"], [2, 3]).any()


# Every tap, in every architecture.


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model_type)
def test_every_tap_moves_the_logits_and_none_does_by_itself(case: Case, tmp_path: Path) -> None:
    reference = reference_model(case.model_type, **case.config("plain"))
    check_every_tap(ts.load(save(reference, tmp_path), dtype="float32")[0], IDS)


def test_every_tap_of_the_shipped_model(stories: Any) -> None:
    model, tokenizer = stories
    assert check_every_tap(model, np.array(tokenizer.encode("Once upon a time there was"))) == 95


def check_every_tap(model: Decoder, ids: np.ndarray) -> int:
    """Change each tap by itself; returns how many there are."""
    plain = model(ids)
    with ts.record() as recording:
        step_by_step = model(ids)
    generator = np.random.default_rng(0)

    def another(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "i":
            return (x + 1) % 4  # other experts, none twice
        return x + np.abs(x).mean() * generator.normal(size=x.shape)

    for path, array in recording.items():
        # Attention runs step by step where somebody wants the steps, which rounds otherwise.
        steps = path.endswith((".scores", ".probabilities"))
        with ts.intervene({path: lambda x: x}):
            np.testing.assert_array_equal(model(ids), step_by_step if steps else plain, path)
        with ts.patch(recording, path):
            assert_close(model(ids), plain, 1e-6, path)
        with ts.intervene({path: another}):
            found = model(ids)
        assert np.abs(found - plain).max() > 1e-6 * np.abs(plain).max(), path
        if array.shape[-1] > 1 and array.dtype.kind == "f" and not steps:
            with ts.intervene({path: another}, positions=[5]):
                found = model(ids)
            assert np.abs(found - plain)[5:].max() > 1e-6 * np.abs(plain).max(), path
            assert_close(found[:5], plain[:5], 1e-6, path)  # no token sees its future
    return len(recording)


def test_the_fast_form_of_attention_runs_where_nobody_looks_inside(
    gpt2: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinystar_np import fast

    called = []
    attention = fast.attention
    monkeypatch.setattr(fast, "attention", lambda *a, **k: called.append(1) or attention(*a, **k))
    with ts.ablate("blocks.0.attention.mixed", heads=0):
        gpt2(IDS)
    assert len(called) == 2
    with ts.ablate("blocks.0.attention.probabilities", heads=0):
        gpt2(IDS)
    assert len(called) == 3  # the other block's


# Caches, batches, pieces.


@pytest.mark.parametrize("name", [*DENSE, *EXPERTS])
def test_pieces_and_rows_give_what_the_whole_text_gives(name: str) -> None:
    model = small_model(name)
    ids = random_ids(3, 40, seed=2)
    with Opened(model):
        whole = model(ids)
    assert np.abs(whole - model(ids)).max() > 1e-3
    for row in range(3):
        with Opened(model):
            assert_close(model(ids[row]), whole[row], what="one row")
    for ends in ([0, 40], [0, 5, 6, 40], [0, 17, 18, 35, 40], range(41)):
        cache, found = model.new_cache(3), []
        with Opened(model):
            for a, b in zip(ends, [*ends[1:]], strict=False):
                found.append(model(ids[:, a:b], cache=cache))
        assert_close(np.concatenate(found, axis=1), whole, what=str(ends))
    with Opened(model):
        assert_close(model(ids, last_only=True), whole[:, -1:], what="the last only")


@pytest.mark.parametrize("name", ["learned positions", "window", "mamba 2 and attention"])
def test_rows_of_different_lengths(name: str) -> None:
    """Positions are each row's own."""
    model = small_model(name)
    ids, lengths = random_ids(3, 40, seed=2), [5, 1, 20]
    with Opened(model):
        whole = model(ids)
    with Opened(model):
        caches = [model.new_cache() for _ in lengths]
        for row, length, cache in zip(ids, lengths, caches, strict=True):
            model(row[:length], cache=cache)
        joined = join_caches(caches)
        new = np.stack([row[length : length + 15] for row, length in zip(ids, lengths, strict=True)])
        found = model(new, cache=joined)
    for row, length, logits in zip(whole, lengths, found, strict=True):
        assert_close(logits, row[length : length + 15])


def test_the_last_token_has_its_own_position_where_the_logits_of_no_other_are_wanted(gpt2: Decoder) -> None:
    direction = np.random.default_rng(5).normal(size=D)
    with ts.steer("final_norm", direction, positions=[3, 11]):
        whole = gpt2(IDS)
    with ts.steer("final_norm", direction, positions=[11]), ts.record("final_norm") as recording:
        assert_close(gpt2(IDS, last_only=True), whole[-1:], 1e-6)
    assert np.abs(whole - gpt2(IDS)).max() > 1e-3
    with ts.patch(recording, "final_norm"):
        assert_close(gpt2(IDS)[-1:], whole[-1:], 1e-6)
    with pytest.raises(InputError, match="never came"), ts.steer("final_norm", direction, positions=[3]):
        gpt2(IDS, last_only=True)


def test_a_recording_of_a_piece_is_patched_at_its_positions(gpt2: Decoder) -> None:
    with ts.record("blocks.0.residual") as whole:
        gpt2(OTHER)
    cache = gpt2.new_cache()
    gpt2(OTHER[:8], cache=cache)
    with ts.record("blocks.0.residual") as piece:
        gpt2(OTHER[8:], cache=cache)
    with ts.patch(whole, "blocks.0.residual", positions=[8, 9, 10, 11]):
        expected = gpt2(IDS)
    with ts.patch(piece, "blocks.0.residual"):
        assert_close(gpt2(IDS), expected, 1e-6)
    with pytest.raises(InputError, match=r"positions \[3\] are to be patched, but .* has 8 to 11"):
        ts.patch(piece, "blocks.0.residual", positions=[3, 9])


def test_a_recording_of_several_rows_is_for_the_rows_of_their_numbers(gpt2: Decoder) -> None:
    both = np.stack([IDS, OTHER])
    with ts.record("blocks.0.residual", "blocks.1.residual") as recording:
        gpt2(both)
    with ts.patch(recording, "blocks.1.residual"):
        assert_close(gpt2(both[::-1].copy()), gpt2(both), 1e-6)
    with ts.patch(recording, "blocks.1.residual", rows=1):
        assert_close(gpt2(both[[0, 0]]), gpt2(both), 1e-6)
    with (
        pytest.raises(InputError, match="there is a row 2, but the recording has 2"),
        ts.patch(recording, "blocks.1.residual"),
    ):
        gpt2(both[[0, 0, 1]])
    with pytest.raises(InputError, match=r"rows \[2\] are to be patched"):
        ts.patch(recording, "blocks.1.residual", rows=[1, 2])


def test_without_the_fast_forms(tmp_path: Path) -> None:
    """With the kernels in their place the same interventions give the same."""
    names = ("learned positions", "rope, groups", "latent attention", "mamba 2", "delta rule", "experts")
    for name in names:
        save(small_reference(name), tmp_path / name)
    np.save(tmp_path / "ids.npy", random_ids(2, 40, seed=2))
    program = Path(__file__).with_name("opened.py")
    found = []
    for value in ("0", "1"):
        environment = {**os.environ, "TINYSTAR_NP_KERNELS": value, "PYTHONPATH": str(program.parents[2])}
        subprocess.run([sys.executable, program, tmp_path, *names], check=True, env=environment)
        found.append([np.load(tmp_path / name / "logits.npy") for name in names])
    for fast_forms, kernels in zip(*found, strict=True):
        assert_close(fast_forms, kernels)


# Nesting.


def test_the_outermost_comes_first(gpt2: Decoder) -> None:
    path = "blocks.0.residual"
    plus, times = {path: lambda x: x + 1}, {path: lambda x: x * 3}
    with ts.record(path) as plain:
        gpt2(IDS)
    with (
        ts.record(path) as around,
        ts.intervene(plus),
        ts.record(path) as between,
        ts.intervene(times),
        ts.record(path) as inside,
    ):
        found = gpt2(IDS)
    x = plain[path]
    np.testing.assert_array_equal(around[path], x)
    np.testing.assert_array_equal(between[path], x + 1)
    np.testing.assert_array_equal(inside[path], (x + 1) * 3)
    changes = {path: lambda x: (x + 1) * 3}
    check(found, by_hand(gpt2, changes), gpt2(IDS))


def test_an_outer_recording_goes_on(gpt2: Decoder) -> None:
    with ts.record("logits") as outer, ts.record("blocks.0.residual") as inner:
        found = gpt2(IDS)
    assert list(inner) == ["blocks.0.residual"]
    np.testing.assert_array_equal(outer["logits"][0], found)


def test_a_function_may_call_a_model(gpt2: Decoder) -> None:
    """Its taps are nobody's, and it knows positions of its own."""

    of_another = gpt2(OTHER)[0, :D]

    def with_another(x: np.ndarray) -> np.ndarray:
        return x + gpt2(OTHER)[0, :D]

    with ts.record() as plain:
        gpt2(IDS)
    # The pattern would match what is tapped within this block, too.
    with ts.intervene({"blocks.0.*residual": with_another}, positions=[2, 3]), ts.record() as recording:
        found = gpt2(IDS)
    assert list(recording) == list(plain)
    changes = {"blocks.0.residual": lambda x: put(x, [2, 3], x[[2, 3]] + of_another)}
    check(found, by_hand(gpt2, changes), gpt2(IDS))


def test_each_thread_has_its_own(gpt2: Decoder) -> None:
    plain, found = gpt2(IDS), []
    with ts.ablate("blocks.0.residual"):
        changed = gpt2(IDS)
        other = threading.Thread(target=lambda: found.append(gpt2(IDS)))
        other.start()
        other.join()
    np.testing.assert_array_equal(found[0], plain)
    assert np.abs(changed - plain).max() > 1e-3


def test_after_the_block_all_is_as_before(gpt2: Decoder) -> None:
    plain = gpt2(IDS)
    with pytest.raises(ZeroDivisionError), ts.ablate("blocks.0.residual"):
        raise ZeroDivisionError
    with ts.ablate("blocks.0.residual"):
        gpt2(IDS)
    np.testing.assert_array_equal(gpt2(IDS), plain)


def test_generators_may_be_closed_in_any_order(gpt2: Decoder) -> None:
    """Each holds a block open: closing one leaves the other's open, and closing both leaves none."""

    def steered(tap: str, scale: float) -> Generator[NDArray, None, None]:
        with ts.steer(tap, np.arange(48), scale=scale):
            yield gpt2(IDS)

    before = gpt2(IDS)
    first, second = steered("blocks.0.residual", 3.0), steered("blocks.1.residual", -0.5)
    next(first)
    next(second)
    first.close()
    held = gpt2(IDS)
    second.close()
    np.testing.assert_array_equal(gpt2(IDS), before)
    with ts.steer("blocks.1.residual", np.arange(48), scale=-0.5):
        np.testing.assert_array_equal(gpt2(IDS), held)
    assert np.abs(held - before).max() > 0.01


def test_a_generator_that_another_thread_closes(gpt2: Decoder) -> None:
    def steered() -> Generator[NDArray, None, None]:
        with ts.steer("blocks.0.residual", np.arange(48)):
            yield gpt2(IDS)

    before, held = gpt2(IDS), steered()
    assert np.abs(next(held) - before).max() > 0.01
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.close).result()
    np.testing.assert_array_equal(gpt2(IDS), before)


def test_what_is_not_a_number_passes(gpt2: Decoder) -> None:
    with ts.steer("blocks.0.residual", np.full(D, np.nan), positions=[6]):
        found = gpt2(IDS)
    assert np.isnan(found[6:]).all()


# Mistakes.


@pytest.mark.parametrize(
    ("opened", "words"),
    [
        (
            lambda: ts.ablate("blocks.1.atention.mixed"),
            "Near it: blocks.1.attention.mixed",
        ),
        (lambda: ts.ablate("blocks.*.residul"), "No model has a tap .*Near it: blocks.0.residual"),
        (lambda: ts.ablate([]), "A tap must be named"),
        (lambda: ts.ablate(3), "A tap is chosen by a str .* found 3"),
        (lambda: ts.ablate([None]), "found None"),
        (lambda: ts.intervene({}), "intervene needs"),
        (lambda: ts.intervene({"logits": 3}), "needs a function for 'logits'; found 3"),
        (lambda: ts.ablate("logits", positions=[-1]), r"positions = \[-1\], but they are one or more ints"),
        (lambda: ts.ablate("logits", positions=[]), "one or more ints"),
        (lambda: ts.ablate("logits", rows=[1.5]), "rows"),
        (lambda: ts.ablate("logits", positions=slice(-3, None)), "counted from 0"),
        (lambda: ts.steer("logits", np.ones((2, 2))), "steer needs a vector"),
        (lambda: ts.steer("logits", "north"), "steer needs a vector of numbers, an array .* found .north"),
        (lambda: ts.patch({}, "logits"), "The recording has no logits"),
        (lambda: ts.patch(None, "logits"), "A recording is wanted"),
        (lambda: ts.ablate("logits", mean_of=[]), "mean_of has no recording"),
        (lambda: ts.ablate("logits", mean_of=5), "mean_of takes a recording, .* found 5"),
        (lambda: ts.steer("logits", np.ones(3) * 1j), "steer needs a vector of numbers"),
        (lambda: ts.steer("logits", ["1", "2"]), "steer needs a vector of numbers"),
        (lambda: ts.steer("logits", [[1], [2, 3]]), "steer needs a vector"),
        (lambda: ts.steer("logits", np.ones(3), scale=None), "scale is a number .* found None"),
        (lambda: ts.steer("logits", np.ones(3), scale="2"), "scale is a number .* found '2'"),
        (lambda: ts.steer("logits", np.ones(3), scale=np.ones(3)), "scale is a number"),
        (lambda: ts.patch({"logits": [[1.0]]}, "logits"), r"logits is no array; found \[\[1.0\]\]"),
    ],
)
def test_mistakes_that_are_seen_at_once(opened: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        opened()


@pytest.mark.parametrize(
    ("opened", "words"),
    [
        (lambda: ts.ablate("blocks.2.residual"), "never reached: the model .* Near it: blocks.[01].residual"),
        (lambda: ts.ablate("blocks.*.attention.q_rotated"), "blocks.*.attention.q_rotated was never reached"),
        (
            lambda: ts.intervene({"logits": np.tanh, "blocks.0.mixer.x": np.tanh}),
            "blocks.0.mixer.x was never reached",
        ),
        (lambda: ts.ablate("logits", positions=[3, 12, 30]), r"positions \[12, 30\] never came"),
        (
            lambda: ts.ablate("logits", positions=slice(12, None)),
            "slice.12, None, None. never came",
        ),
        (lambda: ts.ablate("logits", rows=[0, 1]), r"rows \[1\] never came"),
        (lambda: ts.ablate("blocks.0.attention.mixed", heads=[1, 4]), "has 4 of them, 0 to 3"),
        (lambda: ts.ablate("blocks.0.residual", heads=[0]), "has no axis of heads"),
        (lambda: ts.ablate("blocks.0.attention.qkv", heads=[0]), "attention.q, attention.k, attention.v"),
        (lambda: ts.ablate("blocks.0.residual", experts=[0]), "not divided by experts"),
        (lambda: ts.steer("blocks.0.residual", np.ones(47)), "vectors of 48 numbers, but .* has 47"),
        (
            lambda: ts.intervene({"blocks.0.residual": lambda x: x[:, :5]}),
            r"returned shape \(1, 5, 48\), but an array of shape \(1, 12, 48\) and type float32 is wanted",
        ),
        (lambda: ts.intervene({"blocks.0.residual": lambda x: None}), "returned nothing"),
        (lambda: ts.intervene({"blocks.0.residual": lambda x: 1.0}), "returned 1.0"),
        (lambda: ts.intervene({"blocks.0.residual": lambda x: x + 1j}), "returned type complex64"),
    ],
)
def test_mistakes_that_a_model_shows(gpt2: Decoder, opened: Any, words: str) -> None:
    with pytest.raises(InputError, match=words), opened():
        gpt2(IDS)


def test_a_block_in_which_no_model_runs(gpt2: Decoder) -> None:
    with pytest.raises(InputError, match="no model ran inside the block"), ts.ablate("blocks.0.residual"):
        pass
    with pytest.raises(ZeroDivisionError), ts.ablate("blocks.0.residual"):
        raise ZeroDivisionError


def test_rows_and_positions_that_never_come_together(gpt2: Decoder) -> None:
    caches = [gpt2.new_cache(), gpt2.new_cache()]
    for length, cache in zip((2, 6), caches, strict=True):
        gpt2(IDS[:length], cache=cache)
    joined, new = join_caches(caches), np.stack([IDS, OTHER])[:, 7:9]
    with (
        pytest.raises(InputError, match="never came together"),
        ts.ablate("blocks.0.residual", rows=[0], positions=[6]),
    ):
        gpt2(new, cache=joined)


def test_recordings_that_do_not_fit(gpt2: Decoder) -> None:
    with ts.record() as recording:
        gpt2(OTHER)
    narrow = {path: array[..., :-1] for path, array in recording.items()}
    with (
        pytest.raises(InputError, match=r"blocks.0.residual has shape \(1, 12, 48\), but .* \(1, 12, 47\)"),
        ts.patch(narrow, "blocks.0.residual"),
    ):
        gpt2(IDS)
    with (
        pytest.raises(InputError, match=r"blocks.0.residual has shape"),
        ts.ablate("blocks.0.residual", mean_of=narrow),
    ):
        gpt2(IDS)
    with (
        pytest.raises(InputError, match="Scores and probabilities fit a text of the same length"),
        ts.patch(recording, "blocks.0.attention.scores"),
    ):
        gpt2(np.concatenate([IDS, IDS]))
    with (
        pytest.raises(InputError, match="there is no mean"),
        ts.ablate("blocks.0.attention.scores", mean_of=recording),
    ):
        gpt2(IDS)
    with (
        pytest.raises(InputError, match=r"The recording has no blocks.1.residual"),
        ts.patch({"blocks.0.residual": recording["blocks.0.residual"]}, "blocks.*.residual"),
    ):
        gpt2(IDS)


def test_experts_that_are_none() -> None:
    model = small_model("experts")
    for tap in ("router", "weights"):
        with (
            pytest.raises(InputError, match=r"experts = \[5\], but .* has 5 of them, 0 to 4"),
            ts.ablate(f"blocks.0.feed_forward.{tap}", experts=[5]),
        ):
            model(IDS)
    with (
        pytest.raises(InputError, match="holds numbers of experts"),
        ts.ablate("blocks.0.feed_forward.chosen"),
    ):
        model(IDS)
    with (
        pytest.raises(InputError, match="holds numbers of experts"),
        ts.steer("blocks.0.feed_forward.chosen", [1, 1]),
    ):
        model(IDS)
