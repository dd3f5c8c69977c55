"""SigLIP's tokenizer from its sentencepiece model, against transformers'."""

import io
import json
from pathlib import Path

import pytest
from test_sentencepiece import LINES, random_texts
from transformers import SiglipTokenizer

from tinystar_np.text import load_tokenizer

spm = pytest.importorskip("sentencepiece")

TEXTS = [
    *("A photo of 2 Cats!", "  two   cats,\tone dog. ", "a", "", " ", "!?", "naïve – café", "日本 – ΣΑΣ"),
    *("</s>", "</s> hi", "hi </s>", "a</s>b", "<unk> a", "hello▁world", "▁", "don't; stop", "\n\n"),
]


@pytest.fixture(scope="module", params=[True, False])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small model of pieces, as SigLIP's repositories have it."""
    path, file = tmp_path_factory.mktemp("siglip"), io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([line.lower() for line in LINES]),
        model_writer=file,
        vocab_size=120,
        remove_extra_whitespaces=request.param,
        user_defined_symbols=["▁a"],  # so that a word is one piece, after which a special token stands
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},  # as SigLIP's has them
    )
    (path / "spiece.model").write_bytes(file.getvalue())
    named = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64, **named}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def test_ids_are_those_of_transformers(directory: Path) -> None:
    ours, theirs = load_tokenizer(directory), SiglipTokenizer.from_pretrained(directory)
    assert ours is not None
    for text in [*TEXTS, *random_texts(1, 40)]:
        expected = theirs(text, add_special_tokens=True)["input_ids"]
        assert ours.encode(text) == expected, repr(text)
        bare = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=False) == bare, repr(text)
    assert ours.decode(ours.encode("A photo of 2 cats.")) == "a photo of 2 cats"


def test_whose_files_are_read(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes((directory / "spiece.model").read_bytes())
    assert load_tokenizer(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    assert load_tokenizer(tmp_path) is None
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    found = load_tokenizer(tmp_path)
    assert found is not None
    assert found.encode("a.")[-1] == 1
