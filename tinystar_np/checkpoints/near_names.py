"""Models on this disk whose names are near one that was not found."""

import os

from tinystar_np.checkpoints.json_file import one_line

NEAR = 0.7
MOST = 3


def did_you_mean(name: str, cache_dir: str | os.PathLike[str] | None = None) -> str:
    """Return a sentence that names the models on this disk nearest to a name; "" where none is near."""
    if os.sep in name and (name.startswith((".", os.sep, "~")) or name.count(os.sep) > 1):
        near = _near_paths(os.path.expanduser(name))
    else:
        near = _near_models(name, None if cache_dir is None else os.fspath(cache_dir))
    return f"Did you mean {' or '.join(map(one_line, near))}?" if near else ""


def _near_models(name: str, cache_dir: str | None) -> list[str]:
    from tinystar_np.checkpoints.local_models import list_local_models  # late: it imports hub.py

    models = dict.fromkeys(model.name for model in list_local_models(cache_dir))
    # By the whole name, or by what stands after the owner's.
    spellings: dict[str, str] = {}
    for model in models:
        for spelling in (model, model.rpartition("/")[2]):
            spellings.setdefault(spelling.casefold(), model)
    found: list[str] = []
    for asked in (name, name.rpartition("/")[2]):
        near = _near(asked.casefold(), list(spellings))
        found += [spellings[spelling] for spelling in near]
    # A repository that is there and lacks a type of file says itself which types it has.
    others = (model for model in dict.fromkeys(found) if model.partition(":")[0] != name.partition(":")[0])
    return list(others)[:MOST]


def _near_paths(path: str) -> list[str]:
    """Return paths beside one that is not there."""
    folder, wanted = os.path.split(path.rstrip(os.sep))
    try:
        with os.scandir(folder or ".") as entries:
            names = [entry.name for _, entry in zip(range(10_000), entries, strict=False)]
    except OSError:
        return []
    return [os.path.join(folder, near) for near in _near(wanted, names)]


def _near(name: str, names: list[str]) -> list[str]:
    from difflib import get_close_matches  # late: models that are found do not wait for it

    return get_close_matches(name, names, n=MOST, cutoff=NEAR)
