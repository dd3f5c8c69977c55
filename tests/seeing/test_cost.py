"""Costs: counts written out, arrays that caches really hold, and times of passes that were taken."""

import time
from typing import Any

import numpy as np
import pytest
from parity import random_ids
from parity_cases import CASES
from small_models import build, small_model

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.inspection.describe import mixers_of
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.seeing import record
from tinystar_np.seeing.cost import block_times, state_growth, token_cost
from tinystar_np.tap import listening, timed, timing

LLAMA_8B = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}


def test_gpt2_written_out() -> None:
    """Tied: the table of 50257 tokens is read once more as the output layer."""
    costs = token_cost(hollow_model({"model_type": "gpt2"}), 100)
    assert [cost.part for cost in costs] == ["embedding", *(f"blocks.{i}" for i in range(12)), "output"]
    qkv, out, up, down = 768 * 2304 + 2304, 768 * 768 + 768, 768 * 3072 + 3072, 3072 * 768 + 768
    for cost in costs[1:-1]:
        assert cost.weights == 4 * (qkv + out + up + down + 4 * 768)
        assert cost.cache == 100 * 2 * 768 * 4
        assert cost.flops == 2 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072 + 12 * 100 * 2 * 64)
    assert (costs[0].weights, costs[0].cache, costs[0].flops) == (2 * 768 * 4, 0, 0)
    assert costs[-1].weights == 4 * (50257 * 768 + 2 * 768)
    assert costs[-1].flops == 2 * 50257 * 768


def test_llama_written_out() -> None:
    costs = token_cost(hollow_model(LLAMA_8B), 1000)
    assert costs[5].weights == 4 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096)
    assert costs[5].cache == 1000 * 2 * 8 * 128 * 4
    assert costs[-1].weights == 4 * (128256 * 4096 + 4096)


def test_experts_windows_and_chunks_written_out() -> None:
    """Mixtral with 2 of 5 experts; a window of 17; chunks of 17 in one layer of two."""
    cost = token_cost(small_model("experts"), 9)[1]
    experts = 2 * 3 * 48 * 20
    assert cost.weights == 4 * (2 * 48 * 48 + 2 * 48 * 16 + 48 * 5 + experts + 2 * 48)
    key_and_value = 2 * 2 * 8 * 4
    window = small_model("window")
    assert [token_cost(window, s)[1].cache for s in (1, 17, 18, 60)] == [
        key_and_value * n for n in (1, 17, 17, 17)
    ]
    chunks = small_model("chunks and no positions, in turns")
    read = [[cost.cache for cost in token_cost(chunks, s)[1:3]] for s in (1, 17, 18, 40)]
    assert read == [[key_and_value * n, key_and_value * s] for n, s in ((1, 1), (17, 17), (1, 18), (6, 40))]


def test_narrow_types_count_their_own_bytes() -> None:
    wide, narrow = (
        token_cost(small_model("rope, groups", dtype), 5)[1].weights for dtype in ("float32", "bfloat16")
    )
    matrices = 2 * 48 * 48 + 2 * 48 * 16 + 3 * 48 * 80
    assert (wide, narrow) == (4 * matrices + 4 * 96, 2 * matrices + 4 * 96)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model_type)
def test_every_architecture(case: Any) -> None:
    """Parts sum to the whole, and states are as large as those that a cache allocates for so many tokens."""
    model = build(case.model_type, case.config("plain"))
    T = 30
    growth = state_growth(model, T)
    for t in (1, 2, T):
        allocated = [state.nbytes for state in model.new_cache(capacity=t).states]
        assert growth[:, t - 1].tolist() == allocated
        costs = token_cost(model, t)
        assert sum(cost.flops for cost in costs) == flops_per_token(model, t)
        layers = zip(costs[1:-1], model.blocks, strict=True)
        assert all((cost.cache > 0) == bool(mixers_of(block)) for cost, block in layers)
        assert all(cost.cache <= held for cost, held in zip(costs[1:-1], growth[:, t - 1], strict=True))
    tables = [n for n in ("embedding.tokens.weight", "embedding.positions.weight") if n in model.weights]
    assert tables
    rows = sum(np.asarray(model.weights[name]).nbytes / model.weights[name].shape[0] for name in tables)
    read = sum(cost.weights for cost in costs)
    everything = sum(array.nbytes for array in model.weights.values())
    once = everything - sum(model.weights[name].nbytes for name in tables) + rows
    tied = 0 if "head.weight" in model.weights else model.weights["embedding.tokens.weight"].nbytes
    share = 1.0
    routing = ("blocks.*.chosen", "blocks.*.router")
    with record(*routing, optional=True) as recording:
        model(random_ids(5))
    unread = 0.0
    for path, chosen in recording.items():
        if path.endswith("chosen"):
            E = recording[path.replace("chosen", "router")].shape[-1]
            share = chosen.shape[-1] / E
            block = path.partition("feed_forward")[0]
            experts = [n for n in model.weights if n.startswith(block) and ".experts." in n]
            unread += (1 - share) * sum(model.weights[name].nbytes for name in experts)
    assert read == pytest.approx(once + tied - unread, abs=len(costs))


def test_what_a_token_reads_is_what_attention_gets() -> None:
    """Keys and values of the taps, counted: grouped heads, latents."""
    for name, per_token in (("rope, groups", None), ("latent attention", (24 + 8) * 4)):
        model = small_model(name)
        with record() as recording:
            model(random_ids(20))
        cost = token_cost(model, 20)[1]
        if per_token is None:
            keys, values = (recording[f"blocks.0.attention.{tap}"] for tap in ("k_rotated", "v"))
            assert cost.cache == keys.nbytes + values.nbytes
        else:
            assert cost.cache == 20 * per_token


def test_times_of_generation() -> None:
    model, tokenizer = ts.load("stories")
    prompt = tokenizer.encode("Once upon a time")
    plain = ts.generate_ids(model, prompt, max_new_tokens=6, temperature=0.0, seed=0)
    begin = time.perf_counter()
    with block_times() as times:
        timed_ids = ts.generate_ids(model, prompt, max_new_tokens=6, temperature=0.0, seed=0)
    whole = time.perf_counter() - begin
    assert timed_ids == plain
    parts, table = times.table()
    assert parts == ["embedding", *(f"blocks.{i}" for i in range(len(model.blocks))), "output"]
    assert table.shape == (6, len(parts))  # the prompt, and five of the new tokens
    assert (table > 0).all()
    assert table.sum() < whole
    ts.generate_ids(model, prompt, max_new_tokens=2, temperature=0.0)
    assert len(times.calls) == 6  # nothing is timed outside


def test_times_are_those_of_the_block_that_took_them() -> None:
    model = small_model("learned positions")
    block = model.blocks[1]
    heard = []

    def slow(*given: Any) -> np.ndarray:
        heard.append(listening())
        time.sleep(0.05)
        return block(*given)

    model.blocks[1] = slow  # type: ignore[index]
    try:
        with block_times() as times:
            model(random_ids(3))
    finally:
        model.blocks[1] = block  # type: ignore[index]
    assert heard == [False]  # a clock is no listener: fast forms run
    (call,) = times.calls
    assert call["blocks.1"] >= 0.05
    assert call["blocks.1"] > 3 * call["blocks.0"]


def test_a_pass_that_breaks_off() -> None:
    class Clock:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def add(self, part: str, seconds: float) -> None:
            self.seen.append(part)

    clock = Clock()

    def fail() -> None:
        with timed("blocks.0"):
            raise KeyboardInterrupt

    with timing(clock), pytest.raises(KeyboardInterrupt):
        fail()
    with timed("blocks.1"):
        pass
    assert clock.seen == ["blocks.0"]
    with block_times() as times:
        times.add("embedding", 1.0)
        times.add("blocks.0", 2.0)
        times.add("embedding", 3.0)
    parts, table = times.table()
    assert parts == ["embedding", "blocks.0"]
    np.testing.assert_array_equal(table, [[1, 2], [3, np.nan]])


def test_errors() -> None:
    with pytest.raises(InputError, match="context = 0"):
        token_cost(small_model("rope, groups"), 0)
    config = ts.TinyStarConfig(hidden_size=32, num_layers=1, num_heads=4, mask="bidirectional")
    for ask in (token_cost, state_growth):
        with pytest.raises(InputError, match="has no cache"):
            ask(ts.TinyStar(config), 3)
