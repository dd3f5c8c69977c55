"""What can go wrong within the `tokenizers` package, turned into sentences.

It raises bare Exceptions, and where it fails itself what Python does not count as one (a PanicException).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinystar_np.checkpoints.json_file import download_again, one_line
from tinystar_np.errors import TinyStarError, TokenizerError


@contextmanager
def package_faults(path: Path, beside: Path | None = None) -> Iterator[None]:
    """Turn what the package raises into a TokenizerError that names the file; Ctrl-C passes.

    path    the tokenizer's file
    beside  one that belongs to it
    """
    try:
        yield
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
