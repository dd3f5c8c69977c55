"""Tokens and their merges: real vocabularies, and a plain search for each next merge as the reference."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from ggml_vocabularies import NAMES, metadata_of, texts_and_ids, vocabulary
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from tinystar_np.errors import InputError
from tinystar_np.loading import load
from tinystar_np.seeing.tokens import TokenizerView, Tokens
from tinystar_np.text import Tokenizer, load_tokenizer
from tinystar_np.text.gguf_tokenizer import load_gguf_tokenizer

TEXTS = (
    "",
    " ",
    "Once upon a time,  there was a \t\n naïve café — “quotes” 日本語 😀👩‍👩‍👧 \x00 \ufffd 1234567 3.14159",
    "def f(x):\n    return {'a': x[1:-1] // 2}\r\n\r\n" + "a" * 70,
    "मرحبا بالعالم ไทย <s> </s> <|endoftext|> <0x0A> ▁",
)


def check_merges(found: Tokens, orders: dict[tuple[str, str], float] | None = None) -> int:
    """Each merge is that of the lowest order among all neighbours, the leftmost of these; returns how many.

    orders  every pair's order, read from the vocabulary in another way; None to trust those given
    """
    count = 0
    for word in found.words:
        assert word.merges is not None
        pieces = [token.piece for token in found.tokens[word.start : word.end]]
        if not word.merges and len(pieces) == 1:
            assert "".join(word.parts) == pieces[0]  # a character, or a word that stays whole
            continue
        parts, places = list(word.parts), list(range(len(word.parts)))
        for merge in word.merges:
            if orders is not None:
                pairs = [
                    (orders[pair], i) for i, pair in enumerate(itertools.pairwise(parts)) if pair in orders
                ]
                order, i = min(pairs)
                assert (merge.order, merge.place) == (order, places[i])
            i = places.index(merge.place)
            assert (parts[i], parts[i + 1]) == (merge.left, merge.right)
            parts[i : i + 2] = [merge.left + merge.right]
            del places[i + 1]
            count += 1
        if orders is not None:  # and nothing more can be joined
            assert not [pair for pair in itertools.pairwise(parts) if pair in orders]
        unknown = {token.piece for token in found.tokens if token.piece in ("<unk>",)}
        if not unknown and not any(token.piece.startswith("<0x") for token in found.tokens):
            assert parts == pieces
    return count


def checked(view: TokenizerView, tokenizer: Tokenizer, text: str) -> Tokens:
    """The tokenizer's own ids, all of which are in words or added ones."""
    found = view.cut(text)
    assert [token.id for token in found.tokens] == tokenizer.encode(text)
    inside = [i for word in found.words for i in range(word.start, word.end)]
    assert inside == sorted(set(inside))
    outside = set(range(len(found.tokens))) - set(inside)
    assert all(found.tokens[i].added for i in outside)
    for token in found.tokens:
        assert token.piece == tokenizer.token(token.id)
    assert view.tokens(tokenizer.encode(text)) == found.tokens
    return found


def test_gpt2_merges_by_the_lines_of_its_file(shared: Path) -> None:
    folder = shared / "tokenizers" / "gpt2"
    lines = (folder / "merges.txt").read_text().splitlines()[1:]
    orders = {tuple(line.split(" ")): rank for rank, line in enumerate(lines) if line}
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    view = TokenizerView(tokenizer)
    merges = 0
    stories = (shared / "corpora" / "tinystories.txt").read_text()[:3000]
    for text in (*TEXTS, stories):
        found = checked(view, tokenizer, text)
        assert (found.kind, found.by) == ("BPE", "rank")
        merges += check_merges(found, orders)
        assert b"".join(token.bytes or b"" for token in found.tokens) == text.encode()
    assert merges > 2000
    lower = view.cut(" lower").words[0]
    assert lower.merges is not None
    steps = [(merge.left, merge.right) for merge in lower.merges]
    assert steps == [("e", "r"), ("Ġ", "l"), ("o", "w"), ("ow", "er"), ("Ġl", "ower")]


@pytest.mark.parametrize("name", NAMES)
def test_real_vocabularies(name: str, shared: Path) -> None:
    """Merges and scores as the GGUF file lists them, read here without the tokenizer."""
    path = vocabulary(shared, name)
    metadata = metadata_of(path)
    tokenizer = load_gguf_tokenizer(metadata, path)
    assert tokenizer is not None
    scored = metadata["tokenizer.ggml.model"] == "llama"
    if scored:
        pieces = metadata["tokenizer.ggml.tokens"]
        order = {
            piece: -float(score)
            for piece, score in zip(pieces, metadata["tokenizer.ggml.scores"], strict=True)
        }
    else:
        merges = metadata["tokenizer.ggml.merges"]
        ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    view = TokenizerView(tokenizer)
    count = 0
    for text, ids in [*texts_and_ids(path), *((text, None) for text in TEXTS)]:
        found = checked(view, tokenizer, text)
        if ids is not None and not any(token.special for token in found.tokens):
            assert [token.id for token in found.tokens] == ids
        assert (found.kind, found.by) == ("BPE", "score" if scored else "rank")
        if scored:
            orders = Scores(order)
            text_of_words = b"".join(
                token.bytes or b"" for word in found.words for token in found.tokens[word.start : word.end]
            ).decode()
            spaced = " " + text if text else ""
            if not any(token.added and token.bytes.decode() in text for token in found.tokens if token.bytes):
                assert text_of_words == spaced
        else:
            orders = ranks
            begin = 1 if found.tokens and found.tokens[0].special and not text.startswith("<") else 0
            assert b"".join(token.bytes or b"" for token in found.tokens[begin:]) == text.encode()
        count += check_merges(found, orders)
        if scored:
            assert {token.score == -order[token.piece] for token in found.tokens} <= {True}
    assert count > 300  # the fewest in Llama 3, where a word that is a token stays whole


class Scores(dict):
    """{pair: order} for pieces with scores: that of what the pair joins to."""

    def __contains__(self, pair: object) -> bool:
        return isinstance(pair, tuple) and super().__contains__("".join(pair))

    def __getitem__(self, pair: object) -> float:
        return super().__getitem__("".join(pair))


def test_sentencepiece_like_merges_with_bytes(shared: Path) -> None:
    """stories260K: a whole text is one word, and characters without a piece are written as bytes."""
    folder = shared / "checkpoints" / "stories260K"
    if not folder.is_dir():
        pytest.skip("shared/checkpoints/stories260K is not here")
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    view = TokenizerView(tokenizer)
    for text in TEXTS:
        found = checked(view, tokenizer, text)
        check_merges(found)
    found = view.cut("日 the")
    assert [token.bytes for token in found.tokens[2:5]] == [bytes([byte]) for byte in "日".encode()]
    assert len([merge for word in found.words for merge in word.merges or ()]) >= 1


def test_the_shipped_models_bytes() -> None:
    tokenizer = load("stories")[1]
    view = TokenizerView(tokenizer)
    for text in TEXTS:
        found = checked(view, tokenizer, text)
        check_merges(found)


def trained(model: models.Model, trainer: trainers.Trainer, **parts: object) -> Tokenizer:
    backend = tokenizers.Tokenizer(model)
    for name, part in parts.items():
        setattr(backend, name, part)
    words = "low lower lowest new newer newest wide wider widest the then there these naïve café 12 123"
    backend.train_from_iterator([words] * 3 + [words[::-1]], trainer)
    return Tokenizer(backend, Path("tokenizer.json"))


def test_unknown_characters_suffixes_and_whole_words() -> None:
    """What the package can do with BPE beyond byte-level: its pieces are reached by the merges as well."""
    spaces = pre_tokenizers.Whitespace()
    unknown = trained(
        models.BPE(unk_token="<unk>", fuse_unk=True),
        trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>"], show_progress=False),
        pre_tokenizer=spaces,
        normalizer=normalizers.NFC(),
    )
    suffix = trained(
        models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
        trainers.BpeTrainer(
            vocab_size=90, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
        ),
        pre_tokenizer=spaces,
    )
    for tokenizer, text in ((unknown, "lower ☃☃newest☃ the ☃"), (suffix, "lower newest the wid")):
        found = TokenizerView(tokenizer).cut(text)
        assert [token.id for token in found.tokens] == tokenizer.encode(text)
        assert check_merges(found) > 5
    assert [token.piece for token in TokenizerView(suffix).cut("lower").tokens][-1].endswith("</w>")

    whole = Tokenizer(
        tokenizers.Tokenizer(
            models.BPE({"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, [("a", "b")], ignore_merges=True)
        ),
        Path("tokenizer.json"),
    )
    found = TokenizerView(whole).cut("abc")
    assert [token.piece for token in found.tokens] == ["abc"]
    assert found.words[0].merges == ()
    found = TokenizerView(whole).cut("abcc")
    assert [merge.order for merge in found.words[0].merges or ()] == [0]


def test_merges_that_do_not_lead_to_the_pieces_are_not_told() -> None:
    """With a prefix for what continues a word the package joins other spellings."""
    tokenizer = trained(
        models.BPE(unk_token="<unk>", continuing_subword_prefix="##"),
        trainers.BpeTrainer(vocab_size=80, continuing_subword_prefix="##", show_progress=False),
        pre_tokenizer=pre_tokenizers.Whitespace(),
    )
    found = TokenizerView(tokenizer).cut("lower newest")
    assert [token.id for token in found.tokens] == tokenizer.encode("lower newest")
    assert [word.merges for word in found.words] == [None, None]


def test_unigram_has_scores_of_the_likeliest_pieces() -> None:
    """No other way to cut a word has a larger sum."""
    tokenizer = trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=60, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        ),
        pre_tokenizer=pre_tokenizers.Metaspace(),
        decoder=decoders.Metaspace(),
    )
    view = TokenizerView(tokenizer)
    found = view.cut("lowest wider newest")
    assert (found.kind, found.by) == ("Unigram", None)
    assert [word.merges for word in found.words] == [None] * 3
    every = view.tokens(range(tokenizer.vocab_size))
    scores = {token.piece: token.score for token in every}
    for word in found.words:
        own = found.tokens[word.start : word.end]
        text = "".join(token.piece for token in own)
        best = max(
            sum(scores[text[a:b]] or 0 for a, b in itertools.pairwise((0, *cuts, len(text))))
            for size in range(len(text))
            for cuts in itertools.combinations(range(1, len(text)), size)
            if all(text[a:b] in scores for a, b in itertools.pairwise((0, *cuts, len(text))))
        )
        assert sum(token.score or 0 for token in own) == pytest.approx(best, abs=1e-9)
    assert b"".join(token.bytes or b"" for token in found.tokens) == b" lowest wider newest"


def test_wordpiece_has_pieces_only() -> None:
    backend = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "low": 1, "##er": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    found = TokenizerView(Tokenizer(backend, Path("tokenizer.json"))).cut("lower low")
    assert (found.kind, found.by) == ("WordPiece", None)
    assert [token.bytes for token in found.tokens] == [b"low", b"er", b"low"]
    assert [word.merges for word in found.words] == [None, None]


def test_in_a_worker_there_are_pieces_only(shared: Path) -> None:
    path = vocabulary(shared, "llama-spm")
    tokenizer = load_gguf_tokenizer(metadata_of(path), path, isolated=True)
    assert tokenizer is not None
    found = TokenizerView(tokenizer).cut("the cat")
    assert (found.kind, found.by, found.words) == (None, None, ())
    assert [token.piece for token in found.tokens] == ["<s>", "▁the", "▁cat"]
    assert [token.bytes for token in found.tokens] == [b"<s>", None, None]


def test_added_tokens_and_ends_are_no_words() -> None:
    backend = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate("abc")}, []))
    backend.add_tokens([AddedToken("<x>", special=True), AddedToken("bb", special=False)])
    tokenizer = Tokenizer(backend, Path("tokenizer.json"))
    found = TokenizerView(tokenizer).cut("a<x>bbc")
    assert [token.piece for token in found.tokens] == ["a", "<x>", "bb", "c"]
    assert [(token.added, token.special) for token in found.tokens] == [
        (False, False),
        (True, True),
        (True, False),
        (False, False),
    ]
    assert [(word.start, word.end) for word in found.words] == [(0, 1), (3, 4)]


def test_ids_beyond_the_vocabulary_and_wrong_texts() -> None:
    tokenizer = load("stories")[1]
    (token,) = TokenizerView(tokenizer).tokens([np.int64(100_000)])
    assert (token.piece, token.bytes) == ("", b"")
    with pytest.raises(InputError, match="must be a str"):
        TokenizerView(tokenizer).cut(7)  # type: ignore[arg-type]
