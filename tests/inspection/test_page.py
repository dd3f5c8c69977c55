"""docs/architectures.md and its pictures: up to date, complete, and in no picture one thing on another."""

import re
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tinystar_np.inspection.block_diagrams import DIAGRAMS
from tinystar_np.inspection.catalogue import catalogue
from tinystar_np.inspection.diagram import Diagram, Node
from tinystar_np.inspection.family_tree import ordered
from tinystar_np.inspection.ideas import IDEAS
from tinystar_np.inspection.lineage import KINDS, LINEAGE
from tinystar_np.inspection.page import DOCUMENTS, page, pictures
from tinystar_np.inspection.published import PUBLISHED
from tinystar_np.inspection.svg import DARK, LIGHT, text_width
from tinystar_np.models import ARCHITECTURES

WRITE = "run: python -m tinystar_np.inspection.page"
PACKAGE = Path(__file__).parents[2] / "tinystar_np"
TYPES = ARCHITECTURES.keys() - {"tinystar"}
PICTURES = pictures()


def test_the_page_is_up_to_date() -> None:
    assert (DOCUMENTS / "architectures.md").read_text(encoding="utf-8") == page(), WRITE


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_are_up_to_date(name: str) -> None:
    assert (DOCUMENTS / "pictures" / name).read_text(encoding="utf-8") == PICTURES[name], WRITE


def test_the_page_shows_every_picture_and_no_other() -> None:
    text = (DOCUMENTS / "architectures.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[.+?\]\(pictures/(.+?)\)", text)
    there = {path.name for path in (DOCUMENTS / "pictures").iterdir()}
    assert sorted(shown) == sorted(PICTURES)
    assert there == PICTURES.keys()


def test_no_link_of_the_page_leads_nowhere() -> None:
    text = (DOCUMENTS / "architectures.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\((.+?)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (DOCUMENTS / target).exists(), target


def test_every_architecture_has_its_place() -> None:
    """In the family tree and among the published models: inspection/lineage.py, inspection/published.py."""
    assert LINEAGE.keys() == TYPES
    assert PUBLISHED.keys() == TYPES
    for step in LINEAGE.values():
        assert step.parent is None or step.parent in LINEAGE
        assert step.kind in KINDS
    rows = ordered(catalogue())
    assert {entry.model_type for entry in rows} == TYPES  # a circle would hang nowhere
    years = {entry.model_type: entry.year for entry in rows}
    for model_type, step in LINEAGE.items():
        assert step.parent is None or years[step.parent] <= years[model_type]


def test_every_kernel_and_every_file_of_the_ideas_is_there() -> None:
    for idea in IDEAS:
        named = [("kernels", idea.kernel), ("layers", idea.layer), *(("models", m) for m in idea.models)]
        for folder, name in named:
            assert name is None or (PACKAGE / folder / f"{name}.py").exists(), idea
        assert set(idea.models) <= ARCHITECTURES.keys()
    kernels = {path.stem for path in (PACKAGE / "kernels").glob("*.py")} - {"__init__"}
    assert kernels == {idea.kernel for idea in IDEAS} - {None}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_svg_in_both_halves(name: str) -> None:
    root = ElementTree.fromstring(PICTURES[name])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"]) <= 1100  # more would be scaled down until nobody can read it
    light, dark = PICTURES[name].split("@media (prefers-color-scheme:dark)")
    used = set(re.findall(r'class="(.+?)"', PICTURES[name]))
    for colour in {part.rpartition("-")[0] for classes in used for part in classes.split()}:
        assert f".{colour}-fill{{fill:{LIGHT[colour]}}}" in light
        assert f".{colour}-fill{{fill:{DARK[colour]}}}" in dark


@pytest.mark.parametrize("name", PICTURES)
def test_no_text_lies_on_another_or_outside(name: str) -> None:
    root = ElementTree.fromstring(PICTURES[name])
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = []
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        size, said = float(text.attrib["font-size"]), text.text or ""
        wide = text_width(said, size, bold="font-weight" in text.attrib)
        left = float(text.attrib["x"]) - (wide / 2 if text.attrib.get("text-anchor") == "middle" else 0)
        base = float(text.attrib["y"])
        boxes.append((left, base - 0.75 * size, left + wide, base + 0.2 * size, said))
        assert 0 <= left < left + wide <= width, said
        assert 0 <= base <= height, said
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one[4], other[4])


def around(node: Node) -> tuple[float, float, float, float]:
    return node.x - node.half, node.y - node.tall, node.x + node.half, node.y + node.tall


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=[diagram.name for diagram in DIAGRAMS])
def test_no_box_or_arrow_lies_on_another_box(diagram: Diagram) -> None:
    nodes = [node for node in diagram.nodes.values() if node.kind != "fork"]
    for one, other in combinations(map(around, nodes), 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    joined = set()
    for a, b, _, points in diagram.routes:
        joined |= {a, b}
        for (x1, y1), (x2, y2) in pairwise(points):
            assert x1 == x2 or y1 == y2
            for node in nodes:
                left, top, right, bottom = around(node)
                crosses = min(x1, x2) < right and max(x1, x2) > left
                crosses &= min(y1, y2) < bottom and max(y1, y2) > top
                assert not crosses or node.name in (a, b), (a, b, node.name)
    assert {node.name for node in nodes} - joined <= set(diagram.dashed)
