"""Tokenizers, chat templates and token ids from strangers: each fault is an error of ours that says where."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentencepiece_writer import START, field, llama_like, model_proto, varint

from tinystar_np import generate, generate_ids, load, stream
from tinystar_np.checkpoints.json_file import download_again
from tinystar_np.errors import InputError, TinyStarError, TokenizerError
from tinystar_np.text import ChatTemplate, Tokenizer, load_tokenizer

DAMAGED_MAP = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}


def with_rules(**parts: Any) -> Callable[[Path], str]:
    def edit(path: Path) -> str:
        return json.dumps(json.loads(path.read_text()) | parts)

    return edit


def _with_a_token_twice(content: str) -> str:
    twice = content.replace('"vocab":{', '"vocab":{"a":0,', 1).replace('"vocab": {', '"vocab": {"a": 0,', 1)
    assert twice != content
    return twice


TOKENIZER_JSON: dict[str, tuple[Any, str]] = {
    "empty": ("", "not JSON"),
    "not JSON": ("{", "not JSON"),
    "a list": ("[]", "tokenizer"),
    "binary": (b"\xff\xfe\x00", "tokenizer"),
    "half of it": (lambda path: path.read_text()[:900], "not JSON"),
    "deep": ("[" * 100_000, "tokenizer"),
    "deep objects": ('{"a":' * 100_000, "tokenizer"),
    "huge number": ('{"version": ' + "9" * 10_000 + "}", "tokenizer"),
    "no model": (with_rules(model=None), "tokenizer"),
    "a token twice": (lambda path: _with_a_token_twice(path.read_text()), "'a' stands there twice"),
    "ids too large": (with_rules(added_tokens=[{"id": 2**40, "content": "a"}]), "1099511627776"),
    "damaged map": (with_rules(normalizer=DAMAGED_MAP), "precompiled_charsmap"),
}


@pytest.mark.parametrize("fault", TOKENIZER_JSON)
def test_tokenizer_json(fault: str, talking_model: Path) -> None:
    content, message = TOKENIZER_JSON[fault]
    path = talking_model / "tokenizer.json"
    content = content(path) if callable(content) else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TokenizerError, match=message) as caught:
        load(talking_model)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(download_again(path))


SMALL_FILES = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
JSON_FAULTS = {
    "empty": ("", "not JSON"),
    "cut": ('{"eos_token": "<|endo', "not JSON"),
    "a list": ("[]", "expected an object"),
    "twice": ('{"eos_token": "a", "eos_token": "b"}', "'eos_token' stands there twice"),
    "deep": ('{"a":' * 100_000, "nested too deeply"),
    "rather deep": ('{"a":' * 200 + "1" + "}" * 200, "nested too deeply"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "digits": ('{"a": ' + "9" * 10_000 + "}", "digits"),
}


@pytest.mark.parametrize("name", SMALL_FILES)
@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_settings(name: str, fault: str, talking_model: Path) -> None:
    content, message = JSON_FAULTS[fault]
    (talking_model / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TokenizerError, match=message) as caught:
        load(talking_model)
    assert str(talking_model / name) in str(caught.value)


@pytest.mark.parametrize("fault", [*JSON_FAULTS, "no id", "a half"])
def test_generation_config(fault: str, talking_model: Path) -> None:
    more = {"no id": ('{"eos_token_id": "x"}', "eos_token_id"), "a half": ('{"eos_token_id": 1.5}', "1.5")}
    content, message = (JSON_FAULTS | more)[fault]
    path = talking_model / "generation_config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TinyStarError, match=message) as caught:
        load(talking_model)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "tokens",
    [{"5": []}, {"x": "a"}, {"-1": "a"}, {"99999999999": "a"}, {"5": ""}, [], 3, {"5": {"content": 3}}],
)
def test_added_tokens(tokens: Any, talking_model: Path) -> None:
    content = json.dumps({"added_tokens_decoder": tokens})
    (talking_model / "tokenizer_config.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json.*added"):
        load(talking_model)


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        ('{"a": 0}', None),
        ("", ""),
        ("{", "a b"),
        ("[]", ""),
        ('{"a": -1}', ""),
        ('{"a": 1e99}', ""),
        ('{"a": 4294967296}', ""),
        ('{"a": "b"}', ""),
        ('{"a":' * 1000, ""),
        ('{"a": 0}', "a"),
        ('{"a": 0}', "a b"),
        ('{"a": 0}', b"\xff \xfe"),
    ],
)
def test_vocab_and_merges(vocab: str, merges: str | bytes | None, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(vocab)
    if merges is not None:
        (tmp_path / "merges.txt").write_bytes(merges if isinstance(merges, bytes) else merges.encode())
    what_to_do = "Delete /.*" if merges is not None else "The model is incomplete:"
    with pytest.raises(TokenizerError, match=rf"vocab\.json.*\n{what_to_do}.* download it again\."):
        load_tokenizer(tmp_path)


GOOD = llama_like()
SENTENCEPIECE = {
    "empty": b"",
    "a varint without end": b"\xff" * 50,
    "a varint cut off": b"\x0a\x80",
    "a length beyond the file": field(1, b"abc")[:2] + b"abc",
    "a huge length": b"\x0a" + varint(2**63) + b"abc",
    "2⁷⁰ bytes": b"\x0a" + b"\xff" * 9 + b"\x7f" + b"abc",
    "groups": b"\x0b\x0b\x0b\x0c",
    "field 0": b"\x02\x00",
    "numbers for pieces": varint(1 << 3) + varint(5),
    "no pieces": model_proto([]),
    "only empty pieces": b"\x0a\x00" * 100_000,
    "a piece within itself": field(1, field(1, field(1, field(1, b"")))),
    "not UTF-8": model_proto(START) + field(1, field(1, b"\xff")),
    "twice": model_proto([*START, ("x", 0.0, 1), ("x", 0.0, 1)]),
    "bytes without their pieces": model_proto(START, byte_fallback=True),
    "an unknown type": model_proto(START, model_type=9),
    "a damaged map": model_proto(START, charsmap=b"\xff\xff\xff\xff"),
    "JSON": b'{"model": {}}',
    "tiktoken's form, which Llama 3 has under this name": b"IQ== 0\nIg== 1\n",
    "an empty piece": model_proto([*START, ("", 0.0, 1)]),
    "no unknown piece": model_proto(START[1:]),
    **{f"cut at {n}": GOOD[:n] for n in (1, 2, 3, 17, len(GOOD) // 2, len(GOOD) - 1)},
}


@pytest.mark.parametrize("fault", SENTENCEPIECE)
def test_tokenizer_model(fault: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(SENTENCEPIECE[fault])
    path = tmp_path / "tokenizer.model"
    message = rf"tokenizer\.model cannot be read as a tokenizer: .*\n{re.escape(download_again(path))}"
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"])
def test_what_is_no_file(name: str, talking_model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret"
    outside.write_text("{}")
    path = talking_model / name
    for make in (lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to(outside)):
        (talking_model / "tokenizer.json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if name == "tokenizer_config.json":  # read only beside a vocabulary
            (talking_model / "tokenizer.model").write_bytes(GOOD)
        make()
        with pytest.raises(TokenizerError, match=name):
            load_tokenizer(talking_model)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()


def test_a_file_that_is_far_too_large(talking_model: Path) -> None:
    with (talking_model / "tokenizer.json").open("r+b") as file:
        file.truncate(10**10)  # takes no space on the disk
    with pytest.raises(TokenizerError, match=r"larger than 64 MB.*\nDelete /.* and download it again\.$"):
        load(talking_model)


def test_a_tokenizer_larger_than_the_embedding(talking_model: Path) -> None:
    path = talking_model / "tokenizer.json"
    content = json.loads(path.read_text())
    more = {**content["added_tokens"][0], "id": 257, "content": "[PAD]"}
    path.write_text(json.dumps(content | {"added_tokens": [*content["added_tokens"], more]}))
    model, tokenizer = load(talking_model)
    assert tokenizer is not None
    assert tokenizer.decode(tokenizer.encode("abc")) == "abc"
    message = r"tokenizer\.json: the token '\[PAD\]' has the id 257, but the model knows only 257 tokens"
    with pytest.raises(TokenizerError, match=message):
        generate(model, tokenizer, "a[PAD]", max_new_tokens=1)


WRONG_IDS: list[Any] = [
    [-1],
    [257],
    [2**31],
    [2**63],
    [2**200],
    [-(2**70)],
    [1.0],
    [float("nan")],
    [True],
    ["1"],
    "abc",
    "",
    b"abc",
    [None],
    None,
    5,
    [],
    [[]],
    [[1], [2, 3]],
    [[[1]]],
    [1, [2]],
    {1: 2},
    {1, 2},
    object(),
    [object()],
    np.array([1.0]),
    np.array([1], dtype=bool),
    np.array([257], dtype=np.uint64),
    np.array([2**64 - 1], dtype=np.uint64),
    np.array([1, None], dtype=object),
    np.array([], dtype=np.int64),
    np.zeros((1, 1, 1), dtype=int),
    np.array(3),
    np.array(["1"]),
    np.array([1 + 2j]),
]


@pytest.mark.parametrize("ids", WRONG_IDS, ids=lambda ids: re.sub(" at 0x.*", "", repr(ids)[:30]))
def test_wrong_ids(ids: Any, talking_model: Path) -> None:
    model, tokenizer = load(talking_model)
    assert tokenizer is not None
    with pytest.raises(InputError):
        model(ids)
    if repr(ids) not in ("[[1], [2, 3]]", "[[]]"):  # a list of prompts, of any lengths
        with pytest.raises(InputError):
            generate_ids(model, ids, max_new_tokens=1)
    cache = model.new_cache()
    with pytest.raises(InputError):
        model(ids, cache=cache)
    assert cache.lengths.tolist() == [0]


@pytest.mark.parametrize(
    "ids",
    [[-1], [2**40], [1.5], [True], ["1"], "1", None, 5, [None], [[1]], np.array([1.5]), np.array([True])],
)
def test_wrong_ids_to_decode(ids: Any, talking_model: Path) -> None:
    tokenizer = load_tokenizer(talking_model)
    assert isinstance(tokenizer, Tokenizer)
    with pytest.raises(InputError, match=r"[Tt]oken id"):
        tokenizer.decode(ids)
    assert tokenizer.decode(np.array([64, 65], dtype=np.uint64)) == tokenizer.decode([64, 65])
    assert tokenizer.decode([257, 2**32 - 1]) == ""


@pytest.mark.parametrize("text", [None, 5, b"abc", b"", ["a"], {}, 1.5])
def test_wrong_texts(text: Any, talking_model: Path) -> None:
    model, tokenizer = load(talking_model)
    assert tokenizer is not None
    with pytest.raises(InputError, match="must be a str"):
        tokenizer.encode(text)
    for prompt in (text, [text], ["a", text]):
        if prompt != ["a"]:  # a list of prompts
            with pytest.raises(InputError, match="A prompt must be a str, or a list of them; found"):
                generate(model, tokenizer, prompt, max_new_tokens=1)
    with pytest.raises(InputError, match="A prompt must be a str; found"):
        stream(model, tokenizer, text)


TEMPLATES: dict[str, str] = {
    # What reaches out.
    "{{ ''.__class__.__mro__ }}": "unsafe",
    "{{ (''['__class__']).x }}": "unsafe",
    "{{ ('' | attr('__class__')).x }}": "unsafe",
    "{{ ([''] | map(attribute='__class__') | first).x }}": "unsafe",
    "{{ '{0.__class__.x}'.format(1) }}": "unsafe",
    "{{ ('{0.__class__.x}' | attr('format'))(1) }}": "unsafe",
    "{{ raise_exception.__globals__.x }}": "unsafe",
    "{{ namespace.__init__.__globals__ }}": "unsafe",
    "{{ cycler.__init__.__globals__.os.popen('id') }}": "unsafe",
    "{{ messages.append(1) }}": "unsafe",
    "{{ messages[0].update({}) }}": "unsafe",
    "{{ dict.update(messages[0], {}) }}": "has no attribute",
    "{{ namespace.mro() }}": "unsafe",
    "{% macro f() %}{% endmacro %}{{ f._func.__globals__ }}": "unsafe",
    "{{ (messages | map('upper')).gi_frame.x }}": "unsafe",
    "{{ namespace(__class__=1) }}": "__class__",
    "{% include '/etc/passwd' %}": "wants another file",
    "{% include ['/etc/passwd'] ignore missing %}": "wants another file",
    "{% import '../x' as x %}": "wants another file",
    "{% extends '/etc/passwd' %}": "wants another file",
    # What is no program.
    "{{ " + "(" * 30_000: "RecursionError",
    "{{ " + "not " * 20_000 + "1 }}": "RecursionError",
    "{{ a" + ".b" * 40_000 + " }}": "RecursionError",
    "{% for a in b %}" * 30 + "{% endfor %}" * 30: "SyntaxError",
    "{#" * 40_000: "Missing end of comment",
    "{{ " + "9" * 50_000 + " }}": "ValueError",
    "x" * 200_000: "200000|100001",
}


@pytest.mark.parametrize("source", TEMPLATES, ids=lambda source: source[:60])
def test_templates(source: str) -> None:
    template = ChatTemplate(source, {}, Path("m/chat_template.jinja"))
    with pytest.raises(TokenizerError, match=TEMPLATES[source]) as caught:
        template.render([{"role": "user", "content": "Hello"}])
    said = str(caught.value)
    assert said.startswith("m/chat_template.jinja: the model's chat template does not work: ")
    assert "replace the template" in said
    assert len(said) < 1000


ENDLESS = {
    "loops": "{% for i in range(90000) %}{% for i in range(90000) %}{% endfor %}{% endfor %}",
    "one call of hours": "{{ ('a' * 6000000).strip('b' * 6000000 + 'a') | length }}",
    "arithmetic": "{{ (('f' * 12000000) | int(0, 16)) % (('f' * 6000001) | int(0, 16)) }}",
    "memory": "{% set x = namespace(a='xx') %}{% for i in range(99) %}{% set x.a = x.a * 9 %}{% endfor %}",
    "a crash": "{% set n = namespace(x=()) %}{% for i in range(9000) %}"
    + "{% set n.x = cycler(n.x).items %}" * 18
    + "{% endfor %}{{ {}[n.x] }}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_programs_that_do_not_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinystar_np.text.chat_template.SECONDS", 2.0)
    message = r"does not work: it (took too long|needed more than 1 GB|ended the process in which it ran)"
    begun = time.monotonic()
    with pytest.raises(TokenizerError, match=message):
        ChatTemplate(ENDLESS[kind], {}, Path("m")).render([{"role": "user", "content": "Hello"}])
    assert time.monotonic() - begun < 10
    assert ChatTemplate("{{ 1 }}", {}, Path("m")).render([{"role": "user", "content": "Hello"}]) == "1"


def test_long_prompts() -> None:
    """A few letters of a template must not make a prompt that takes hours to read."""

    def written(source: str, content: str) -> str:
        return ChatTemplate(source, {}, Path("m")).render([{"role": "user", "content": content}])

    assert len(written("{{ 'a' * 100000 }}", "Hello")) == 100_000
    with pytest.raises(
        TokenizerError, match=r"it writes 20800000 characters for this conversation, and 1\d{5} "
    ):
        written("{{ 'a b ' * 5200000 }}", "Hello")
    long = "😀é" * 200_000
    assert written("{{ messages[0].content * 3 }}", long) == long * 3
    with pytest.raises(TokenizerError, match="characters for this conversation"):
        written("{{ messages[0].content * 40 }}", long)


def test_conversations_that_are_too_deep() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deeply"):
        ChatTemplate("", {}, Path("m")).render([{"role": "user", "content": deep}])


def test_at_the_command_line(talking_model: Path) -> None:
    (talking_model / "chat_template.jinja").write_text(next(iter(TEMPLATES)))
    command = [
        sys.executable,
        "-c",
        "from tinystar_np.cli.main import tinystar; raise SystemExit(tinystar())",
    ]
    done = subprocess.run(
        [*command, "chat", "-m", str(talking_model)],
        input="Hello\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "chat_template.jinja: the model's chat template does not work: access to attribute" in done.stderr
    assert "Traceback" not in done.stderr
