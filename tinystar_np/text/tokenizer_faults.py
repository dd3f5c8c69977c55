"""What can go wrong with a tokenizer's files, turned into sentences.

The `tokenizers` package raises bare Exceptions, and where it fails itself what Python does not count as one
(a PanicException).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinystar_np.checkpoints.files_inside import file_inside
from tinystar_np.checkpoints.json_file import download_again, one_line
from tinystar_np.errors import CheckpointError, TinyStarError, TokenizerError

SIZE_LIMIT = 64_000_000  # bytes of a file; the largest of real models have 35 MB


def small_file(directory: Path, name: str) -> Path:
    """Find a file of the directory, which may not lead out of it nor be larger than such files are."""
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
    """Turn whatever is raised into a TokenizerError that names the file; Ctrl-C passes.

    path    the tokenizer's file
    beside  one that belongs to it
    """
    try:
        yield
    except CheckpointError as error:  # a JSON file of the tokenizer
        raise TokenizerError(str(error)) from error
    except TinyStarError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise damaged(path, error, beside) from error
        raise


def damaged(path: Path, problem: BaseException | str, beside: Path | None = None) -> TokenizerError:
    """Say what is wrong with a tokenizer's file, or with it and one that belongs to it."""
    named, again = str(path), download_again(path)
    if beside is not None:
        named, again = f"{named} or {beside.name}", f"{again}\n{download_again(beside)}"
    return TokenizerError(f"{named} cannot be read as a tokenizer: {one_line(str(problem))}.\n{again}")
