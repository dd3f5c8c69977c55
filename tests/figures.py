"""Figures of matplotlib that a test looks at after they were saved."""

from collections.abc import Sequence
from typing import Any

import pytest


def saved_figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that every figure enters when it is saved, until the test ends."""
    figure_module = pytest.importorskip("matplotlib.figure")
    figures: list[Any] = []
    saved = figure_module.Figure.savefig
    monkeypatch.setattr(
        figure_module.Figure, "savefig", lambda self, *a, **b: (figures.append(self), saved(self, *a, **b))
    )
    return figures


def assert_apart(figure: Any, boxes: Sequence[Any]) -> None:
    """Assert that boxes lie within a figure's width, and that none lies on another."""
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:i])
