"""Tokenizers of Llama 2, Llama 3, Falcon and Granite in small, beside transformers reading the same files."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, FalconConfig, GraniteMoeHybridConfig, LlamaConfig

from tinystar_np.text import TextStream, Tokenizer, load_tokenizer

CORPUS = [
    "The cat sat on the mat; the dog sat too. 1234567 and 89.",
    "naïve café — “quotes” 日本語の文章 😀",
    "def f(x):\n    return x  # two  spaces\n\n\n",
] * 3
TEXTS = [
    "",
    "The cat sat.",
    " leading and trailing ",
    "   three",
    "\n\n\ttabs\n",
    "12345678 9",
    "naïve 日本語 😀 👩‍👩‍👧‍👦 e\u0301",
    "don't I'LL we've",
    "a\x00b ▁c",
]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def special(*texts: str) -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False) for text in texts]


def trained(backend: tokenizers.Tokenizer, size: int = 400) -> tokenizers.Tokenizer:
    """Train byte-level BPE on a few lines."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def begin(text: str, backend: tokenizers.Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{text} $A", pair=f"{text} $A {text} $B", special_tokens=[(text, backend.token_to_id(text))]
    )


def llama2() -> tokenizers.Tokenizer:
    """Sentencepiece BPE as it was converted for Llama 1 and 2: a space in front, bytes where pieces lack."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += [*"▁abcdehinorstTx.", "▁t", "▁c", "at", "▁th", "▁the", "▁cat", "▁▁", "▁▁▁", "▁Th", "▁The", "▁T"]
    merges = ["▁ t", "▁ c", "a t", "▁t h", "▁th e", "▁c at", "▁ ▁", "▁▁ ▁", "▁ T", "▁T h", "▁Th e"]
    backend = tokenizers.Tokenizer(
        models.BPE(
            {word: id for id, word in enumerate(words)},
            [tuple(merge.split(" ")) for merge in merges],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(special("<unk>", "<s>", "</s>"))
    backend.post_processor = begin("<s>", backend)
    return backend


def llama2_metaspace() -> tokenizers.Tokenizer:
    """The same in the newer spelling, in which the space in front belongs to the first word."""
    backend = llama2()
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    return backend


def llama3() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trained(backend)
    backend.add_special_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"))
    backend.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), begin("<|begin_of_text|>", backend)]
    )
    return backend


def falcon() -> tokenizers.Tokenizer:
    """Punctuation and digits apart, three digits at most together; nothing put in front."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation(behavior="contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex(r"[0-9][0-9][0-9]"), behavior="isolated"),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trained(backend)
    backend.add_special_tokens(special(">>TITLE<<", "<|endoftext|>"))
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return backend


def granite() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trained(backend)
    backend.add_special_tokens(special("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"))
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    return backend


FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama2": (llama2, LlamaConfig, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "llama2-metaspace": (llama2_metaspace, LlamaConfig, {"bos_token": "<s>", "eos_token": "</s>"}),
    "llama3": (llama3, LlamaConfig, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "falcon": (falcon, FalconConfig, {"eos_token": "<|endoftext|>"}),
    "granite": (
        granite,
        GraniteMoeHybridConfig,
        {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>", "add_bos_token": False},
    ),
}


def save(directory: Path, backend: tokenizers.Tokenizer, config: Any, **settings: Any) -> None:
    config().save_pretrained(directory)
    backend.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    } | settings
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    make, config, settings = FAMILIES[family]
    save(tmp_path, make(), config, **settings)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    marks = [text for name, text in settings.items() if name.endswith("_token") and isinstance(text, str)]
    for text in [*TEXTS, *(f"{mark}The cat{mark} sat" for mark in marks), " ".join(marks)]:
        assert tokenizer.encode(text) == reference.encode(text), text
        bare = tokenizer.encode(text, add_special_tokens=False)
        assert bare == reference.encode(text, add_special_tokens=False), text
        for skip in (True, False):
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids, skip_special_tokens=skip) == reference.decode(
                ids, skip_special_tokens=skip
            )
    assert tokenizer.end_id == reference.eos_token_id
    assert set(reference.all_special_ids) <= tokenizer.special_ids


@pytest.mark.parametrize(("family", "begins"), [("llama2", 1), ("llama3", 1), ("falcon", 0), ("granite", 0)])
def test_begin_of_text(family: str, begins: int, tmp_path: Path) -> None:
    make, config, settings = FAMILIES[family]
    backend = make()
    save(tmp_path, backend, config, **settings)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    with_it, without = tokenizer.encode("The cat"), tokenizer.encode("The cat", add_special_tokens=False)
    assert with_it[:begins] == [backend.token_to_id(settings.get("bos_token", ""))] * begins
    assert with_it[begins:] == without


@pytest.mark.parametrize("add", [True, False, None])
@pytest.mark.parametrize("processor", ["none", "byte-level", "begin"])
@pytest.mark.parametrize(
    "kind", ["PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "GPTNeoXTokenizer"]
)
def test_who_says_what_begins_a_text(kind: str, processor: str, add: bool | None, tmp_path: Path) -> None:
    """Where add_bos_token is stated, the classes of transformers 4 that read it obey, of which 4.57.6 is the
    witness; PreTrainedTokenizerFast leaves all to tokenizer.json. Where it is not, transformers 5 is.
    """
    backend = llama2_metaspace()
    if processor != "begin":
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
    settings = {"tokenizer_class": kind, "add_bos_token": add, "bos_token": "<s>", "eos_token": "</s>"}
    given = {name: value for name, value in settings.items() if value is not None}
    save(tmp_path, backend, LlamaConfig, **given)
    if processor == "none":
        raw = json.loads((tmp_path / "tokenizer.json").read_text())
        (tmp_path / "tokenizer.json").write_text(json.dumps(raw | {"post_processor": None}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    if add is None or kind == "PreTrainedTokenizerFast":
        reference = AutoTokenizer.from_pretrained(tmp_path)
        begins = reference.encode("a")[0] == 1
    else:
        begins = add
    assert (tokenizer.encode("The cat")[0] == 1) == begins
    assert tokenizer.encode("The cat")[begins:] == tokenizer.encode("The cat", add_special_tokens=False)


def test_one_end_stated_leaves_the_other(tmp_path: Path) -> None:
    save(
        tmp_path,
        llama2(),
        LlamaConfig,
        tokenizer_class="LlamaTokenizer",
        add_eos_token=True,
        eos_token="</s>",
    )
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    ids = tokenizer.encode("The cat")
    assert (ids[0], ids[-1]) == (1, 2)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("in_file", [True, False])
def test_add_prefix_space_is_that_of_the_settings(in_file: bool, stated: bool, tmp_path: Path) -> None:
    backend = trained(tokenizers.Tokenizer(models.BPE()))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=in_file)
    save(tmp_path, backend, GraniteMoeHybridConfig, add_prefix_space=stated)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=stated)
    assert tokenizer.encode("The cat") == backend.encode("The cat").ids


def test_special_tokens_that_only_the_settings_call_so(tmp_path: Path) -> None:
    """An ordinary token of the vocabulary becomes a special one; a name that it has not gets no id."""
    backend = granite()
    added = {"__type": "AddedToken", "content": "Ġcat", "lstrip": False, "rstrip": False, "normalized": False}
    settings = {"eos_token": "Ġsat", "pad_token": "[PAD]", "unk_token": added}
    assert backend.token_to_id("Ġsat") is not None
    save(tmp_path, backend, GraniteMoeHybridConfig, **settings)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    for text in ("The cat sat", "The ĠcatĠsat"):
        assert tokenizer.encode(text) == reference.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == reference.decode(
            reference.encode(text), skip_special_tokens=True
        )
    assert tokenizer.vocab_size == backend.get_vocab_size()


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_join_to_the_text(family: str) -> None:
    tokenizer = Tokenizer(FAMILIES[family][0](), Path("made"))
    for text in TEXTS:
        ids = tokenizer.encode(text)
        stream = TextStream(tokenizer)
        pieces = [*(stream.push(id) for id in ids), stream.flush()]
        assert "".join(pieces) == tokenizer.decode(ids)
        if text:
            before = tokenizer.encode(text)
            rest = tokenizer.encode(" and more 😀", add_special_tokens=False)
            stream = TextStream(tokenizer, after=before)
            pieces = [*(stream.push(id) for id in rest), stream.flush()]
            assert tokenizer.decode(before) + "".join(pieces) == tokenizer.decode(before + rest)
