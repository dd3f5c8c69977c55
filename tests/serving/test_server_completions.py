"""/v1/completions, asked by OpenAI's own client and by hand."""

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import openai
import pytest
from server_process import Process, events

import tinystar_np as ts
from tinystar_np.kernels.softmax import log_softmax

PROMPT = "Once upon a time"
GREEDY: dict[str, Any] = {"model": "stories", "temperature": 0}


@pytest.fixture(scope="module")
def stories() -> tuple[Any, Any]:
    return ts.load("stories")


@pytest.fixture
def client(server: Process) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=60)


def greedy(stories: tuple[Any, Any], prompt: str, count: int) -> str:
    return str(ts.generate(*stories, prompt, max_new_tokens=count, temperature=0))


def ask(server: Process, **body: Any) -> Any:
    answer = server.post("/v1/completions", GREEDY | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_text_is_that_of_generate(client: openai.OpenAI, stories: tuple[Any, Any]) -> None:
    answer = client.completions.create(prompt=PROMPT, max_tokens=20, **GREEDY)
    assert answer.choices[0].text == greedy(stories, PROMPT, 20)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is None
    assert (answer.object, answer.model) == ("text_completion", "stories")
    assert answer.id.startswith("cmpl-")
    usage = answer.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 20, 24)


def test_without_a_number_there_are_16_tokens(client: openai.OpenAI) -> None:
    usage = client.completions.create(prompt=PROMPT, **GREEDY).usage
    assert usage is not None
    assert usage.completion_tokens == 16


def test_prompts_as_ids_and_in_lists(server: Process, stories: tuple[Any, Any]) -> None:
    tokenizer = stories[1]
    others = ["The dog", "A girl named Lily"]
    ids = [tokenizer.encode(text) for text in others]
    wanted = [greedy(stories, text, 9) for text in others]
    assert [c["text"] for c in ask(server, prompt=others, max_tokens=9)["choices"]] == wanted
    assert [c["text"] for c in ask(server, prompt=ids, max_tokens=9)["choices"]] == wanted
    assert [c["text"] for c in ask(server, prompt=ids[0], max_tokens=9)["choices"]] == wanted[:1]
    whole = ask(server, prompt=others, max_tokens=9, n=2)
    assert [c["text"] for c in whole["choices"]] == [wanted[0]] * 2 + [wanted[1]] * 2
    assert [c["index"] for c in whole["choices"]] == [0, 1, 2, 3]
    assert whole["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert whole["usage"]["completion_tokens"] == 4 * 9


def test_a_stream_has_the_same_text(client: openai.OpenAI, stories: tuple[Any, Any]) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.completions.create(prompt=PROMPT, max_tokens=20, stream=True, stream_options=options, **GREEDY)
    )
    assert "".join(c.choices[0].text for c in chunks[:-1]) == greedy(stories, PROMPT, 20)
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_a_stream_is_as_it_is_written(server: Process) -> None:
    answer = server.post("/v1/completions", GREEDY | {"prompt": PROMPT, "max_tokens": 3, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(answer.text)
    assert last == "[DONE]"
    assert all("usage" not in chunk for chunk in chunks)
    body = {"prompt": PROMPT, "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, last = events(server.post("/v1/completions", GREEDY | body).text)
    assert last == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 7


def test_several_streams_in_one(server: Process, stories: tuple[Any, Any]) -> None:
    prompts = [PROMPT, "The dog", "A cat"]
    body = {"prompt": prompts, "max_tokens": 12, "stream": True, "echo": True}
    *chunks, last = events(server.post("/v1/completions", GREEDY | body).text)
    assert last == "[DONE]"
    texts = [""] * 3
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == [prompt + greedy(stories, prompt, 12) for prompt in prompts]
    ends = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"][0]["finish_reason"]]
    assert ends == ["length"] * 3


def test_the_asynchronous_client(server: Process, stories: tuple[Any, Any]) -> None:
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:

            async def one(prompt: str) -> str:
                stream = await client.completions.create(prompt=prompt, max_tokens=15, stream=True, **GREEDY)
                return "".join([chunk.choices[0].text async for chunk in stream])

            return list(await asyncio.gather(*map(one, prompts)))

    prompts = [f"{name} was" for name in ("Tom", "Lily", "Ben", "Mia", "Sam", "Sue")]
    assert asyncio.run(main()) == [greedy(stories, prompt, 15) for prompt in prompts]


def by_hand(stories: tuple[Any, Any], text: str) -> tuple[list[int], np.ndarray]:
    model, tokenizer = stories
    ids = tokenizer.encode(text)
    return ids, log_softmax(model(np.array(ids)))


@pytest.mark.parametrize("stream", [False, True])
def test_echo_and_logprobs(server: Process, stories: tuple[Any, Any], stream: bool) -> None:
    body = {"prompt": PROMPT, "max_tokens": 6, "logprobs": 3, "echo": True, "stream": stream}
    answer = server.post("/v1/completions", GREEDY | body)
    choices = (
        [each["choices"][0] for each in events(answer.text)[:-1]] if stream else answer.json()["choices"]
    )
    text = "".join(choice["text"] for choice in choices)
    parts = [choice["logprobs"] for choice in choices]
    found = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    ids, logprobs = by_hand(stories, text)
    assert text == PROMPT + greedy(stories, PROMPT, 6)
    assert "".join(found["tokens"]) == text
    assert [text[start:end] for start, end in pairwise([*found["text_offset"], None])] == found["tokens"]
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    own = [logprobs[i, id] for i, id in enumerate(ids[1:])]
    np.testing.assert_allclose(found["token_logprobs"][1:], own, atol=1e-5)
    for i, top in enumerate(found["top_logprobs"][1:]):
        best = np.sort(logprobs[i])[::-1][:3]
        np.testing.assert_allclose(sorted(top.values(), reverse=True)[:3], best, atol=1e-5)
        assert found["tokens"][i + 1] in top
        assert top[found["tokens"][i + 1]] == found["token_logprobs"][i + 1]


def test_scores_alone(server: Process, stories: tuple[Any, Any]) -> None:
    choice = ask(server, prompt=[PROMPT, "Hi"], max_tokens=0, logprobs=0, echo=True)["choices"][0]
    ids, logprobs = by_hand(stories, PROMPT)
    own = [logprobs[i, id] for i, id in enumerate(ids[1:])]
    assert choice["text"] == PROMPT
    assert choice["finish_reason"] == "length"
    np.testing.assert_allclose(choice["logprobs"]["token_logprobs"][1:], own, atol=1e-5)


def test_as_the_evaluation_harness_reads_it(server: Process, stories: tuple[Any, Any]) -> None:
    """One generated token ends each list, and is cut off by the harness: also where it is the end token."""
    tokenizer = stories[1]
    ids = [*tokenizer.encode("The end."), tokenizer.end_id, *tokenizer.encode("Once upon")]
    body = {"prompt": [ids, ids[:3]], "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    for choice, given in zip(ask(server, **body)["choices"], body["prompt"], strict=True):
        assert len(choice["logprobs"]["token_logprobs"]) == len(given) + 1
        for logprob, top in zip(
            choice["logprobs"]["token_logprobs"][1:], choice["logprobs"]["top_logprobs"][1:], strict=True
        ):
            assert logprob <= max(top.values())
    last = choice["logprobs"]
    assert last["token_logprobs"][-1] == max(last["top_logprobs"][-1].values())


def test_several_texts_have_seeds_of_their_own(server: Process) -> None:
    drawn = {"prompt": PROMPT, "max_tokens": 12, "temperature": 1.0}
    texts = [c["text"] for c in ask(server, n=3, seed=5, **drawn)["choices"]]
    assert texts == [ask(server, seed=5 + i, **drawn)["choices"][0]["text"] for i in range(3)]
    assert len(set(texts)) == 3
    assert ask(server, seed=-3, **drawn)["choices"] == ask(server, seed=-3, **drawn)["choices"]


def test_the_best_of_several(server: Process) -> None:
    drawn = {"prompt": PROMPT, "max_tokens": 10, "temperature": 1.5, "seed": 1, "logprobs": 0}
    every = ask(server, n=5, **drawn)["choices"]
    mean = {c["text"]: float(np.mean(c["logprobs"]["token_logprobs"])) for c in every}
    best = ask(server, n=2, best_of=5, **drawn)
    assert [c["text"] for c in best["choices"]] == sorted(mean, key=mean.__getitem__, reverse=True)[:2]
    assert [c["index"] for c in best["choices"]] == [0, 1]
    assert best["usage"]["completion_tokens"] == 50


@pytest.mark.parametrize("stop", [" little", [" zebra", " little"]])
def test_stops(server: Process, stories: tuple[Any, Any], stop: Any) -> None:
    (choice,) = ask(server, prompt=PROMPT, max_tokens=30, stop=stop)["choices"]
    assert choice["text"] == greedy(stories, PROMPT, 30).partition(" little")[0]
    assert choice["finish_reason"] == "stop"


def test_the_end_of_a_text(server: Process, stories: tuple[Any, Any]) -> None:
    (choice,) = ask(server, prompt=PROMPT, max_tokens=500, logprobs=0)["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == greedy(stories, PROMPT, 500)
    assert choice["logprobs"]["tokens"][-1] == "<|endoftext|>"


def test_our_own_settings_count(server: Process, stories: tuple[Any, Any]) -> None:
    settings = {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2}
    (choice,) = ask(server, prompt=PROMPT, max_tokens=30, **settings)["choices"]
    text = ts.generate(*stories, PROMPT, max_new_tokens=30, temperature=0, **settings)  # type: ignore[arg-type]
    assert choice["text"] == text != greedy(stories, PROMPT, 30)
    drawn = {"temperature": 2.0, "top_k": 1, "min_p": 0.01, "typical_p": 0.99, "top_p": 0.9}
    (choice,) = ask(server, prompt=PROMPT, max_tokens=30, **drawn)["choices"]
    assert choice["text"] == greedy(stories, PROMPT, 30)


def test_a_prompt_that_fills_the_context(server: Process, stories: tuple[Any, Any]) -> None:
    ids = [stories[1].encode(" a")[0]] * 512
    (choice,) = ask(server, prompt=ids, max_tokens=5)["choices"]
    assert choice["finish_reason"] == "length"
    answer = server.post("/v1/completions", GREEDY | {"prompt": [*ids, 1]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.json()["error"]["param"] == "prompt"


def test_a_prefix_is_read_once(server: Process) -> None:
    prompt = "Tom and his dog went to the old park near the river. " * 12
    assert ask(server, prompt=prompt, max_tokens=1)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    again = ask(server, prompt=prompt + "They", max_tokens=1)["usage"]
    assert again["prompt_tokens_details"]["cached_tokens"] > again["prompt_tokens"] // 2
