"""Which chat template a model that sees has, where its files have several: the one of its processor."""

import itertools
import json
from pathlib import Path

import pytest
from small_seeing import small_seeing_model
from transformers import AutoProcessor

import tinystar_np as ts

TOKENIZER, OLD, JINJA, PROCESSOR = (
    "tokenizer_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "processor_config.json",
)
FILES = (TOKENIZER, OLD, JINJA, PROCESSOR)
SOME = [some for count in range(1, 5) for some in itertools.combinations(FILES, count)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    small_seeing_model(directory)
    return directory


@pytest.mark.parametrize("some", SOME, ids="+".join)
def test_the_template_of_the_processor(some: tuple[str, ...], files: Path) -> None:
    for name in (OLD, JINJA):
        (files / name).unlink(missing_ok=True)
    for name in FILES:
        path = files / name
        said = json.loads(path.read_text()) if path.exists() else {}
        said.pop("chat_template", None)
        if name in some:
            said["chat_template"] = name
        if name == JINJA and name in some:
            path.write_text(name)
        elif said:
            path.write_text(json.dumps(said))
    theirs = AutoProcessor.from_pretrained(files, backend="pil")
    # Where only the tokenizer has one, transformers' processor has none, and asks for one.
    expected = theirs.chat_template or theirs.tokenizer.chat_template
    _, processor = ts.load(files)
    assert processor.chat_template.render([{"role": "user", "content": "Hello"}]) == expected
