"""The table of taps in code is the one in docs/taps.md, and says which axis is which."""

import re
from pathlib import Path

import pytest

from tinystar_np.errors import InputError
from tinystar_np.seeing.axes import TABLES, axes_of, check_pattern, with_heads

OF_IMAGES = (
    "images.*",
    "images.7.vectors",
    "images.0.encoder.blocks.11.attention.mixed",
    "images.*.encoder.blocks.[0-3].residual",
    "images.2.encoder.deep.1.norm",
    "embedding.images",
    "image.encoder.pooling.attention.scores",
    "text.vectors",
)
NONE_OF_IMAGES = ("images.0", "images.0.vector", "image.0.encoder.blocks.1.residual", "vectors")
DOCUMENT = Path(__file__).parents[2] / "docs" / "taps.md"


def test_the_table_is_the_documented_one() -> None:
    """Each tap with its shape and its words; both ways."""
    before = r"(?:blocks\.\{i\}\.|(?:images\.\{j\}|image(?=\.encoder))\.(?:encoder\.(?:merger\.)?)?)?"
    rows = re.findall(rf"^\| `{before}(.+?)` \| (\(.+?\)) \| (.+?) \|$", DOCUMENT.read_text(), re.M)
    assert len(rows) > 70
    ours = [(name, *facts) for table in TABLES for name, facts in table.items()]
    assert sorted(ours) == sorted(rows)


def test_axes() -> None:
    assert axes_of("blocks.3.attention.scores", 4) == ("B", "H", "T", "S")
    assert axes_of("blocks.3.attention.gate", 4) == ("B", "T", "H", "K")
    assert axes_of("logits", 3) == ("B", "T", "V")
    with pytest.raises(InputError, match="no tap whose axes are known"):
        axes_of("blocks.3.attention.scores", 3)


def test_names_that_mean_different_things_in_different_layers() -> None:
    """Told apart by what else the same block has, and by the number of axes."""
    mamba1 = [f"blocks.0.mixer.{name}" for name in ("in", "convolution", "x", "selection")]
    mamba2 = [f"blocks.1.mixer.{name}" for name in ("in", "convolution", "x", "B", "C")]
    both = mamba1 + mamba2
    assert axes_of("blocks.0.mixer.time_step", 3, both) == ("B", "T", "F")
    assert axes_of("blocks.1.mixer.time_step", 3, both) == ("B", "T", "H")
    assert axes_of("blocks.0.mixer.x", 3) == ("B", "T", "F")
    assert axes_of("blocks.0.mixer.x", 4) == ("B", "T", "H", "P")
    latent = ["blocks.0.attention.q_down"]
    assert axes_of("blocks.0.attention.q_norm", 3, latent) == ("B", "T", "Q")
    assert axes_of("blocks.0.attention.q_norm", 4, latent) == ("B", "H", "T", "K")


def test_images() -> None:
    """Rows and columns of patches stand for T, where an encoder's vectors keep them."""
    assert axes_of("images.0.encoder.blocks.3.attention.mixed", 4) == ("B", "H", "T", "K")
    assert axes_of("images.12.encoder.embedding.patches", 4) == ("B", "h", "w", "D")
    assert axes_of("images.0.encoder.deep.1.feed_forward.up", 4) == ("B", "h", "w", "F")
    assert axes_of("images.0.projector.feed_forward.up", 3) == ("B", "T", "F")
    assert axes_of("images.0.vectors", 2) == ("T", "D")
    assert axes_of("image.vectors", 2) == axes_of("image.encoder.final_norm", 2) == ("B", "D")
    assert axes_of("text.blocks.2.attention.q", 4) == ("B", "H", "T", "K")
    with pytest.raises(InputError, match="no tap whose axes are known"):
        axes_of("blocks.0.feed_forward.up", 4)


def test_taps_with_heads() -> None:
    assert with_heads("blocks.0.attention.out")[:3] == ["attention.q", "attention.k", "attention.v"]
    assert "mixer.x" in with_heads("blocks.0.mixer.scan")
    assert with_heads("blocks.0.residual") == []


@pytest.mark.parametrize(
    "pattern", ["*", "logits", "blocks.*", "*residual", "blocks.257.mixer.x", "b*.[0-3].*.q", *OF_IMAGES]
)
def test_patterns_that_may_match(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "pattern", ["", "residual", "block.3.residual", "blocks.3", "blocks.x.residual", *NONE_OF_IMAGES]
)
def test_patterns_that_never_match(pattern: str) -> None:
    with pytest.raises(InputError, match="No model has a tap"):
        check_pattern(pattern)
