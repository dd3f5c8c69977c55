"""The page of a text's surprise in a real browser: it is true, obeys clicks and keys, and trusts no text."""

import math
import re
from typing import Any

import pytest
import test_page

import tinystar_np as ts
from tinystar_np.generation.perplexity import Perplexity, text_scores, to_score, windows
from tinystar_np.seeing.page.surprise import surprise_page

opened = test_page.opened
TEXT = (
    'Lily saw a </script><b id="bad">dog</b>.\n\nThe dog said: "日本\t\u202e" & ran.  It was\r big & happy.'
)
WINDOW = 24


@pytest.fixture(scope="module")
def scores() -> list[Any]:
    model, tokenizer = ts.load("stories")
    ids = to_score(model, tokenizer, TEXT)
    return [score for piece in text_scores(model, ids, WINDOW, WINDOW, top=5) for score in piece]


@pytest.fixture(scope="module")
def page(scores: list[Any]) -> str:
    tokenizer = ts.load("stories")[1]
    nats = -sum(score.logprob for score in scores)
    found = Perplexity(nats, len(scores), len(TEXT.split()), len(TEXT.encode()))
    cut = list(windows(len(scores), WINDOW, WINDOW))
    return surprise_page(tokenizer, scores, found, cut, "stories", "<i>tale</i>.txt")


def chosen(page: Any) -> int:
    (id,) = page.evaluate("[...document.querySelectorAll('.t[aria-selected=true]')].map((t) => t.id)")
    return int(id[1:])


def test_what_it_shows(opened: Any, page: str, scores: list[Any]) -> None:
    tab = opened(page).page
    assert tab.title() == "<i>tale</i>.txt, as stories expects it"
    assert tab.locator("h1").inner_text() == "<i>tale</i>.txt"
    assert tab.locator("#bad").count() == 0
    assert tab.locator(".t").count() == len(scores)
    shown = tab.locator("#text").evaluate("(box) => box.textContent")
    for mark, meant in (("↵\n", "\n"), ("⇥\t", "\t"), ("U+202E", "\u202e"), ("U+000D", "\r"), ("·", "")):
        shown = shown.replace(mark, meant)
    assert shown == TEXT
    figures = tab.locator("#figures dd").all_inner_texts()
    nats = -sum(score.logprob for score in scores)
    assert float(figures[0]) == pytest.approx(nats / math.log(2) / len(TEXT.encode()), abs=1e-4)
    assert float(figures[1]) == pytest.approx(nats / len(scores), abs=1e-4)
    assert tab.locator(".curve .window").count() == (len(scores) - 1) // WINDOW
    colours = tab.evaluate(
        "[...document.querySelectorAll('.t')].map((t) => parseInt(t.style.getPropertyValue('--s')))"
    )
    bits = [-score.logprob / math.log(2) for score in scores]
    assert colours == pytest.approx([52 * min(1, each / 16) for each in bits], abs=0.6)


def test_keys_and_clicks(opened: Any, page: str, scores: list[Any]) -> None:
    tab = opened(page).page
    box = tab.locator("#text")
    box.focus()
    tab.keyboard.press("Home")
    assert chosen(tab) == 0
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    assert chosen(tab) == 3
    tab.keyboard.press("ArrowLeft")
    assert chosen(tab) == 2
    card = tab.locator("#token")
    bits = -scores[2].logprob / math.log(2)
    assert float(re.search(r"([\d.]+) bits", card.inner_text())[1]) == pytest.approx(bits, abs=0.06)
    assert f"Token 3 of {len(scores)}" in card.inner_text()
    assert box.get_attribute("aria-activedescendant") == "t2"
    tab.keyboard.press("End")
    assert chosen(tab) == len(scores) - 1
    tab.keyboard.press("ArrowRight")
    assert chosen(tab) == len(scores) - 1
    tab.keyboard.press("ArrowUp")
    above = chosen(tab)
    assert above < len(scores) - 1
    tab.keyboard.press("ArrowDown")
    assert chosen(tab) > above
    tab.locator("#t5").click()
    assert chosen(tab) == 5
    tab.locator("#t5").hover()
    hint = tab.locator("#hint").inner_text()
    assert "bits" in hint
    assert hint.count("%") == 3
    order = sorted(range(len(scores)), key=lambda i: scores[i].logprob)
    first = tab.locator("#peaks button").first
    first.focus()
    tab.keyboard.press("Enter")
    assert chosen(tab) == order[0]
    curve = tab.locator(".curve")
    size = curve.bounding_box()
    curve.click(position={"x": size["width"] * 8.5 / len(scores), "y": size["height"] / 2})
    assert chosen(tab) == 8


def test_the_candidates(opened: Any, page: str, scores: list[Any]) -> None:
    """Five, and the token itself where it is none of them; its own is marked."""
    tab = opened(page).page
    tab.locator("#text").focus()
    tab.keyboard.press("Home")
    for score in scores:
        shares = tab.locator("#token .candidates .mono").all_inner_texts()
        among = score.token_id in [id for id, _ in score.top]
        assert len(shares) == 5 + (not among)
        assert tab.locator("#token .candidates .is-chosen").count() == 1
        best = float(shares[0].split()[0]) / 100
        assert best == pytest.approx(math.exp(score.top[0][1]), rel=0.02, abs=0.001)
        tab.keyboard.press("ArrowRight")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_wide_light_and_dark(opened: Any, page: str, width: int, scheme: str) -> None:
    """Nothing is wider than the window, and the strongest colour leaves ink that can be read (4.5 to 1)."""
    tab = opened(page, viewport={"width": width, "height": 700}, color_scheme=scheme).page
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("html").get_attribute("data-theme") == scheme
    for theme in (scheme, {"light": "dark", "dark": "light"}[scheme]):
        assert tab.locator("html").get_attribute("data-theme") == theme
        assert tab.evaluate(CONTRAST) >= 4.5
        tab.locator("#theme").click()


CONTRAST = """() => {
  const step = document.querySelector(".legend .step:nth-of-type(5)");
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((x) => x / 255)
      .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const style = getComputedStyle(step);
  const [a, b] = [light(style.backgroundColor), light(style.color)].sort((x, y) => x - y);
  return (b + 0.05) / (a + 0.05);
}"""
