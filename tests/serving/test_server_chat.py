"""/v1/chat/completions, and what belongs to it, asked by OpenAI's own client and by hand."""

import asyncio
import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from conversations import CHATML, prompt_of
from PIL import Image
from server_process import Process, events, save_talker
from small_seeing import small_seeing_model
from tool_templates import HERMES, WEATHER

import tinystar_np as ts
from tinystar_np.generation.row import Piece
from tinystar_np.serving.access import Access
from tinystar_np.serving.app import make_app
from tinystar_np.serving.handle import Handle
from tinystar_np.serving.served import Served, ServedModels
from tinystar_np.serving.server_state import ServerState

MESSAGES: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi, 日本"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "And then?"},
]
GREEDY: dict[str, Any] = {"model": "talker", "temperature": 0, "max_completion_tokens": 12}


@pytest.fixture(scope="module")
def model(talker: Path) -> tuple[Any, Any]:
    return ts.load(talker)


@pytest.fixture
def client(server: Process) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=60)


def wanted(model: tuple[Any, Any], messages: Any, count: int = 12) -> tuple[list[int], str]:
    ids = ts.generate_ids(model[0], prompt_of(model[1], messages), max_new_tokens=count, temperature=0)
    return ids, model[1].decode(ids)


def test_an_answer(client: openai.OpenAI, model: tuple[Any, Any]) -> None:
    answer = client.chat.completions.create(messages=MESSAGES, **GREEDY)
    (choice,) = answer.choices
    ids, text = wanted(model, MESSAGES)
    assert choice.message.content == text
    assert choice.message.role == "assistant"
    assert choice.message.tool_calls is None
    assert choice.finish_reason == ("stop" if ids[-1] == 256 else "length")
    assert (answer.object, answer.model) == ("chat.completion", "talker")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt_of(model[1], MESSAGES))
    assert answer.usage.completion_tokens == len(ids)


def test_a_stream(client: openai.OpenAI, model: tuple[Any, Any]) -> None:
    options: Any = {"include_usage": True}
    first, *deltas, last, usage = client.chat.completions.create(
        messages=MESSAGES, stream=True, stream_options=options, **GREEDY
    )
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content == ""
    assert "".join(each.choices[0].delta.content or "" for each in deltas) == wanted(model, MESSAGES)[1]
    assert all(each.choices[0].finish_reason is None for each in [first, *deltas])
    assert last.choices[0].finish_reason == "length"
    assert last.choices[0].delta.content is None
    assert last.usage is None
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 12
    assert len({(each.id, each.created) for each in [first, *deltas, last, usage]}) == 1


def test_a_stream_is_as_it_is_written(server: Process) -> None:
    body = GREEDY | {"messages": MESSAGES, "stream": True, "n": 2}
    *chunks, last = events(server.post("/v1/chat/completions", body).text)
    assert last == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all("usage" not in chunk for chunk in chunks)
    for index in range(2):
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + ["length"]
        assert own[-1]["delta"] == {}


def test_the_asynchronous_client(server: Process, model: tuple[Any, Any]) -> None:
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:

            async def one(text: str) -> str:
                stream = await client.chat.completions.create(
                    messages=[{"role": "user", "content": text}], stream=True, **GREEDY
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return list(await asyncio.gather(*map(one, texts)))

    texts = ["a", "bc", "def", "日本", "?"]
    found = asyncio.run(main())
    assert found == [wanted(model, [{"role": "user", "content": text}])[1] for text in texts]


def test_logprobs_have_the_bytes_of_tokens(client: openai.OpenAI, model: tuple[Any, Any]) -> None:
    answer = client.chat.completions.create(messages=MESSAGES, logprobs=True, top_logprobs=5, **GREEDY)
    ids, _ = wanted(model, MESSAGES)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    content = logprobs.content
    assert content is not None
    assert len(content) == len(ids)
    written = b"".join(bytes(entry.bytes or []) for entry in content)
    assert written.decode("utf-8", "replace") == answer.choices[0].message.content
    for entry in content:
        assert entry.bytes is not None
        (byte,) = entry.bytes
        assert entry.token == (chr(byte) if byte < 128 else f"bytes:\\x{byte:02x}")
        assert entry.top_logprobs[0].logprob == entry.logprob
        assert len(entry.top_logprobs) == 5
    assert any(byte >= 128 for entry in content for byte in entry.bytes or [])


def test_each_answer_has_a_seed_of_its_own(server: Process) -> None:
    body = GREEDY | {"messages": MESSAGES, "temperature": 1.0, "seed": 7}
    several = server.post("/v1/chat/completions", body | {"n": 3}).json()["choices"]
    alone = [
        server.post("/v1/chat/completions", body | {"seed": 7 + i}).json()["choices"][0] for i in range(3)
    ]
    assert [each["message"] for each in several] == [each["message"] for each in alone]


def test_an_answer_may_be_as_long_as_the_context(server: Process, model: tuple[Any, Any]) -> None:
    body = {"model": "talker", "messages": MESSAGES, "logit_bias": None, "temperature": 0}
    answer = server.post("/v1/chat/completions", body).json()
    usage = answer["usage"]
    ended = answer["choices"][0]["finish_reason"] == "stop"
    assert ended or usage["prompt_tokens"] + usage["completion_tokens"] == 401  # the last one is not read


@pytest.mark.parametrize("length", [0, 1, 3])
def test_both_names_of_the_length(server: Process, length: int) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        body = {"model": "talker", "messages": MESSAGES, name: length, "temperature": 0}
        answer = server.post("/v1/chat/completions", body).json()
        assert answer["usage"]["completion_tokens"] == length
        assert answer["choices"][0]["finish_reason"] == "length"
        *chunks, _ = events(server.post("/v1/chat/completions", body | {"stream": True}).text)
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_parts_and_the_developer(server: Process) -> None:
    """Parts of text are lines; a template that knows no developer is given a system."""
    given = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a\nb"}]
    ids = [tokenized(server, messages)["tokens"] for messages in (given, plain)]
    assert ids[0] == ids[1]


def tokenized(server: Process, messages: Any, **options: Any) -> Any:
    answer = server.post("/tokenize", {"model": "talker", "messages": messages} | options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tokenize_a_conversation(server: Process, model: tuple[Any, Any]) -> None:
    found = tokenized(server, MESSAGES)
    ids = prompt_of(model[1], MESSAGES)
    assert found == {"count": len(ids), "max_model_len": 400, "tokens": ids, "token_strs": None}
    without = tokenized(server, MESSAGES, add_generation_prompt=False)["tokens"]
    assert without == ids[: len(without)]
    assert len(without) < len(ids)
    goes_on = tokenized(
        server, [*MESSAGES, {"role": "assistant", "content": "Then"}], continue_final_message=True
    )
    assert server.post("/detokenize", goes_on | {"model": "talker"}).json()["prompt"].endswith("Then")


def test_tokenize_and_detokenize(server: Process, model: tuple[Any, Any]) -> None:
    text = "日本 <|endoftext|> 🙂"
    found = server.post("/tokenize", {"model": "talker", "prompt": text, "return_token_strs": True}).json()
    assert found["tokens"] == model[1].encode(text)
    assert found["token_strs"] == [model[1].token(id) for id in found["tokens"]]
    again = server.post("/detokenize", {"model": "talker", "tokens": found["tokens"]}).json()
    assert again == {"prompt": text}
    assert server.post("/detokenize", {"model": "talker", "tokens": []}).json() == {"prompt": ""}


def test_tokenizer_info(server: Process) -> None:
    info = server.get("/tokenizer_info", params={"model": "talker"}).json()
    assert info["chat_template"] == CHATML
    assert info["eos_token"] == "<|endoftext|>"
    assert info["model_max_length"] == 400
    assert server.get("/tokenizer_info").status_code == 400  # which of the two?


def test_models(client: openai.OpenAI, server: Process) -> None:
    found = {model.id: model.model_dump() for model in client.models.list()}
    assert list(found) == ["stories", "talker"]
    assert [found[name]["chat"] for name in found] == [False, True]
    assert [found[name]["context_length"] for name in found] == [512, 400]
    assert client.models.retrieve("talker").id == "talker"
    with pytest.raises(openai.NotFoundError, match="no-such"):
        client.models.retrieve("some/no-such")


PICTURE = "data:image/png;base64," + base64.b64encode(b"none").decode()


@pytest.mark.parametrize(
    ("body", "kind", "param", "words"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model", "does not exist"),
        ({"model": "stories"}, openai.BadRequestError, "messages", "no chat template"),
        ({"messages": []}, openai.BadRequestError, "messages", "1 to"),
        (
            {"messages": [{"role": "robot", "content": ""}]},
            openai.BadRequestError,
            "messages[0].role",
            "robot",
        ),
        ({"messages": [{"role": "user"}]}, openai.BadRequestError, "messages[0].content", "None"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            openai.BadRequestError,
            "messages[0].content[0]",
            "input_audio",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://a/b"}]}]},
            openai.BadRequestError,
            "messages[0].content[0].image_url",
            "nothing is fetched",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}
                ]
            },
            openai.BadRequestError,
            "messages",
            "text alone",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": 3}]}]},
            openai.BadRequestError,
            "messages[0].tool_calls[0].id",
            "3",
        ),
        (
            {"messages": [{"role": "user", "content": "long " * 400}]},
            openai.BadRequestError,
            "messages",
            "400",
        ),
        (
            {"response_format": {"type": "json_object"}},
            openai.BadRequestError,
            "response_format",
            "json_object",
        ),
        ({"functions": [{"name": "f"}]}, openai.BadRequestError, "functions", "tools"),
        ({"reasoning_effort": "low"}, openai.BadRequestError, "reasoning_effort", "chat_template_kwargs"),
        ({"modalities": ["text", "audio"]}, openai.BadRequestError, "modalities", "Only text"),
        ({"top_logprobs": 2}, openai.BadRequestError, "top_logprobs", "logprobs must be true"),
        ({"logprobs": True, "top_logprobs": 21}, openai.BadRequestError, "top_logprobs", "21"),
        ({"n": 0}, openai.BadRequestError, "n", "0"),
        ({"temperature": -1}, openai.BadRequestError, "temperature", "-1"),
        ({"temperature": "warm"}, openai.BadRequestError, "temperature", "warm"),
        ({"stop": [""]}, openai.BadRequestError, "stop", "none of them empty"),
        ({"stop": ["a"] * 17}, openai.BadRequestError, "stop", "16"),
        ({"logit_bias": {"a": 1}}, openai.BadRequestError, "logit_bias", "ids"),
        ({"logit_bias": {"1": 101}}, openai.BadRequestError, "logit_bias.1", "100"),
        ({"presence_penalty": 3}, openai.BadRequestError, "presence_penalty", "2"),
        (
            {"stream_options": {"include_usage": True}},
            openai.BadRequestError,
            "stream_options",
            "stream must be",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            "tools",
            "no tools",
        ),
        (
            {"tools": [{"type": "function", "function": {}}]},
            openai.BadRequestError,
            "tools[0].function.name",
            "miss",
        ),
        ({"tools": [WEATHER], "tool_choice": "required"}, openai.BadRequestError, "tool_choice", "forced"),
    ],
)
def test_what_is_refused(
    client: openai.OpenAI, body: dict[str, Any], kind: type[openai.APIStatusError], param: str, words: str
) -> None:
    given = GREEDY | {"messages": [{"role": "user", "content": "Hi"}]} | body
    known = {"model": given.pop("model"), "messages": given.pop("messages")}
    with pytest.raises(kind) as error:
        client.chat.completions.create(**known, extra_body=given)
    assert error.value.param == param
    assert words in error.value.message
    assert error.value.type == "invalid_request_error"


def test_fields_that_nobody_knows_are_ignored(server: Process) -> None:
    body = GREEDY | {"messages": MESSAGES, "user": "me", "store": False, "service_tier": "auto", "xyz": [1]}
    body |= {"functions": None, "response_format": {"type": "text"}, "ignore_eos": False}
    assert server.post("/v1/chat/completions", body).status_code == 200


def test_a_model_that_sees(tmp_path: Path) -> None:
    """A picture in a data: address is seen as one from a file is."""
    small_seeing_model(tmp_path)
    model, processor = ts.load(tmp_path)
    assert processor is not None
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(file, "PNG")
    talk = ts.Conversation(model, processor)
    said = talk.say("What is it?", images=[file.getvalue()], temperature=0, max_new_tokens=8)
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    parts = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "What is it?"}]
    body = {"messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 8}
    damaged = {"type": "image_url", "image_url": {"url": PICTURE}}
    with ts.Engine(model, processor, cache_memory="20MB") as engine:
        served = Served("small", model, processor, engine, 9)
        found, refused, both = asked_of(
            served, body, {"messages": [{"role": "user", "content": [damaged]}]}, body | {"n": 2}
        )
        assert ServedModels([served]).entry(served)["sees"]
    assert found.json()["choices"][0]["message"]["content"] == "".join(piece.text for piece in said)
    assert [each["message"] for each in both.json()["choices"]] == [found.json()["choices"][0]["message"]] * 2
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages"


def asked_of(served: Served, *bodies: dict[str, Any]) -> list[httpx.Response]:
    """Ask an application in this process, one request after the other."""
    app = make_app(ServerState(ServedModels([served]), Access(None)))

    async def main() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return [await client.post("/v1/chat/completions", json=body) for body in bodies]

    return asyncio.run(main())


class Scripted:
    """An engine that says one text, a letter at a time."""

    def __init__(self, tokenizer: Any, text: str) -> None:
        self._ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.end_id]
        self._tokenizer = tokenizer
        self.cancelled: list[Handle] = []

    def submit(self, ids: list[int], **settings: Any) -> Handle:
        handle = Handle(ids, self.cancelled.append)
        for id in self._ids:
            last = id == self._ids[-1]
            handle.push(
                [Piece("" if last else self._tokenizer.decode([id]), id, -0.5, "end" if last else None)]
            )
        handle.end()
        return handle


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
def test_calls_of_tools(tmp_path: Path, stream: bool, parallel: bool) -> None:
    model, tokenizer = ts.load(save_talker(tmp_path, HERMES))
    assert tokenizer is not None
    text = f"Let me see.\n{CALL}\n{CALL}"
    served = Served("talker", model, tokenizer, Scripted(tokenizer, text), 9)  # type: ignore[arg-type]
    earlier = {
        "id": "1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    body = {
        "messages": [
            {"role": "user", "content": "Rome, then Oslo."},
            {"role": "assistant", "content": None, "tool_calls": [earlier]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
        ],
        "tools": [WEATHER],
        "parallel_tool_calls": parallel,
        "stream": stream,
    }
    (answer,) = asked_of(served, body)
    assert answer.status_code == 200, answer.text
    if stream:
        *chunks, last = events(answer.text)
        assert last == "[DONE]"
        choices = [chunk["choices"][0] for chunk in chunks]
        content = "".join(choice["delta"].get("content") or "" for choice in choices)
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
        reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        assert [call.pop("index") for call in calls] == list(range(len(calls)))
    else:
        (choice,) = answer.json()["choices"]
        content, calls = choice["message"]["content"], choice["message"]["tool_calls"]
        reasons = [choice["finish_reason"]]
    assert content.strip() == "Let me see."
    assert len({call.pop("id") for call in calls}) == len(calls) == (2 if parallel else 1)
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert calls == [{"type": "function", "function": function}] * len(calls)
    assert reasons == ["tool_calls"]
