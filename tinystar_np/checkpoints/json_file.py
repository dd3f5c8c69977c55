"""Reading untrusted JSON files, with checks that the json module leaves out: duplicate keys, depth and size.

A model's config.json, its index and the header of a safetensors file are all read here.
"""

import json
import math
import os
import sys
from collections import Counter
from pathlib import Path
from reprlib import Repr
from typing import Any

from tinystar_np.errors import CheckpointError

# Parsed JSON takes up to twenty times its size in the file: "[]," is 3 bytes there, and 64 in memory. The
# largest real files are the indexes of huge mixtures of experts (10 MB).
SIZE_LIMIT = 30_000_000
MOST_PARTS = 2_000_000  # lists and objects, each of which takes a microsecond; real files have up to 600 000
DEPTH_LIMIT = 64  # real files nest four or five levels

# JSON has no infinity: transformers 5 writes one as {"__float__": "Infinity"}.
SPECIAL_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}

LONGEST = 200  # characters of an untrusted text in an error message

# What JSON is in Python. Any, as what stands under a key is checked where the key is read.
JsonObject = dict[str, Any]


def read_json_object(path: Path, limit: int | None = None, remedy: str | None = None) -> JsonObject:
    """Read a file that holds one JSON object.

    limit   the most bytes it may have, ``SIZE_LIMIT`` if None
    remedy  what to do where it is damaged; None for a file of a model, which is downloaded again

    Raises CheckpointError if the file is missing, unreadable, larger than that, or no JSON object.
    """
    limit = SIZE_LIMIT if limit is None else limit
    if not os.path.isfile(path):  # reading from a pipe or a device may never end
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            data = file.read(size + 1) if size <= limit else b""
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    if max(size, len(data)) > limit:
        raise CheckpointError(
            f"{path}: larger than {limit / 1e6:g} MB, which no file of its kind is.\n"
            f"{remedy or download_again(path)}"
        )
    return parse_json_object(data, path, remedy)


def parse_json_object(data: bytes, source: Path, remedy: str | None = None) -> JsonObject:
    """Parse the bytes of a JSON object.

    data    UTF-8 text
    source  the file the bytes are from, for error messages
    remedy  as of ``read_json_object``

    Raises CheckpointError if the bytes are not UTF-8, not JSON, nested too deeply, not an object, or hold the
    same key twice in one object.
    """
    remedy = remedy or download_again(source)

    def build_object(pairs: list[tuple[str, Any]]) -> JsonObject | float:
        result = dict(pairs)
        if len(result) < len(pairs):
            key = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
            raise CheckpointError(f"{source}: the key {shown(key)} stands there twice.\n{remedy}")
        if list(result) == ["__float__"]:
            return SPECIAL_FLOATS.get(str(result["__float__"]), result)
        return result

    too_deep = "its lists or objects are nested too deeply"
    if data.count(b"{") + data.count(b"[") > MOST_PARTS:
        raise CheckpointError(f"{source}: it has more than {MOST_PARTS} lists and objects.\n{remedy}")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=build_object)
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        problem = f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        problem = too_deep
    except ValueError:  # Python's own limit, as the time to read a number grows with the square of its length
        problem = f"a number has more than {sys.get_int_max_str_digits()} digits"
    else:
        if not isinstance(value, dict):
            problem = f"holds a {type(value).__name__}, expected an object {{...}}"
        elif _is_deeper(value, DEPTH_LIMIT):
            problem = too_deep
        else:
            return value
    raise CheckpointError(f"{source}: {problem}.\n{remedy}")


def _is_deeper(value: JsonObject, limit: int) -> bool:
    """Say whether lists and objects are nested more than ``limit`` deep."""
    level: list[Any] = [value]
    for _ in range(limit):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
    return bool(level)


def download_again(path: Path) -> str:
    """Return a sentence on how to replace a damaged file.

    Files in the hub's cache are links to blobs. After deleting only the link the damaged blob would be used
    again, so the sentence names the file that the link leads to.
    """
    return f"Delete {path.resolve()} and download it again."


def shown(value: object) -> str:
    """Return an untrusted value's repr for an error message: on one line, and cut to a short length."""
    try:
        return one_line(_SHORT.repr(value))
    except ValueError:  # Python writes out no number of more than some thousand digits
        return "a value with an endless number"


def one_line(words: object, most: int = LONGEST) -> str:
    """Return untrusted text for an error message: without control characters, and cut to ``most`` of them.

    words  a text, or what ``str`` makes one of: a path, an exception of a library
    """
    text = str(words)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: most + 1])
    return text if len(text) <= most else f"{text[:most]}…"


_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 40
