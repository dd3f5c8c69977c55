"""Models damaged at random: loading and running them works, or raises an error of ours, and nothing else.

pytest tests/checkpoints/test_mutations.py                             some thousand cases
MUTATIONS=100000 pytest tests/checkpoints/test_mutations.py            a longer run
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from mutations import BYTE_WAYS, DEADLINE, JSON_WAYS, VALUES, Edit, Harness, damaged, outcomes_of
from small_checkpoints import MODELS, save_small_model

CASES = int(os.environ.get("MUTATIONS", 400))  # for each model
ROUND = 20  # cases that Hypothesis draws at once: each of its examples has some overhead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")

values = st.sampled_from(VALUES) | st.binary(max_size=12) | st.integers() | st.floats() | st.text(max_size=5)
edits: st.SearchStrategy[Edit] = st.tuples(
    st.integers(0, 15),
    st.sampled_from([*BYTE_WAYS, *JSON_WAYS * 3]),
    st.integers(0, 2**16),
    st.integers(1, 40) | st.integers(1, 20_000),
    values,
)
cases = st.lists(edits, min_size=1, max_size=2)


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    made = Harness()
    yield made
    made.close()


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(request.param, tmp_path_factory.mktemp(request.param))


def test_whole_models_work(model: Path, harness: Harness) -> None:
    assert harness.run(model, []) == "works"


def test_mutations(model: Path, harness: Harness) -> None:
    outcomes = outcomes_of(model, cases, harness, CASES, ROUND, fixed=CASES <= 400)
    assert sum(outcomes.values()) >= CASES // 2
    assert len(outcomes) > 2, outcomes  # not every case may come to the same


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("take 10 GB", "MemoryError"),
        ("fail", "KeyError: 'nothing'"),
        ("end the process", r"ended with -6"),
        ("hang", r"ended with -9 .*after 0.5"),
    ],
)
def test_what_may_not_be_is_seen(way: str, message: str, tmp_path: Path) -> None:
    harness = Harness()
    (tmp_path / "config.json").write_text("{}")
    assert harness.run(tmp_path, []) == "CheckpointError"
    harness.deadline = 0.5 if way == "hang" else DEADLINE
    with pytest.raises(AssertionError, match=message):
        harness.run(tmp_path, [(0, way, 0, 0, None)])
    harness.deadline = DEADLINE
    assert harness.run(tmp_path, []) == "CheckpointError"  # and the next case runs
    harness.close()


def test_ways_change_files() -> None:
    data = json.dumps({"a": [1, 2, {"b": None}], "c": "text"}).encode()
    for way in (*BYTE_WAYS, *JSON_WAYS):
        assert any(damaged(data, (0, way, place, 5, 7)) != data for place in range(5)), way
