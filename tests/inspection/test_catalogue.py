"""The catalogue of architectures: every model file says enough of itself."""

import pytest

from tinystar_np.inspection.catalogue import Entry, catalogue

ENTRIES = catalogue()


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.model_type for entry in ENTRIES])
def test_every_docstring_says_enough(entry: Entry) -> None:
    assert 2019 <= int(entry.year) <= 2026
    assert 0 < len(entry.name) < 60
    assert entry.rows
    for column in ("attention", "position", "norm", "block"):
        assert entry.summary[column], column
    assert entry.new.startswith("New in it")
    assert len(entry.new) > 100
    assert entry.papers or entry.model_type == "gpt2"  # whose paper is on no server
