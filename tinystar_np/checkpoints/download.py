"""Fetching a model from the hub: its configuration, safetensors and tokenizer, or a GGUF file; nothing else.

1. What the hub says of the model, its commit and its files, is read and checked (hub_listing).
2. Each file that is needed is put into the hub's cache, once its bytes are checked (hub_store).
3. The list of the commit's files is written beside them, and last the branch's commit.

All of it has the form of the hub library's own cache, so that other programs find the model there.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tinystar_np.checkpoints.config_file import CONFIG_FILE
from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.gguf_choice import choose, has_gguf_alone, parts_of
from tinystar_np.checkpoints.hub import REVISION, read_ref, repository_folder
from tinystar_np.checkpoints.hub_answers import read_answer
from tinystar_np.checkpoints.hub_errors import explain, hub_error
from tinystar_np.checkpoints.hub_listing import read_listing
from tinystar_np.checkpoints.hub_store import remove_unless_regular, store
from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.checkpoints.model_files import (
    CONFIG_FILES,
    INDEX_FILE,
    SINGLE_FILE,
    instead_of_weights,
    read_index,
    small_files,
)
from tinystar_np.errors import HubError, TinyStarError
from tinystar_np.whole_file import whole_file

USUAL_ENDPOINT = "https://huggingface.co"
FILES_LIMIT = 2000  # of one model; the largest have some 200


def download(
    repository: str, revision: str | None, cache: Path, config_only: bool = False, gguf: str | None = None
) -> Path:
    """Download a model into the hub's cache, with the hub library's progress bars if stderr is a terminal.

    repository   such as "openai-community/gpt2"
    revision     a branch, tag or commit; None is the newest
    cache        the hub's cache
    config_only  fetch nothing but config.json, and what says how images are prepared
    gguf         fetch nothing but the GGUF file whose name has this type, all parts of it. If None, that is
                 done where there are no safetensors, for the type that is usual or the only one

    Returns the directory of its files, or the GGUF file. Raises HubError if the hub cannot be reached,
    refuses, or has no such files of this model, and CheckpointError for an invalid index; what was downloaded
    until then is kept, and the next try goes on from there.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or USUAL_ENDPOINT).rstrip("/")
    revision = revision or "main"
    try:
        with _quiet_library():
            files = _Files(repository, revision, cache, endpoint)
            has_config = config_only and CONFIG_FILE in files.on_hub
            if gguf or (has_gguf_alone(files.on_hub) and not has_config):
                parts = files.gguf(gguf, config_only)
                directory = files.fetch(parts)
                files.record(revision)
                return file_inside(directory, parts[0])
            if CONFIG_FILE not in files.on_hub:
                raise hub_error(
                    f"{repository} has no {CONFIG_FILE}.\nIt is not a model in the format of transformers."
                )
            # The weights come last, so that errors of the other files show before the long download.
            wanted = files.configs() if config_only else [*files.small(), *files.weights()]
            directory = files.fetch(wanted)
            files.record(revision)
            return directory
    except TinyStarError:
        raise
    except Exception as error:
        # "from None": a traceback of the library's errors may quote the access token.
        raise explain(error, repository, revision, endpoint, cache) from None


class _Files:
    """The files of a repository at one commit.

    The arguments are those of ``download``. Asks the hub for the list of files.
    """

    def __init__(self, repository: str, revision: str, cache: Path, endpoint: str) -> None:
        validate_repo_id(repository)
        if not REVISION.fullmatch(revision):
            raise hub_error(
                f"{repository} has no revision {shown(revision)}: git allows no such name.\n"
                "Ask for one of its branches, tags or commits, or for none."
            )
        url = f"{endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
        answer = read_answer(url, constants.HF_HUB_ETAG_TIMEOUT)
        self._listing = read_listing(answer, revision)
        self.on_hub = self._listing.files
        self._repository, self._endpoint = repository, endpoint
        self._folder = repository_folder(repository, cache)

    def small(self) -> list[str]:
        """List the model's files other than its weights."""
        return sorted(small_files(self.on_hub))

    def configs(self) -> list[str]:
        """List the files that say what the model is."""
        return sorted(CONFIG_FILES & self.on_hub.keys())

    def weights(self) -> list[str]:
        """List the files of the model's weights; raises TinyStarError if there are none that can be read."""
        if SINGLE_FILE in self.on_hub:
            return [SINGLE_FILE]
        if INDEX_FILE not in self.on_hub:
            there, what_to_do = instead_of_weights(self.on_hub)
            raise hub_error(f"{self._repository} has {there}.\n{what_to_do}")
        shards = set(read_index(self.fetch([INDEX_FILE])).values())
        if absent := sorted(shards - self.on_hub.keys()):
            raise hub_error(
                f"{self._repository}: {INDEX_FILE} names {absent[0]}, which the repository does not have.\n"
                "Only the model's authors can mend it: use another model or revision."
            )
        return [INDEX_FILE, *sorted(shards)]

    def gguf(self, wanted: str | None, config_only: bool) -> list[str]:
        """List the files of a GGUF model; raises HubError where it is not exactly one, or has missing parts.

        wanted       a type, or another part of its name
        config_only  raise HubError for any, as it has no configuration apart from it
        """
        parts = list(parts_of(choose(self._repository, self.on_hub, wanted)))
        if absent := [name for name in parts if name not in self.on_hub]:
            raise hub_error(
                f"{self._repository} has not all {len(parts)} parts of this model: {one_line(absent[0])} is "
                "missing.\nOnly the model's authors can mend it: use another type, model or revision."
            )
        if config_only:
            size = sum(self.on_hub[name].size or 0 for name in parts)
            raise hub_error(
                f"{self._repository}: what this model is stands in its GGUF file, which is not on this "
                f"machine.\nFetch all {size / 1e6:.1f} MB of it first, for example with `tinystar ask`."
            )
        return parts

    def fetch(self, names: list[str]) -> Path:
        """Fetch some of the files into the hub's cache, and return their directory."""
        if len(names) > FILES_LIMIT:
            raise hub_error(
                f"{self._repository} is a model of {len(names)} files, more than the {FILES_LIMIT} that are "
                "fetched.\nUse another model."
            )
        snapshot = self._folder / "snapshots" / self._listing.commit
        for name in names:
            if not (snapshot / name).is_file():
                url = hf_hub_url(
                    self._repository, name, revision=self._listing.commit, endpoint=self._endpoint
                )
                store(self.on_hub[name], url, snapshot)
        return snapshot

    def record(self, revision: str) -> None:
        """Write the list of files, and which commit a revision is: then it is found without the hub.

        Until all is here, a branch stays at its last complete commit.
        """
        commit = self._listing.commit
        tree = self._folder / "trees" / f"{commit}.json"
        # A link in place of that folder is not followed: nobody needs to move it.
        if self._listing.entries and not tree.is_file() and not tree.parent.is_symlink():
            _write(tree, json.dumps({"format_version": 1, "files": self._listing.entries}, indent=1))
        ref = self._folder / "refs" / revision
        if revision != commit and read_ref(ref) != commit:
            _write(ref, commit)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unless_regular(path)
    with whole_file(path, HubError) as file:
        file.write(text.encode())


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep the library's warnings off stderr: errors have messages of our own."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
