"""Texts as tokens by the evaluation harness's rules, told from transformers' tokenizers; needs no harness."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.likelihoods import End
from tinystar_np.serving.harness_tokens import HarnessTokens, shortened
from tinystar_np.text import load_tokenizer

TEXTS = (
    "Hello there",
    " a space before",
    "after ",
    "",
    "<s>written by a template",
    "<s>",
    "ünïcode\n\n",
    "x<s>y",
)


@pytest.fixture(params=["begins texts", "begins none"])
def directory(talking_model: Path, request: pytest.FixtureRequest) -> Path:
    """A tokenizer of bytes with <s> and </s>, whose files put <s> before every text, or do not."""
    backend = Backend.from_file(str(talking_model / "tokenizer.json"))
    backend.add_special_tokens(["<s>", "</s>"])
    if request.param == "begins texts":
        backend.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
    backend.save(str(talking_model / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (talking_model / "tokenizer_config.json").write_text(json.dumps(settings))
    return talking_model


def by_the_rules(
    tokenizer: Any, text: str, add_special_tokens: bool | None, add_bos: bool | None
) -> list[int]:
    """What the harness's ``hf`` does (HFLM.tok_encode in lm_eval/models/huggingface.py, 0.4.13)."""
    how = {} if add_bos is None else {"add_special_tokens": add_bos}
    how = how if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
    if add_special_tokens is None and text.startswith(tokenizer.decode(tokenizer.bos_token_id)):
        how = {"add_special_tokens": False}
    ids: list[int] = tokenizer.encode(text, **how)
    return ids


@pytest.mark.parametrize("add_special_tokens", [None, True, False])
@pytest.mark.parametrize("add_bos", [None, True, False])
def test_encoding(directory: Path, add_special_tokens: bool | None, add_bos: bool | None) -> None:
    how = {} if add_bos is None else {"add_bos_token": add_bos}
    reference = AutoTokenizer.from_pretrained(directory, **how)
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    tokens = HarnessTokens(tokenizer, add_bos_token=add_bos)
    for text in TEXTS:
        expected = by_the_rules(reference, text, add_special_tokens, add_bos)
        assert tokens.encode(text, add_special_tokens) == expected, text
        assert tokens.decode(expected) == reference.decode(expected, skip_special_tokens=True)
        assert tokens.decode(expected, special=True) == reference.decode(expected)


def test_the_token_before_a_text_without_context(directory: Path) -> None:
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    begin, end = (tokenizer.backend.token_to_id(name) for name in ("<s>", "</s>"))
    tokens = HarnessTokens(tokenizer)
    assert (tokens.bos_id, tokens.end_id, tokens.prefix_id) == (begin, end, begin)
    assert HarnessTokens(tokenizer, prefix_id=7).prefix_id == 7
    (directory / "tokenizer_config.json").write_text(json.dumps({"bos_token": None, "eos_token": "</s>"}))
    without = load_tokenizer(directory)
    assert without is not None
    assert HarnessTokens(without, add_bos_token=True).prefix_id == end
    (directory / "tokenizer_config.json").write_text(json.dumps({"bos_token": None, "eos_token": None}))
    neither = load_tokenizer(directory)
    assert neither is not None
    assert HarnessTokens(neither, end_ids=(5, 6)).prefix_id == 5
    with pytest.raises(TokenizerError, match="prefix_token_id"):
        HarnessTokens(neither).prefix_id  # noqa: B018


def test_long_contexts_lose_their_beginning() -> None:
    """As in hf: of both together the last ``longest`` + 1 tokens, of which the very last is not read."""
    context, continuation = list(range(100, 110)), [1, 2, 3]
    assert shortened(context, continuation, 50) == End([*context, *continuation], 10)
    assert shortened(context, continuation, 12) == End([*context, *continuation], 10)
    assert shortened(context, continuation, 11) == End([*context[1:], *continuation], 9)
    assert shortened(context, continuation, 3) == End([109, 1, 2, 3], 1)
    for wrong in ((context, continuation, 2), (context, [], 5), ([], continuation, 5)):
        with pytest.raises(InputError, match="must have"):
            shortened(*wrong)
