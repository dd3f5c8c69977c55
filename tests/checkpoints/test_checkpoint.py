"""A model in one file or many: the mapping, and links that may be followed. Faults: test_bad_shards.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.model_files import INDEX_FILE
from tinystar_np.errors import CheckpointError

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
WEIGHT_MAP = {"a": FIRST, "b": FIRST, "c": SECOND}


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file({"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}, tmp_path / FIRST)
    save_file({"c": np.full(5, 7, np.float16)}, tmp_path / SECOND)
    write_index(tmp_path, WEIGHT_MAP)
    return tmp_path


def write_index(directory: Path, weight_map: object) -> None:
    (directory / INDEX_FILE).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def test_shards_are_one_mapping(sharded):
    checkpoint = open_checkpoint(sharded)
    assert sorted(checkpoint) == ["a", "b", "c"]
    assert len(checkpoint) == 3
    np.testing.assert_array_equal(checkpoint["a"], [0, 1, 2])
    np.testing.assert_array_equal(checkpoint.float32("c"), np.full(5, 7))
    assert [checkpoint.element_type(name) for name in "abc"] == ["F64", "F32", "F16"]
    assert [checkpoint.file_of(name).name for name in "abc"] == [FIRST, FIRST, SECOND]
    assert checkpoint.nbytes == 3 * 8 + 4 * 4 + 5 * 2
    assert "d" not in checkpoint
    with pytest.raises(KeyError):
        checkpoint["d"]


def test_a_single_file_is_preferred_to_an_index(sharded):
    save_file({"alone": np.zeros(1)}, sharded / "model.safetensors")
    assert list(open_checkpoint(sharded)) == ["alone"]


def test_a_tensor_that_the_index_forgot_is_still_seen(sharded):
    write_index(sharded, {"a": FIRST, "c": SECOND})
    assert "b" in open_checkpoint(sharded)


def test_links_within_the_hub_cache_are_followed(tmp_path):
    repository = tmp_path / "models--owner--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    for folder in (snapshot, repository / "blobs", tmp_path / "blobs" / "ab"):
        folder.mkdir(parents=True)
    save_file({"a": np.ones(1)}, repository / "blobs" / "first")
    save_file({"b": np.ones(1)}, tmp_path / "blobs" / "ab" / "shared")
    (repository / "blobs" / "second").symlink_to("../../blobs/ab/shared")
    (snapshot / FIRST).symlink_to("../../blobs/first")
    (snapshot / SECOND).symlink_to("../../blobs/second")
    write_index(snapshot, {"a": FIRST, "b": SECOND})
    assert sorted(open_checkpoint(snapshot)) == ["a", "b"]

    (repository / "blobs" / "first").write_bytes(b"damaged")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(snapshot)
    assert f"Delete {(repository / 'blobs' / 'first').resolve()} and" in str(caught.value)


def test_a_link_to_the_whole_directory_is_no_way_out(sharded, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "model"
    link.symlink_to(sharded)
    assert len(open_checkpoint(link)) == 3


def test_no_directory(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such directory"):
        open_checkpoint(tmp_path / "missing")
