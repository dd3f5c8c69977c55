"""Run the examples of docs/looking_inside.md, and write what they print after them.

    python docs/tools/looking_inside.py

Every block of Python is followed by a block of text with what it prints. Blocks share their names, in order.
A new model begins a new part, which can be run by itself: it finds ``np`` and ``ts`` imported.
"""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "looking_inside.md"
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n```text\n(?P<printed>.*?)```\n", re.DOTALL)
LOAD = re.compile(r'ts\.load\("(\w+)"\)')


def parts(text: str) -> dict[str, list[tuple[str, str]]]:
    """Divide the page's examples by the model that they load: {its name: [(code, what it prints), …]}."""
    found: dict[str, list[tuple[str, str]]] = {}
    for code, printed in EXAMPLE.findall(text):
        model = LOAD.search(code)
        if model:
            examples = found[model[1]] = []
        examples.append((code, printed))
    return found


def run(codes: list[str]) -> list[str]:
    """Run the examples of a part one after the other; return what each prints."""
    names: dict[str, object] = {}
    exec("import numpy as np\nimport tinystar_np as ts", names)
    printed = []
    for code in codes:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(code, names)
        printed.append(output.getvalue())
    return printed


def page(text: str) -> str:
    """Return the page with what its examples print."""
    printed = [output for part in parts(text).values() for output in run([code for code, _ in part])]
    outputs = iter(printed)
    return EXAMPLE.sub(lambda found: f"```python\n{found['code']}```\n```text\n{next(outputs)}```\n", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
