import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from sentencepiece_writer import llama_like
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tinystar_np.text import TextStream, Tokenizer, load_tokenizer

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
TEXTS = [
    "",
    "plain words, nothing else.",
    " leading space and trailing space ",
    "naïve café — “quotes”",
    "日本語の文章と中文和한국어",
    "😀😃 family: 👩‍👩‍👧‍👦 flag: 🇫🇷 skin: 👍🏽",
    "\n\n\ttabs\nand 😀\n😀 newlines\r\n",
    "ภาษาไทยทั้งหมดนี้ยาวพอสมควร " * 3,
    "a real \ufffd sign, and three \ufffd\ufffd\ufffd at the end \ufffd\ufffd\ufffd\ufffd",
    "e\u0301 combining \u200d joiners \x00 zero",
]


def byte_level() -> Tokenizer:
    """A small byte-level BPE as GPT-2's, trained here: each of the 256 bytes is a token."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return Tokenizer(backend, Path("trained"))


def byte_fallback() -> Tokenizer:
    """A sentencepiece-style vocabulary as Llama's: ▁ for spaces, byte tokens, a first space dropped."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["<s>", *byte_tokens, "▁", "a", "b", "c", "▁a", "▁b", "▁c"]
    vocab = {word: id for id, word in enumerate(words)}
    merges = [("▁", letter) for letter in "abc"]
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<s>"])
    return Tokenizer(backend, Path("made"))


def sentencepiece() -> Tokenizer:
    """A tokenizer.model as Llama's first releases came, without a tokenizer.json."""
    pytest.importorskip("sentencepiece")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tokenizer.model").write_bytes(llama_like())
        tokenizer = load_tokenizer(Path(folder))
    assert tokenizer is not None
    return tokenizer


def shared(folder: str) -> Tokenizer:
    if not (SHARED / folder).exists():
        pytest.skip(f"shared/{folder} is not beside this checkout")
    tokenizer = load_tokenizer(SHARED / folder)
    assert tokenizer is not None
    return tokenizer


TOKENIZERS = {
    "byte-level": byte_level,
    "byte-fallback": byte_fallback,
    "sentencepiece": sentencepiece,
    "gpt2": lambda: shared("tokenizers/gpt2"),
    "stories260K": lambda: shared("checkpoints/stories260K"),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="module", params=["byte-level", "gpt2"])
def byte_level_tokenizer(request):
    return TOKENIZERS[request.param]()


def pieces(tokenizer, ids, after=()):
    stream = TextStream(tokenizer, after)
    return [*(stream.push(id) for id in ids), stream.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text_and_no_character_is_cut(tokenizer, text):
    ids = tokenizer.encode(text)
    out = pieces(tokenizer, ids)
    assert "".join(out) == tokenizer.decode(ids) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in out)
        assert out[-1] == ""  # complete text is not kept back


def test_text_comes_at_once(tokenizer):
    """A token that ends a character gives out everything up to its end."""
    text = TEXTS[5] + TEXTS[6]
    ids = tokenizer.encode(text)
    stream, printed = TextStream(tokenizer), ""
    for count, id in enumerate(ids, 1):
        printed += stream.push(id)
        so_far = tokenizer.decode(ids[:count])
        assert text.startswith(printed)
        if not so_far.endswith("\ufffd"):
            assert printed == so_far


def test_cut_anywhere_the_tail_comes_out(tokenizer):
    """However the text ends, in the middle of a character too, nothing is lost."""
    ids = tokenizer.encode("a 日 b 😀")
    for end in range(len(ids) + 1):
        assert "".join(pieces(tokenizer, ids[:end])) == tokenizer.decode(ids[:end])


@pytest.mark.parametrize("seed", range(5))
def test_random_tokens(byte_level_tokenizer, seed):
    tokenizer, rng = byte_level_tokenizer, np.random.default_rng(seed)
    ids = rng.integers(0, tokenizer.vocab_size + 3, size=2000).tolist()
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes(byte_level_tokenizer, seed):
    """Bytes that are mostly no characters, a few that are, and special tokens in between."""
    tokenizer, rng = byte_level_tokenizer, np.random.default_rng(seed)
    (end,) = tokenizer.special_ids
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    single = [id for id in range(tokenizer.vocab_size) if tokenizer.token(id) in alphabet]
    high = [id for id in single if tokenizer.decode([id]) == "\ufffd"]
    assert len(single) == 256
    assert len(high) == 128
    for choices in (single, high, [*high, end], high[:64] + high[-16:]):
        ids = rng.choice(choices, size=1500).tolist()
        assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_what_is_kept_back_is_bounded(byte_level_tokenizer):
    tokenizer, rng = byte_level_tokenizer, np.random.default_rng(7)
    ids = rng.integers(0, tokenizer.vocab_size, size=500).tolist()
    stream, printed = TextStream(tokenizer), ""
    for count, id in enumerate(ids, 1):
        printed += stream.push(id)
        kept = tokenizer.decode(ids[:count])[len(printed) :]
        assert len(kept) <= 3
        assert kept.strip("\ufffd") == ""


def test_the_window_stays_small(tokenizer, monkeypatch):
    """Work per token is the decoding of a few tokens, for good text and for bytes that never become any."""
    longest = 0
    decode = tokenizer.decode

    def counting(ids, skip_special_tokens=True):
        nonlocal longest
        longest = max(longest, len(ids))
        return decode(ids, skip_special_tokens)

    monkeypatch.setattr(tokenizer, "decode", counting)
    bad = next(id for id in range(tokenizer.vocab_size) if decode([id]) == "\ufffd")
    emoji = tokenizer.encode("x😀😀")[len(tokenizer.encode("x")) :]
    out = pieces(tokenizer, tokenizer.encode(TEXTS[7]) + [bad] * 300 + emoji * 20)
    assert longest <= 20
    assert "".join(out).count("😀") >= 40  # and good bytes after bad ones are text again


@pytest.mark.parametrize("make", [byte_fallback, sentencepiece])
@pytest.mark.parametrize("seed", range(3))
def test_random_tokens_of_a_sentencepiece_vocabulary(make, seed):
    """No space is lost or added, wherever a piece, a byte or a special token stands."""
    tokenizer, rng = make(), np.random.default_rng(seed)
    # Where bytes are no text, the `tokenizers` package makes U+FFFD of the valid ones beside them too; and it
    # drops a first space that is a byte. The vocabulary has ▁ for it: no encoding gives that byte.
    faulty = re.compile("<0x([89A-F].|20)>" if make is byte_fallback else "(?!)")
    choices = [id for id in range(tokenizer.vocab_size) if not faulty.match(tokenizer.token(id))]
    for size in (3, 12, 60):
        for _ in range(100):
            ids = rng.choice(choices, size).tolist()
            assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_spaces_of_a_sentencepiece_vocabulary():
    tokenizer = byte_fallback()
    a, b, space = (tokenizer.backend.token_to_id(token) for token in ("▁a", "▁b", "▁"))
    newline, start = tokenizer.backend.token_to_id("<0x0A>"), 0
    cases = [
        [a, b],
        [space, a],
        [space, space, b, space, a],
        [start, a, b],
        [newline, a, newline, b],
        [a, start, b],
    ]
    for ids in cases:
        assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)
    assert pieces(tokenizer, [a, b]) == ["a", " b", ""]


def test_a_stream_that_continues_a_text(tokenizer):
    for prompt, rest in (("a b", " c a"), ("日本", " 語😀"), ("😀", " a"), ("", " a b")):
        before = tokenizer.encode(prompt)
        ids = tokenizer.encode(prompt + rest)[len(before) :]
        whole = tokenizer.decode(before + ids)
        assert prompt + "".join(pieces(tokenizer, ids, after=before)) == whole


def test_a_fault_in_a_run_of_byte_tokens_keeps_what_was_printed():
    tokenizer = byte_fallback()
    byte = {value: tokenizer.backend.token_to_id(f"<0x{value:02X}>") for value in range(256)}
    emoji = [byte[value] for value in "😀".encode()]
    a = tokenizer.backend.token_to_id("a")
    assert "".join(pieces(tokenizer, [*emoji, byte[0xFF], a])) == "😀\ufffda"
    assert "".join(pieces(tokenizer, [a, *emoji, *emoji[:2]])) == "a😀\ufffd\ufffd"
    assert "".join(pieces(tokenizer, [a, byte[0xE2], byte[0x82], byte[0x41], *emoji])) == "a\ufffd\ufffdA😀"
    # where the run has no valid character it is decode's text exactly
    ids = [a, byte[0xFF], byte[0xFE], a, byte[0xE2], byte[0x82], a, byte[0x80]]
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_the_text_of_a_byte_token_in_a_vocabulary_without_them():
    tokenizer = byte_level()
    tokenizer.backend.add_tokens(["<0x41>"])
    ids = tokenizer.encode("a<0x41>b")
    assert tokenizer.token(ids[1]) == "<0x41>"
    assert "".join(pieces(tokenizer, ids)) == "a<0x41>b"


def test_a_real_story_after_its_prompt():
    tokenizer = shared("checkpoints/stories260K")
    golden = json.loads((SHARED / "checkpoints/stories260K/golden_greedy.json").read_text())
    for story in golden:
        new_text = "".join(pieces(tokenizer, story["new_ids"], after=story["prompt_ids"]))
        assert story["prompt"] + new_text == story["text"]
