"""POST /look: the page is of the answer's very tokens, of a bounded number of them, and kept for a while."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_process import Process, events, serving
from small_models import small_model

import tinystar_np as ts
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.seeing.look import look_again
from tinystar_np.serving.look import (
    FIRST,
    MEMORY,
    STEP,
    Look,
    LookRequest,
    answer_ids,
    looked_at,
    most_tokens,
)
from tinystar_np.serving.requests import CommonFields

PROMPT = "Once upon a time"
AS_JSON = {"Accept": "application/json"}


def data_of(page: str) -> Any:
    """What a page shows, from its JSON."""
    return json.loads(
        re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[0]
    )


@pytest.fixture(scope="module")
def stories() -> tuple[Any, Any]:
    return ts.load("stories")


def test_every_field_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "page.md").read_text(encoding="utf-8")
    own = [
        *(LookRequest.model_fields.keys() - CommonFields.model_fields.keys()),
        *(set(Look._fields) - {"html"}),
    ]
    assert len(own) > 8
    assert [name for name in own if f"`{name}`" not in page] == []


def test_it_shows_how_the_answer_was_drawn(server: Process) -> None:
    settings = {"temperature": 0.9, "top_k": 30, "top_p": 0.9, "seed": 11, "model": "stories"}
    asked = {"prompt": PROMPT, "max_tokens": 20, "n": 2, "return_token_ids": True, **settings}
    for choice in server.post("/v1/completions", asked).json()["choices"]:
        given = {"prompt": PROMPT, "answer": choice["token_ids"], "index": choice["index"], **settings}
        page = server.post("/look", given)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "sandbox allow-scripts" in page.headers["content-security-policy"]
        data = data_of(page.text)
        texts = [token["text"] for token in data["tokens"]]
        assert "".join(texts[data["prompt_length"] :]) == choice["text"]
        assert [each["same"] for each in data["sampler"]] == [True] * 20
        assert data["options"] == {"temperature": 0.9, "top_k": 30, "top_p": 0.9}
        assert data["model"]["name"] == "stories"
        # The same page can be opened once more, by its address alone.
        assert server.get(page.headers["content-location"]).text == page.text
    # With another seed the numbers do not fall on the answer's tokens; without one nobody knows them.
    other = data_of(server.post("/look", {**given, "seed": 12}).text)
    assert not all(each["same"] for each in other["sampler"])
    del given["seed"]
    assert data_of(server.post("/look", given).text)["sampler"] == []


def test_only_the_last_pages_are_kept(server: Process) -> None:
    given = {"model": "stories", "prompt": PROMPT, "answer": " there", "temperature": 0}
    places = [server.post("/look", given, headers=AS_JSON).json()["page"] for _ in range(9)]
    assert len(set(places)) == 9
    found = [server.get(place) for place in places]
    assert [each.status_code for each in found] == [404, *[200] * 8]
    assert "not kept any longer" in found[0].text


def test_a_long_answer_a_part_at_a_time(server: Process, stories: tuple[Any, Any]) -> None:
    model, tokenizer = stories
    prompt = tokenizer.encode(PROMPT)
    answer = ts.generate_ids(model, prompt, max_new_tokens=300, temperature=1.0, seed=2)
    answer = (answer * 10)[:300]
    given = {"model": "stories", "prompt": prompt, "answer": answer, "temperature": 0}
    found = server.post("/look", given, headers=AS_JSON).json()
    assert {key: found[key] for key in found if key != "page"} == {
        **{"tokens": 300, "first": 1, "last": STEP, "step": STEP, "alone": False}
    }
    data = data_of(server.get(found["page"]).text)
    assert [each["id"] for each in data["tokens"]] == [*prompt, *answer[:STEP]]
    assert data["opened_at"] == len(prompt)
    found = server.post("/look", given | {"position": 290}, headers=AS_JSON).json()
    assert (found["first"], found["last"], found["alone"]) == (259, 290, True)
    data = data_of(server.get(found["page"]).text)
    most = most_tokens(model)
    assert [each["id"] for each in data["tokens"]] == answer[290 - most : 290]
    assert data["model"]["name"] == f"stories: the last {most} of {len(prompt) + 290} tokens, read alone"
    assert data["sampler"] == []


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_the_ids_of_an_answer(server: Process, stories: tuple[Any, Any], path: str) -> None:
    chat = "chat" in path
    asked: dict[str, Any] = {"model": "talker" if chat else "stories", "max_tokens": 12, "seed": 4}
    asked |= {"messages": [{"role": "user", "content": "Hi"}]} if chat else {"prompt": PROMPT}
    assert "token_ids" not in server.post(path, asked).json()["choices"][0]
    asked["return_token_ids"] = True
    answer = server.post(path, asked).json()
    (choice,) = answer["choices"]
    assert len(choice["token_ids"]) == answer["usage"]["completion_tokens"]
    if not chat:
        assert stories[1].decode(choice["token_ids"]) == choice["text"]
    streamed = events(server.post(path, asked | {"stream": True}).text)[:-1]
    ids = [id for chunk in streamed for id in chunk["choices"][0].get("token_ids", [])]
    assert ids == choice["token_ids"]


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({}, "answer", "answer is missing."),
        ({"answer": "x"}, "prompt", "Either prompt or messages must be given"),
        ({"answer": "x", "prompt": "y", "messages": []}, "prompt", "Either prompt or messages"),
        ({"answer": "", "prompt": "y"}, "answer", "not empty"),
        ({"answer": "x", "prompt": "y", "position": 0}, "position", "greater than or equal to 1"),
        ({"answer": [5, 2048], "prompt": "y"}, "answer", "2048"),
        ({"answer": [5], "prompt": [-1]}, "prompt", "-1"),
        ({"answer": "x", "prompt": "y", "top_p": 2}, "top_p", "top_p is 2"),
        ({"answer": "x", "messages": [{"role": "user", "content": "y"}]}, "messages", "no chat template"),
    ],
)
def test_what_is_refused(server: Process, given: dict[str, Any], param: str, words: str) -> None:
    answer = server.post("/look", {"model": "stories", **given})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


def test_a_key(tmp_path: Path) -> None:
    """The page's files need none, and the address of a look inside is one itself."""
    with serving("-m", "stories", TINYSTAR_API_KEY="a-key-of-the-tests") as server:
        given = {"prompt": PROMPT, "answer": " there"}
        assert server.post("/look", given).status_code == 401
        headers = {"Authorization": "Bearer a-key-of-the-tests", **AS_JSON}
        found = server.post("/look", given, headers=headers).json()
        assert server.get(found["page"]).status_code == 200
        assert server.get("/look/guessed").status_code == 404
        for path in ("/", "/page/chat.js", "/page/chat.css", "/page/icon.svg"):
            answer = server.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'" in policy
        for path in ("/page/", "/page/../look.py", "/page/%2e%2e/look.py", "/page/index.html"):
            assert server.get(path, headers=headers).status_code == 404, path
        assert server.get("/v1/models").status_code == 401


def test_a_server_that_stops_does_not_wait_for_pages() -> None:
    with serving("-m", "stories", "--grace", "0") as server, ThreadPoolExecutor(5) as clients:
        given = {"prompt": PROMPT, "answer": [300] * 250, "position": 250, "temperature": 0}
        answers = [clients.submit(server.post, "/look", given) for _ in range(5)]
        until = time.monotonic() + 30
        while not any(each.done() for each in answers) and time.monotonic() < until:
            time.sleep(0.05)
        assert server.end() == 0
        found = [each.result().status_code for each in answers]
        assert set(found) == {200, 503}


@pytest.mark.parametrize("name", ["mamba 2 and attention"])
def test_it_is_recorded_as_by_look(name: str) -> None:
    model = small_model(name)
    seen = ts.look(model, None, [5, 9, 2, 9], max_new_tokens=5, temperature=0.7, seed=3)
    options = SamplingOptions(temperature=0.7, seed=3, max_new_tokens=5)
    again = look_again(model, None, seen.ids, 4, options)
    assert list(again.recording) == list(seen.recording)
    for path, x in seen.recording.items():
        np.testing.assert_array_equal(again.recording[path], x)
    assert again.page().count("<section") == seen.page().count("<section")


def test_what_is_looked_at() -> None:
    # prompt, answer, most, position → from which token of the text, up to which of the answer
    assert looked_at(4, 10, 100, None) == (0, 10)
    assert looked_at(4, 300, 100, None) == (0, STEP)
    assert looked_at(90, 300, 100, None) == (2, FIRST)  # a few, with what stands before them
    assert looked_at(80, 300, 100, None) == (0, 20)
    assert looked_at(4, 300, 100, 200) == (104, 200)
    assert looked_at(4, 300, 100, 1000) == (204, 300)
    assert looked_at(500, 3, 100, None) == (403, 3)


def test_memory_is_bounded(stories: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = stories
    monkeypatch.setattr("tinystar_np.serving.look.MEMORY", 20_000_000)
    most = most_tokens(model)
    assert 64 < most < 256
    for tokens, fits in ((most, True), (most + 1, False)):
        with ts.record() as recording:
            model(np.array([1] * tokens))
        assert (recording.nbytes <= 20_000_000) is fits
    assert MEMORY < 1e9


@pytest.mark.parametrize("prompt", ["Once upon a time", "Once upon a time ", 'He said: "No', "The end.\n"])
def test_the_tokens_of_an_answers_text(stories: tuple[Any, Any], prompt: str) -> None:
    """They are the text's own: its tokens after the prompt, of which a model nearly always writes it."""
    model, tokenizer = stories
    ids = tokenizer.encode(prompt)
    same = 0
    for seed in range(5):
        written = ts.generate_ids(model, ids, max_new_tokens=40, temperature=0.5, top_k=20, seed=seed)
        text = tokenizer.decode(written)
        found = answer_ids(tokenizer, ids, text)
        assert tokenizer.decode(found) == text
        same += found == list(written)
    assert same >= 3


def test_an_answer_after_sentencepieces_space(shared: Path) -> None:
    """The answer does not get the space that the tokenizer writes before a text."""
    model, tokenizer = ts.load(shared / "checkpoints" / "stories260K")
    assert tokenizer is not None
    ids = tokenizer.encode("Once upon a ti")
    before = tokenizer.decode(ids)
    for seed in range(5):
        written = ts.generate_ids(model, ids, max_new_tokens=30, temperature=0.5, top_k=20, seed=seed)
        whole = tokenizer.decode([*ids, *written])
        assert tokenizer.decode([*ids, *answer_ids(tokenizer, ids, whole[len(before) :])]) == whole
