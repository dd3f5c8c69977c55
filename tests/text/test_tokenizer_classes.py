"""vocab.json and merges.txt, cut by the class that the files name, beside transformers reading the same."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from tinystar_np.errors import TokenizerError
from tinystar_np.text import Tokenizer, load_tokenizer
from tinystar_np.text.tokenizer_classes import CLASSES

CORPUS = [
    "The cat sat on the mat; IT'S the dog's 2024 and 2025, they'll DON'T we've 1234567.",
    "naïve café — “quotes” 日本語の文章 😀 e\u0301 مرحبا بالعالم नमस्ते",
    "def f(x):\n    return x  # two  spaces\n\n\n\tif 12: pass\r\n.\n.\n...\n\n!?\n  \n   x",
] * 4
SPECIAL = ["<|endoftext|>", "<|startoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<s>", "</s>"]
SPECIAL += ["<pad>", "<unk>", "<mask>", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"]
TEXTS = [
    *("", "a", "The cat sat.", " leading", "trailing ", "  double  spaces ", "\n\n\ttabs\n\r\n"),
    *("12345678 9 2024", "IT'S DON'T I'll we'VE 's", "e\u0301 é naïve", "日本語 😀 👩‍👩‍👧‍👦"),
    *("مرحبا بِالعالم नमस्ते", "a\x00\x1fb\x7f", "x.\nx !\n\n y", "\u00a0nbsp\u2028ls", "İSTANBUL ǅ ﬁ"),
    *("A <|endoftext|>b<s> </s>c <pad>", "<mask> x<|startoftext|>"),
]
SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def write_vocabulary(directory: Path, seed: int = 0, special: list[str] = SPECIAL) -> dict[str, int]:
    """Train BPE without any rule for words, so that merges cross the borders that a class may draw."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    size = random.Random(seed).randint(340, 460)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.model.save(str(directory))
    return backend.get_vocab()


def write(directory: Path, name: str, content: Any) -> None:
    (directory / name).write_text(json.dumps(content))


def both(directory: Path) -> tuple[Tokenizer, Any]:
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    return tokenizer, pytest.importorskip("transformers").AutoTokenizer.from_pretrained(directory)


def check_same(tokenizer: Tokenizer, reference: Any, texts: list[str]) -> None:
    for text in texts:
        for special in (True, False):
            ids = tokenizer.encode(text, add_special_tokens=special)
            assert ids == reference.encode(text, add_special_tokens=special), text
            for skip in (True, False):
                expected = reference.decode(ids, skip_special_tokens=skip)
                assert tokenizer.decode(ids, skip_special_tokens=skip) == expected, text


@pytest.mark.parametrize("prefix", [None, True, False])
@pytest.mark.parametrize("name", sorted({*CLASSES} - {"Qwen3_5Tokenizer"}))
def test_ids_are_those_of_the_class(name: str, prefix: bool | None, tmp_path: Path) -> None:
    write_vocabulary(tmp_path, seed=len(name))
    settings = {"tokenizer_class": name} | ({} if prefix is None else {"add_prefix_space": prefix})
    write(tmp_path, "tokenizer_config.json", settings)
    write(tmp_path, "config.json", {"model_type": "llama"})
    tokenizer, reference = both(tmp_path)
    check_same(tokenizer, reference, TEXTS)
    assert tokenizer.end_id == reference.eos_token_id


@pytest.mark.parametrize("model_type", ["qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text"])
def test_marks_belong_to_words_in_qwen3_5(model_type: str, tmp_path: Path) -> None:
    """transformers' class is handed what the files hold: by itself it reads tokenizer.json alone."""
    vocabulary = write_vocabulary(tmp_path)
    write(tmp_path, "config.json", {"model_type": model_type})
    merges = [tuple(line.split(" ")) for line in (tmp_path / "merges.txt").read_text().splitlines()[1:]]
    reference = pytest.importorskip("transformers").Qwen3_5Tokenizer(vocab=vocabulary, merges=merges)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    for text in (text for text in TEXTS if "<" not in text):
        assert tokenizer.encode(text) == reference.encode(text), text


@pytest.mark.parametrize(
    "add", [{}, {"add_bos_token": True}, {"add_eos_token": True, "add_bos_token": False}]
)
@pytest.mark.parametrize(
    "name", ["GPT2TokenizerFast", "Qwen2TokenizerFast", "GPTNeoXTokenizerFast", "CohereTokenizerFast"]
)
def test_ends_are_those_of_the_class(name: str, add: dict[str, bool], tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": name, **add})
    write(tmp_path, "config.json", {"model_type": "gpt2"})
    check_same(*both(tmp_path), TEXTS)


MODEL_TYPES = [
    "gpt2",
    "gpt_neo",
    "gptj",
    "phi",
    "starcoder2",
    "dbrx",
    "gpt_neox",
    "mamba",
    "mpt",
    "olmo",
    "olmoe",
]
MODEL_TYPES += ["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "cohere"]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("where", ["nowhere", "config.json"])
def test_the_class_follows_from_config_json(model_type: str, where: str, tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    named = {} if where == "nowhere" else {"tokenizer_class": "Qwen2Tokenizer"}
    write(tmp_path, "config.json", {"model_type": model_type, **named})
    check_same(*both(tmp_path), TEXTS)


@pytest.mark.parametrize("name", ["LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2Tokenizer"])
def test_of_qwen2_another_class_is_not_believed(name: str, tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": name})
    write(tmp_path, "config.json", {"model_type": "qwen2"})
    check_same(*both(tmp_path), TEXTS)


@pytest.mark.parametrize(
    "name", ["PreTrainedTokenizerFast", "LlamaTokenizer", "QWenTokenizer", "BertTokenizer"]
)
def test_a_class_with_unknown_rules_is_refused(name: str, tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": name})
    with pytest.raises(
        TokenizerError, match=rf"vocab\.json: the tokenizer class is '{name}'[^$]*save_pretrained"
    ):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "name"), [("falcon", None), ("olmo2", "GPT2Tokenizer"), ("granite", None)]
)
def test_a_model_type_without_rules_is_refused(model_type: str, name: str | None, tmp_path: Path) -> None:
    """OLMo 2 and Granite name GPT-2's class, and cut numbers otherwise: transformers 5 refuses them, too."""
    write_vocabulary(tmp_path)
    write(tmp_path, "config.json", {"model_type": model_type})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": name})
    with pytest.raises(TokenizerError, match=f"model_type '{model_type}'"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("model", ["gpt-2", "qwen2", "mpt"])
def test_real_vocabularies_give_the_ids_that_llama_cpp_expects(model: str, tmp_path: Path) -> None:
    """vocab.json and merges.txt made of GGUF files; llama.cpp's tests hold the texts and ids."""
    gguf = pytest.importorskip("gguf")
    path = SHARED / "ggml-vocab" / f"ggml-vocab-{model}.gguf"
    if not path.exists():
        pytest.skip("shared/ggml-vocab is not beside this checkout")
    fields = gguf.GGUFReader(path).fields
    tokens, types, merges = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges")
    )
    added = {token: id for id, token in enumerate(tokens) if types[id] == gguf.TokenType.USER_DEFINED}
    write(tmp_path, "added_tokens.json", added)
    write(tmp_path, "vocab.json", {token: id for id, token in enumerate(tokens) if token not in added})
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    names = {"qwen2": "Qwen2Tokenizer", "mpt": "GPTNeoXTokenizer"}
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": names.get(model, "GPT2Tokenizer")})
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    texts = path.with_suffix(".gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = path.with_suffix(".gguf.out").read_text().splitlines()
    for text, line in zip(texts, lines, strict=False):
        assert tokenizer.encode(text, add_special_tokens=False) == [int(id) for id in line.split()], text


MESSAGE = [{"role": "user", "content": "x"}]
ENDS = "[{{ bos_token }}][{{ eos_token }}]"


@pytest.mark.parametrize("stated", [{}, {"bos_token": None}, {"eos_token": "</s>"}])
@pytest.mark.parametrize("name", ["GPT2TokenizerFast", "Qwen2Tokenizer", "GPTNeoXTokenizerFast", None])
def test_a_class_says_its_special_tokens_beside_tokenizer_json(
    name: str | None, stated: dict[str, str | None], tmp_path: Path
) -> None:
    """Chat templates print them, and a conversation ends with one."""
    write_vocabulary(tmp_path)
    write(tmp_path, "config.json", {"model_type": "gpt2"})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": name})
    made = load_tokenizer(tmp_path)
    assert made is not None
    made.backend.save(str(tmp_path / "tokenizer.json"))  # type: ignore[union-attr]
    settings = ({} if name is None else {"tokenizer_class": name}) | stated | {"chat_template": ENDS}
    write(tmp_path, "tokenizer_config.json", settings)
    tokenizer, reference = both(tmp_path)
    assert tokenizer.end_id == reference.eos_token_id
    assert tokenizer.chat_template is not None
    found = tokenizer.chat_template.render(MESSAGE)
    assert found == reference.apply_chat_template(MESSAGE, tokenize=False)
    check_same(tokenizer, reference, TEXTS)


def test_a_special_token_of_the_class_that_the_vocabulary_has_not(tmp_path: Path) -> None:
    """The model need not have a row for it, so that no template may print it."""
    write_vocabulary(tmp_path, special=["<x>"])
    write(tmp_path, "config.json", {"model_type": "gpt2"})
    made = load_tokenizer(tmp_path)
    assert made is not None
    made.backend.save(str(tmp_path / "tokenizer.json"))  # type: ignore[union-attr]
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "chat_template": ENDS})
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    assert tokenizer.chat_template is not None
    assert (tokenizer.end_id, tokenizer.chat_template.render(MESSAGE)) == (None, "[][]")
