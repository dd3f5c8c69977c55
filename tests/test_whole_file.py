"""Files that are written as a whole or not at all: full disks, Ctrl-C, links, permissions."""

import os
import resource
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tinystar_np as ts
from tinystar_np.checkpoints.safetensors_writer import write_arrays
from tinystar_np.cli.main import tinystar
from tinystar_np.errors import CheckpointError, InputError, TinyStarError
from tinystar_np.whole_file import whole_file


@contextmanager
def room_for(nbytes: int) -> Iterator[None]:
    """Let no file grow beyond this: writing more fails as it does on a full disk, in every library."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    old = path.open("rb")
    with whole_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert old.read() == b"old"
    old.close()
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("reason", [KeyboardInterrupt, ValueError])
def test_whatever_breaks_off_leaves_no_trace(
    there: bool, reason: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")

    def break_off() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise reason

    with pytest.raises(reason):
        break_off()
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([b"old"] if there else [])


@pytest.mark.parametrize("flushed", [True, False])
def test_a_full_disk(flushed: bool, tmp_path: Path) -> None:
    """Noticed in the block or, with the last bytes still in Python's buffer, only when it ends."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(error: type[TinyStarError]) -> None:
        with room_for(1000), whole_file(path, error) as file:
            file.write(b"new" * 1000)
            if flushed:
                file.flush()

    with pytest.raises(
        CheckpointError, match=r"cannot be written \(.*\)\. The file .* is unchanged"
    ) as caught:
        write(CheckpointError)
    assert str(caught.value).startswith(str(path))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    path.unlink()
    with pytest.raises(InputError, match=r"written \([^)]*\)\.$"):
        write(InputError)
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    for path in (Path("/dev/full"), tmp_path):
        with (
            pytest.raises(CheckpointError, match=r"no ordinary file|is a directory"),
            whole_file(path) as file,
        ):
            file.write(b"new")
    assert not Path("/dev/full").is_file()
    for name in ("a\0b", "a\ud800b"):
        with pytest.raises(CheckpointError, match="no file can have this name"), whole_file(tmp_path / name):
            pass
    with (
        pytest.raises(CheckpointError, match="No such file or directory"),
        whole_file(tmp_path / "no" / "file"),
    ):
        pass


def test_links_permissions_and_long_names(tmp_path: Path) -> None:
    """A link into the hub's cache is replaced: the file there bears its content as its name."""
    blob, link = tmp_path / "blob", tmp_path / "link"
    blob.write_bytes(b"old")
    link.symlink_to(blob)
    for path in (link, tmp_path / ("日" * 85)):
        with whole_file(path) as file:
            file.write(b"new")
        assert path.read_bytes() == b"new"
    assert blob.read_bytes() == b"old"
    assert not link.is_symlink()
    new = stat.S_IMODE(link.stat().st_mode)
    (tmp_path / "plain").write_bytes(b"")
    assert new == stat.S_IMODE((tmp_path / "plain").stat().st_mode) == stat.S_IMODE(blob.stat().st_mode)
    link.chmod(0o640)
    with whole_file(link) as file:
        file.write(b"newer")
    assert stat.S_IMODE(link.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o400)
    with pytest.raises(CheckpointError, match="read-only"), whole_file(path) as file:
        file.write(b"new")
    path.chmod(0o600)
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"), whole_file(path) as file:
        file.write(b"new")
    tmp_path.chmod(0o700)
    assert path.read_bytes() == b"old"


def test_arrays_of_every_kind_and_order_are_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 100, (3, 4, 5))
    kinds = ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">f4")
    arrays = {f"{kind} ä": numbers.astype(kind) for kind in kinds}
    arrays |= {"turned": numbers.astype("f4").T, "empty": np.zeros((0, 3), "f4"), "one": np.array(7.5)}
    with whole_file(tmp_path / "file") as file:
        write_arrays(file, arrays, {"format": "a 日\n"})
    found = load_file(tmp_path / "file")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")


def test_writing_takes_no_memory(tmp_path: Path) -> None:
    arrays = {f"{i}.keys": np.ones((1000, 1000), np.float32) for i in range(8)}  # 32 MB
    with whole_file(tmp_path / "file") as file:
        tracemalloc.start()  # NumPy's own arrays count, and Python's bytes
        write_arrays(file, arrays, {})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1_000_000


# What people save.


def test_a_cache_on_a_full_disk(talking_model: Path, tmp_path: Path) -> None:
    model, _ = ts.load(talking_model)
    cache = model.new_cache()
    model([1, 2, 3], cache=cache)
    (tmp_path / "saved").mkdir()
    path = tmp_path / "saved" / "prompt.cache"
    cache.save(path)
    before = path.read_bytes()
    model(np.arange(80), cache=cache)
    with room_for(len(before)), pytest.raises(CheckpointError, match=r"prompt.cache: cannot be written"):
        cache.save(path)
    assert path.read_bytes() == before
    assert names(path.parent) == ["prompt.cache"]
    assert model.load_cache(path).lengths.tolist() == [3]
    cache.save(path)  # there is room again
    assert model.load_cache(path).lengths.tolist() == [83]


@pytest.mark.parametrize("room", [100, 1000, 100_000])
def test_a_model_on_a_full_disk(room: int, tmp_path: Path) -> None:
    """Config, settings and weights stay those of one model, whichever of the three files found no room."""
    config = ts.TinyStarConfig(hidden_size=32, num_layers=2, num_heads=4)
    ts.TinyStar(config, seed=1).save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    other = ts.TinyStar(ts.TinyStarConfig(hidden_size=64, num_layers=8, num_heads=4), end_ids=range(50))
    with room_for(room), pytest.raises(CheckpointError, match="cannot be written"):
        other.save(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    with room_for(room), pytest.raises(CheckpointError, match="cannot be written"):
        other.save(tmp_path / "new")
    assert names(tmp_path / "new") == []
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(CheckpointError, match="taken: cannot be made"):
        other.save(tmp_path / "taken")


def test_a_picture_on_a_full_disk(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["experiments", "v0.2-modern", "v0.4-mqa", "--rounds", "0", "-q", "--plot"]
    for name in ("picture.png", "picture.svg"):
        path = tmp_path / name
        assert tinystar([*arguments, str(path)]) == 0
        before = path.read_bytes()
        assert len(before) > 5000
        capsys.readouterr()
        with room_for(3000):
            assert tinystar([*arguments, str(path)]) == 1
        assert f"{path}: cannot be written" in capsys.readouterr().err
        assert path.read_bytes() == before
    assert names(tmp_path) == ["picture.png", "picture.svg"]


def test_two_writers_at_once(tmp_path: Path) -> None:
    """Each writes a file of its own: what remains is one of the two, whole."""
    program = (
        "import sys; from pathlib import Path; from tinystar_np.whole_file import whole_file\n"
        "for _ in range(30):\n"
        "    with whole_file(Path(sys.argv[1])) as file:\n"
        "        for _ in range(20): file.write(sys.argv[2].encode() * 5000)"
    )
    path = tmp_path / "file"
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            data = path.read_bytes()
            assert data in (b"a" * 100_000, b"b" * 100_000)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["file"]
