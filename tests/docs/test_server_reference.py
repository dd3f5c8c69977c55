"""docs/reference/server.md: no field and no path is left out, and what it calls refused is refused."""

import re
from pathlib import Path

from tinystar_np.serving import app
from tinystar_np.serving.requests import UNSUPPORTED, ChatRequest, CompletionRequest

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "server.md").read_text(encoding="utf-8")


def named(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", text))


def test_every_field_is_named() -> None:
    fields = PAGE.partition("\n## Fields")[2].partition("**Refused**")[0]
    assert {*CompletionRequest.model_fields, *ChatRequest.model_fields} <= named(fields)


def test_what_is_refused_is_named() -> None:
    refused, _, ignored = PAGE.partition("**Refused**")[2].partition("**Ignored**")
    assert named(refused) == set(UNSUPPORTED)
    assert not named(ignored.partition("\n## ")[0]) & {*UNSUPPORTED, *CompletionRequest.model_fields}


def test_every_path_is_named() -> None:
    source = Path(app.__file__).read_text(encoding="utf-8")
    paths = set(re.findall(r'\("(?:GET|POST)", "(/[\w/]+)"', source))
    assert len(paths) > 8
    assert all(f"{path}`" in PAGE for path in paths)
