"""ts.look: what it keeps, the arrays it gives, its errors; and the parts of the page that need no browser."""

import io
import json
import keyword
import re
import tokenize
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import DENSE, EXPERTS, small_model

import tinystar_np as ts
from tinystar_np.errors import ContextFullError, InputError, TokenizerError
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing.flow import block_flow
from tinystar_np.seeing.glance import glance
from tinystar_np.seeing.origins import tap_origins
from tinystar_np.seeing.page.arrays import coded, pooled
from tinystar_np.seeing.page.file import FOLDER, page_text
from tinystar_np.seeing.shown_tokens import bytes_spelled, text_alone, texts_alone, texts_in_order
from tinystar_np.seeing.source_text import source_of

PACKAGE = Path(ts.__file__).parent
STORY = "Once upon a time there was a little"
IDS = [5, 9, 2, 9, 5, 7, 1]


def test_it_writes_what_generate_writes() -> None:
    model, tokenizer = ts.load("stories")
    for settings in ({"temperature": 0.0}, {"temperature": 0.9, "top_p": 0.9, "seed": 3}):
        seen = ts.look(model, tokenizer, STORY, max_new_tokens=8, **settings)
        text = ts.generate(model, tokenizer, STORY, max_new_tokens=8, **settings)
        assert "".join(texts_in_order(tokenizer, seen.ids)) == STORY + text
        assert seen.prompt_length == len(tokenizer.encode(STORY))
    assert len(ts.look(model, tokenizer, STORY, temperature=0.0).ids) == seen.prompt_length + 12


def test_the_recording_is_one_pass_over_all() -> None:
    model, tokenizer = ts.load("stories")
    seen = ts.look(model, tokenizer, STORY, max_new_tokens=3, temperature=0.0)
    with ts.record() as recording:
        logits = model(np.array(seen.ids))
    assert set(recording) == set(seen.recording)
    np.testing.assert_array_equal(seen.recording["logits"][0], logits)
    assert seen.followed[:-1].tolist() == list(seen.ids[1:])
    assert seen.followed[-1] == logits[-1].argmax()
    weights = seen.attention(-1)
    np.testing.assert_array_equal(weights, recording["blocks.5.attention.probabilities"][0])
    lens = seen.logit_lens(top=3)
    assert lens.top_ids.shape == (7, len(seen.ids), 3)
    attribution = seen.attributions(-2)
    assert attribution.token == seen.ids[-1]
    np.testing.assert_allclose(attribution.values.sum(), logits[-2, seen.ids[-1]], rtol=1e-4)


def test_the_prompt_alone_and_a_full_context() -> None:
    model = small_model("learned positions")
    seen = ts.look(model, None, IDS, max_new_tokens=0)
    assert seen.ids == tuple(IDS)
    assert model.context_length == 1024
    full = ts.look(model, None, [3] * 1022, max_new_tokens=9, temperature=0.0)
    assert len(full.ids) == 1024


def test_a_text_of_another_kind_is_refused() -> None:
    model = small_model("learned positions")
    with pytest.raises(TokenizerError, match="no tokenizer files"):
        ts.look(model, None, "text")
    with pytest.raises(InputError, match="empty"):
        ts.look(model, None, [])
    with pytest.raises(InputError, match="token ids"):
        ts.look(model, None, [1.5, 2.5])  # type: ignore[list-item]
    with pytest.raises(InputError, match="temperature"):
        ts.look(model, None, IDS, temperature=-1.0)
    with pytest.raises(ContextFullError):
        ts.look(model, None, [1] * 2000)
    seen = ts.look(model, None, IDS, max_new_tokens=0)
    with pytest.raises(InputError, match="layer 2 is outside"):
        seen.attention(2)
    with pytest.raises(InputError, match="recurrence"):
        seen.recurrence(0)
    with pytest.raises(InputError, match="position"):
        seen.attributions(99)
    wrong: Any
    for wrong in ("1", 1.0, None):
        with pytest.raises(InputError, match=f"layer {wrong!r} is outside"):
            seen.attention(wrong)
        with pytest.raises(InputError, match=f"position {wrong!r} is outside"):
            seen.attributions(wrong)
        with pytest.raises(InputError, match=f"top = {wrong!r}"):
            seen.logit_lens(wrong)
    with pytest.raises(InputError, match="A token is given by its id, an int; found 'the'"):
        seen.attributions(0, "the")  # type: ignore[arg-type]
    hybrid = ts.look(small_model("mamba 1"), None, IDS, max_new_tokens=0)
    with pytest.raises(InputError, match="no attention"):
        hybrid.attention(0)


def test_without_temperature_zero_the_draw_can_be_shown_again() -> None:
    """A seed is chosen where none was given, so the sampler's steps lead to the token that was written."""
    model = small_model("rope, groups")
    seen = ts.look(model, None, IDS, max_new_tokens=8, temperature=1.0, top_k=50)
    assert seen.options.seed is not None
    again = ts.generate_ids(model, IDS, max_new_tokens=8, temperature=1.0, top_k=50, seed=seen.options.seed)
    assert list(seen.ids[len(IDS) :]) == again
    assert seen.page().count('"same":true') == 8


@pytest.mark.parametrize("value", [0.0, 1e30, np.nan, np.inf])
def test_a_changed_run_is_seen_without_who_wrote_it(value: float) -> None:
    """A stream that is put in is no sum of what the blocks wrote; the rest of the page is as always."""
    with ts.intervene({"blocks.0.residual": lambda x: np.full_like(x, value)}):
        seen = ts.look(small_model("rope, groups"), None, IDS, max_new_tokens=0)
    data = seen.page().split('type="application/json">')[1].split("</script>")[0]
    shown, found = json.loads(data), glance(seen)
    why = "blocks.0.residual: the parts add up to" if np.isfinite(value) else "is not finite"
    assert why in shown["writers"]["refused"]
    assert why in found.refused
    assert len(shown["tokens"]) == len(IDS)
    json.dumps(found.as_json(), allow_nan=False)
    assert (found.as_json()["token"]["probability"] is None) == (not np.isfinite(value))  # type: ignore[index]


def test_a_frame_for_notebooks() -> None:
    seen = ts.look(small_model("rope, groups"), None, IDS, max_new_tokens=0)
    frame = seen._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert "<" not in frame[8 : frame.index('" sandbox=')]  # the page is escaped within the attribute
    assert len(repr(seen)) < 500


def test_save(tmp_path: Path) -> None:
    seen = ts.look(small_model("rope, groups"), None, IDS, max_new_tokens=0)
    seen.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == seen.page()
    with pytest.raises(InputError, match="cannot be written"):
        seen.save(tmp_path / "nowhere" / "page.html")
    with pytest.raises(InputError, match="is a directory"):
        seen.save("")


def test_the_signature_has_its_own_number_of_tokens() -> None:
    parameters = signature(ts.look).parameters
    assert parameters["max_new_tokens"].default == 12
    assert parameters["top_k"].default == signature(ts.generate).parameters["top_k"].default


def test_a_model_that_sees_later_tokens_too() -> None:
    settings = {"hidden_size": 48, "num_layers": 2, "num_heads": 4}
    model = TinyStar(TinyStarConfig(mask="bidirectional", **settings))
    seen = ts.look(model, None, IDS, max_new_tokens=0)
    assert '"state":[]' in seen.page()


def test_pages_are_made_of_their_files() -> None:
    """All that stands in the folder is put in; policies name nothing but hashes, and no other address."""
    texts = [page_text("null", "a <title>", template.name) for template in FOLDER.glob("*.html")]
    assert page_text("null", "a <title>") in texts
    for path in FOLDER.rglob("*.*"):
        if path.suffix in (".css", ".js"):
            assert any(path.read_text(encoding="utf-8") in text for text in texts), path.name
    for text in texts:
        assert "<title>a &lt;title&gt;</title>" in text
        assert not re.search(r"(src|href)=\"(?!#)", text)
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert "http" not in policy


def test_codes_of_values() -> None:
    x = np.array([[0.0, 4.0, -4.0, 1.0, -0.25], [np.nan, np.inf, -np.inf, 0.5, -2.0], [0, 0, 0, 0, 0]])
    codes, scale = coded(x.astype(np.float32))
    assert codes.tolist() == [[128, 255, 1, 192, 96], [0, 255, 1, 192, 1], [128] * 5]
    assert scale.tolist() == [4.0, 2.0, 0.0]


def test_pooling_keeps_what_is_furthest_from_zero() -> None:
    x = np.array([[1.0, -3.0, 2.0, 0.5, 0.1, -0.2, 7.0]])
    assert pooled(x, 7) is x
    assert pooled(x, 4).tolist() == [[-3.0, 2.0, -0.2, 7.0]]
    assert pooled(x, 3).tolist() == [[-3.0, 0.5, 7.0]]
    assert pooled(x, 1).tolist() == [[7.0]]


def test_source_text_is_the_files() -> None:
    """Joined again, the coloured tokens are the function's lines; keywords are what Python says they are."""
    for file, name in (
        ("kernels/norms.py", "rms_norm"),
        ("kernels/attention.py", "attention_probabilities"),
        ("layers/attention.py", "Attention.__call__"),
        ("models/base.py", "Decoder.__call__"),
        ("seeing/source_text.py", "coloured"),
    ):
        source = source_of(file, name)
        whole = (PACKAGE / file).read_text(encoding="utf-8").splitlines()
        lines = ["".join(text for _, text in line) for line in source.lines]
        there = whole[source.line - 1 : source.line - 1 + len(lines)]
        width = len(there[0]) - len(there[0].lstrip())
        assert lines == [line[width:] for line in there]
        marked = {text for line in source.lines for kind, text in line if kind == "keyword"}
        tokens = tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline)
        assert marked == {token.string for token in tokens if keyword.iskeyword(token.string)}
    assert source_of("kernels/norms.py", "rms_norm").summary.startswith("Scale each vector")
    for name in ("attention", "attention_scores"):  # not what a list of arguments has in further lines
        assert source_of("kernels/attention.py", name).formula.startswith("attention(q, k, v) = softmax")
    assert source_of("kernels/norms.py", "rms_norm").formula == "y = x / sqrt(mean(x²) + eps) · gain"
    assert "mean(x)) / sqrt(var(x)" in source_of("kernels/norms.py", "layer_norm").formula
    assert "softmax(scale" in source_of("kernels/attention.py", "attention_scores").formula


@pytest.mark.parametrize("name", [*DENSE, *EXPERTS])
def test_origins_name_the_lines_of_the_taps(name: str) -> None:
    """The line that is given for a tap names it, in the function that is given; its kernels are there."""
    model = small_model(name)
    origins = tap_origins(model, [5, 9])
    with ts.record() as recording:
        model(np.array([5, 9]))
    assert list(origins) == list(recording)
    for path, origin in origins.items():
        source = source_of(origin.file, origin.function)
        line = "".join(text for _, text in source.lines[origin.line - source.line])
        assert path.split(".")[-1].split("_")[-1] in line, f"{path}: {origin}"
        for kernel in origin.kernels:
            module, _, function = kernel.partition(".")
            assert source_of(f"kernels/{module}.py", function).summary
    for path in ("attention.probabilities", "attention.scores"):
        for i in range(len(model.blocks)):
            if f"blocks.{i}.{path}" in origins:
                kernels = origins[f"blocks.{i}.{path}"].kernels
                assert f"attention.{path.replace('.', '_')}" in kernels


def test_every_node_of_a_picture_reads_what_is_there() -> None:
    seen = ts.look(small_model("mamba 2 and attention"), None, IDS, max_new_tokens=0)
    taps = {n.removeprefix("blocks.1."): x for n, x in seen.recording.items() if n.startswith("blocks.1.")}
    known = {"x"}
    for node in block_flow(taps):
        assert set(node.reads) <= known
        known.add(node.name)


def test_the_text_of_a_token_alone(talking_model: Path) -> None:
    _, tokenizer = ts.load("stories")
    assert tokenizer is not None
    assert text_alone(tokenizer, tokenizer.encode(" little")[0]) == " little"
    assert text_alone(None, 7) == "7"
    _, bytewise = ts.load(talking_model)
    assert bytewise is not None
    ids = bytewise.encode("é")
    assert texts_in_order(bytewise, ids) == ["", "é"]
    assert text_alone(bytewise, ids[0]) == "\ufffd"
    assert texts_alone(bytewise, ids) == {ids[0]: "<0xC3>", ids[1]: "<0xA9>"}
    assert bytes_spelled("né".encode()[:2] + b"e\xff") == "n<0xC3>e<0xFF>"
    assert texts_in_order(bytewise, [*ids[:1], 256]) == ["", "\ufffd" + bytewise.token(256)]


def test_a_glance() -> None:
    model, tokenizer = ts.load("stories")
    seen = ts.look(model, tokenizer, STORY, max_new_tokens=1, temperature=0.0)
    found = glance(seen)
    assert found.position == seen.prompt_length - 1
    assert found.token.token_id == seen.ids[-1]
    assert [layer.layer for layer in found.layers] == [-1, 0, 1, 2, 3, 4, 5]
    logits = model(np.array(seen.ids[:-1]))[-1].astype(np.float64)
    other = np.argsort(-logits)[1]
    assert found.against is not None
    assert found.against.token_id == other
    np.testing.assert_allclose(found.difference, logits[seen.ids[-1]] - logits[other], rtol=1e-4)
    assert abs(sum(writer.value for writer in found.writers) - found.difference) < 1e-3
    for writer in found.writers:
        if " head " in writer.name:
            layer, head = (int(n) for n in re.findall(r"\d+", writer.name))
            weights = seen.attention(layer)[head, found.position]
            best = np.sort(weights)[::-1][:3]
            np.testing.assert_allclose([link.weight for link in writer.links], best)
        else:
            assert writer.links == ()
