"""The models that are on this machine already, so that they can be listed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinystar_np.checkpoints.hub import model_folders
from tinystar_np.checkpoints.hub_cache import find_snapshot, hub_cache_directory
from tinystar_np.checkpoints.model_files import has_model
from tinystar_np.checkpoints.shard_index import weight_files


@dataclass(frozen=True)
class LocalModel:
    """A model on this disk."""

    name: str  # as find_model takes it
    revision: str | None  # as find_model takes it; None is "main" of the hub, or no revision at all
    place: str  # "shipped", "weights_cache" or "hub cache"
    path: Path
    nbytes: int  # of its safetensors files


def list_local_models(cache_dir: str | Path | None = None) -> list[LocalModel]:
    """List the models that ``find_model`` finds without the network, nearest place first.

    cache_dir  the hub's cache, in place of the usual one
    """
    models = [model for folder, place in model_folders().items() for model in _in_folder(folder, place)]
    return models + list(_in_hub_cache(hub_cache_directory(cache_dir)))


def _in_folder(folder: Path, place: str) -> Iterator[LocalModel]:
    """Models directly in a folder, named folder/model or folder/owner/model."""
    for directory in sorted([*folder.glob("*/"), *folder.glob("*/*/")]):
        if has_model(directory):
            name = directory.relative_to(folder).as_posix()
            yield LocalModel(name, None, place, directory, _size(directory))


def _in_hub_cache(cache: Path) -> Iterator[LocalModel]:
    """Models in the hub's cache, one for each branch or tag that was asked for."""
    for repository in sorted(cache.glob("models--*")):
        name = repository.name.removeprefix("models--").replace("--", "/")
        refs = repository / "refs"
        for ref in sorted(path for path in refs.rglob("*") if path.is_file()):
            revision = ref.relative_to(refs).as_posix()
            snapshot = find_snapshot(name, revision, cache)
            if snapshot is not None and has_model(snapshot):
                asked = None if revision == "main" else revision
                yield LocalModel(name, asked, "hub cache", snapshot, _size(snapshot))


def _size(directory: Path) -> int:
    """Bytes of a model's safetensors files."""
    return sum(path.stat().st_size for path in weight_files(directory))
