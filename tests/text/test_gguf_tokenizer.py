"""Tokenizers from GGUF metadata: llama.cpp's ids for its own vocabularies, and files that are damaged."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from ggml_vocabularies import NAMES, metadata_of, texts_and_ids, vocabulary

from tinystar_np.errors import TinyStarError, TokenizerError
from tinystar_np.text import TextStream, Tokenizer
from tinystar_np.text.gguf_tokenizer import gguf_end_ids, load_gguf_in_this_process, load_gguf_tokenizer
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.text.words import BY_NAME

MORE_TEXTS = (
    "",
    "    indented\n\tand tabs\r\n\r\nand   spaces   ",
    "naïve café — “quotes” ½ ﬁne ｶﾞ Å ① x² 日本語の文章と中文和한국어",
    "😀👩‍👩‍👧‍👦🇫🇷 \x00 \x01 \ufffd \ufeff \u0301",
    "def f(x):\n    return {'a': x[1:-1] // 2}  # 1234567 3.14159\n" * 3,
    "مرحبا بالعالم ١٢٣ हिन्दी में पाठ ไทย",
)


def load(metadata: dict[str, Any], **options: Any) -> Tokenizer:
    tokenizer = load_gguf_tokenizer(metadata, Path("model.gguf"), **options)
    assert tokenizer is not None
    return tokenizer


def byte_level(*more: str, **keys: Any) -> dict[str, Any]:
    """The keys of a small byte-level vocabulary."""
    tokens = [*"abcdef", "ab", "abc", "<s>", "</s>", *more]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([1] * 8 + [3, 3] + [4] * len(more), np.int32),
        "tokenizer.ggml.merges": ["a b", "ab c"],
        "tokenizer.ggml.bos_token_id": 8,
        "tokenizer.ggml.eos_token_id": 9,
    } | {f"tokenizer.{key}": value for key, value in keys.items()}


def pieces(**keys: Any) -> dict[str, Any]:
    """The keys of a small sentencepiece vocabulary."""
    bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["▁", "t", "h", "e", "he", "▁the", "▁t", "a", "▁▁", "▁▁▁▁", "日本", "日", "本"]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *bytes, *words, "<end>", "\n\n"],
        "tokenizer.ggml.token_type": np.array([2, 3, 3] + [6] * 256 + [1] * len(words) + [3, 4], np.int32),
        "tokenizer.ggml.scores": np.array([0.0] * 259 + [-float(i) for i in range(len(words) + 2)], "f4"),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    } | {f"tokenizer.{key}": value for key, value in keys.items()}


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_that_llama_cpp_expects(name: str, shared: Path) -> None:
    """Its test adds no tokens around a text, and control tokens in it are text (parse_special is false)."""
    path = vocabulary(shared, name)
    tokenizer = load(metadata_of(path))
    tokenizer.backend.encode_special_tokens = True  # type: ignore[union-attr]
    for text, ids in texts_and_ids(path):
        assert tokenizer.encode(text, add_special_tokens=False) == ids, text
        assert tokenizer.decode(ids) == text
    tokenizer.backend.encode_special_tokens = False  # type: ignore[union-attr]
    for text in (*MORE_TEXTS, *(text for text, _ in texts_and_ids(path))):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        stream = TextStream(tokenizer)
        assert "".join(map(stream.push, ids)) + stream.flush() == text


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm", "phi-3"])
def test_in_a_worker(name: str, shared: Path) -> None:
    path = vocabulary(shared, name)
    tokenizer, here = load(metadata_of(path), isolated=True), load(metadata_of(path))
    assert isinstance(tokenizer.backend, IsolatedTokenizer)
    for text, _ in texts_and_ids(path):
        ids = here.encode(text)
        assert tokenizer.encode(text) == ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.special_ids == here.special_ids
    assert tokenizer.settings == here.settings
    assert (tokenizer.end_id, tokenizer.vocab_size) == (here.end_id, here.vocab_size)


def test_special_tokens_of_real_files(shared: Path) -> None:
    llama = load(metadata_of(vocabulary(shared, "llama-bpe")))
    assert llama.encode("Hello<|eot_id|>") == [128000, 9906, 128009]  # adds bos, though no key says so
    assert llama.decode([128000, 9906, 128009]) == "Hello"
    assert llama.decode([9906, 128009], skip_special_tokens=False) == "Hello<|eot_id|>"
    assert llama.end_id == 128001
    phi = load(metadata_of(vocabulary(shared, "phi-3")))
    assert phi.chat_template is not None
    written = phi.chat_template.render([{"role": "user", "content": "Hello"}])
    assert written.startswith("<s><|user|>\nHello<|end|>")
    ids = phi.encode(written, add_special_tokens=False)
    assert ids[:3] == [1, 32010, 15043]  # the file is named Phi-3, whose special tokens swallow line ends
    ends = {
        name: gguf_end_ids(metadata_of(vocabulary(shared, name)), Path())
        for name in ("phi-3", "qwen2", "llama-bpe")
    }
    assert ends == {"phi-3": [32000, 32007], "qwen2": [151643, 151645], "llama-bpe": [128001, 128009]}


def test_phi_3_swallows_the_space_after_special_tokens(shared: Path) -> None:
    metadata = metadata_of(vocabulary(shared, "phi-3")) | {"general.name": "Phi-3 mini"}
    tokenizer = load(metadata)
    assert tokenizer.encode("<|user|>\n Hello") == [1, 32010, *tokenizer.encode("Hello")[1:]]
    assert tokenizer.encode("<s> \nHello")[2:] == tokenizer.encode(" \nHello")[1:]


def beginning_of_gpt2(shared: Path, size: int = 5000) -> dict[str, Any]:
    """The keys of a vocabulary of GPT-2's bytes, its first merges and its end of text."""
    whole = metadata_of(vocabulary(shared, "gpt-2"))
    keys = ("tokens", "token_type", "merges", "bos_token_id", "eos_token_id")
    tokens, kinds, merges, *ends = (whole[f"tokenizer.ggml.{key}"] for key in keys)
    assert [tokens[end] for end in ends] == ["<|endoftext|>"] * 2
    values = ([*tokens[:size], "<|endoftext|>"], [*kinds[:size], 3], merges[: size - 256], size, size)
    return whole | {f"tokenizer.ggml.{key}": value for key, value in zip(keys, values, strict=True)}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_name_of_rules(name: str, shared: Path) -> None:
    tokenizer = load(beginning_of_gpt2(shared) | {"tokenizer.ggml.pre": name})
    for text in MORE_TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("a" * 100_000 + "1" * 100_000 + " " * 100_000))


def test_ends_and_flags() -> None:
    assert load(byte_level()).encode("abcf") == [7, 5]
    both = load(byte_level(**{"ggml.add_bos_token": True, "ggml.add_eos_token": True}))
    assert both.encode("abcf") == [8, 7, 5, 9]
    assert both.encode("abcf", add_special_tokens=False) == [7, 5]
    assert load(byte_level(**{"ggml.pre": "llama-bpe"})).encode("f") == [8, 5]
    assert load(byte_level(**{"ggml.pre": "llama-bpe", "ggml.add_bos_token": False})).encode("f") == [5]
    assert load(pieces()).encode("the") == [1, 264]
    assert load(pieces(**{"ggml.add_bos_token": False})).encode("the") == [264]
    without = load(pieces(**{"ggml.add_space_prefix": False}))
    assert without.encode("the", add_special_tokens=False) == [260, 263]
    assert without.decode([264]) == " the"
    assert load(pieces()).decode([1, 264, 264]) == "the the"


def test_merging_pieces() -> None:
    tokenizer = load(pieces())

    def tokens(text: str) -> list[str]:
        return [tokenizer.token(id) for id in tokenizer.encode(text, add_special_tokens=False)]

    assert tokens("the") == ["▁the"]
    assert tokens("tthe") == ["▁t", "t", "he"]
    assert tokens("     a") == ["▁▁▁▁", "▁▁", "a"]
    assert tokens("日本€") == ["▁", "日本", "<0xE2>", "<0x82>", "<0xAC>"]
    assert tokens("the<end>the</s>\n\nthe") == ["▁the", "<end>", "▁the", "</s>", "\n\n", "▁the"]
    assert tokenizer.decode([264, 3 + 0xE2, 3 + 0x82, 261]) == "the\ufffd\ufffdh"
    assert tokenizer.decode(tokenizer.encode("the</s>a"), skip_special_tokens=False) == "<s> the</s> a"
    assert tokenizer.decode([10**6, 264]) == "the"
    assert tokenizer.special_ids == {0, 1, 2, 272}


def test_unused_and_empty_tokens_have_no_text() -> None:
    kinds = np.array([1] * 8 + [3, 3, 5, 1, 4], np.int32)
    metadata = byte_level("[PAD]", "", "<tool>") | {"tokenizer.ggml.token_type": kinds}
    tokenizer = load(metadata)
    assert tokenizer.decode([0, 10, 11, 12]) == "a<tool>"
    assert tokenizer.encode("a<tool>b") == [0, 12, 1]
    tokens = [*pieces()["tokenizer.ggml.tokens"][:-2], "", "[PAD]"]
    kinds = np.array([*pieces()["tokenizer.ggml.token_type"][:-2], 1, 5], np.int32)
    keys: dict[str, Any] = {"ggml.tokens": tokens, "ggml.token_type": kinds}
    assert load(pieces(**keys)).decode([264, 272, 273]) == "the"


def test_which_files_have_no_tokenizer() -> None:
    assert load_gguf_tokenizer({}, Path("a")) is None
    assert load_gguf_tokenizer({"general.name": "x", "tokenizer.ggml.model": "no_vocab"}, Path("a")) is None
    assert gguf_end_ids({}, Path("a")) == []


def test_chat_templates(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("of another model")
    keys = {"chat_template": "{{ eos_token }}{{ messages[0].content }}", "chat_template.tool_use": "tools"}
    tokenizer = load_gguf_tokenizer(byte_level(**keys), tmp_path / "model.gguf")
    assert tokenizer is not None
    assert tokenizer.chat_template is not None
    messages = [{"role": "user", "content": "abc"}]
    assert tokenizer.chat_template.render(messages) == "</s>abc"
    assert tokenizer.chat_template.render(messages, tools=[]) == "tools"
    assert load(byte_level()).chat_template is None


def test_the_ends_of_answers() -> None:
    assert gguf_end_ids(byte_level("<|im_end|>", "<|eom_id|>"), Path()) == [9, 10, 11]
    assert gguf_end_ids(byte_level("<x>", **{"ggml.eot_token_id": 10}), Path()) == [9, 10]
    parts = ("<|end|>", "<|return|>", "<|call|>")
    assert gguf_end_ids(byte_level(*parts), Path()) == [9, 11, 12]
    named = load(byte_level("<x>", **{"ggml.eot_token_id": 10})).settings.special_tokens
    assert named == {"bos_token": "<s>", "eos_token": "</s>", "eot_token": "<x>"}
    assert 10 in load(byte_level("<|im_end|>")).special_ids  # though the file calls it an ordinary token


def test_a_token_too_long_is_used_in_a_worker() -> None:
    for metadata in (byte_level("x" * 2000), byte_level(*(f"<{i}>" for i in range(20_001)))):
        tokenizer = load(metadata)
        assert isinstance(tokenizer.backend, IsolatedTokenizer)
        assert tokenizer.encode("abc" + metadata["tokenizer.ggml.tokens"][10]) == [7, 10]


def test_long_texts_take_no_longer_than_they_should() -> None:
    tokenizer = load(pieces())
    for text in (" " * 200_000, "the " * 50_000, "日本" * 50_000, "<" * 200_000):
        assert tokenizer.decode(tokenizer.encode(text)) == text


DAMAGED = [
    ("model", 7),
    ("model", "rwkv"),
    ("pre", ["gpt-2"]),
    ("pre", "unheard-of"),
    ("tokens", None),
    ("tokens", "abc"),
    ("tokens", []),
    ("tokens", ["a", 1]),
    ("tokens", ["a", "a"]),
    ("tokens", ["a", "\ud800"]),
    ("tokens", np.arange(10)),
    ("token_type", np.zeros(3, np.int32)),
    ("token_type", np.zeros(10, np.float32)),
    ("token_type", "abc"),
    ("merges", None),
    ("merges", ["ab"]),
    ("merges", ["a z"]),
    ("merges", ["a f"]),
    ("merges", [1]),
    ("merges", np.arange(3)),
    ("bos_token_id", 10),
    ("bos_token_id", -2),
    ("bos_token_id", True),
    ("bos_token_id", "1"),
    ("eos_token_id", np.arange(2)),
    ("eot_token_id", 1 << 60),
    ("add_bos_token", 1),
    ("add_eos_token", "yes"),
    ("scores", np.zeros(10, bool)),
    ("scores", np.full(10, math.nan, np.float32)),
    ("scores", None),
]


@pytest.mark.parametrize(("name", "value"), DAMAGED)
def test_damaged_keys_are_named(name: str, value: Any) -> None:
    key = f"tokenizer.ggml.{name}"
    metadata = (pieces() if name == "scores" else byte_level()) | {key: value}
    if name == "scores" and value is not None:
        metadata |= {"tokenizer.ggml.tokens": [*"abcdefghij"], "tokenizer.ggml.token_type": None}
    if value is None:
        del metadata[key]
    with pytest.raises(TokenizerError, match=f"^model.gguf.*{key}"):
        load(metadata)


def test_a_missing_model_and_a_bad_byte() -> None:
    metadata = byte_level()
    del metadata["tokenizer.ggml.model"]
    with pytest.raises(TokenizerError, match=r"tokenizer\.ggml\.model is missing"):
        load(metadata)
    kinds = np.full(274, 6, np.int32)
    with pytest.raises(TokenizerError, match=r"token_type says that '<unk>' is a byte"):
        load(pieces(**{"ggml.token_type": kinds}))
    with pytest.raises(TokenizerError, match=r"bos_token_id is missing"):
        load(byte_level(**{"ggml.bos_token_id": None, "ggml.add_bos_token": True}))
    with pytest.raises(TokenizerError, match=r"chat_template is 7"):
        load(byte_level(chat_template=7))


def test_any_values_of_any_keys() -> None:
    """Whatever a key is, it loads or ends as our error."""
    values = (None, True, -1, 2**63, 1.5, "", "x", [], ["x"], ["x", "x"], [1], np.zeros(0), np.zeros((2, 2)))
    for base in (byte_level(), pieces()):
        for key in (*base, "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.add_space_prefix"):
            for value in values:
                try:
                    tokenizer = load_gguf_in_this_process(base | {key: value}, Path("m"))
                    if tokenizer is not None:
                        tokenizer.decode(tokenizer.encode("abc the\n日本"))
                        assert gguf_end_ids(base | {key: value}, Path("m")) is not None
                except TinyStarError:
                    pass


def test_known_kinds_run_in_this_process(shared: Path) -> None:
    assert isinstance(load(metadata_of(vocabulary(shared, "mpt"))).backend, tokenizers.Tokenizer)


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_pieces_are_those_of_bert(lowercase: bool) -> None:
    """Beside BERT's own rules in transformers, with a vocabulary made of this repository's words."""
    transformers = pytest.importorskip("transformers")
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    text = "".join((readme, *MORE_TEXTS))
    words = {word.lower() if lowercase else word for word in text.split() if word.isalpha()}
    letters = sorted({letter for letter in text + text.lower() if letter.isprintable() and letter != " "})
    pieces = [
        *letters,
        *(f"##{letter}" for letter in letters),
        "##ing",
        "##er",
        *sorted(words - set(letters)),
    ]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    reference = transformers.BertTokenizer(
        vocab={token: id for id, token in enumerate(tokens)}, do_lower_case=lowercase
    )
    written = [token[2:] if token.startswith("##") and len(token) > 2 else f"▁{token}" for token in pieces]
    metadata = {
        "model": "bert",
        "tokens": [*tokens[:5], *written],
        "token_type": np.array([3, 2, 3, 3, 3] + [1] * len(written), np.int32),
        "bos_token_id": 2,
        "unknown_token_id": 1,
        "seperator_token_id": 3,
        "normalizer.lowercase": lowercase,
    }
    tokenizer = load({f"tokenizer.ggml.{key}": value for key, value in metadata.items()})
    for line in (*text.splitlines(), *MORE_TEXTS, "[MASK] of [CLS]"):
        assert tokenizer.encode(line) == reference.encode(line), line
    assert tokenizer.decode(tokenizer.encode("Testing this")).lower() == "testing this"
