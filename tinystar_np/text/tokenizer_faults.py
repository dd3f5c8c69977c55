"""Errors of a tokenizer's files: whatever the `tokenizers` package raises becomes a TokenizerError.

The package raises bare Exceptions, and a PanicException, which is no subclass of Exception, where it fails.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import download_again, one_line
from tinystar_np.errors import CheckpointError, TinyStarError, TokenizerError

SIZE_LIMIT = 64_000_000  # bytes of a file; the largest of real models have 35 MB

UNKNOWN = ("Missing [UNK] token from the vocabulary", "`unk_id` is missing")
"""What the package's models say of a text for which they have neither a token nor one for unknown words."""


class NotOrdinaryError(Exception):
    """A tokenizer is not like those of known models (ordinary.py), so that it must run in a worker."""


def small_file(directory: Path, name: str) -> Path:
    """Return a file's path; raises TokenizerError if it leads out of the directory or is too large."""
    path = directory / name
    with package_faults(path):
        path = file_inside(directory, name)
    if path.stat().st_size > SIZE_LIMIT:
        raise TokenizerError(
            f"{path}: larger than {SIZE_LIMIT // 1_000_000} MB, which no tokenizer is.\n"
            f"{download_again(path)}"
        )
    return path


@contextmanager
def package_faults(path: Path, beside: Path | None = None) -> Iterator[None]:
    """Convert whatever is raised to a TokenizerError that names the file, except Ctrl-C.

    path    the tokenizer's file
    beside  a second file of the same tokenizer
    """
    try:
        yield
    except CheckpointError as error:  # a JSON file of the tokenizer
        raise TokenizerError(str(error)) from error
    except (TinyStarError, NotOrdinaryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise damaged(path, error, beside) from error
        raise


def is_unknown(error: Exception) -> bool:
    """Say whether a tokenizer has no token for a part of a text; its files are in order."""
    return any(words in str(error) for words in UNKNOWN)


def damaged(path: Path, problem: BaseException | str, beside: Path | None = None) -> TokenizerError:
    """Return the error for a damaged tokenizer of one file or two."""
    named, again = str(path), download_again(path)
    if beside is not None:
        named, again = f"{named} or {beside.name}", f"{again}\n{download_again(beside)}"
    return TokenizerError(f"{named} cannot be read as a tokenizer: {one_line(str(problem))}.\n{again}")
