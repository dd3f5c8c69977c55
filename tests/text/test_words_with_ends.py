"""BPE whose words end in </w>, as in GPT and CTRL, beside transformers reading the same files."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from test_tokenizer_classes import CORPUS, both, write
from tokenizers import models, normalizers, pre_tokenizers, trainers

from tinystar_np.errors import TokenizerError
from tinystar_np.text import TextStream, load_tokenizer

TEXTS = [
    *("", "a", "The cat sat.", " leading", "trailing ", "  double  spaces ", "\n\n\ttabs\n\r\n", "x \n y"),
    *("12345678 9 2024", "IT'S DON'T I'll we'VE 's", "naïve café", "e\u0301 é", "日本語 😀", "a\x00b\x7f"),
    *("x.\nx !\n\n y", "\u00a0nbsp\u2028ls", "İSTANBUL ǅ ﬁ", "<unk>", "a <unk>b c<unk>", "unknown ☃ in it"),
    *("cats matted sitting quotes", "def f(x): return x", "tabs\n", "the\nmat\n", "@@ a@@ </w> b</w>", "@@"),
]


def train(normalizer: Any, words: Any) -> dict[str, Any]:
    """Train BPE with ends of words, and return its vocabulary and merges."""
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = words
    if normalizer is not None:
        backend.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=260, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    model: dict[str, Any] = json.loads(backend.to_str())["model"]
    return model


def write_merges(directory: Path, merges: list[Any]) -> None:
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (directory / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def write_gpt(directory: Path) -> None:
    model = train(normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer())
    write(directory, "vocab.json", model["vocab"])
    write_merges(directory, model["merges"])
    write(directory, "config.json", {"model_type": "openai-gpt"})


def write_ctrl(directory: Path) -> None:
    """As subword-nmt writes it: without the pieces that training never left as they are."""
    model = train(None, pre_tokenizers.Split(tokenizers.Regex(r"\S+\n?"), "removed", invert=True))
    tokens = [token for token in model["vocab"] if token != "<unk>"][:-20:2]
    kept = [token.removesuffix("</w>") if token.endswith("</w>") else f"{token}@@" for token in tokens]
    vocabulary = {token: id for id, token in enumerate(dict.fromkeys([*kept, "<unk>"]))}
    write(directory, "vocab.json", vocabulary)
    write_merges(directory, model["merges"])
    write(directory, "config.json", {"model_type": "ctrl"})


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("writer", "name"), [(write_gpt, "OpenAIGPTTokenizer"), (write_ctrl, "CTRLTokenizer")]
)
def test_as_transformers(writer: Any, name: str, named: bool, tmp_path: Path) -> None:
    """By the model type, as the hub's first files, or by the name of the class."""
    writer(tmp_path)
    if named:
        write(tmp_path, "tokenizer_config.json", {"tokenizer_class": name})
    tokenizer, reference = both(tmp_path)
    lengths = set()
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        expected = reference.decode(ids, skip_special_tokens=True)
        assert tokenizer.decode(ids) == expected.removesuffix("@@"), text  # see below
        lengths.add(len(ids))
    assert len(lengths) > 5
    unknown = tokenizer.backend.token_to_id("<unk>")
    assert unknown in tokenizer.encode("unknown ☃ in it")
    assert tokenizer.vocab_size == len(reference)


def test_tokenizer_json_of_gpt(tmp_path: Path) -> None:
    """What transformers writes has rules of known models only, so that no worker is needed."""
    write_gpt(tmp_path)
    _, reference = both(tmp_path)
    reference.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").exists()
    tokenizer = load_tokenizer(tmp_path / "saved")
    assert tokenizer is not None
    assert isinstance(tokenizer.backend, tokenizers.Tokenizer)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True), text


def test_tokenizer_json_of_xglm(tmp_path: Path) -> None:
    """</s> begins a text, and spaces in a row are one."""
    words = [
        ("▁", -2.0),
        ("▁the", -3.0),
        ("▁cat", -3.5),
        ("s", -4.0),
        ("at", -4.5),
        ("▁a", -4.6),
        ("h", -5.0),
    ]
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *words]
    reference = pytest.importorskip("transformers").XGLMTokenizer(vocab=pieces)
    reference.save_pretrained(tmp_path)
    write(tmp_path, "config.json", {"model_type": "xglm"})
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    for text in ("the cats", "the   cats at", "", " a hat ", "</s> the", "x", "the <madeupword0>"):
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        assert ids[0] == 2
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True), text


@pytest.mark.parametrize("writer", [write_gpt, write_ctrl])
def test_a_stream_is_the_whole(writer: Any, tmp_path: Path) -> None:
    writer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    for text in TEXTS:
        ids = tokenizer.encode(text)
        stream = TextStream(tokenizer)
        assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids), text


def test_a_word_that_is_not_at_its_end(tmp_path: Path) -> None:
    """transformers leaves the mark of the last piece in the text."""
    write(tmp_path, "vocab.json", {"ca@@": 0, "t": 1, "<unk>": 2})
    write_merges(tmp_path, [("c", "a")])
    write(tmp_path, "config.json", {"model_type": "ctrl"})
    tokenizer, reference = both(tmp_path)
    assert tokenizer.encode("cat") == reference.encode("cat") == [0, 1]
    assert tokenizer.decode([0]) == "ca"
    assert reference.decode([0]) == "ca@@"
    assert [tokenizer.token(id) for id in range(4)] == ["ca@@", "t", "<unk>", ""]


def test_of_biogpt_the_rules_are_not_here(tmp_path: Path) -> None:
    write_gpt(tmp_path)
    write(tmp_path, "config.json", {"model_type": "biogpt"})
    with pytest.raises(TokenizerError, match="BioGptTokenizer cuts a text by the rules of Moses"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("writer", [write_gpt, write_ctrl])
def test_damaged_files(writer: Any, tmp_path: Path) -> None:
    writer(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"#version\n\xff\xfe \xff\n")
    with pytest.raises(TokenizerError, match=r"merges\.txt"):
        load_tokenizer(tmp_path)
    write(tmp_path, "vocab.json", {"a": -1})
    with pytest.raises(TokenizerError, match="the id of 'a' is -1"):
        load_tokenizer(tmp_path)
