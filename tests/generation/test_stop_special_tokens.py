"""Stop strings see special tokens, which the text does not hold: beside transformers' StopStringCriteria."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, StopStringCriteria

from tinystar_np.generation import generate, generate_ids, loop, scheduler, stream
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.text import Tokenizer

SPECIAL = ["<|im_end|>", "<|end|>", "</s>", "<unused é>"]


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("u", "s"),
        ("e", "r"),
        ("us", "er"),
        ("s", "t"),
        ("o", "p"),
        ("st", "op"),
        ("Ġ", "st"),
        ("Ġ", "O"),
    ]
    vocab = {word: i for i, word in enumerate([*letters, *map("".join, merges)])}
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    backend.add_tokens([AddedToken("<think>", normalized=False)])
    return Tokenizer(backend, Path("made"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_level()


class Rows:
    """A cache that knows only how long its rows are."""

    rewindable, batch_size, text = True, 1, None

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    @property
    def lengths(self) -> Any:
        return np.array([len(row) for row in self.rows])

    def alike(self, most: int) -> int:
        return most

    def select(self, rows: list[int]) -> "Rows":
        return Rows([list(self.rows[row]) for row in rows])

    def truncate(self, length: int) -> None:
        del self.rows[0][length:]


class Says:
    """A model that says one script after a prompt of one token, and another after one of two."""

    context_length, vocab_size = None, 400

    def __init__(self, *scripts: list[int], end_ids: tuple[int, ...] = ()) -> None:
        self.scripts, self.end_ids = scripts, end_ids

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Rows:
        return Rows([[] for _ in range(batch_size)])

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> Any:
        out = np.zeros((*np.shape(ids), self.vocab_size), np.float32)
        for row, new, logits in zip(cache.rows, np.asarray(ids).tolist(), out, strict=True):
            for id, scores in zip(new, logits, strict=True):
                row.append(id)
                prompt = row[0] + 1  # a prompt's first id says how many tokens it has
                script = self.scripts[prompt - 1]
                scores[script[max(len(row) - prompt, 0) % len(script)]] = 20
        return out[:, -1:] if last_only else out


@pytest.fixture(autouse=True)
def _join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        scheduler, "join_caches", lambda caches: Rows([row for c in caches for row in c.rows])
    )


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def heard(model: Says, tokenizer: Tokenizer, stop: Any, **more: Any) -> tuple[str, int, str | None]:
    """The text, how many tokens it took, and why it ended; the same whoever asks."""
    settings = {"temperature": 0.0, "max_new_tokens": 40, "stop": stop, **more}
    pieces = list(stream(model, tokenizer, tokenizer.decode([0]), **settings))
    text = "".join(piece.text for piece in pieces)
    assert generate(model, tokenizer, tokenizer.decode([0]), **settings) == text
    new = generate_ids(model, [0], tokenizer=tokenizer, **settings)
    assert new == [piece.token_id for piece in pieces]
    return text, len(pieces), pieces[-1].finish_reason


@pytest.mark.parametrize(
    ("said", "stop", "text", "reason"),
    [
        ("ab<|im_end|>cd", "<|im_end|>", "ab", "stop"),
        ("ab\n<|im_end|>cd", "\n<|im_end|>", "ab", "stop"),
        ("a\nb<|im_end|>cd", "\n<|im_end|>", "a\nbcd", "length"),
        ("the user<|end|> is", "user<|end|>", "the ", "stop"),
        ("super<|end|> is", "er<|end|> i", "sup", "stop"),  # it begins and ends within tokens
        ("a<|im_end|>user<|end|>b", "<|im_end|>user", "a", "stop"),
        ("a<|im_end|><|end|>b", "<|im_end|><|end|>", "a", "stop"),
        ("a<|im_end|><|end|>b", "<|end|>", "a", "stop"),
        ("a<|end|>b</s>c", ["</s>", "<|im_end|>"], "ab", "stop"),
        ("a<|end|>b</s>c", ["b", "<|end|>b"], "a", "stop"),  # both end there: before the longer one
        ("a<|end|>stop", "end|>s", "a", "stop"),  # any part of its text
        ("a<|end|>stop", ">s", "a", "stop"),
        ("a<|end|>x", "a<|end|>y", "ax", "length"),  # what was kept back comes
        ("ab</s>", "</s>x", "ab", "length"),
        ("st</s>op", "stop", "stop", "length"),  # the text has a token between
        ("é日<|im_end|>x", "日<|im_end|>", "é", "stop"),
        ("a<unused é>b", "<unused é>", "a", "stop"),
        ("a<think>b", "<think>", "a", "stop"),  # no special token: text as any other
        ("a<think>b", "</s>", "a<think>b", "length"),
        ("</s>a", "</s>", "", "stop"),
    ],
)
def test_special_tokens_are_seen_and_not_passed_on(
    said: str, stop: Any, text: str, reason: str, tokenizer: Tokenizer
) -> None:
    script = ids_of(tokenizer, said)
    model = Says(script)
    found, tokens, ended = heard(model, tokenizer, stop, max_new_tokens=len(script))
    assert (found, ended) == (text, reason)
    assert tokens == steps_of_transformers(tokenizer, script, stop)
    assert heard(model, tokenizer, stop, max_new_tokens=len(script), prompt_lookup_num_tokens=3) == (
        found,
        tokens,
        ended,
    )


def steps_of_transformers(tokenizer: Tokenizer, script: list[int], stop: Any) -> int:
    """How many tokens transformers generates: all, or those after which its criterion holds."""
    criterion = StopStringCriteria(PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend), stop)
    ends = (n for n in range(1, len(script) + 1) if criterion(torch.tensor([script[:n]]), None).item())
    return next(ends, len(script))


@pytest.mark.parametrize("seed", range(40))
def test_random_tokens_and_stops(seed: int, tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(seed)
    words = ["us", "er", "user", " st", "op", "stop", " OK", "sto", "é", "日", "\n", "<", "|", "e", *SPECIAL]
    said = "".join(rng.choice(words, 30))
    script = ids_of(tokenizer, said)
    start = rng.integers(5, len(said) - 12, size=2)
    stop = [said[i : i + n] for i, n in zip(start, rng.integers(1, 12, size=2), strict=True)]
    stop.append("<|im_end|>y")  # never comes
    text, tokens, reason = heard(Says(script), tokenizer, stop, max_new_tokens=len(script))
    assert reason == "stop"
    assert tokens == steps_of_transformers(tokenizer, script, stop)
    # By the definition: before the stop string that ends first, of those the longest, without special tokens.
    written = tokenizer.decode(script[:tokens], skip_special_tokens=False)
    ends = [(written.find(one) + len(one), written.find(one)) for one in stop if one in written]
    whole = written[: min(ends)[1]]
    marked = said[: len(whole)]
    assert marked == whole
    shown = said
    for token in SPECIAL:
        shown = shown.replace(token, "\0" * len(token))
    assert text == shown[: len(whole)].replace("\0", "")


def test_rows_of_a_batch_stop_each_at_its_own(tokenizer: Tokenizer) -> None:
    scripts = [ids_of(tokenizer, text) for text in ("abc<|end|>d", "x\n<|im_end|>y", "long enough</s>z")]
    model = Says(*scripts)
    prompts = [tokenizer.decode([n, *[0] * n]) for n in range(3)]
    assert [tokenizer.encode(prompt) for prompt in prompts] == [[0], [1, 0], [2, 0, 0]]
    stop = ["<|end|>", "\n<|im_end|>", "</s>"]
    assert generate(model, tokenizer, prompts, temperature=0.0, max_new_tokens=30, stop=stop) == [
        "abc",
        "x",
        "long enough",
    ]


def test_the_end_token_is_seen_too(tokenizer: Tokenizer) -> None:
    """Where it completes a stop string, the string's beginning is not part of the text either."""
    end = ids_of(tokenizer, "</s>")[0]
    for stop, text in (("</s>", "a\n"), ("\n</s>", "a"), ("\n</s>x", "a\n"), ("b", "a\n"), ("a", "")):
        model = Says(ids_of(tokenizer, "a\n</s>"), end_ids=(end,))
        assert heard(model, tokenizer, stop)[::2] == (text, "stop" if stop == "a" else "end")
    model = Says(ids_of(tokenizer, "a\n."), end_ids=tuple(ids_of(tokenizer, ".")))
    assert heard(model, tokenizer, "\n.")[::2] == ("a", "end")


def test_half_a_character_before_a_special_token(tokenizer: Tokenizer) -> None:
    first, *rest = ids_of(tokenizer, "日")
    special = ids_of(tokenizer, "<|end|>")
    a, b = ids_of(tokenizer, "ab")
    stopped = heard(Says([a, first, *special, *rest, b]), tokenizer, "<|end|>")
    assert stopped == ("a\ufffd", 3, "stop")
    # Completed after it, where that is not the end: the text is decode's, as without stop strings.
    for stop in ("a<|end|>", "<|end|>\n", "|end|>z"):
        assert heard(Says([a, first, *special, *rest, b]), tokenizer, stop, max_new_tokens=6) == (
            "a日b",
            6,
            "length",
        )


def test_the_prompt_does_not_count(tokenizer: Tokenizer) -> None:
    model = Says([1], ids_of(tokenizer, "op</s>"))
    prompt = tokenizer.decode([1]) + "t"
    assert len(tokenizer.encode(prompt)) == 2
    text = generate(model, tokenizer, prompt, temperature=0.0, max_new_tokens=9, stop=["top", "</s>"])
    assert text == "op"


def test_a_sentencepiece_vocabulary() -> None:
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁b"]
    vocab = {word: id for id, word in enumerate(words)}
    backend = tokenizers.Tokenizer(models.BPE(vocab, [("▁", "a"), ("▁", "b")], byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken("</s>", normalized=False)])
    tokenizer = Tokenizer(backend, Path("made"))
    script = tokenizer.encode("a bé</s>é")
    for stop, text in (("</s>", "a bé"), (" bé</s>", "a"), ("é</s>", "a b"), ("</s>é", "a bé"), ("é", "a b")):
        pieces = list(loop.run(Says(script), [[0]], tokenizer, SamplingOptions(20, 0.0, stop=(stop,))))
        # The text continues a prompt: its first word has a space in front.
        assert "".join(piece.text for piece in pieces).lstrip() == text
        assert len(pieces) == steps_of_transformers(tokenizer, script, stop)
