"""Files of tokens and ranks, beside tiktoken itself: Llama 3's and 4's, the first Qwen's, tekken.json."""

import base64
import functools
import json
import random
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from ggml_vocabularies import metadata_of, texts_and_ids, vocabulary

from tinystar_np.checkpoints.model_files import small_files
from tinystar_np.errors import TokenizerError
from tinystar_np.text import TextStream, Tokenizer, load_tokenizer
from tinystar_np.text.isolated import IsolatedTokenizer
from tinystar_np.text.ranked_bytes import LETTERS, letters_of
from tinystar_np.text.tekken_file import UNLISTED
from tinystar_np.text.tiktoken_file import LLAMA_3_SPECIAL, LLAMA_4_SPECIAL, QWEN_SPECIAL
from tinystar_np.text.tokenizer_classes import QWEN2_WORDS
from tinystar_np.text.words import CL100K_WORDS, O200K_WORDS, TEKKEN_WORDS

ROOT = Path(__file__).parents[2]
BYTES = {letter: byte for byte, letter in LETTERS.items()}
TEXTS = [
    *("", " ", "   ", "\n\n\n", " \t\r\n \r\n\t", "x" * 200, " " * 300, "=" * 150, "1234567890" * 5),
    "The capital of France is Paris, isn't it? I'LL say: YES, WE'VE 3,141,592 of them.",
    "naïve café — “quotes” ½ ﬁne ｶﾞ Å ① x² e\u0301 A\u030a",
    "日本語の文章と中文和한국어 ไทย កាន់តែ हिन्दी مرحبا ١٢٣ Ελληνικά Русский ქართული",
    "😀👩‍👩‍👧‍👦🇫🇷 🏳️‍🌈 \x00 \x01 \ufffd \ufeff \u200b\u00ad\u3000",
    "def f(x):\n    return {'a': x[1:-1] // 2}\n\n\tif x != y: # /* http://a.b/c?d=e */\n",
    "camelCaseWords HTTPServer XMLHttpRequest snake_case SHOUTING ǅ ʰ",
    "aaaaaaaaaaaaaaaaaaa ababababab ______ ------ !!!??? ...",
]


def texts(seed: int, count: int = 300) -> list[str]:
    rng = random.Random(seed)
    alphabet = [*" \n\t'abcABC0123é日本한😀/._-", "  ", "\r\n", "the", " The", "\u0301", "ß", "'ll", "\u3000"]
    noise = ["".join(rng.choices(alphabet, k=rng.randrange(60))) for _ in range(count)]
    code = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "tinystar_np" / "text").glob("*.py"))]
    return [*TEXTS, *noise, (ROOT / "README.md").read_text(encoding="utf-8"), *code]


def place_of(package: str, *path: str) -> Path:
    """Find a data file of a package without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {package} is not installed, whose data file {path[-1]} is read")
    return Path(spec.origin).parent.joinpath(*path)


@functools.cache
def ranks_in(path: Path) -> dict[bytes, int]:
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def as_lines(ranks: dict[bytes, int]) -> bytes:
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ranks.items())


def ranks_of_vocabulary(path: Path, count: int) -> dict[bytes, int]:
    tokens = metadata_of(path)["tokenizer.ggml.tokens"][:count]
    return {bytes(BYTES[letter] for letter in token): rank for rank, token in enumerate(tokens)}


def reference(ranks: dict[bytes, int], pattern: str) -> Callable[[str], list[int]]:
    tiktoken = pytest.importorskip("tiktoken")
    encoding = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: encoding.encode(text, disallowed_special=())


def load(directory: Path) -> Tokenizer:
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    return tokenizer


def as_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encode as the references do, to which the text of a special token is like any other."""
    assert isinstance(tokenizer.backend, tokenizers.Tokenizer)
    tokenizer.backend.encode_special_tokens = True
    ids = tokenizer.encode(text, add_special_tokens=False)
    tokenizer.backend.encode_special_tokens = False
    return ids


def check(tokenizer: Tokenizer, expected: Callable[[str], list[int]], first: int = 0) -> None:
    """Hold ids and texts equal to a reference's, whose ids count from ``first``."""
    for text in texts(seed=1):
        ids = as_text(tokenizer, text)
        assert ids == [first + id for id in expected(text)], text
        assert tokenizer.decode(ids) == text
    for text in TEXTS:
        stream = TextStream(tokenizer)
        ids = tokenizer.encode(text)
        assert "".join(map(stream.push, ids)) + stream.flush() == text


@pytest.mark.parametrize(
    ("version", "pattern", "count", "special"),
    [(3, CL100K_WORDS, 128_000, LLAMA_3_SPECIAL), (4, O200K_WORDS, 200_000, LLAMA_4_SPECIAL)],
)
def test_llama_as_meta_ships_it(
    version: int, pattern: str, count: int, special: tuple[str, ...], tmp_path: Path
) -> None:
    path = place_of("llama_models", f"llama{version}", "tokenizer.model")
    (tmp_path / "tokenizer.model").write_bytes(path.read_bytes())
    tokenizer = load(tmp_path)
    check(tokenizer, reference(ranks_in(path), pattern))
    assert tokenizer.encode("x")[0] == count
    assert [tokenizer.token(count + place) for place in range(len(special))] == list(special)
    assert tokenizer.vocab_size == count + (256 if version == 3 else 2048)
    assert tokenizer.encode("<|eot_id|>" if version == 3 else "<|eot|>")[1] == count + (
        9 if version == 3 else 8
    )
    assert tokenizer.end_id == count + 1


def test_special_tokens_are_those_of_metas_code() -> None:
    pytest.importorskip("tiktoken")
    for version, special, first in ((3, LLAMA_3_SPECIAL, 128_000), (4, LLAMA_4_SPECIAL, 200_000)):
        path = place_of("llama_models", f"llama{version}", "tokenizer.model")
        module = pytest.importorskip(f"llama_models.llama{version}.tokenizer")
        try:
            theirs = module.Tokenizer(path).special_tokens
        except ImportError as error:
            pytest.skip(f"Meta's package needs more: {error}")
        assert {text: id for text, id in theirs.items() if "|reserved" not in text} == {
            text: first + place for place, text in enumerate(special) if "|reserved" not in text
        }


def test_llama_3_of_the_shared_vocabulary(shared: Path, tmp_path: Path) -> None:
    path = vocabulary(shared, "llama-bpe")
    ranks = ranks_of_vocabulary(path, 128_000)
    (tmp_path / "tokenizer.model").write_bytes(as_lines(ranks))
    tokenizer = load(tmp_path)
    for text, ids in texts_and_ids(path):
        assert tokenizer.encode(text, add_special_tokens=False) == ids
    check(tokenizer, reference(ranks, CL100K_WORDS))
    special = tokenizer.settings.special_tokens
    assert special["bos_token"] == "<|begin_of_text|>"
    assert tokenizer.encode("Hello") == [128_000, 9906]


def test_the_first_qwen(shared: Path, tmp_path: Path) -> None:
    path = vocabulary(shared, "qwen2")  # the same tokens as the first Qwen's
    ranks = ranks_of_vocabulary(path, 151_643)
    (tmp_path / "qwen.tiktoken").write_bytes(as_lines(ranks))
    tokenizer = load(tmp_path)
    for text, ids in texts_and_ids(path):
        assert tokenizer.encode(text, add_special_tokens=False) == ids
    expected = reference(ranks, QWEN2_WORDS)
    for text in texts(seed=2):
        composed = text.replace("e\u0301", "é").replace("A\u030a", "Å")
        if "\u0301" not in composed:
            assert as_text(tokenizer, text) == expected(composed)
    assert tokenizer.encode("<|im_start|>user<|im_end|>") == [151_644, 872, 151_645]
    assert tokenizer.token(151_850) == QWEN_SPECIAL[-1] == "<|extra_204|>"
    assert tokenizer.end_id == 151_643


TEKKEN = ("tekken_240718.json", "tekken_240911.json")


@pytest.mark.parametrize("name", TEKKEN)
def test_tekken(name: str, tmp_path: Path) -> None:
    path = place_of("mistral_common", "data", name)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["config"]["pattern"] == TEKKEN_WORDS
    (tmp_path / "tekken.json").write_bytes(path.read_bytes())
    tokenizer = load(tmp_path)
    size = content["config"]["default_vocab_size"]
    ranks = {base64.b64decode(one["token_bytes"]): one["rank"] for one in content["vocab"][: size - 1000]}
    check(tokenizer, reference(ranks, TEKKEN_WORDS), first=1000)
    assert tokenizer.vocab_size == size
    assert tokenizer.encode("[INST] x[/INST]")[:2] == [1, 3]
    assert [tokenizer.token(id) for id in (0, 1, 2, 999)] == ["<unk>", "<s>", "</s>", "<SPECIAL_999>"]
    listed = content.get("special_tokens")
    assert listed is None or [tokenizer.token(id) for id in range(14)] == [
        one["token_str"] for one in listed[:14]
    ]
    assert tokenizer.end_id == 2


def test_tekken_beside_mistral_common(tmp_path: Path) -> None:
    path = place_of("mistral_common", "data", TEKKEN[1])
    try:
        module = pytest.importorskip("mistral_common.tokens.tokenizers.tekken")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"mistral_common needs more: {error}")
    theirs = module.Tekkenizer.from_file(path)
    (tmp_path / "tekken.json").write_bytes(path.read_bytes())
    tokenizer = load(tmp_path)
    for text in texts(seed=3):
        assert as_text(tokenizer, text) == theirs.encode(text, bos=False, eos=False)
    assert [tokenizer.token(id) for id in range(1000)] == [theirs.id_to_piece(id) for id in range(1000)]


def small(merged: tuple[bytes, ...] = (b"th", b"the", b" the")) -> dict[bytes, int]:
    tokens = [*(bytes([byte]) for byte in range(256)), *merged]
    return {token: rank for rank, token in enumerate(tokens)}


def small_tekken(**config: Any) -> dict[str, Any]:
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for token, rank in small().items()
    ]
    settings = {"pattern": TEKKEN_WORDS, "default_vocab_size": 278, "default_num_special_tokens": 20}
    return {"config": settings | config, "vocab": vocab}


def llama_directory(directory: Path, data: bytes, **settings: Any) -> Path:
    (directory / "tokenizer.model").write_bytes(data)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    if settings:
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


@pytest.mark.parametrize("seed", range(20))
def test_random_ranks(seed: int, tmp_path: Path) -> None:
    """Trained vocabularies of two letters, where the same bytes can be cut in many ways."""
    rng = random.Random(seed)
    parts = [bytes([rng.choice(b"ab")]) for _ in range(400)]
    merged: list[bytes] = []
    for _ in range(rng.randrange(5, 60)):
        pairs = [left + right for left, right in pairwise(parts)]
        best = rng.choice(pairs)
        if best in small(()) or best in merged:
            continue
        merged.append(best)
        parts = list(_joined(parts, best))
    ranks = small(tuple(merged))
    expected = reference(ranks, CL100K_WORDS)
    tokenizer = load(llama_directory(tmp_path, as_lines(ranks)))
    for _ in range(200):
        text = "".join(rng.choices("ab ", weights=[10, 10, 1], k=rng.randrange(40)))
        assert tokenizer.encode(text, add_special_tokens=False) == expected(text), (text, merged)


def _joined(parts: list[bytes], best: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(parts):
        both = b"".join(parts[place : place + 2])
        found = both == best and place + 1 < len(parts)
        yield both if found else parts[place]
        place += 2 if found else 1


def test_letters() -> None:
    assert letters_of(b" the\n\x00\xff\xad") == "ĠtheĊĀÿŃ"
    assert set(LETTERS.values()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())


def test_settings_beside_a_file(tmp_path: Path) -> None:
    stated = {"263": {"content": "<|pad|>", "special": True}, "600": {"content": "<tool>", "special": False}}
    directory = llama_directory(
        tmp_path,
        as_lines(small()),
        add_bos_token=False,
        add_eos_token=True,
        added_tokens_decoder=stated,
        eos_token="<|eot_id|>",
    )
    tokenizer = load(directory)
    assert tokenizer.encode("the<|pad|><tool>") == [257, 263, 600, 268]
    assert tokenizer.decode([257, 263, 600, 268]) == "the<tool>"
    assert tokenizer.token(263) == "<|pad|>"
    assert tokenizer.end_id == 268


def test_which_file_is_read(tmp_path: Path) -> None:
    llama_directory(tmp_path, as_lines(small()))
    assert load(tmp_path).vocab_size == 259 + 256
    (tmp_path / "tekken.json").write_text(json.dumps(small_tekken()))
    assert load(tmp_path).vocab_size == 278
    assert small_files(["tekken.json", "qwen.tiktoken"]) == {"tekken.json", "qwen.tiktoken"}
    assert small_files(["tekken.json", "tokenizer.json"]) == {"tokenizer.json"}


def test_tekken_by_hand(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(small_tekken()))
    tokenizer = load(tmp_path)
    assert tokenizer.encode("the[INST]") == [1, 277, 3]  # the last token is beyond the vocabulary's size
    assert tokenizer.encode(" th") == [1, 20 + ord(" "), 276]
    assert [tokenizer.token(id) for id in range(20)] == list(UNLISTED)
    listed = [{"rank": 1, "token_str": "<x>", "is_control": False}, {"rank": 0, "token_str": "<s>"}]
    (tmp_path / "tekken.json").write_text(json.dumps(small_tekken() | {"special_tokens": listed}))
    tokenizer = load(tmp_path)
    assert tokenizer.encode("<x>") == [0, 1]
    assert tokenizer.decode([0, 1, 2]) == "<x>"
    assert tokenizer.token(2) == "<SPECIAL_2>"


def test_in_a_worker(tmp_path: Path) -> None:
    endless = small_tekken(pattern="(a|a)*$")
    (tmp_path / "tekken.json").write_text(json.dumps(endless))
    assert isinstance(load(tmp_path).backend, IsolatedTokenizer)
    (tmp_path / "tekken.json").unlink()
    long = small((b"x" * 1001,))
    tokenizer = load(llama_directory(tmp_path, as_lines(long)))
    assert isinstance(tokenizer.backend, IsolatedTokenizer)
    assert tokenizer.encode("x" * 1001) == [257, 256]
    many = small(tuple(b"%01000d" % number for number in range(101)))
    assert isinstance(load(llama_directory(tmp_path, as_lines(many))).backend, IsolatedTokenizer)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"AA== 0\nnonsense\n", "line 2 is b'nonsense'"),
        (b"AA== 0\nAA=A 1\n", "line 2 is"),
        (b"AA== 0\nAA== 1\n", "line 2 has the token"),
        (b"AA== 0\nAQ== 2\n", "of the rank 1"),
        (b"AA== 0\nAQ== 0\n", "of the rank 1"),
        (b"AA== 0\n", "no token for the byte 1"),
        (b"AA== 999999999\n", "of the rank 0"),
    ],
)
def test_damaged_lines(lines: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=rf"tokenizer\.model cannot be read .*{message}"):
        load(llama_directory(tmp_path, lines))


def test_an_unknown_model(tmp_path: Path) -> None:
    llama_directory(tmp_path, as_lines(small()))
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(TokenizerError, match=r"tiktoken's form.*model_type is 'other'(.|\n)*tokenizer\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"config": None},
        {"config": {}},
        small_tekken(pattern=7),
        small_tekken(pattern="("),
        small_tekken(default_vocab_size=300),
        small_tekken(default_vocab_size=10),
        small_tekken(default_vocab_size=-1),
        small_tekken(default_vocab_size=True),
        small_tekken(default_num_special_tokens=1 << 40),
        small_tekken(default_num_special_tokens=3),
        {"vocab": None},
        {"vocab": [1]},
        {"vocab": [{"rank": 0}]},
        {"vocab": [{"rank": 0, "token_bytes": "é"}]},
        {"vocab": [{"rank": 0, "token_bytes": "AA="}]},
        {"vocab": [{"rank": -1, "token_bytes": "AA=="}]},
        {"special_tokens": 3},
        {"special_tokens": [{"rank": 0}]},
        {"special_tokens": [{"rank": 20, "token_str": "x"}]},
        {"special_tokens": [{"rank": 0, "token_str": "x"}, {"rank": 0, "token_str": "y"}]},
        {"special_tokens": [{"rank": 0, "token_str": "x"}, {"rank": 1, "token_str": "x"}]},
    ],
)
def test_damaged_tekken(changed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(small_tekken() | changed))
    with pytest.raises(TokenizerError, match=r"tekken\.json"):
        load(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_bytes_changed_at_random(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for name, data in (
        ("qwen.tiktoken", as_lines(small())),
        ("tekken.json", json.dumps(small_tekken()).encode()),
    ):
        for _ in range(30):
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            path = tmp_path / name
            path.write_bytes(changed[: rng.choice([len(changed), rng.randrange(len(changed))])])
            try:
                tokenizer = load(tmp_path)
                tokenizer.decode(tokenizer.encode("the [INST] é"))
            except TokenizerError:
                pass
            path.unlink()
