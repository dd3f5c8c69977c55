"""Timelines: what an engine says of each call of the model, and the picture of it."""

from typing import Any

import pytest

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.models import Decoder
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.statistics import Turn
from tinystar_np.serving.timeline import BOX, PROMPT, TOKEN, timeline

BEGINNING = [5 + i for i in range(40)]


@pytest.fixture(scope="module")
def model() -> Decoder:
    return ts.load("stories")[0]


def run(
    model: Decoder, asked: dict[int, list[tuple[list[int], int]]], **settings: Any
) -> tuple[list[Turn], list[Handle], ts.Engine]:
    """Submit requests {before which call: [(prompt, new tokens)]}, and let the model work."""
    turns: list[Turn] = []
    handles: list[Handle] = []
    engine = ts.Engine(model, own_thread=False, on_turn=turns.append, **settings)
    while True:
        for prompt, new in asked.get(len(turns), ()):
            handles.append(engine.submit(prompt, max_new_tokens=new, temperature=0))
        if not engine.turn():
            return turns, handles, engine


def test_turns_count_what_is_read_and_not_what_was_cached(model: Decoder) -> None:
    asked = {0: [(BEGINNING, 4)], 4: [([*BEGINNING, 9], 3)], 5: [([7] * 300, 2)]}
    turns, (first, second, long), engine = run(model, asked)
    assert turns[0].read == {first: 40}
    assert [turn.generated for turn in turns[:4]] == [(first,)] * 4
    assert second.usage.cached == 32
    assert turns[4].read == {second: 9}
    pieces = [turn.read[long] for turn in turns if long in turn.read]
    assert pieces == [128 - 9, 128, 300 - 2 * 128 + 9]  # between two tokens of the second, 128 at most
    for handle in (first, second, long):
        assert sum(turn.read.get(handle, 0) for turn in turns) == handle.usage.prompt - handle.usage.cached
        assert sum(turn.generated.count(handle) for turn in turns) == handle.usage.generated
        assert handle.finished is not None
        assert handle.submitted < handle.finished <= turns[-1].ended
    # Two blocks of the beginning are shared.
    both = next(turn for turn in turns if turn.read == {second: 9})
    assert (both.blocks_in_use, both.blocks_kept) == (3, 0)
    assert turns[-1].blocks_in_use == engine.pool.blocks.in_use == 0
    assert turns[-1].blocks_kept == engine.pool.blocks.kept > 0


def test_what_was_lost_is_read_again_and_counted(model: Decoder) -> None:
    per_block = model.new_cache(1, 16).nbytes
    turns, handles, engine = run(model, {0: [([i] * 8, 30) for i in (5, 6, 7)]}, cache_memory=per_block * 6)
    assert engine.statistics().preempted
    read = [sum(turn.read.get(handle, 0) for turn in turns) for handle in handles]
    assert read[0] == 8
    assert max(read) > 8
    picture = timeline(turns, handles)
    lines = picture.figure.axes[0]
    dotted = [line for line in lines.lines if line.get_linestyle() != "-"]
    solid = [line for line in lines.lines if line.get_linestyle() == "-"]
    assert len(dotted) == 3
    assert len(solid) == 2 * (3 + engine.statistics().preempted)  # each interruption: one stretch more


def test_an_error_in_on_turn_ends_the_texts_and_not_the_engine(model: Decoder) -> None:
    broken = [True]

    def on_turn(turn: Turn) -> None:
        if broken.pop():
            raise RuntimeError("no picture")
        broken.append(False)

    with ts.Engine(model, on_turn=on_turn) as engine:
        with pytest.raises(RuntimeError, match="no picture"):
            engine.submit([5, 6], max_new_tokens=5).result(60)
        broken.append(False)
        engine.submit([5, 6], max_new_tokens=5).result(60)


def test_a_box_for_each_piece_and_each_token(model: Decoder) -> None:
    turns, handles, _ = run(model, {0: [([5, 6], 6)], 2: [([7] * 200, 3)]}, max_batch=4)
    for seconds in (False, True):
        picture = timeline(turns, handles, ["a", "b"], seconds=seconds)
        assert "<svg" in picture._repr_svg_()
        lines, strip = picture.figure.axes
        assert [label.get_text() for label in lines.get_yticklabels()] == ["a: 2 + 6", "b: 200 + 3"]
        prompt_a, token_a, prompt_b, token_b = lines.collections
        assert [len(each.get_paths()) for each in lines.collections] == [1, 5, 2, 2]
        wanted = [turn for turn in turns if handles[1] in turn.read]
        found = [path.get_extents() for path in prompt_b.get_paths()]
        for turn, box in zip(wanted, found, strict=True):
            assert box.height == pytest.approx(BOX)
            width = turn.ended - turn.begun if seconds else 1
            assert box.width == pytest.approx(width)
        for boxes, colour in ((prompt_a, PROMPT), (prompt_b, PROMPT), (token_a, TOKEN), (token_b, TOKEN)):
            assert boxes.get_facecolor()[0].tolist() == pytest.approx(rgba(colour))
        in_use, kept = (patch.get_data() for patch in strip.patches)
        assert in_use.values.tolist() == [turn.blocks_in_use for turn in turns]
        assert (kept.values - in_use.values).tolist() == [turn.blocks_kept for turn in turns]
    # The line that waits begins where the request was submitted.
    assert lines.lines[3].get_xdata()[0] == pytest.approx(handles[1].submitted - turns[0].begun)


def rgba(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1.0]


def test_what_cannot_be_drawn(model: Decoder) -> None:
    turns, handles, _ = run(model, {0: [([5, 6], 2)]})
    with pytest.raises(InputError, match="nothing to draw"):
        timeline([], handles)
    with pytest.raises(InputError, match="nothing to draw"):
        timeline(turns, [])
    with pytest.raises(InputError, match="1 requests, and 2 names"):
        timeline(turns, handles, ["a", "b"])
