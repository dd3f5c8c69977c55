"""All models on this machine that are found without the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tinystar_np.checkpoints.hub import find_snapshot, hub_cache_directory, model_folders
from tinystar_np.checkpoints.hub_gguf import list_gguf
from tinystar_np.checkpoints.installed import installed_models
from tinystar_np.checkpoints.model_files import has_model, model_in, weight_files

REFS_LIMIT = 10_000  # of a model's branches and tags, in a list: a link could lead to a whole disk


@dataclass(frozen=True)
class LocalModel:
    """A model on this disk."""

    name: str  # as find_model takes it
    revision: str | None  # as find_model takes it; None is "main" of the hub, or no revision at all
    place: str  # "shipped", "weights_cache", "package" or "hub cache"
    path: Path  # the directory, or the GGUF file
    nbytes: int  # of its safetensors files, or the GGUF files


def list_local_models(cache_dir: str | Path | None = None) -> list[LocalModel]:
    """List the models that ``find_model`` finds without the network, nearest place first.

    cache_dir  the hub's cache, in place of the usual one
    """
    return [
        LocalModel(name, revision, place, path, sum(file.stat().st_size for file in weight_files(path)))
        for name, revision, place, path in _places(hub_cache_directory(cache_dir))
        if has_model(path)
    ]


def _places(cache: Path) -> Iterator[tuple[str, str | None, str, Path]]:
    """Yield what may be a model: folder/model, folder/owner/model, packages' files, the cache's snapshots."""
    for folder, place in model_folders().items():
        for directory in sorted([*folder.glob("*/"), *folder.glob("*/*/")]):
            yield directory.relative_to(folder).as_posix(), None, place, model_in(directory) or directory
    for name, path in installed_models().items():
        yield name, None, "package", path
    for repository in sorted(cache.glob("models--*")):
        name = repository.name.removeprefix("models--").replace("--", "/")
        refs = repository / "refs"
        for ref in sorted(islice(refs.rglob("*"), REFS_LIMIT)):
            revision = ref.relative_to(refs).as_posix()
            if snapshot := find_snapshot(repository, revision):
                shown = None if revision == "main" else revision
                yield name, shown, "hub cache", snapshot
                for label, path in list_gguf(snapshot):
                    if label:
                        yield f"{name}:{label}", shown, "hub cache", path
                    else:  # a path is of no revision
                        yield str(path), None, "hub cache", path
