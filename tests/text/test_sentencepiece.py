"""tokenizer.model files read here, beside the sentencepiece program itself and transformers."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from sentencepiece_writer import (
    BYTES,
    CONTROL,
    NORMAL,
    START,
    UNUSED,
    USER_DEFINED,
    llama_like,
    model_proto,
)

from tinystar_np.errors import TokenizerError
from tinystar_np.text import Tokenizer, load_tokenizer
from tinystar_np.text.sentencepiece import _finder
from tinystar_np.text.tokenizer_files import load_in_this_process

LINES = [
    # Of a README as it once was: what is trained must not change with every edit of today's.
    *Path(__file__).with_name("lines.txt").read_text(encoding="utf-8").splitlines(),
    *[
        "naïve café — “quotes” ½ ﬁne ｶﾞ Å ①",
        "日本語の文章と中文和한국어 日本語",
        "hahaha aaaa aaa aa",
        "    four",
    ]
    * 5,
]
TEXTS = [
    "",
    " ",
    "   ",
    "the cat sat.",
    " leading, trailing ",
    "two  three   spaces    four",
    "a\nb\n\n\tc\r\n",
    "😀😃 👩‍👩‍👧‍👦 🇫🇷",
    "e\u0301 A\u030a ｶﾞ ﬁ ½ \u3000 \u200b \u00ad",
    "日本語 한국어 ไทย",
    "▁ a▁b ▁▁c",
    "<unk> <s></s> <0x41> <sep>aa<sep> <sep>",
    "aaaaaaa hahahaha lllll",
    "\x00 \x01 \ufffd \ufeff",
]
TRAINING: dict[str, dict[str, Any]] = {
    "llama": {
        "model_type": "bpe",
        "byte_fallback": True,
        "split_digits": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
    },
    "bpe, NFKC, one space for many": {"model_type": "bpe"},
    "bpe, nothing in front": {
        "model_type": "bpe",
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "nmt_nfkc_cf",
    },
    "bpe, user-defined": {
        "model_type": "bpe",
        "user_defined_symbols": ["<sep>", "aa", "\n"],
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
    },
    "characters": {"model_type": "char", "byte_fallback": True},
    "words": {"model_type": "word"},
    "spaces after words": {"model_type": "bpe", "treat_whitespace_as_suffix": True},
    "unigram": {"model_type": "unigram"},
    "unigram, bytes": {"model_type": "unigram", "byte_fallback": True, "remove_extra_whitespaces": False},
    "unigram, user-defined": {"model_type": "unigram", "user_defined_symbols": ["<sep>", "aa", "日本"]},
}


def random_texts(seed: int, count: int = 150) -> list[str]:
    rng = random.Random(seed)
    alphabet = ["  ", *" \t\n▁abcdelaa the<sep>é½ﬁｶﾞ日本한😀\u0301\u200d\u3000\xa0<0x41>"]
    noise = ["".join(rng.choices(alphabet, k=rng.randrange(30))) for _ in range(count)]
    mixed = [rng.choice(LINES)[:40] + rng.choice(alphabet) + rng.choice(LINES)[-40:] for _ in range(count)]
    return [*TEXTS, *noise, *mixed, *LINES]


def tokenizer_of(data: bytes, directory: Path, **settings: Any) -> Tokenizer:
    (directory / "tokenizer.model").write_bytes(data)
    if settings:
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    assert tokenizer.path == directory / "tokenizer.model"
    return tokenizer


def plain(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """Encode as sentencepiece does, to which the text of a special token is like any other."""
    here = load_in_this_process(tokenizer.path.parent)
    assert here is not None
    here.backend._finder = _finder([])  # type: ignore[union-attr]
    return here.encode


@pytest.fixture(scope="module", params=TRAINING)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    directory = tmp_path_factory.mktemp("trained")
    (directory / "text").write_text("\n".join(LINES), encoding="utf-8")
    trainer.train(
        input=directory / "text",
        model_prefix=directory / "m",
        vocab_size=620,
        hard_vocab_limit=False,
        character_coverage=0.998,
        num_threads=1,
        minloglevel=2,
        **TRAINING[request.param],
    )
    return (directory / "m.model").read_bytes()


def test_ids_and_texts_are_those_of_sentencepiece(trained: bytes, tmp_path: Path) -> None:
    reference = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=trained)
    tokenizer = tokenizer_of(trained, tmp_path)
    encode = plain(tokenizer)
    rng = random.Random(0)
    for text in random_texts(seed=len(trained)):
        ids = reference.encode(text)
        assert encode(text) == ids, text
        known = [id for id in ids if id != reference.unk_id()]
        assert tokenizer.decode(known) == reference.decode(known), text
    for _ in range(200):  # any tokens at all
        ids = rng.choices(range(3, reference.vocab_size()), k=rng.randrange(20))
        assert tokenizer.decode(ids) == reference.decode(ids)
    assert tokenizer.vocab_size == reference.vocab_size()
    assert all(tokenizer.token(id) == reference.id_to_piece(id) for id in range(tokenizer.vocab_size))


@pytest.mark.parametrize("seed", range(12))
def test_random_models(seed: int, tmp_path: Path) -> None:
    """Vocabularies that no training would give: equal scores, missing characters, pieces out of use."""
    sentencepiece = pytest.importorskip("sentencepiece")
    rng = random.Random(seed)
    words = {"".join(rng.choices("▁abé日", k=rng.randint(1, 4))) for _ in range(60)}
    types = [NORMAL] * 8 + [UNUSED, USER_DEFINED]
    pieces = [(word, float(rng.randint(-9, -1)), rng.choice(types)) for word in sorted(words)]
    model_type, fallback = 1 + seed % 2, seed % 3 > 0
    data = model_proto(
        [*START, *(BYTES if fallback else []), *pieces],
        model_type,
        byte_fallback=fallback,
        prefix=rng.random() < 0.5,
        collapse=rng.random() < 0.5,
    )
    reference = sentencepiece.SentencePieceProcessor(model_proto=data)
    encode = plain(tokenizer_of(data, tmp_path))
    for _ in range(300):
        text = "".join(rng.choices(" abé日😀x", weights=[3, 5, 5, 2, 2, 1, 1], k=rng.randrange(25)))
        assert encode(text) == reference.encode(text), text


def test_by_hand(tmp_path: Path) -> None:
    """Without the reference: what the merges of this small vocabulary must give."""
    tokenizer = tokenizer_of(llama_like(), tmp_path)

    def pieces(text: str) -> list[str]:
        return [tokenizer.token(id) for id in tokenizer.encode(text)]

    assert pieces("the cat") == ["▁the", "▁cat"]
    assert pieces(" the") == ["▁", "▁the"]
    assert pieces("     cat") == ["▁▁▁▁", "▁", "▁cat"]  # four of six together, leftmost first
    assert pieces("thing") == ["▁t", "h", "ing"]
    assert pieces("日本€") == ["▁", "日本", "<0xE2>", "<0x82>", "<0xAC>"]
    assert pieces("cat</s> cat") == ["▁cat", "</s>", "▁cat"]
    assert pieces("<s>cat") == ["<s>", "c", "at"]  # a space in front of the text alone
    assert pieces("") == []
    assert tokenizer.special_ids == {0, 1, 2}
    for text in (" the  cat\n€😀", "the</s>cat"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text.replace("</s>", "")
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.decode([0, 10**6, 259]) == "t"


def test_the_real_vocabulary_of_stories260k(shared: Path, tmp_path: Path) -> None:
    """Its tokenizer.json was made from a sentencepiece model. That model written again gives the same ids."""
    folder = shared / "checkpoints" / "stories260K"
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.get)
    assert words[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    merged = [(word, -float(rank), NORMAL) for rank, word in enumerate(words[259:])]
    tokenizer = tokenizer_of(
        model_proto([*START, *BYTES, *merged], byte_fallback=True), tmp_path, add_bos_token=True
    )
    original = load_tokenizer(folder)
    assert original is not None
    stories = json.loads((folder / "golden_greedy.json").read_text())
    for text in [*TEXTS, *(story["text"] for story in stories)]:
        if "<" not in text:  # what follows a special token gets a space in front in its tokenizer.json
            ids = tokenizer.encode(text)
            assert ids == original.encode(text)
            assert tokenizer.decode(ids) == original.decode(ids)
    assert [tokenizer.encode(story["prompt"]) for story in stories] == [s["prompt_ids"] for s in stories]


@pytest.mark.parametrize("add_bos", [True, False, None])
@pytest.mark.parametrize("add_eos", [True, None])
@pytest.mark.parametrize("legacy", [True, False, None])
@pytest.mark.parametrize(
    "names", [{}, {"bos_token": "<s>", "eos_token": {"content": "</s>"}}, {"bos_token": "<x>"}]
)
def test_ends_and_prefixes_are_those_of_transformers(
    add_bos: bool | None, add_eos: bool | None, legacy: bool | None, names: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    from transformers import LlamaConfig, LlamaTokenizer

    flags = {"add_bos_token": add_bos, "add_eos_token": add_eos, "legacy": legacy}
    given = {name: value for name, value in flags.items() if value is not None}
    LlamaConfig().save_pretrained(tmp_path)
    known = {name: text for name, text in names.items() if text != "<x>"}
    reference = LlamaTokenizer.from_pretrained(
        _saved(tmp_path, llama_like(), **given, **{name: _as_text(text) for name, text in known.items()})
    )
    tokenizer = tokenizer_of(llama_like(), tmp_path, **given, **known)
    for text in ("the cat", "cat</s>cat", "cat<s>the cat", "<s>cat</s>", ""):
        assert tokenizer.encode(text) == reference.encode(text)
        assert tokenizer.encode(text, add_special_tokens=False) == reference.encode(
            text, add_special_tokens=False
        )
    ids = tokenizer.encode("cat")
    assert (ids[0] == 1, ids[-1] == 2) == (add_bos is True, add_eos is True)
    assert tokenizer.end_id == reference.eos_token_id == 2
    if "<x>" in names.values():  # a name that no piece has begins nothing
        assert tokenizer_of(llama_like(), tmp_path, **given, **names).encode("cat")[0] != 1


def _as_text(token: Any) -> str:
    return token["content"] if isinstance(token, dict) else token


def _saved(directory: Path, data: bytes, **settings: Any) -> Path:
    tokenizer_of(data, directory, tokenizer_class="LlamaTokenizer", **settings)
    return directory


def test_added_tokens(tmp_path: Path) -> None:
    added = {
        "9": {"content": "<kept>", "special": True},  # a piece that gets another name
        "400": {"content": "<tool>", "special": False},
        "401": {"content": "<tool>x", "special": False, "rstrip": True},
        "402": {"content": "word", "special": False, "single_word": True, "lstrip": True},
    }
    tokenizer = tokenizer_of(llama_like(), tmp_path, added_tokens_decoder=added)
    assert tokenizer.encode("<tool><tool>x  <kept><0x06>")[:3] == [400, 401, 9]
    assert 402 in tokenizer.encode("cat word")
    assert 402 not in tokenizer.encode("cat words")
    assert tokenizer.decode(tokenizer.encode("cat word.<kept>")) == "catword."
    assert 9 in tokenizer.special_ids
    assert 400 not in tokenizer.special_ids
    assert tokenizer.token(9) == "<kept>"


def test_the_old_name_of_a_renamed_piece_is_text(tmp_path: Path) -> None:
    """InternLM 2 calls [UNUSED_TOKEN_146] <|im_start|>; nobody may write that token by its old name."""
    data = model_proto(
        [*START, *BYTES, ("[unused]", 0.0, USER_DEFINED), ("▁", 0.0, NORMAL)], byte_fallback=True
    )
    names = {"259": {"content": "<|start|>", "special": True}}
    tokenizer = tokenizer_of(data, tmp_path, added_tokens_decoder=names)
    assert tokenizer.encode("<|start|>") == [259]
    ids = tokenizer.encode("a[unused]")
    assert 259 not in ids
    assert tokenizer.decode(ids) == "a[unused]"
    unknown = {"0": {"content": "[UNK]", "special": True}}
    assert tokenizer_of(model_proto(START), tmp_path, added_tokens_decoder=unknown).encode("ab") == [0]


def test_older_files_of_added_tokens(tmp_path: Path) -> None:
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 300, "<tool>": 301}')
    (tmp_path / "special_tokens_map.json").write_text(
        '{"pad_token": {"content": "<pad>"}, "eos_token": "</s>"}'
    )
    tokenizer = tokenizer_of(llama_like(), tmp_path)
    assert tokenizer.encode("<pad><tool>") == [300, 301]
    assert tokenizer.decode([300, 301]) == "<tool>"
    assert tokenizer.end_id == 2


def test_which_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("")
    assert load_tokenizer(tmp_path).vocab_size == 1
    assert tokenizer_of(llama_like(), tmp_path).encode("<s>") == [1]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).vocab_size == 2


def test_long_texts_take_no_longer_than_they_should(tmp_path: Path) -> None:
    """Work grows with n · log n: these would not end in a day if it grew with n²."""
    for model_type in (1, 2):
        words = [
            (word, -float(i), NORMAL) for i, word in enumerate(["aa", "aaaa", "▁a", "a", "▁", "b", "ab"])
        ]
        tokenizer = tokenizer_of(model_proto([*START, *words], model_type), tmp_path)
        for text in ("a" * 60_000, "ab " * 20_000):
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # importing it fails
    (tmp_path / "tokenizer.model").write_bytes(llama_like())
    message = r"only tokenizer\.model, .*\n.*pip install 'tinystar_np\[sentencepiece\]'"
    with pytest.raises(TokenizerError, match=message):
        load_in_this_process(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_bytes_changed_at_random(seed: int, tmp_path: Path) -> None:
    """Whatever a damaged file holds, it is a model or a TokenizerError."""
    rng = random.Random(seed)
    good = llama_like()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "tokenizer.model").write_bytes(data)
        try:
            tokenizer = load_in_this_process(tmp_path)
        except TokenizerError:
            continue
        assert isinstance(tokenizer.encode("the cat 日本😀€"), list)


def test_control_pieces_cannot_be_written_by_text_that_is_cut(tmp_path: Path) -> None:
    """Only special tokens have a text that means them; a byte's spelling is six letters."""
    tokenizer = tokenizer_of(llama_like(), tmp_path)
    spelled = tokenizer.encode("<0x41>")
    assert 3 + 0x41 not in spelled
    assert tokenizer.decode(spelled) == "<0x41>"
    assert CONTROL == 3


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_add_prefix_space_is_obeyed_as_in_transformers(prefix: bool, legacy: bool, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "add_prefix_space": prefix}
    tokenizer = tokenizer_of(llama_like(), tmp_path, **settings)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    reference = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the cat", "cat</s>cat", "<s>the cat", "x", "cat  the "):
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("settings", [None, {"tokenizer_class": "LlamaTokenizer"}, {"eos_token": None}])
def test_the_file_says_what_begins_and_ends_a_text(settings: Any, tmp_path: Path) -> None:
    """Chat templates print both, and a conversation ends with the latter."""
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "chat_template.jinja").write_text("[{{ bos_token }}][{{ eos_token }}]")
    tokenizer = tokenizer_of(llama_like(), tmp_path)
    assert tokenizer.chat_template is not None
    found = tokenizer.end_id, tokenizer.chat_template.render([{"role": "user", "content": "x"}])
    assert found == ((2, "[<s>][</s>]") if settings != {"eos_token": None} else (None, "[<s>][]"))
    ids = tokenizer.encode("a")
    assert tokenizer.encode("<s>a</s>", add_special_tokens=False)[0] == 1
    assert tokenizer.decode([1, *ids, 2]) == tokenizer.decode(ids)
