"""Write docs/config_keys.md: what tests say of each key of the architectures' config.json.

    python docs/tools/config_keys.py

tests/switches.py finds it, by trial against transformers, and writes tests/switches.json, which is read here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PAGE = Path(__file__).parents[1] / "config_keys.md"
FOUND = Path(__file__).parents[2] / "tests" / "switches.json"
HEAD = """# The keys of config.json, as tested

For each architecture: with which values of a key the logits were compared with transformers' and are the
same, which values are refused with an error that names the key, and which keys change nothing, in
transformers and here. A part of an object is called `object.part`. The page is written from what the tests
found:

    python tests/switches.py > tests/switches.json
    python docs/tools/config_keys.py
"""


def page() -> str:
    """Write the page."""
    found = json.loads(FOUND.read_text(encoding="utf-8"))
    links = " · ".join(f"[{model_type}](#{model_type})" for model_type in found)
    return "\n".join([HEAD, links, *(line for item in found.items() for line in section(*item))]) + "\n"


def section(model_type: str, found: Mapping[str, object]) -> Iterator[str]:
    """Write what is known of one architecture's keys."""
    compared, refused, inert = found["compared"], found["refused"], found["without_mathematics"]
    assert isinstance(compared, dict)
    assert isinstance(refused, dict)
    assert isinstance(inert, list)
    yield from ("", f"## {model_type}", "", "| key | the same logits with | refused |", "|---|---|---|")
    for key in sorted({*compared, *refused}):
        yield f"| `{key}` | {listed(compared.get(key, ()))} | {listed(refused.get(key, ()))} |"
    yield from ("", f"Without mathematics: {', '.join(f'`{key}`' for key in inert)}.")


def listed(values: Iterable[object]) -> str:
    """List a key's values as JSON has them."""
    return ", ".join(json.dumps(value).replace("|", "\\|") for value in values)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
