"""Tokens stated beside the vocabulary, in every spelling that files have."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from test_tokenizer_classes import both, check_same, write, write_vocabulary
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from tinystar_np.errors import TokenizerError
from tinystar_np.text import TextStream, load_tokenizer
from tinystar_np.text.isolated import IsolatedTokenizer

FLAGS = ("lstrip", "rstrip", "normalized", "single_word")
TEXTS = [
    "a <|user|> b",
    "x<|user|>s [PAD]y <x> the",
    " <|tool|> </s>  <s>",
    "<|user|><|user|>",
    "<x>s <pad> a",
]
NEW = ["<|user|>", "<|tool|>", "<x>", "[PAD]"]


def spelled(rng: random.Random, first: int) -> dict[str, dict[str, Any]]:
    """Choose tokens, their flags, and the files that state them."""
    plain = rng.random() < 0.4
    flags = {text: {flag: not plain and rng.random() < 0.4 for flag in FLAGS} for text in [*NEW, "<pad>"]}
    texts = rng.sample(NEW, rng.randint(1, 4))
    config: dict[str, Any] = {"tokenizer_class": "GPT2Tokenizer"}
    files = {"tokenizer_config.json": config, "config.json": {"model_type": "gpt2"}}
    form = rng.choice(["decoder", "list", "dict", "old", "none"])
    if form == "decoder":
        config["added_tokens_decoder"] = {
            str(first + i): {"content": text, "special": rng.random() < 0.5, **flags[text]}
            for i, text in enumerate(texts)
        }
    elif form == "old":
        files["added_tokens.json"] = {text: first + i for i, text in enumerate(texts)}
        files["special_tokens_map.json"] = {"pad_token": {"content": texts[0], **flags[texts[0]]}}
    else:
        given = {"__type": "AddedToken", "content": texts[0], "special": True, **flags[texts[0]]}
        key = rng.choice(["extra_special_tokens", "additional_special_tokens"]) if form == "list" else form
        if form == "list":
            config[key] = [given, *texts[1:]]
        elif form == "dict":
            config["extra_special_tokens"] = {"image_token": "<pad>", "audio_token": "<s>"}
    if rng.random() < 0.5:
        config["eos_token"] = rng.choice(
            ["</s>", {"__type": "AddedToken", "content": "<pad>", **flags["<pad>"]}]
        )
    return files


@pytest.mark.parametrize("seed", range(40))
def test_ids_and_texts_are_those_of_transformers(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    ids = write_vocabulary(tmp_path, seed % 3)
    for name, content in spelled(rng, len(ids)).items():
        write(tmp_path, name, content)
    check_same(*both(tmp_path), TEXTS)


def saved(directory: Path, *tokens: AddedToken, **settings: Any) -> None:
    """A byte-level tokenizer.json with some added tokens, and settings beside it."""
    backend = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet())}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(list(tokens))
    backend.save(str(directory / "tokenizer.json"))
    write(directory, "config.json", {"model_type": "llama"})
    write(directory, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **settings})


def alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.parametrize("flag", [*FLAGS, "special"])
@pytest.mark.parametrize("stated", [True, False])
def test_flags_are_those_of_the_settings(flag: str, stated: bool, tmp_path: Path) -> None:
    """Also where special is taken back, which transformers does in the classes that build their own rules."""
    entry = {"content": "<x>", **dict.fromkeys((*FLAGS, "special"), False), flag: stated}
    saved(tmp_path, AddedToken("<x>", **{flag: not stated}), added_tokens_decoder={"256": entry})
    tokenizer, reference = both(tmp_path)
    for text in TEXTS:
        assert tokenizer.encode(text) == reference.encode(text)
    if flag == "special":
        assert tokenizer.decode(tokenizer.encode("a<x>b")) == ("ab" if stated else "a<x>b")
        assert (256 in tokenizer.special_ids) == stated
    stream = TextStream(tokenizer)
    ids = tokenizer.encode("a <x> b")
    assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)


@pytest.mark.parametrize("vocabulary", ["tokenizer.json", "vocab.json"])
def test_a_stated_id_is_kept_after_a_gap(vocabulary: str, tmp_path: Path) -> None:
    """The files say 300; the next id of the package would be 256."""
    entry = {"content": "<x>", "special": True}
    saved(tmp_path, added_tokens_decoder={"300": entry, "301": {"content": "<y>"}})
    if vocabulary == "vocab.json":
        (tmp_path / "tokenizer.json").unlink()
        models.BPE({c: i for i, c in enumerate(alphabet())}, []).save(str(tmp_path))
        settings = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"300": entry, "301": "<y>"}}
        write(tmp_path, "tokenizer_config.json", settings)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    a = alphabet().index("a")
    assert tokenizer.encode("a<x>a<y>") == [a, 300, a, 301]
    assert tokenizer.decode([a, 300, 301]) == "a<y>"
    assert tokenizer.token(300) == "<x>"


def test_split_special_tokens(tmp_path: Path) -> None:
    saved(tmp_path, AddedToken("<x>", special=True), split_special_tokens=True)
    tokenizer, reference = both(tmp_path)
    assert tokenizer.encode("a<x>") == reference.encode("a<x>")
    assert 256 not in tokenizer.encode("a<x>")


@pytest.mark.parametrize("content", ["<s>", "</s>"])
def test_special_and_normalized(content: str, tmp_path: Path) -> None:
    """Yi, open_llama: tokenizers 0.23 knows such a token by the name that the normaliser gives it, "▁<s>"."""
    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "h": 4, "i": 5, "▁h": 6, "▁hi": 7}
    backend = tokenizers.Tokenizer(models.BPE(pieces, [("▁", "h"), ("▁h", "i")], unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    rules = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(rules)
    backend.add_tokens([AddedToken(text, special=True, normalized=True) for text in ("<unk>", "<s>", "</s>")])
    id = pieces[content]
    backend.post_processor = processors.TemplateProcessing(f"{content} $A", special_tokens=[(content, id)])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    assert tokenizer.encode("hi") == [id, 7]
    assert tokenizer.decode([id, 7, 2]) == "hi"
    assert tokenizer.decode([id, 7], skip_special_tokens=False) == f"{content} hi"
    assert tokenizer.token(id) == content
    assert TextStream(tokenizer, after=[id]).push(7) == "hi"


HALF = json.loads('"\\ud800"')
BAD: list[dict[str, Any]] = [
    {"added_tokens_decoder": {"9" * 5000: {"content": "<x>"}}},
    {"added_tokens_decoder": {"300": {"content": HALF}}},
    {"added_tokens_decoder": {"300": {"content": "<x>"}, "0300": {"content": "<y>"}}},
    {"added_tokens_decoder": {"300": {"content": "<x>"}, "301": {"content": "<x>"}}},
    {"added_tokens_decoder": {"300": {"content": "<x>", "rstrip": "yes"}}},
    {"extra_special_tokens": 5},
    {"extra_special_tokens": [5]},
    {"additional_special_tokens": "<x>"},
    {"extra_special_tokens": {"image_token": 5}},
    {"eos_token": HALF},
    {"add_bos_token": "true"},
    {"add_prefix_space": 1},
    {"tokenizer_class": 5},
    {"split_special_tokens": "no"},
]


@pytest.mark.parametrize("settings", BAD, ids=lambda settings: repr(settings)[:50])
def test_bad_settings(settings: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path, **settings)
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
        load_tokenizer(tmp_path)


def test_more_than_known_models_have(tmp_path: Path) -> None:
    """The package takes long to add them: in a worker."""
    saved(tmp_path, extra_special_tokens=[f"<{id}>" for id in range(30_000)])
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    assert isinstance(tokenizer.backend, IsolatedTokenizer)
    assert tokenizer.token(tokenizer.encode("<29999>", add_special_tokens=False)[0]) == "<29999>"


@pytest.mark.parametrize("id", [-1, 1.5, "x", True, None, 2**40])
def test_bad_ids_in_added_tokens_json(id: Any, tmp_path: Path) -> None:
    saved(tmp_path)
    write(tmp_path, "added_tokens.json", {"<x>": id})
    with pytest.raises(TokenizerError, match=r"added_tokens\.json"):
        load_tokenizer(tmp_path)


def test_an_id_twice_in_vocab_json(tmp_path: Path) -> None:
    write(tmp_path, "vocab.json", {"a": 0, "b": 0})
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(TokenizerError, match="the id 0 is that of 'a' and 'b'"):
        load_tokenizer(tmp_path)
