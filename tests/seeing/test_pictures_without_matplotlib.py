"""A picture where matplotlib is missing: what to install is said."""

import sys
from collections.abc import Callable

import pytest

from tinystar_np.errors import TinyStarError
from tinystar_np.seeing.pictures import axes, bars, curves, matrices


@pytest.mark.parametrize(
    "draw",
    [
        axes,
        lambda: matrices({"a": [[1.0]]}),
        lambda: bars({"a": [1.0]}, ["b"]),
        lambda: curves({"a": [1.0, 2.0]}),
    ],
)
def test_what_to_install_is_said(draw: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TinyStarError, match=r"pip install 'tinystar_np\[plot\]'"):
        draw()
