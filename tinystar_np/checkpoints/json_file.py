"""JSON from strangers: an object, read with the checks that the json module leaves out.

The json module takes the last of two equal keys, recurses as deep as the file asks, and reads files of any
size. A model's config.json, its index and the header of a safetensors file all pass through here instead.
"""

import json
import math
from pathlib import Path
from typing import Any

from tinystar_np.errors import CheckpointError

# The largest JSON files of real models are tokenizers (about 35 MB) and the indexes of huge mixtures (10 MB).
SIZE_LIMIT = 100_000_000

# JSON has no infinity: transformers 5 writes one as {"__float__": "Infinity"}.
SPECIAL_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def parse_json_object(data: bytes, source: Path) -> dict[str, Any]:
    """Turn the bytes of a JSON object into a dictionary.

    data    UTF-8 text
    source  the file the bytes are from, for error messages

    Raises CheckpointError if the bytes are not UTF-8, not JSON, nested too deeply, not an object, or hold the
    same key twice in one object.
    """

    def build_object(pairs: list[tuple[str, Any]]) -> Any:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise CheckpointError(
                    f"{source}: the key {key!r} stands there twice.\n{download_again(source)}"
                )
            result[key] = value
        if list(result) == ["__float__"]:
            return SPECIAL_FLOATS.get(str(result["__float__"]), result)
        return result

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=build_object)
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        problem = f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        problem = "its lists or objects are nested too deeply"
    except ValueError as error:  # a number of thousands of digits
        problem = str(error)
    else:
        if isinstance(value, dict):
            return value
        problem = f"holds a {type(value).__name__}, expected an object {{...}}"
    raise CheckpointError(f"{source}: {problem}.\n{download_again(source)}")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises CheckpointError if the file is missing, unreadable, larger than ``SIZE_LIMIT``, or not such a file.
    """
    # Only regular files: a read from a pipe or a device may never end.
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(data) > SIZE_LIMIT:
        raise CheckpointError(
            f"{path}: larger than {SIZE_LIMIT // 1_000_000} MB, which no model's JSON file is.\n"
            f"{download_again(path)}"
        )
    return parse_json_object(data, path)


def download_again(path: Path) -> str:
    """Say how to replace a damaged file.

    Files in the hub's cache are links to blobs. Deleting only the link would bring the damaged blob back, so
    the sentence names the file that the link leads to.
    """
    return f"Delete {path.resolve()} and download it again."
