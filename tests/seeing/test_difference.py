"""Two files of models laid over each other: ``difference`` and ``compared``."""

import re
from types import ModuleType

import numpy as np
import pytest

from tinystar_np.errors import InputError
from tinystar_np.kernels import softmax
from tinystar_np.models import base, gpt2, gptj, llama, mistral
from tinystar_np.seeing.reading import compared, difference, lines_of


def changed(text: str) -> tuple[list[str], list[str]]:
    """The removed and the new lines of a difference."""
    lines = text.partition("```diff\n")[2].splitlines()
    removed, new = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
    return removed, new


def test_llama_and_mistral_differ_by_the_window() -> None:
    removed, new = changed(str(difference(llama.Block, mistral.Block)))
    assert len(removed) == 1
    assert removed[0].startswith("self.attention = Attention(")
    assert any("window=c.windows[i]" in line for line in new)
    # What names the model alone is no difference, nor are docstrings.
    assert not any("def __init__" in line or '"""' in line for line in (*removed, *new))


def test_removed_and_new_lines_make_both_sources() -> None:
    old, new = lines_of(gpt2.Block), lines_of(gptj.Block)
    body = str(difference(gpt2.Block, gptj.Block)).partition("```diff\n")[2].removesuffix("\n```")
    lines = body.splitlines()
    assert [line[1:] for line in lines if line[0] in " -"] == old
    assert [line[1:] for line in lines if line[0] in " +"] == new


def test_docstrings_are_left_out_and_code_is_kept() -> None:
    lines = lines_of(llama.LlamaConfig)
    assert lines[:2] == ["@dataclass(frozen=True)", "class Config(Config):"]
    assert lines[2].startswith("    vocab_size: int")  # no empty line where the docstring was
    assert not any('"""' in line for line in lines)
    assert sum(": " in line and "= " in line for line in lines) >= 15


def test_tables_of_weights_by_our_names_and_shapes() -> None:
    removed, new = changed(str(difference(llama, mistral)))
    assert removed == new == []  # a window has no weights, and biases are nobody's default
    removed, new = changed(str(difference(gpt2, llama)))
    assert "blocks.{i}.feed_forward.gate.weight  D F" in new
    assert "blocks.{i}.feed_forward.up.bias  F" in removed
    assert "head.weight  D V" in new  # GPT-2's is the embedding
    # A transposed matrix has the shape that we multiply by.
    assert "blocks.{i}.feed_forward.up.weight  D F" in lines_of(llama)


def test_equal_things_have_no_difference() -> None:
    assert "(no difference)" in str(difference(llama.Block, llama.Block))


def test_places_between_differences_are_marked() -> None:
    text = str(difference(gpt2, llama, context=0))
    assert "@@" not in text
    lines = text.partition("```diff\n")[2].splitlines()
    assert "  ⋮" in lines
    assert lines[0] != "  ⋮"  # only between two places
    assert re.search(r"#L\d+\)", str(difference(gpt2.Block, llama.Block)))


def test_tables_of_parts_as_one() -> None:
    rows = [row.split(" | ") for row in str(compared(gpt2, llama)).splitlines()]
    cells = {row[0].strip("| "): [cell.strip(" |") for cell in row[1:]] for row in rows}
    assert cells["norm"] == ["LayerNorm", "**RMSNorm**"]
    assert cells["block"] == ["sequential", "sequential"]


@pytest.mark.parametrize("other", [softmax, base], ids=lambda module: module.__name__)
def test_only_files_of_decoders_have_tables(other: ModuleType) -> None:
    for show in (compared, difference):
        with pytest.raises(InputError, match=f"{other.__name__} is not the file of a decoder"):
            show(gpt2, other)


def test_a_file_and_a_class_cannot_be_laid_over_each_other() -> None:
    with pytest.raises(InputError, match="or two model files"):
        difference(gpt2, gpt2.Block)
    with pytest.raises(InputError, match="of tinystar_np can be read so"):
        difference(gpt2.Block, np.sum)
