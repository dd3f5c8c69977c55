"""``convert`` from a GGUF file: a directory that transformers and this package read alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import logits_of, reference_model, save
from smollm2 import PROMPTS, smollm2_file, smollm2_reference
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinystar_np.cli.main import tinystar
from tinystar_np.conversion import convert
from tinystar_np.errors import TokenizerError
from tinystar_np.loading import load
from tinystar_np.text.gguf_metadata import GgufVocabulary

gguf = pytest.importorskip("gguf", reason="the reference for GGUF: pip install --no-deps gguf")

TEXTS = (*PROMPTS, "  é🦄\n\n\t12345  <|im_start|>user\nhi<|im_end|> x", "")
CONVERSATION = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
CONVERSATION += [{"role": "user", "content": "Why?"}]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as a directory of float32."""
    new = tmp_path_factory.mktemp("converted") / "new"
    convert(smollm2_file(), new, "float32")
    return new


def test_smollm2_has_the_weights_of_the_gguf_package(converted: Path) -> None:
    theirs, report = AutoModelForCausalLM.from_pretrained(
        converted, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values())
    expected = smollm2_reference().state_dict()
    for name, weights in theirs.state_dict().items():
        assert weights.dtype == torch.float32
        assert torch.equal(weights, expected[name]), name
    ids = np.array([load(smollm2_file())[1].encode(" ".join(PROMPTS))])  # type: ignore[union-attr]
    logits = logits_of(theirs.eval(), ids)
    for path in (converted, smollm2_file()):
        assert np.abs(load(path)[0](ids) - logits).max() < 1e-5 * np.abs(logits).max()


def test_smollm2_ends_and_cuts_texts_as_the_file_does(converted: Path) -> None:
    (old, cut), (new, again) = load(smollm2_file()), load(converted)
    theirs = AutoTokenizer.from_pretrained(converted)
    assert cut is not None
    assert again is not None
    assert new.end_ids == old.end_ids
    for text in TEXTS:
        ids = cut.encode(text)
        assert theirs(text)["input_ids"] == again.encode(text) == ids
        assert theirs.decode(ids) == again.decode(ids, False) == cut.decode(ids, False) == text
    assert cut.chat_template is not None
    assert again.chat_template is not None
    for prompt in (False, True):
        expected = cut.chat_template.render(CONVERSATION, prompt)
        assert again.chat_template.render(CONVERSATION, prompt) == expected
        assert (
            theirs.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=prompt) == expected
        )


def test_transformers_generates_the_same(converted: Path) -> None:
    tokenizer = load(smollm2_file())[1]
    assert tokenizer is not None
    assert tokenizer.chat_template is not None
    text = tokenizer.chat_template.render([{"role": "user", "content": "What is 2 + 2?"}])
    theirs = AutoModelForCausalLM.from_pretrained(converted)
    ids = tokenizer.encode(text, add_special_tokens=False)
    answer = theirs.generate(torch.tensor([ids]), max_new_tokens=30, do_sample=False)[0].tolist()
    (found, _), again = load(converted), list(ids)
    while len(again) < len(ids) + 30 and again[-1] not in found.end_ids[:1]:
        again.append(int(found(np.array([again]), last_only=True)[0, -1].argmax()))
    assert answer == again


def small(tmp_path: Path, **keys: Any) -> Path:
    """A small Llama as a GGUF file, with keys of a tokenizer."""
    from gguf_conversion import write_gguf

    save(reference_model("llama", vocab_size=11, **SIZES), tmp_path / "old")
    plain = write_gguf(tmp_path / "old", tmp_path / "plain.gguf")
    reader, writer = gguf.GGUFReader(plain), gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(name, field.contents(), field.types[0])
    for name, value in keys.items():
        add = {str: writer.add_string, int: writer.add_uint32, list: writer.add_array}[type(value)]
        add(f"tokenizer.{name}", value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "small.gguf"


SIZES = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
BYTE_LEVEL = {
    "ggml.model": "gpt2",
    "ggml.pre": "gpt-2",
    "ggml.tokens": [*"abcdef", "ab", "abc", "<s>", "</s>", "<|im_end|>"],
    "ggml.token_type": [1] * 8 + [3] * 3,
    "ggml.merges": ["a b", "ab c"],
    "ggml.bos_token_id": 8,
    "ggml.eos_token_id": 9,
}
UNIGRAM = {
    "ggml.model": "t5",
    "ggml.tokens": [*"abcdefgh", "<s>", "</s>", "▁"],
    "ggml.token_type": [1] * 8 + [3, 3, 1],
    "ggml.scores": [-float(i) for i in range(1, 12)],
    "ggml.bos_token_id": 8,
    "ggml.eos_token_id": 9,
}


def test_without_a_tokenizer(tmp_path: Path) -> None:
    """transformers' own ids for an architecture, which it takes where config.json has none, stand nowhere."""
    assert convert(small(tmp_path), tmp_path / "new", "bfloat16").missing is None
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
    }
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (None, None, None)
    assert config["dtype"] == "bfloat16"
    assert load(tmp_path / "new")[0].end_ids == ()


def test_several_templates(tmp_path: Path) -> None:
    keys = {"chat_template": "one {{ bos_token }}", "chat_template.tool_use": "two"}
    path = small(tmp_path, **BYTE_LEVEL, **keys)
    convert(path, tmp_path / "new", "float32")
    new, tokenizer = load(tmp_path / "new")
    assert tokenizer is not None
    assert tokenizer.chat_template is not None
    assert tokenizer.chat_template.sources == {"default": "one {{ bos_token }}", "tool_use": "two"}
    theirs = AutoTokenizer.from_pretrained(tmp_path / "new")
    talk: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]
    assert theirs.apply_chat_template(talk, tokenize=False) == tokenizer.chat_template.render(talk)
    assert theirs.apply_chat_template(talk, tokenize=False, tools=[]) == "two"
    assert new.end_ids == load(path)[0].end_ids == (9, 10)
    ids = tokenizer.encode("abcd<s>ab")
    assert ids == theirs("abcd<s>ab")["input_ids"] == [7, 3, 8, 6]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (UNIGRAM, "The tokenizer (sentencepiece's) has no exact tokenizer.json"),
        (
            BYTE_LEVEL | {"ggml.tokens": [*"abcdef", "ab", "abc", "<s>", "</s>", "x" * 2000]},
            "The tokenizer is unlike those of known models and was not written",
        ),
    ],
)
def test_what_cannot_be_written_is_said(
    keys: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small(tmp_path, **keys)
    assert tinystar(["convert", str(path), str(tmp_path / "new"), "--dtype", "float32"]) == 0
    output = "".join(capsys.readouterr())
    assert message in output
    names = {each.name for each in (tmp_path / "new").iterdir()}
    assert "tokenizer_config.json" in names
    assert "tokenizer.json" not in names
    assert load(tmp_path / "new")[1] is None


def test_a_damaged_tokenizer_leaves_nothing(tmp_path: Path) -> None:
    path = small(tmp_path, **BYTE_LEVEL | {"ggml.merges": ["a z"]})
    with pytest.raises(TokenizerError, match="does not join two tokens"):
        convert(path, tmp_path / "new", "float32")
    assert not (tmp_path / "new").exists()


def test_transformers_is_given_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(small(tmp_path))
    for arguments in (["compare", path, "--ids", "1,2"], ["bench", path, "--against", "transformers"]):
        assert tinystar(arguments) == 1
        message = f"transformers reads directories.\nMake one: tinystar convert {path} DIR --dtype float32"
        assert message in capsys.readouterr().err
    assert tinystar(["convert", path, str(tmp_path / "new"), "--dtype", "float32"]) == 0
    assert tinystar(["compare", path, "--ids", "1,2", "--against", str(tmp_path / "new")]) == 0


def test_a_vocabulary_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path, **BYTE_LEVEL)
    made = []
    known = GgufVocabulary.__init__

    def counted(self: GgufVocabulary, *arguments: Any) -> None:
        made.append(self)
        known(self, *arguments)

    monkeypatch.setattr(GgufVocabulary, "__init__", counted)
    model, tokenizer = load(path)
    assert tokenizer is not None
    assert model.end_ids == (9, 10)
    assert len(made) == 1
