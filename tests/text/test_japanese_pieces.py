"""GPT-NeoX Japanese's tokenizer, beside transformers reading the same files."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_tokenizer_classes import both, write

from tinystar_np.checkpoints.model_files import small_files
from tinystar_np.errors import TokenizerError
from tinystar_np.text import TextStream, load_tokenizer
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.text.japanese_pieces import JapanesePieces

LINES = [
    *("<SP>", "<BR>", "<TAB>", "<BLOCK>", "<KIGOU>", "<U2000U2BFF>", ",", ".", "慶応,慶應,けいおう", "実は"),
    *(
        "猫,ねこ",
        "吾輩",
        "は",
        "で",
        "ある",
        "である",
        "実",
        "る",
        "大学",
        "大",
        "学",
        "a",
        "b",
        "cat",
        "c",
        "1,①,１",
    ),
    *(
        "ー",
        "<",
        "<b",
        ">",
        "<URL>",
        *(f"<|byte{n}|>" for n in range(256)),
        *(f"<|emoji{n}|>" for n in (1, 2)),
    ),
    *("<|startoftext|>", "<|endoftext|>"),
]
EMOJI = {"😀": "<|emoji1|>", "😁": "<|emoji1|>", "(^_^)": "<|emoji2|>", "☃": "<|emoji2|>"}
INVERSE = {"<|emoji1|>": "😀", "<|emoji2|>": "(^_^)"}
TEXTS = [
    *(
        "",
        "吾輩は猫である😀。実は慶応(慶應)大学",
        "ねこ ネコ 猫",
        "cat cab  c\t\ta",
        "a\u3000b",
        "x\r\ny\n\n z",
    ),
    *("1①１2", "a,b.c", "—−ー─", "(^_^)😁☃ ☀", "<b<<bb> <URL>http://a.b", "<SP>a<BR>", "¡¿ə̀ǀ", "‖→⬟", "日本"),
    *("a <|endoftext|>b<|startoftext|> 猫<|endoftext|>", "<|byte65|>", "é ü 한국어 🐯", " 猫 ", "😀" * 5),
]


def write_files(directory: Path, **changes: Any) -> None:
    (directory / "vocab.txt").write_text("\n".join(changes.get("lines", LINES)) + "\n", encoding="utf-8")
    emoji = {"emoji": EMOJI, "emoji_inv": INVERSE, **changes.get("emoji", {})}
    (directory / "emoji.json").write_text(json.dumps(emoji))
    write(directory, "config.json", {"model_type": "gpt_neox_japanese"})


@pytest.mark.parametrize("named", [False, True])
def test_as_transformers(named: bool, tmp_path: Path) -> None:
    write_files(tmp_path)
    if named:
        write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "GPTNeoXJapaneseTokenizer"})
    tokenizer, reference = both(tmp_path)
    assert isinstance(tokenizer.backend, JapanesePieces)
    assert tokenizer.vocab_size == len(reference)
    assert tokenizer.end_id == reference.eos_token_id
    seen = set()
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text), text
        seen |= {tokenizer.token(id) for id in ids}
        expected = reference.decode(ids, skip_special_tokens=True)
        if "\ufffd" not in expected:
            assert tokenizer.decode(ids) == expected, text
    assert seen >= {"<KIGOU>", "<U2000U2BFF>", "<|emoji1|>", "<|byte240|>", "慶応", "<SP>", "<|endoftext|>"}


def test_bytes_are_characters_again(tmp_path: Path) -> None:
    write_files(tmp_path)
    tokenizer, reference = both(tmp_path)
    ids = tokenizer.encode("é 한 🐯 猫")
    assert tokenizer.decode(ids) == "é 한 🐯 猫"
    assert reference.decode(ids).count("\ufffd") == 2 + 3 + 4
    assert tokenizer.decode(ids[:1]) == "\ufffd"


def test_a_stream_is_the_whole(tmp_path: Path) -> None:
    write_files(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    for text in TEXTS:
        ids = tokenizer.encode(text)
        stream = TextStream(tokenizer)
        assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids), text


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "emoji.json").unlink()
    with pytest.raises(TokenizerError, match=r"has no emoji\.json beside it"):
        load_tokenizer(tmp_path)
    write_files(tmp_path, emoji={"emoji_inv": ["x"]})
    with pytest.raises(TokenizerError, match="emoji_inv is"):
        load_tokenizer(tmp_path)
    write_files(tmp_path)
    write(tmp_path, "tokenizer_config.json", {"do_clean_text": True})
    with pytest.raises(TokenizerError, match="do_clean_text is true"):
        load_tokenizer(tmp_path)


def test_replacements_that_could_grow_run_in_a_worker(tmp_path: Path) -> None:
    write_files(tmp_path, emoji={"emoji": {"a": "aa", **EMOJI}})
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    assert isinstance(tokenizer.backend, IsolatedTokenizer)
    assert len(tokenizer.encode("a")) == 2


def test_vocab_txt_of_others_is_none_of_it(tmp_path: Path) -> None:
    write_files(tmp_path)
    write(tmp_path, "config.json", {"model_type": "llama"})
    assert load_tokenizer(tmp_path) is None
    assert small_files(["vocab.txt", "config.json"]) == {"config.json"}
    assert small_files(["vocab.txt", "emoji.json"]) == {"vocab.txt", "emoji.json"}
