"""Tokenizers in a worker: the same ids and texts; what a file does to the library ends as an error."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from sentencepiece_writer import NORMAL, START, llama_like, model_proto
from test_families import FAMILIES, LLAMA3_SPLIT
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from tinystar_np import load
from tinystar_np.errors import TokenizerError
from tinystar_np.text import TextStream, Tokenizer, load_tokenizer
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.text.ordinary import is_ordinary
from tinystar_np.text.tokenizer_files import load_in_this_process

LINES = ["", "The cat sat.", " 12345 naïve\n\n 日本語 😀 ", "a<s>b</s> <|endoftext|>"]
PROMPT = "Once upon a time there was a little girl who liked to play. " * 40


def both(directory: Path) -> tuple[Tokenizer, Tokenizer]:
    here, there = load_in_this_process(directory), load_tokenizer(directory, isolated=True)
    assert here is not None
    assert there is not None
    assert isinstance(there.backend, IsolatedTokenizer)
    return here, there


def check_alike(here: Tokenizer, there: Tokenizer) -> None:
    for text in LINES:
        for special in (True, False):
            ids = here.encode(text, add_special_tokens=special)
            assert there.encode(text, add_special_tokens=special) == ids
            for skip in (True, False):
                assert there.decode(ids, skip_special_tokens=skip) == here.decode(
                    ids, skip_special_tokens=skip
                )
        ids = here.encode(text)
        streams = TextStream(here), TextStream(there)
        assert [streams[0].push(id) for id in ids] == [streams[1].push(id) for id in ids]
        assert streams[0].flush() == streams[1].flush()
    for id in (0, 1, 2, 100, 10**6):
        assert there.token(id) == here.token(id)
    for name in ("vocab_size", "end_id", "special_ids", "path"):
        assert getattr(there, name) == getattr(here, name), name
    assert there.settings.special_tokens == here.settings.special_tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, tmp_path: Path) -> None:
    FAMILIES[family][0]().save(str(tmp_path / "tokenizer.json"))
    check_alike(*both(tmp_path))
    assert isinstance(load_tokenizer(tmp_path).backend, tokenizers.Tokenizer)  # type: ignore[union-attr]


def test_a_tokenizer_model_runs_in_a_worker_anyway(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(llama_like())
    check_alike(*both(tmp_path))
    assert isinstance(load_tokenizer(tmp_path).backend, IsolatedTokenizer)  # type: ignore[union-attr]


def test_vocab_and_merges(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    (tmp_path / "merges.txt").write_text("a b\n")
    check_alike(*both(tmp_path))
    assert isinstance(load_tokenizer(tmp_path).backend, tokenizers.Tokenizer)  # type: ignore[union-attr]
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b" * 2000: 1, "<|endoftext|>": 3}))
    (tmp_path / "merges.txt").write_text("")
    assert isinstance(load_tokenizer(tmp_path).backend, IsolatedTokenizer)  # type: ignore[union-attr]


def test_load(talking_model: Path) -> None:
    _, tokenizer = load(talking_model, isolated=True)
    assert tokenizer is not None
    assert isinstance(tokenizer.backend, IsolatedTokenizer)
    assert tokenizer.decode(tokenizer.encode("né")) == "né"
    assert load_tokenizer(talking_model.parent, isolated=True) is None


def test_damaged_files_say_the_same(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer.model"):
        (tmp_path / name).write_text("{")
        said = []
        for isolated in (False, True):
            with pytest.raises(TokenizerError) as caught:
                load_tokenizer(tmp_path, isolated)
            said.append(str(caught.value))
        assert said[0] == said[1]
        (tmp_path / name).unlink()


# Attacks. Each file loads or not; then a prompt is cut or not: what must not be is a crash, or a long wait.

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE({letter: id for id, letter in enumerate(LETTERS)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def changed(**parts: Any) -> str:
    return json.dumps(json.loads(byte_level().to_str()) | parts)


def split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def sequence(key: str, rule: dict[str, Any], times: int) -> dict[str, Any]:
    return {"type": "Sequence", key: [rule] * times}


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
CUT = {"type": "BPE", "continuing_subword_prefix": "éé", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}
IDS = {"x": {"id": "x", "ids": [0] * 20_000, "tokens": ["x"] * 20_000}}
SPECIAL, TEXT = {"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
WORDS = {
    "type": "WordPiece",
    "unk_token": "a",
    "continuing_subword_prefix": "",
    "max_input_chars_per_word": 10**9,
}
CTC = {"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": True}

ATTACKS: dict[str, Callable[[], str]] = {
    "growing normalizer": lambda: changed(normalizer=sequence("normalizers", REPLACE, 60)),
    "growing decoder": lambda: changed(
        decoder=sequence("decoders", {**REPLACE, "pattern": {"String": "e"}, "content": "ee"}, 60)
    ),
    "bytes of bytes": lambda: changed(normalizer=sequence("normalizers", {"type": "ByteLevel"}, 40)),
    "an endless expression": lambda: changed(pre_tokenizer=split("(a|a)*$")),
    "a long one at every place": lambda: changed(pre_tokenizer=split(r"(?:[^\x00]|[^\x01]){20}\b\B")),
    "polynomial": lambda: changed(pre_tokenizer=split(r"\s*.*.*.*.*.*.*.*\x00")),
    "many ids": lambda: changed(
        post_processor={
            "type": "TemplateProcessing",
            "single": [SPECIAL] * 20_000 + [TEXT],
            "pair": [TEXT],
            "special_tokens": IDS,
        }
    ),
    "merges that are cut wrongly": lambda: changed(model=CUT),
    "words without a limit": lambda: changed(
        model={**WORDS, "vocab": {"a" * n: n for n in range(1, 900)}}, pre_tokenizer=None
    ),
    "a token of 20 MB": lambda: changed(
        model={"type": "BPE", "vocab": {"a" * 20_000_000: 0, "b": 1}, "merges": []}
    ),
    "empty suffixes": lambda: changed(decoder=sequence("decoders", {"type": "BPEDecoder", "suffix": ""}, 40)),
    "decoders of speech": lambda: changed(decoder=sequence("decoders", CTC, 40)),
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinystar_np.text.isolated.SECONDS", 1.0)


def use(directory: Path) -> str:
    """Use a tokenizer as a program would; returns its error, or none."""
    try:
        tokenizer = load_tokenizer(directory)
        assert tokenizer is not None
        assert isinstance(tokenizer.backend, IsolatedTokenizer)
        ids = tokenizer.encode(PROMPT)
        tokenizer.decode(ids or [0] * 20)
    except TokenizerError as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(attack: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(ATTACKS[attack]())
    said = use(tmp_path)
    assert len(said) < 1000
    if attack in ("growing normalizer", "growing decoder", "bytes of bytes", "many ids"):
        assert "tokenizer.json: this tokenizer runs in a process of its own, with limits. To " in said


def charsmap(units: list[int], replacements: bytes) -> bytes:
    return struct.pack(f"<{len(units) + 1}I", 4 * len(units), *units) + replacements


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "data",
    [
        lambda: model_proto(START, charsmap=charsmap([c << 10 | c for c in range(256)], b"\0")),
        lambda: model_proto(START, charsmap=charsmap([c << 10 | 256 | c for c in range(256)], b"x" * 10**6)),
        lambda: model_proto([*START, ("a" * 1_000_000, -1.0, NORMAL)]),
        lambda: model_proto([*START, *((f"<c{i}>", 0.0, 3) for i in range(30_000))]),
        lambda: model_proto([*START, *((f"{i}" * 200, -1.0, NORMAL) for i in range(10_000))]),
    ],
    ids=["a map that loops", "a map that grows", "a long piece", "control pieces", "10 MB of pieces"],
)
def test_attacks_by_sentencepiece(data: Callable[[], bytes], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data())
    use(tmp_path)


@pytest.mark.usefixtures("quick")
def test_it_goes_on_after_a_call_that_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(changed(pre_tokenizer=split(r"(?:[^\x00]|[^\x01]){20}\b\B")))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    with pytest.raises(TokenizerError, match=r"To encode failed: it took too long.*\nUse another model"):
        tokenizer.encode(PROMPT)
    assert tokenizer.decode(tokenizer.encode("ab")) == "ab"


# Which need no worker.

CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHORT_FORMS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
EXPRESSIONS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": LLAMA3_SPLIT,
    "Tekken": CASED,
    "o200k": CASED.replace("+|[^", f"+{SHORT_FORMS}[^", 1)
    .replace(r"]*|\p{N}|", f"]*{SHORT_FORMS}\\p{{N}}{{1,3}}|"),
    "digits": r"\p{N}{1,3}",
    "three digits": "[0-9][0-9][0-9]",
    "Han and kana": "[一-龥぀-ゟ゠-ヿ]+",
    "DeepSeek's letters": r"\s?\p{L}+",
    "BLOOM": " ?[^(\\s|[.,!?…。，、।۔،])]+",
}  # fmt: skip
UNKNOWN = ["(a|a)*$", "(a+)+", "a*a*a*b", r"(?:[^\x00]|[^\x01]){20}", "a{1000}", "[ab]{9}", "", "(?<=a.*)b"]


@pytest.mark.parametrize("family", EXPRESSIONS)
def test_expressions_of_known_families(family: str) -> None:
    assert is_ordinary(json.loads(changed(pre_tokenizer=split(EXPRESSIONS[family]))))


@pytest.mark.parametrize("expression", UNKNOWN)
def test_other_expressions(expression: str) -> None:
    assert not is_ordinary(json.loads(changed(pre_tokenizer=split(expression))))


def test_other_things_of_known_families() -> None:
    assert is_ordinary(json.loads(byte_level().to_str()))
    backend = byte_level()
    backend.add_tokens([AddedToken(" " * n) for n in range(2, 300)])
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    ends = [("a", 1), ("b", 2)]
    backend.post_processor = processors.TemplateProcessing(single="a $A b", special_tokens=ends)
    assert is_ordinary(json.loads(backend.to_str()))
