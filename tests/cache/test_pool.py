"""Blocks and pools: what is taken, shared, kept and given away; and that no two texts write to one place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import FIXED, small_model

from tinystar_np.amounts import bytes_in
from tinystar_np.cache.blocks import Blocks, name_after
from tinystar_np.cache.pool import BLOCK, Pool
from tinystar_np.cache.pooled_states import fits_a_pool
from tinystar_np.errors import InputError
from tinystar_np.models import Decoder
from tinystar_np.serving.engine import Engine


def test_names_stand_for_all_tokens_before() -> None:
    a, b = name_after(b"", [1, 2]), name_after(b"", [1, 3])
    assert a != b
    assert name_after(a, [4, 5]) != name_after(b, [4, 5])
    assert name_after(a, [4, 5]) == name_after(name_after(b"", np.array([1, 2]).tolist()), [4, 5])
    assert name_after(b"", [1, 23]) != name_after(b"", [12, 3])


def test_texts_get_runs_of_blocks() -> None:
    blocks = Blocks(64)
    tables: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for text in tables:
        blocks.promise(text, 2, 16)
    for _ in range(16):  # they grow by turns
        for text, table in tables.items():
            block = blocks.take(text, table[-1] if table else None)
            assert block is not None
            table.append(block)
    for table in tables.values():
        assert np.diff(table).tolist() == [1] * 15


def test_a_text_does_not_grow_into_what_is_promised_to_another() -> None:
    blocks = Blocks(40)
    blocks.promise(1, 2, 4)
    blocks.promise(2, 2, 16)
    table: list[int] = []
    for _ in range(8):
        block = blocks.take(1, table[-1] if table else None)
        assert block is not None
        table.append(block)
    assert table == [0, 1, 2, 3, 20, 21, 22, 23]
    assert blocks.take(2) == 4


def test_long_promises_are_cut_before_what_is_kept_is_given_away() -> None:
    blocks = Blocks(64)
    for name in range(16):
        block = blocks.take(0)
        assert block is not None
        blocks.name(block, bytes([name]))
        blocks.let_go(block)
    blocks.promise(1, 4, 1000)  # all that is free
    for text in (2, 3, 4, 5):
        blocks.promise(text, 8, 8)
        assert [blocks.take(text) is not None for _ in range(8)] == [True] * 8
    assert blocks.kept == 16
    blocks.promise(6, 16, 16)  # now the promise is short, and what is kept goes
    assert blocks.kept < 16


def test_no_block_is_left_over_or_given_twice() -> None:
    blocks = Blocks(10)
    taken = [blocks.take(1) for _ in range(10)]
    assert sorted(block for block in taken if block is not None) == list(range(10))
    assert blocks.take(2) is None
    assert blocks.available == 0
    for block in taken:
        assert block is not None
        blocks.let_go(block)
    assert blocks.available == 10


def test_the_least_recently_used_block_is_given_away_first() -> None:
    blocks = Blocks(3)
    for name in (b"a", b"b", b"c"):
        block = blocks.take(1)
        assert block is not None
        blocks.name(block, name)
        blocks.let_go(block)
    assert blocks.kept == blocks.available == 3
    used = blocks.named(b"a")
    assert used is not None
    blocks.hold(used)
    blocks.let_go(used)
    blocks._evict()
    assert blocks.named(b"b") is None
    assert blocks.named(b"a") == used


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["begin", "grow", "end"]), st.integers(0, 5), st.integers(1, 40)), max_size=60
)


@given(ACTIONS, st.integers(3, 20))
@FIXED
def test_blocks_hold_what_their_names_say(actions: list[tuple[str, int, int]], count: int) -> None:
    """Texts begin, grow and end in any order, many of them alike: each finds its own tokens in its table."""
    model = small_model("rope, groups")
    pool = Pool(model, count, 1, 8)
    stored = np.full(count * pool.size, -1)
    running: dict[int, tuple] = {}  # number: (text, ids, tokens written)

    def write(text, ids: list[int], start: int) -> None:
        for place in range(start, len(ids)):
            where = text.table[place // pool.size] * pool.size + place % pool.size
            stored[where] = ids[place]

    def check() -> None:
        for text, ids in running.values():
            places = [text.table[t // pool.size] * pool.size + t % pool.size for t in range(len(ids))]
            assert stored[places].tolist() == ids

    for action, number, size in actions:
        if action == "begin" and number not in running:
            ids = [(7 * t + number // 2) % 5 if t < 20 else number for t in range(size)]
            text = pool.text(ids)
            cache = pool.begin(text, ids, size + 20, len(ids) - 1)
            if cache is None:
                continue
            start = text.cached
            assert start < len(ids)
            if not pool.make_room(text, len(ids)):
                pool.end(text)
                continue
            write(text, ids, start)
            pool.note(text, ids, len(ids))
            running[number] = text, ids
        elif action == "grow" and number in running:
            text, ids = running[number]
            before = len(ids)
            longer = [*ids, *[number + 50 + t for t in range(size)]]
            if not pool.make_room(text, len(longer)):
                continue
            write(text, longer, before)
            pool.note(text, longer, len(longer))
            running[number] = text, longer
        elif action == "end" and number in running:
            text, _ = running.pop(number)
            pool.end(text)
        check()
        held = {block for text, _ in running.values() for block in text.table}
        assert pool.blocks.in_use == len(held)
    for text, _ in running.values():
        pool.end(text)
    assert pool.blocks.in_use == 0


@pytest.mark.parametrize("name", ["rope, groups", "latent attention", "mamba 2", "mamba 2 and attention"])
def test_memory_is_what_was_asked_for(name: str) -> None:
    model = small_model(name)
    for memory in (400_000, 1_000_000):
        pool = Pool.within(model, memory, 4)
        largest = pool.bytes_per_block + pool.bytes_per_state
        assert memory - 2 * largest < pool.nbytes <= memory
        arrays = sum(part.keys.nbytes + part.values.nbytes for part in pool.paged_layers())
        assert arrays == pool.blocks.count * pool.bytes_per_block
    with pytest.raises(InputError, match="too small for this model"):
        Pool.within(model, 1000, 4)


def test_sizes_in_words() -> None:
    assert bytes_in("2GB") == bytes_in("2 gb") == bytes_in("2G") == 2_000_000_000
    assert bytes_in("1.5GiB") == 3 << 29
    assert bytes_in("800 MB") == 800_000_000
    assert bytes_in("65536") == bytes_in("65536B") == 65536
    for text in ("", "GB", "-1GB", "2 GB of it", "1e9", "２GB"):
        with pytest.raises(InputError, match="no size"):
            bytes_in(text)


def test_texts_without_sharing_share_nothing() -> None:
    model = small_model("rope, groups")
    pool = Pool(model, 20, 1, 4)
    ids = list(range(3, 63))
    for shares, cached in ((True, 0), (False, 0), (True, 48)):
        text = pool.text(ids, shares)
        assert pool.begin(text, ids, 80, 59) is not None
        assert text.cached == cached
        assert pool.make_room(text, 60)
        pool.note(text, ids, 60)
        pool.end(text)
    assert pool.blocks.kept == 3


def test_which_caches_fit() -> None:
    assert fits_a_pool(small_model("delta rule").new_cache(1))
    assert not fits_a_pool(object())
    assert BLOCK == 16


def _snapshots(pool: Pool, model: Decoder, ids: list[int]) -> None:
    text = pool.text(ids)
    cache = pool.begin(text, ids, len(ids) + 5, len(ids) - 1)
    assert cache is not None
    pool.make_room(text, len(ids))
    model(np.array([ids[text.cached :]]), cache=cache)
    pool.note(text, ids, len(ids))
    pool.keep(text, ids, cache)
    pool.end(text)


def test_snapshots_are_bounded_and_give_way() -> None:
    model = small_model("mamba 2 and attention")
    pool = Pool(model, 12, 5, 2)
    for first in range(3, 11):
        _snapshots(pool, model, [first, *range(20, 50)])
        assert len(pool.snapshots) <= 3
    ids = [10, *range(20, 50), 9, 9]
    text = pool.text(ids)
    assert pool.begin(text, ids, 40, len(ids) - 1) is not None
    assert text.cached == 31
    pool.end(text)
    ids = list(range(3, 120))  # all but the whole pool: what snapshots hold is given to it
    text = pool.text(ids)
    assert pool.begin(text, ids, 150, 100) is not None
    assert pool.make_room(text, 12 * BLOCK)
    pool.end(text)
    assert pool.blocks.in_use == len({s.block for s in pool.snapshots} - {None})


def test_a_snapshot_whose_blocks_were_given_away_is_of_no_use() -> None:
    """Attention needs the keys and values of all tokens before it."""
    model = small_model("mamba 2 and attention")
    pool = Pool(model, 12, 5, 2)
    ids = list(range(20, 51))
    for _ in range(2):  # one is enough
        _snapshots(pool, model, ids)
        assert len(pool.snapshots) == 1
    long = [7] * (11 * BLOCK - 1)  # all blocks but the snapshot's own
    text = pool.text(long)
    assert pool.begin(text, long, len(long), 100) is not None
    assert pool.make_room(text, len(long))
    pool.end(text)
    assert len(pool.snapshots) == 1
    text = pool.text([*ids, 3, 4])
    assert pool.begin(text, [*ids, 3, 4], 40, 32) is not None
    assert text.cached == 0


def test_the_third_text_of_a_kind_goes_on_from_what_two_have_in_common() -> None:
    """A recurrent model keeps its state where the second one parts from the first."""
    for name, cached in (("mamba 2", [0, 0, 64, 64]), ("rope, groups", [0, 64, 64, 64])):
        engine = Engine(small_model(name), cache_memory="10MB", own_thread=False)
        found = []
        for last in range(4):
            handle = engine.submit([*range(3, 67), last, 70, 71], max_new_tokens=1)
            while engine.turn():
                pass
            found.append(handle.usage.cached)
        assert found == cached
