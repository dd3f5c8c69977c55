"""The generation loop, on a model whose next token depends on everything before it."""

import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tinystar_np.errors import ContextFullError, InputError, TokenizerError
from tinystar_np.generation import generate, generate_ids, loop, memory, sample, scheduler, stream
from tinystar_np.generation.options import SamplingOptions
from tinystar_np.text import Tokenizer

END = 256


class FakeCache:
    text = None

    def __init__(self, rows):
        self.rows = rows
        self.whole = None

    @property
    def lengths(self):
        return np.array([len(row) for row in self.rows])

    def select(self, rows):
        return FakeCache([list(self.rows[row]) for row in rows])

    @contextmanager
    def reading(self, new_tokens):
        whole = len(self.rows[0]) + new_tokens
        assert self.whole in (None, whole)  # each piece is one of the same text
        self.whole = whole
        yield


class FakeModel:
    """Logits are random numbers seeded by the whole history; it notes every call."""

    vocab_size = 257

    def __init__(self, context_length=None, end_ids=(), spread=4.0):
        self.context_length = context_length
        self.end_ids = end_ids
        self.spread = spread
        self.calls, self.capacities = [], []

    def new_cache(self, batch_size=1, capacity=0):
        self.capacities.append(capacity)
        return FakeCache([[] for _ in range(batch_size)])

    def logits(self, history):
        return np.random.default_rng(list(history)).normal(0, self.spread, self.vocab_size).astype(np.float32)

    def __call__(self, ids, cache=None, last_only=False):
        ids = np.asarray(ids)
        assert ids.ndim == 2
        assert last_only
        assert len(ids) == len(cache.rows)
        self.calls.append(ids.shape)
        for row, new in zip(cache.rows, ids, strict=True):
            row.extend(new.tolist())
            assert self.context_length is None or len(row) <= self.context_length
        return np.stack([self.logits(row)[None] for row in cache.rows])


@pytest.fixture(autouse=True)
def _join_fake_caches(monkeypatch):
    join = scheduler.join_caches

    def join_any(caches):
        if isinstance(caches[0], FakeCache):
            return FakeCache([list(row) for cache in caches for row in cache.rows])
        return join(caches)

    monkeypatch.setattr(scheduler, "join_caches", join_any)


@pytest.fixture(scope="module")
def tokenizer():
    """Each byte is a token, so that a random id is half a character as often as not."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: id for id, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    assert backend.token_to_id("<|endoftext|>") == END
    return Tokenizer(backend, Path("made"))


def by_hand(model, prompt, seed=None, **sampling):
    """The plainest loop there is."""
    options = SamplingOptions(seed=seed, **sampling)
    rng, ids = np.random.default_rng(seed), list(prompt)
    for _ in range(options.max_new_tokens):
        ids.append(sample(model.logits(ids), ids, options, rng))
        if ids[-1] in model.end_ids:
            break
    return ids[len(prompt) :]


PROMPTS = [[5], [1, 2, 3, 4, 5, 6, 7], [9, 9], [1, 2, 3]]


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "repetition_penalty": 3.0, "no_repeat_ngram_size": 1},
        {"seed": 3},
        {"seed": 3, "temperature": 0.9, "top_k": 20, "top_p": 0.9},
    ],
    ids=str,
)
def test_one_prompt_and_many_give_what_a_plain_loop_gives(sampling):
    model = FakeModel(end_ids=tuple(range(0, 257, 16)))  # rows end at different times
    wanted = [by_hand(model, prompt, max_new_tokens=25, **sampling) for prompt in PROMPTS]
    assert len({len(ids) for ids in wanted}) > 2
    assert generate_ids(model, PROMPTS, max_new_tokens=25, **sampling) == wanted
    for prompt, ids in zip(PROMPTS, wanted, strict=True):
        assert generate_ids(model, prompt, max_new_tokens=25, **sampling) == ids


def test_rows_that_ended_leave_the_batch():
    model = FakeModel(end_ids=tuple(range(0, 257, 16)))
    ids = generate_ids(model, PROMPTS, max_new_tokens=30, temperature=0)
    decode_calls = model.calls[len(PROMPTS) :]
    going = [sum(len(row) > step for row in ids) for step in range(1, max(map(len, ids)))]
    assert [shape[0] for shape in decode_calls] == going
    assert all(shape[1] == 1 for shape in decode_calls)


def test_arrays_and_lists_of_ids():
    model = FakeModel()
    one = generate_ids(model, [1, 2], max_new_tokens=3, temperature=0)
    assert all(type(id) is int for id in one)
    assert generate_ids(model, np.array([1, 2]), max_new_tokens=3, temperature=0) == one
    assert generate_ids(model, np.array([[1, 2]]), max_new_tokens=3, temperature=0) == [one]
    assert generate_ids(model, [np.array([1, 2]), [1]], max_new_tokens=3, temperature=0)[0] == one


def test_without_a_seed_rows_differ():
    a, b = generate_ids(FakeModel(), [[1, 2], [1, 2]], max_new_tokens=20)
    assert a != b
    a, b = generate_ids(FakeModel(), [[1, 2], [1, 2]], max_new_tokens=20, seed=0)
    assert a == b


def test_a_long_prompt_is_read_in_pieces():
    model = FakeModel()
    prompt = (np.arange(2 * loop.PREFILL + 3) % 250).tolist()
    ids = generate_ids(model, prompt, max_new_tokens=2, temperature=0)
    assert model.calls == [(1, 512), (1, 512), (1, 3), (1, 1)]
    assert model.capacities == [len(prompt) + 2]
    assert ids == by_hand(model, prompt, max_new_tokens=2, temperature=0.0)


def test_room_asked_for_is_bounded():
    model = FakeModel(context_length=50, end_ids=tuple(range(257)))
    generate_ids(model, [1, 2], max_new_tokens=10**9)
    assert model.capacities == [50]
    model = FakeModel(end_ids=tuple(range(257)))
    generate_ids(model, [1, 2], max_new_tokens=10**9)
    assert model.capacities == [2 + memory.ROOM]


def test_the_context_fills_to_the_last_position(tokenizer):
    prompt = "abcd"
    for most, count, reason in ((100, 5, "context"), (6, 5, "context"), (5, 5, "length"), (4, 4, "length")):
        model = FakeModel(
            context_length=8
        )  # 4 of the prompt, 4 that are read again, and one that is only drawn
        pieces = list(stream(model, tokenizer, prompt, max_new_tokens=most, temperature=0))
        assert len(pieces) == count
        assert [piece.finish_reason for piece in pieces] == [None] * (count - 1) + [reason]
    pieces = list(stream(FakeModel(context_length=4), tokenizer, prompt, temperature=0))
    assert [piece.finish_reason for piece in pieces] == ["context"]


def test_rows_fill_the_context_each_at_its_own_time():
    ids = generate_ids(FakeModel(context_length=8), PROMPTS, max_new_tokens=50, temperature=0)
    assert [len(row) for row in ids] == [8, 2, 7, 6]


def test_a_prompt_that_is_too_long_or_empty(tokenizer):
    model = FakeModel(context_length=8)
    with pytest.raises(ContextFullError, match=r"The prompt has 9 tokens, but the model holds 8"):
        generate_ids(model, [1] * 9)
    with pytest.raises(ContextFullError, match=r"Prompt 1 has 9 tokens"):
        generate(model, tokenizer, ["a", "a" * 9])
    for call in (
        lambda: generate_ids(model, []),
        lambda: generate(model, tokenizer, ""),
        lambda: stream(model, tokenizer, ""),  # at the call, before the first piece
        lambda: generate_ids(model, [], max_new_tokens=0),
    ):
        with pytest.raises(InputError, match="The prompt is empty"):
            call()
    with pytest.raises(InputError, match="Prompt 1 is empty"):
        generate_ids(model, [[1], []])
    assert model.calls == []


def test_other_wrong_arguments(tokenizer):
    model = FakeModel()
    with pytest.raises(InputError, match="list of token ids"):
        generate_ids(model, [0.5, 1.5])
    with pytest.raises(InputError, match="list of token ids"):
        generate_ids(model, "text")
    with pytest.raises(InputError, match="give generate_ids the tokenizer"):
        generate_ids(model, [1], stop="x")
    with pytest.raises(InputError, match="temperature is -1"):
        stream(model, tokenizer, "a", temperature=-1)
    with pytest.raises(TokenizerError, match="no tokenizer files"):
        generate(model, None, "a")


def test_nothing_to_do(tokenizer):
    model = FakeModel()
    assert generate_ids(model, [1, 2], max_new_tokens=0) == []
    assert generate(model, tokenizer, ["a", "b"], max_new_tokens=0) == ["", ""]
    assert list(stream(model, tokenizer, "a", max_new_tokens=0)) == []
    assert generate(model, tokenizer, []) == []
    assert model.calls == []


def test_stream_generate_and_ids_agree(tokenizer):
    """Random bytes: pieces come late, and together they are the text of the ids."""
    for seed in range(10):
        settings = {"max_new_tokens": 60, "seed": seed}
        ids = generate_ids(FakeModel(), tokenizer.encode("abc"), **settings)
        pieces = list(stream(FakeModel(), tokenizer, "abc", **settings))
        assert [piece.token_id for piece in pieces] == ids
        assert "".join(piece.text for piece in pieces) == tokenizer.decode(ids)
        assert generate(FakeModel(), tokenizer, "abc", **settings) == tokenizer.decode(ids)
        assert generate(FakeModel(), tokenizer, ["abc", "x"], **settings)[0] == tokenizer.decode(ids)


def test_log_probabilities_are_the_models_own(tokenizer):
    model = FakeModel()
    history = tokenizer.encode("ab")
    settings = {"temperature": 0.3, "top_k": 3, "repetition_penalty": 2.0, "seed": 1}
    for piece in stream(model, tokenizer, "ab", max_new_tokens=8, **settings):
        logits = model.logits(history).astype(np.float64)
        assert piece.logprob == pytest.approx(logits[piece.token_id] - np.log(np.exp(logits).sum()), abs=1e-4)
        history.append(piece.token_id)


class Scripted(FakeModel):
    """Says a given text, whatever it is asked, and then ends it."""

    def __init__(self, tokenizer, text):
        super().__init__(end_ids=(END,))
        self.script = [*tokenizer.encode(text), END]

    def logits(self, history):
        logits = np.zeros(self.vocab_size, np.float32)
        logits[self.script[min(len(history), len(self.script)) - 1]] = 20  # prompts here are one token
        return logits


def test_end_of_text(tokenizer):
    model = Scripted(tokenizer, "one 日本")
    pieces = list(stream(model, tokenizer, "x", temperature=0))
    assert "".join(piece.text for piece in pieces) == "one 日本"
    assert (pieces[-1].token_id, pieces[-1].finish_reason, pieces[-1].text) == (END, "end", "")
    assert generate_ids(model, [1], temperature=0) == model.script


def test_the_text_of_the_end_token_never_shows(tokenizer):
    """Also where the end token of the model is an ordinary one of the tokenizer."""
    model = Scripted(tokenizer, "one.")
    model.end_ids = (model.script[-2],)
    assert generate(model, tokenizer, "x", temperature=0) == "one"


def test_stop_strings_in_the_loop(tokenizer):
    model = Scripted(tokenizer, "one two\nthree")
    for stop, text in (("two", "one "), ("\n", "one two"), (["e t", "\n"], "on"), ("four", "one two\nthree")):
        pieces = list(stream(model, tokenizer, "x", temperature=0, stop=stop))
        assert "".join(piece.text for piece in pieces) == text
        assert pieces[-1].finish_reason == ("stop" if stop != "four" else "end")
        assert all(piece.finish_reason is None for piece in pieces[:-1])
        assert generate(model, tokenizer, ["x", "y"], temperature=0, stop=stop) == [text, text]
    # the ids go to the end of the stop string
    ids = generate_ids(model, [1], temperature=0, stop="two", tokenizer=tokenizer)
    assert tokenizer.decode(ids) == "one two"


def test_what_was_kept_back_comes_with_the_last_piece(tokenizer):
    model = Scripted(tokenizer, "ab sto")
    pieces = list(stream(model, tokenizer, "x", temperature=0, stop="stop", max_new_tokens=6))
    assert [piece.text for piece in pieces] == ["a", "b", " ", "", "", "sto"]
    assert pieces[-1].finish_reason == "length"
    model = Scripted(tokenizer, "a😀")
    pieces = list(stream(model, tokenizer, "x", temperature=0, max_new_tokens=3))
    assert [piece.text for piece in pieces] == ["a", "", "\ufffd"]


def test_a_stream_can_be_left_at_any_time(tokenizer):
    model = FakeModel()
    wanted = [piece.token_id for piece in stream(model, tokenizer, "abc", max_new_tokens=10, seed=2)]
    pieces = stream(model, tokenizer, "abc", max_new_tokens=10, seed=2)
    assert isinstance(pieces, types.GeneratorType)
    assert next(pieces).token_id == wanted[0]
    pieces.close()
    assert list(pieces) == []
    # interrupted within the model, the next call starts afresh
    logits = model.logits

    def interrupted(history):
        if len(history) == 6:
            raise KeyboardInterrupt
        return logits(history)

    model.logits = interrupted
    pieces, seen = stream(model, tokenizer, "abc", max_new_tokens=10, seed=2), []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(piece.token_id for piece in pieces)
    model.logits = logits
    assert [piece.token_id for piece in stream(model, tokenizer, "abc", max_new_tokens=10, seed=2)] == wanted
