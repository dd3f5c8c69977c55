"""README's reading list of GPT-2's forward pass: the files that run, and how many lines there are to read."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tinystar_np"
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("### All of GPT-2's forward pass")[2].partition("\n## ")[0]
SKIPPED = {"tap.py"}

# Runs a small GPT-2 and writes down what ran: {file: [function, …]}.
PROGRAM = """
import json, sys
from pathlib import Path

import numpy as np

import tinystar_np
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.models.gpt2 import GPT2, GPT2Config

package = Path(tinystar_np.__file__).parent
config = GPT2Config.from_dict({"vocab_size": 50, "n_positions": 16, "n_embd": 12, "n_layer": 2, "n_head": 3})
rows = expand(GPT2.WEIGHTS, config)
model = GPT2(config, {name: np.ones(row.shape, dtype=np.float32) for name, row in rows.items()})
cache = model.new_cache()
ran = {}


def note(frame, event, argument):
    path = Path(frame.f_code.co_filename)
    if path.is_relative_to(package):
        ran.setdefault(path.relative_to(package).as_posix(), set()).add(frame.f_code.co_qualname)


sys.settrace(note)
model([1, 2, 3])  # a text by itself,
model([1, 2, 3], cache=cache)  # a prompt,
model([4], cache=cache, last_only=True)  # and a token after it
sys.settrace(None)
print(json.dumps({file: sorted(functions) for file, functions in ran.items()}))
"""


def what_runs() -> dict[str, list[str]]:
    """Which functions of which files run in a forward pass, by the kernels themselves."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "TINYSTAR_NP_KERNELS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    ran: dict[str, list[str]] = json.loads(done.stdout)
    return ran


def lines_to_read(file: str, functions: list[str]) -> int:
    """Lines of a file's docstring and of what runs, with a class's docstring, attributes and __init__."""

    def parts(nodes: list[ast.stmt], path: str) -> Iterator[ast.stmt]:
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                if any(name.startswith(f"{path}{node.name}.") for name in functions):
                    yield from parts(node.body, f"{path}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                if (path and node.name == "__init__") or path + node.name in functions:
                    yield node
            elif path:
                yield node

    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    read = [tree.body[0], *parts(tree.body[1:], "")]
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in read)


def test_the_reading_list_is_what_runs() -> None:
    ran = what_runs()
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", SECTION, re.MULTILINE)
    assert sorted(listed) == sorted(ran.keys() - SKIPPED)
    for file in SKIPPED:
        assert f"`{file}`" in SECTION, f"README does not say that {file} may be skipped"
    found = re.search(r"about (\d+) lines", SECTION)
    assert found
    lines = sum(lines_to_read(file, ran[file]) for file in listed)
    assert abs(lines - int(found[1])) <= 20, f"it is {lines} lines now"
    assert lines <= 900
