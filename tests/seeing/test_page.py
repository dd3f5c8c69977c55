"""The page in a real browser: it opens from a file, asks for nothing else, obeys clicks and keys, is true."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_models import small_model
from small_seeing import picture, small_seeing_model

import tinystar_np as ts
from tinystar_np.seeing.look import Seen
from tinystar_np.seeing.page.data import page_data
from tinystar_np.seeing.page.file import linked_page, page_text

PROMPT = "Once upon a time there was a little"
TEXT = "#chosen b"  # what the page says of the chosen token


@pytest.fixture(scope="module")
def seen() -> Seen:
    model, tokenizer = ts.load("stories")
    return ts.look(model, tokenizer, PROMPT, max_new_tokens=6, temperature=0.8, top_k=20, seed=1)


class Opened:
    """A page that is open, with what it asked for and complained of."""

    def __init__(self, context: Any, path: Path) -> None:
        self.path = path
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready]", timeout=20_000)

    def array(self, name: str) -> NDArray:
        """An array as the page has it, after it was uncompressed."""
        values, shape, kind = self.page.evaluate(
            "name => { const a = arrayOf(name);"
            "const bytes = new Uint8Array(a.buffer, a.byteOffset, a.byteLength);"
            "return [[...bytes], a.shape, seen.places[name].type]; }",
            name,
        )
        return np.array(values, dtype=np.uint8).view(np.dtype(kind)).reshape(shape)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()


Open = Callable[..., Opened]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Save a page, and open it; at the end it has asked for nothing and complained of nothing."""
    pages: list[Opened] = []
    contexts: list[Any] = []

    def open_page(text: str, **settings: Any) -> Opened:
        path = tmp_path / f"page{len(pages)}.html"
        path.write_text(text, encoding="utf-8")
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings}))
        pages.append(Opened(contexts[-1], path))
        return pages[-1]

    yield open_page
    for page in pages:
        assert page.complaints == []
        assert "[object" not in page.page.locator("body").inner_text()  # an element written as text
        assert page.requests == [page.path.as_uri()]
    for context in contexts:
        context.close()


def own_codes(rows: NDArray) -> tuple[NDArray, NDArray]:
    """The rule of page/arrays.py, value by value."""
    scale = np.abs(rows).max(axis=-1)
    codes = np.zeros(rows.shape, dtype=np.uint8)
    for at, x in np.ndenumerate(rows):
        root = np.sqrt(np.float32(abs(x)) / scale[at[:-1]]) if scale[at[:-1]] else np.float32(0)
        codes[at] = 128 + int(np.sign(x)) * int(np.rint(np.float32(127) * root))
    return codes, scale


def test_values_read_back_are_the_recording(opened: Open, seen: Seen) -> None:
    page = opened(seen.page())
    table = page.page.evaluate("seen.taps")
    stored = {tap["path"] for tap in table}
    elsewhere = {path for path in seen.recording if path.endswith("attention.probabilities")} | {"logits"}
    assert stored == set(seen.recording) - elsewhere
    codes, scales = page.array("taps.codes"), page.array("taps.scale")
    statistics, largest = page.array("taps.statistics"), page.array("taps.largest")
    T = len(seen.ids)
    for i, tap in enumerate(table):
        x = seen.recording[tap["path"]][0]
        if x.ndim == 3:  # (H, T, K)
            x = x.swapaxes(0, 1)
        rows = x.reshape(T, -1)
        assert tap["share"] == 1  # a small model is stored whole
        if i % 9 == 0:  # value by value takes its time
            wanted, scale = own_codes(rows)
            np.testing.assert_array_equal(codes[tap["at"] : tap["at"] + rows.size].reshape(T, -1), wanted)
            np.testing.assert_array_equal(scales[i], scale)
        np.testing.assert_array_equal(statistics[i][:, 0], rows.min(-1))
        np.testing.assert_array_equal(statistics[i][:, 1], rows.max(-1))
        np.testing.assert_allclose(statistics[i][:, 3], np.sqrt((rows**2).mean(-1)), rtol=1e-5)
        np.testing.assert_array_equal(np.abs(largest[i][:, 0]), np.abs(rows).max(-1))
    for layer in range(6):
        weights = seen.recording[f"blocks.{layer}.attention.probabilities"][0]
        np.testing.assert_array_equal(page.array(f"attention.{layer}"), np.rint(255 * weights))
        np.testing.assert_array_equal(page.array(f"attention.{layer}.most"), weights.max(-1))
    logits = seen.recording["logits"][0].astype(np.float64)
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    best = np.argsort(-logits, axis=-1)[:, :5]
    np.testing.assert_array_equal(page.array("lens.ids")[-1], best)
    found = page.array("lens.probabilities")[-1]
    np.testing.assert_allclose(found, np.take_along_axis(probabilities, best, -1), rtol=1e-4)
    values, parts = page.array("writers.logits"), page.array("writers.values")
    np.testing.assert_allclose(parts.sum(-1), values, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(values[:, 0], logits[np.arange(T), seen.followed], rtol=1e-5)


def test_what_is_shown_is_the_stored_value(opened: Open, seen: Seen) -> None:
    """The page undoes the codes: within half a step of the root they stand for the value itself."""
    page = opened(seen.page())
    shown = page.page.evaluate(
        "path => { const tap = tapOf(path); const p = 7;"
        "return [...tap.codes(p)].map(code => decoded(code) * tap.scale(p)); }",
        "blocks.2.residual",
    )
    x = seen.recording["blocks.2.residual"][0, 7]
    scale = np.abs(x).max()
    root = np.sign(shown) * np.sqrt(np.abs(shown) / scale)
    np.testing.assert_allclose(root, np.sign(x) * np.sqrt(np.abs(x) / scale), atol=0.5 / 127 + 1e-6)


def test_clicks_and_keys(opened: Open, seen: Seen) -> None:
    opened_page = opened(seen.page())
    page = opened_page.page
    first = seen.prompt_length
    tokens = page.evaluate("seen.tokens.map(token => tokenLabel(token.text))")
    assert opened_page.text(TEXT) == tokens[first]
    page.keyboard.press("ArrowRight")
    assert opened_page.text(TEXT) == tokens[first + 1]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert opened_page.text(TEXT) == tokens[first - 1]
    page.locator("#token-3").click()
    assert opened_page.text(TEXT) == tokens[3]
    assert page.locator("#token-3").get_attribute("aria-selected") == "true"

    page.locator("#block .box", has_text="probabilities").click()
    assert opened_page.text("#details h3") == "blocks.5.attention.probabilities"
    assert "def attention_probabilities" in opened_page.text("#details pre.code")
    page.keyboard.press("ArrowDown")
    assert opened_page.text("#details h3") == "blocks.5.attention.mixed"
    page.locator("#block input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert opened_page.text("#details h3") == "blocks.4.attention.mixed"
    assert opened_page.text(TEXT) == tokens[3]  # the keys of a slider are its own

    page.locator("#attention button.head").nth(2).click()
    assert opened_page.text("#attention h3") == "Layer 0, head 2"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert opened_page.text("#attention h3") == "Layer 1, head 3"

    page.locator("#story button", has_text="Next step").click()
    assert "2 of 11" in opened_page.text("#story .count")
    page.locator("#lens .lens-cell").nth(4).click()
    assert opened_page.text(TEXT) == tokens[5]
    page.locator("#tokens-view tbody tr").nth(first).click()
    assert opened_page.text(TEXT) == tokens[first]
    assert "The draw" in page.locator("#sampler").inner_text()
    before = opened_page.text("#writers .sum")
    page.locator("#writers select").select_option(index=0)
    assert opened_page.text("#writers .sum") != before
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_widths_and_themes(opened: Open, seen: Seen, width: int, theme: str) -> None:
    """Nothing but what can be scrolled by itself is wider than the window."""
    page = opened(seen.page(), viewport={"width": width, "height": 844}, color_scheme=theme).page
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Not even a token of 5000 letters, in every view that shows it.
    page.evaluate(
        "seen.tokens[1].text = seen.tokens[2].text = seen.vocabulary[seen.follow[1]] = 'A'.repeat(5000)"
    )
    page.evaluate("choose({ token: 3 }); choose({ token: 2 })")
    assert page.locator("#story .stack").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width


HOSTILE = "<script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"


def test_hostile_text_is_only_text(opened: Open, talking_model: Path) -> None:
    """In the prompt, and in a vocabulary with tags, an end of script, and a text that ends JSON's block."""
    pieces = [HOSTILE, "</script><script>window.harmed = 1</script>", "<!--", "\u2028\u202e", "&lt;b&gt;"]
    tokenizer_file = talking_model / "tokenizer.json"
    tokenizer_json = json.loads(tokenizer_file.read_text())
    for i, piece in enumerate(pieces):
        tokenizer_json["added_tokens"].append(
            {"id": 251 + i, "content": piece, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": i % 2 == 0}
        )  # fmt: skip
        vocabulary = tokenizer_json["model"]["vocab"]
        for word in [word for word, id in vocabulary.items() if id == 251 + i]:
            del vocabulary[word]
    tokenizer_file.write_text(json.dumps(tokenizer_json))
    model, tokenizer = ts.load(talking_model)
    assert tokenizer is not None
    prompt = "<b>hi</b>" + "".join(pieces) + HOSTILE
    seen = ts.look(model, tokenizer, prompt, max_new_tokens=3, temperature=0.0)
    text = seen.page()
    page = opened(text)
    assert page.page.evaluate("window.harmed") is None
    assert page.page.evaluate("document.images.length") == 0
    assert page.page.evaluate("document.querySelectorAll('#tokens b, #tokens script').length") == 0
    assert page.page.evaluate("seen.tokens.map(token => token.text).join('')").startswith(prompt)
    for token in range(1, len(seen.ids) + 1, 9):
        page.page.evaluate("token => choose({ token })", token)
    assert page.page.evaluate("window.harmed") is None
    assert HOSTILE not in text


def test_the_policy_forbids_what_is_not_the_pages(browser: Any, seen: Seen, tmp_path: Path) -> None:
    """Should a script of ours err, no other script runs, and nothing is fetched."""
    path = tmp_path / "page.html"
    path.write_text(seen.page(), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.5)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        page.evaluate(
            """address => {
                const script = document.createElement("script");
                script.textContent = "window.harmed = 1";
                const image = document.createElement("img");
                image.src = address;
                document.body.append(script, image);
            }""",
            address,
        )
        assert page.evaluate("address => fetch(address).then(() => false, () => true)", address)
        assert page.evaluate("window.harmed") is None
        with pytest.raises(TimeoutError):
            listening.accept()
    page.close()


def test_a_large_page_keeps_what_fits(opened: Open, seen: Seen) -> None:
    """With little room neighbours share a column, then only the last tokens are stored; the page says so."""
    whole = page_data(seen, 5_000_000)
    assert "share a column" not in whole
    narrow = page_data(seen, 400_000)
    assert len(narrow.encode()) <= 400_000
    assert "share a column" in narrow
    tiny = page_data(seen, 150_000)
    assert len(tiny.encode()) < len(narrow.encode())
    data = json.loads(tiny)
    assert data["first"] > 0
    assert "of the first" in data["left_out"][0]
    page = opened(page_text(tiny, "cut"))
    assert re.search(r"Left out: values .*\. Single values", page.text("#foot"))
    page.page.locator("#token-0").click()  # nothing is stored of its making
    assert page.page.evaluate("position()") >= data["first"]
    page.page.keyboard.press("ArrowRight")
    assert page.page.evaluate("position()") > data["first"]


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("mamba 2 and attention", {"attention", "recurrences"}),
        ("mamba 1", {"recurrences"}),
        ("experts, sinks, window", {"attention", "experts"}),
        ("experts, delta rule", {"attention", "experts", "recurrences"}),
        ("latent attention", {"attention"}),
        ("caps, windows in turns", {"attention"}),
        ("one key for all heads, parallel", {"attention"}),
    ],
)
def test_every_kind_of_model_has_its_views(opened: Open, name: str, views: set[str]) -> None:
    """No tokenizer: ids stand for texts. Every token, layer and tap is drawn once without a complaint."""
    seen = ts.look(small_model(name), None, [5, 9, 2, 9, 5, 7, 1], max_new_tokens=3, temperature=0.0)
    page = opened(seen.page())
    ids = set(page.page.evaluate("[...document.querySelectorAll('section.view')].map(view => view.id)"))
    assert ids & {"attention", "recurrences", "experts"} == views
    page.page.evaluate(
        """() => {
            for (let layer = 0; layer < seen.pictures.kind_of.length; layer++) {
                choose({ layer, token: layer + 2 });
                const nodes = seen.pictures.kinds[seen.pictures.kind_of[layer]];
                for (const node of nodes) choose({ tap: node.name });
            }
            for (const view of views) if (view.go) for (let i = 0; i < view.steps.length; i++) view.go(i);
        }"""
    )


@pytest.mark.parametrize(
    ("name", "tap"), [("mamba 2", "mixer.B"), ("experts, latent attention", "attention.q_rotated")]
)
def test_every_letter_of_a_shape_is_explained(opened: Open, name: str, tap: str) -> None:
    page = opened(ts.look(small_model(name), None, [5, 9, 2], max_new_tokens=0).page()).page
    page.evaluate(f"choose({{ tap: {tap!r} }})")
    shape = page.locator("#details .shape .mono").inner_text()
    words = page.locator("#details .letters").inner_text().split(" · ")
    assert {word.split(" ")[0] for word in words} == set(re.findall("[A-Za-z]", shape))
    unexplained = page.evaluate(
        "[...seen.pictures.kinds.flat(), ...seen.pictures.around].filter(node => "
        "[...(node.letters.match(/[A-Za-z]/g) ?? [])].some(letter => !lettersInWords(node).textContent"
        ".split(' · ').some(words => words.startsWith(letter + ' ')))).map(node => node.name)"
    )
    assert unexplained == []


def test_the_state_of_a_window_grows_until_it_is_full(opened: Open) -> None:
    config = ts.TinyStarConfig(
        hidden_size=32, num_layers=1, num_heads=4, mask="sliding_window", window_size=4
    )
    page = opened(ts.look(ts.TinyStar(config), None, [5, 9, 2, 7, 3, 1], max_new_tokens=2).page()).page
    grown = {}
    for t in range(8):
        page.evaluate("t => choose({ token: t })", t)
        position = page.evaluate("position()")
        grown[position] = page.locator("#state tbody td.soft").inner_text()
    each = "64 B a token"  # a key and a value of 8 floats
    assert grown.pop(3) == f"grows by {each}"
    assert {grown[t] for t in grown if t < 4} == {f"grows by {each}"}
    assert {grown[t] for t in grown if t >= 4} == {f"grew by {each} until its window was full"}


def test_recurrences_read_back(opened: Open) -> None:
    model = small_model("mamba 2 and attention")
    seen = ts.look(model, None, [5, 9, 2, 9, 5, 7, 1], max_new_tokens=3, temperature=0.0)
    page = opened(seen.page())
    for layer in (0, 2):
        matrix = seen.recurrence(layer)
        codes, scale = own_codes(matrix)
        np.testing.assert_array_equal(page.array(f"recurrence.{layer}"), codes)
        np.testing.assert_array_equal(page.array(f"recurrence.{layer}.scale"), scale)


def test_the_golden_page(opened: Open, shared: Path) -> None:
    """A trained model that sorts letters, against the activations that its authors published."""
    model, _ = ts.load(shared / "checkpoints" / "gpt-nano-sort")
    published = np.load(shared / "checkpoints" / "gpt-nano-sort" / "activations.npz")
    ids = published["idx"][0].astype(int)
    seen = ts.look(model, None, ids, max_new_tokens=0)
    page = opened(seen.page())
    assert page.page.evaluate("seen.tokens.map(token => token.id)") == ids.tolist()
    stored = page.array("attention.0").astype(np.float64)
    np.testing.assert_allclose(stored, 255 * published["attSm"][0], atol=0.51)
    names = {"block0": "blocks.0.residual", "block2": "blocks.2.residual", "ln_f": "final_norm"}
    names |= {"gelu": "blocks.0.feed_forward.activation", "q": "blocks.0.attention.q"}
    for theirs, ours in names.items():
        rows = published[theirs][0]
        rows = (rows.swapaxes(0, 1) if rows.ndim == 3 else rows).reshape(len(ids), -1)
        shown = page.page.evaluate(
            "path => { const tap = tapOf(path); return seen.tokens.map((_, p) =>"
            "[...tap.codes(p)].map(code => decoded(code) * tap.scale(p))); }",
            ours,
        )
        step = np.abs(rows).max(-1, keepdims=True) / 127  # of the root: x lies within a step of it
        assert (np.abs(np.array(shown) - rows) < step + 1e-3).all(), ours


def test_the_page_to_work_on(browser: Any, seen: Seen, tmp_path: Path) -> None:
    """With links to its files instead of their text it shows the same."""
    path = tmp_path / "page.html"
    path.write_text(linked_page(page_data(seen, 2_000_000), "linked"), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    assert page.locator("section.view").count() >= 7
    page.close()


@pytest.fixture(scope="module")
def seen_images(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    directory = tmp_path_factory.mktemp("seeing")
    small_seeing_model(directory)
    model, processor = ts.load(directory)
    images = [picture(60, 90), picture(200, 30, seed=1)]
    prompt = "See <image>this and <image>that?"
    return ts.look(model, processor, prompt, images=images, max_new_tokens=4, temperature=0.0)


def test_images(opened: Open, seen_images: Seen) -> None:
    """One chip for an image; what a token takes from each of its parts, and the picture coloured by that."""
    seen = seen_images
    opened_page = opened(seen.page())
    page = opened_page.page
    chips = page.locator("#tokens .image-chip")
    lengths = [end - start for start, end in (image.span for image in seen.images)]
    assert chips.all_inner_texts() == [f"image {n + 1}, {count} tokens" for n, count in enumerate(lengths)]
    assert page.locator("#tokens .token").count() == len(seen.ids) + 1 - sum(lengths) + 2
    # The keys go over an image in one step.
    start, end = seen.images[1].span
    page.evaluate("token => choose({ token })", start - 1)
    page.keyboard.press("ArrowRight")
    assert page.evaluate("chosen.token") == end
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("chosen.token") == start - 1
    page.evaluate("token => choose({ token })", start + 2)  # within it, as from a picture of attention
    assert chips.nth(1).get_attribute("aria-selected") == "true"

    last = len(seen.ids) - 1
    page.evaluate("token => choose({ token })", last + 1)
    for layer in range(3):
        weights = seen.attention(layer)[:, last]
        for number, image in enumerate(seen.images):
            for head in (None, 0, 5):
                found = page.evaluate(
                    "chosen => [[...imageWeights(...chosen)], imageShare(...chosen)]",
                    [number, layer, head, last],
                )
                expected = (weights.mean(axis=0) if head is None else weights[head])[image.places]
                most = weights[:, image.places].max()
                np.testing.assert_allclose(found[0], expected, atol=most / 127)  # steps of a root of 127
                np.testing.assert_allclose(found[1], expected.sum(), rtol=1e-4)
            boxes = opened_page.array(f"image.{number}.boxes")
            np.testing.assert_allclose(boxes, image.boxes, rtol=1e-6)
    looks = page.locator("#images canvas.image-look")
    assert looks.count() == 4
    assert "Mean of all heads" in page.locator("#images").inner_text()
    page.locator("#images .kinds button").nth(3).click()
    assert "layer 2, head 2 pays" in page.locator("#images").inner_text()
    assert page.evaluate("chosen.head") == 2
    # The part that gets most is drawn in the strongest colour: its middle is the most orange of all.
    oranges = page.evaluate(
        """() => {
            const canvas = document.querySelector("#images canvas.image-look");
            const boxes = arrayOf("image.0.boxes");
            const { from, to } = seen.images[0].looks[0];
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return Array.from({ length: to - from }, (_, v) => {
                const x = Math.floor(canvas.width * (boxes[4 * v] + boxes[4 * v + 2]) / 2);
                const y = Math.floor(canvas.height * (boxes[4 * v + 1] + boxes[4 * v + 3]) / 2);
                const at = 4 * (y * canvas.width + x);
                return data[at] - data[at + 2];
            });
        }"""
    )
    look = seen.images[0].looks[0]
    weights = seen.attention(2)[2, last, seen.images[0].places][look]
    assert int(np.argmax(oranges)) == int(weights.argmax())
    assert np.corrcoef(oranges, np.sqrt(weights))[0, 1] > 0.98
    page.locator("#images canvas.image-look").first.hover()
    assert re.match(r"vector \d+ of", page.locator("#hint").inner_text())
    page.locator("#theme").click()


@pytest.mark.parametrize("width", [1280, 390])
def test_images_fit_the_window(opened: Open, seen_images: Seen, width: int) -> None:
    page = opened(seen_images.page(), viewport={"width": width, "height": 844}).page
    for token in range(1, len(seen_images.ids) + 1, 11):
        page.evaluate("token => choose({ token })", token)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_page_of_many_image_tokens(opened: Open, seen_images: Seen) -> None:
    """Only tokens after the images can be chosen; all views draw, though scores are not among the taps."""
    assert seen_images.tokenizer is not None
    prompt = "<image>" * 8 + "Which?"
    images = [picture(60, 90)] * 8
    seen = ts.look(seen_images.model, seen_images.tokenizer, prompt, images=images, max_new_tokens=2)
    opened_page = opened(seen.page())
    page = opened_page.page
    first = page.evaluate("seen.first")
    smallest = opened_page.array("taps.statistics")[..., 0]
    table = [tap["path"] for tap in page.evaluate("seen.taps")]
    for path in ("blocks.1.residual", "embedding.images", "blocks.2.feed_forward.up"):
        expected = seen.recording[path][0, first:].min(axis=-1)
        np.testing.assert_array_equal(smallest[table.index(path)], expected)
    assert first >= seen.images[-1].span[1]
    page.keyboard.press("ArrowLeft")
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate("position()") >= first
    for name in page.evaluate("seen.pictures.kinds[0].map(node => node.name)"):
        page.evaluate("tap => choose({ tap })", name)


def test_means_where_there_is_no_room_for_heads(
    opened: Open, seen_images: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinystar_np.seeing.page.images.MOST_BYTES", 10)
    opened_page = opened(seen_images.page())
    assert "no room on this page for each head" in opened_page.page.locator("#images").inner_text()
    last = len(seen_images.ids) - 1
    found = opened_page.page.evaluate("p => imageShare(1, 1, null, p)", last)
    expected = seen_images.attention(1)[:, last, seen_images.images[1].places].mean(axis=0).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
