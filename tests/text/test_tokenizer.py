import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import GPT2Tokenizer

from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.text import Tokenizer, load_tokenizer

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GPT2 = SHARED / "tokenizers" / "gpt2"
STORIES = SHARED / "checkpoints" / "stories260K"
TEXT = ["the cat sat on the mat; the dog sat too.", "naïve café — 日本語 😀", "one  two\n\nthree"] * 3


@pytest.fixture
def backend():
    """A byte-level BPE as GPT-2's, trained here on a few lines."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(
            vocab_size=320, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
        ),
    )
    return made


def test_tokenizer_json_round_trip(backend, tmp_path):
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert isinstance(tokenizer, Tokenizer)
    for text in TEXT:
        assert tokenizer.encode(text) == backend.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == backend.get_vocab_size()
    assert tokenizer.path == tmp_path / "tokenizer.json"


def test_vocab_and_merges_give_the_same_ids(backend, tmp_path):
    backend.model.save(str(tmp_path))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    for text in [*TEXT, "x<|endoftext|>y", " leading", "trailing ", ""]:
        assert tokenizer.encode(text) == backend.encode(text).ids
    assert tokenizer.vocab_size == backend.get_vocab_size()


def test_special_token_text_becomes_the_token_and_is_skipped_in_decoding(backend, tmp_path):
    backend.model.save(str(tmp_path))
    tokenizer = load_tokenizer(tmp_path)
    end = backend.token_to_id("<|endoftext|>")
    ids = tokenizer.encode("cat<|endoftext|>dog")
    assert end in ids
    assert tokenizer.special_ids == {end}
    assert tokenizer.decode(ids) == "catdog"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "cat<|endoftext|>dog"


def test_a_vocabulary_without_end_of_text_gets_no_new_id(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 3
    assert tokenizer.encode("aba") == [2, 0]


def test_truncation_and_padding_of_the_file_are_off(backend, tmp_path):
    backend.enable_truncation(4)
    backend.enable_padding(length=50)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode(TEXT[0])) == TEXT[0]


def test_no_files_no_tokenizer(tmp_path):
    assert load_tokenizer(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{}", "not json", "[1, 2]", '{"version": "1.0"}'])
def test_damaged_tokenizer_json(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("vocab", "merges"), [("{", "a b"), ('{"a": 0}', "a b c"), ('{"a": 0}', "a b"), ("[]", "")]
)
def test_damaged_vocab_or_merges(tmp_path, vocab, merges):
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(TokenizerError, match=r"vocab\.json"):
        load_tokenizer(tmp_path)


def test_vocab_without_merges(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"no merges\.txt"):
        load_tokenizer(tmp_path)


def test_lone_surrogates_and_bad_ids(backend, tmp_path):
    tokenizer = Tokenizer(backend, tmp_path)
    with pytest.raises(InputError, match=r"position 1 .*surrogate"):
        tokenizer.encode("a\ud800")
    with pytest.raises(InputError, match="negative"):
        tokenizer.decode([-1])
    assert tokenizer.token(10**6) == ""
    assert tokenizer.decode([10**6]) == ""


def test_gpt2_real_vocabulary():
    if not GPT2.exists():
        pytest.skip("shared/tokenizers/gpt2 is not beside this checkout")
    tokenizer = load_tokenizer(GPT2)
    assert tokenizer.vocab_size == 50257
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.encode("<|endoftext|>") == [50256]
    assert tokenizer.token(995) == "Ġworld"


def test_stories_begin_of_text_as_its_file_says():
    if not STORIES.exists():
        pytest.skip("shared/checkpoints/stories260K is not beside this checkout")
    tokenizer = load_tokenizer(STORIES)
    cases = json.loads((STORIES / "golden_greedy.json").read_text())
    assert len(cases) > 0
    for case in cases:
        prompt_ids = tokenizer.encode(case["prompt"])
        assert prompt_ids == case["prompt_ids"]
        assert tokenizer.decode(prompt_ids + case["new_ids"]) == case["text"]


SETTINGS = [{}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True}]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("names", [{}, {"bos_token": "Ġcat", "eos_token": "Ġdog"}])
def test_settings_beside_vocab_and_merges(backend, tmp_path, settings, names):
    """Such files say nothing of begin-of-text; OPT's settings do."""
    backend.model.save(str(tmp_path))
    given = json.dumps({"tokenizer_class": "GPT2Tokenizer", **settings, **names})
    (tmp_path / "tokenizer_config.json").write_text(given)
    tokenizer, reference = load_tokenizer(tmp_path), GPT2Tokenizer.from_pretrained(tmp_path)
    for text in [*TEXT, "", "the cat<|endoftext|>"]:
        assert tokenizer.encode(text) == reference.encode(text)
    ids, bare = tokenizer.encode("the cat"), tokenizer.encode("the cat", add_special_tokens=False)
    assert (ids == bare) == (True not in settings.values())


def test_end_id(backend, tmp_path):
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).end_id is None
    for name, id in (("<|endoftext|>", 0), ("nowhere", None), (None, None), (5, None)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": name}))
        assert load_tokenizer(tmp_path).end_id == id
    with pytest.raises(InputError, match="too large"):
        load_tokenizer(tmp_path).decode([2**32])


@pytest.mark.parametrize(
    "model",
    [models.Unigram([("a", -1.0), ("b", -2.0)]), models.WordLevel({"a": 0, "b": 1}, unk_token="<unk>")],
)
def test_a_character_without_a_token_is_named(model: models.Model) -> None:
    """Where there is no token for unknown ones either; the files are not damaged."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    tokenizer = Tokenizer(backend, Path("tokenizer.json"))
    assert tokenizer.encode("abba") == [0, 1, 1, 0]
    with pytest.raises(InputError) as caught:
        tokenizer.encode("abécx")
    assert str(caught.value) == (
        "This model's tokenizer has no token for 'é', and none for unknown characters. Its tokens are a, b."
    )
