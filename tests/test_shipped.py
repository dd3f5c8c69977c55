"""The shipped models: transformers loads them too, and both compute and write the same."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tinystar_np as ts
from tinystar_np.checkpoints.hub import find_model

PROMPTS = ["Once upon a time", "Lily saw a big, red ball in the park.\n\nShe", "One day"]


@pytest.fixture(scope="module")
def ours() -> tuple:
    return ts.load("stories", dtype="float32")


@pytest.fixture(scope="module")
def theirs() -> tuple:
    directory = find_model("stories")
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return reference, AutoTokenizer.from_pretrained(directory)


def test_tokens(ours: tuple, theirs: tuple) -> None:
    for text in [*PROMPTS, "Ünïcödé, 日本語 and 🦙!", "a  b\n\n\tc", "<|endoftext|>x"]:
        ids = ours[1].encode(text)
        assert ids == theirs[1](text)["input_ids"]
        assert ours[1].decode(ids, skip_special_tokens=False) == text


def test_logits_and_greedy_text(ours: tuple, theirs: tuple) -> None:
    model, tokenizer = ours
    reference, _ = theirs
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt)
        with torch.no_grad():
            expected = reference(torch.tensor([ids])).logits[0].numpy()
        found = model(ids)
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
        new = reference.generate(torch.tensor([ids]), max_new_tokens=60, do_sample=False)[0, len(ids) :]
        assert ts.generate_ids(model, ids, max_new_tokens=60, temperature=0) == new.tolist()


def test_a_list_of_prompts_gives_each_what_it_would_get_alone(ours: tuple) -> None:
    settings = {"max_new_tokens": 60, "temperature": 0.8, "top_p": 0.9, "seed": 5}
    together = ts.generate(*ours, PROMPTS, **settings)
    assert together == [ts.generate(*ours, prompt, **settings) for prompt in PROMPTS]
    assert len(set(together)) == len(PROMPTS)


def test_stream_is_generate_in_pieces(ours: tuple) -> None:
    pieces = list(ts.stream(*ours, PROMPTS[0], max_new_tokens=40, seed=3))
    assert "".join(piece.text for piece in pieces) == ts.generate(
        *ours, PROMPTS[0], max_new_tokens=40, seed=3
    )
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)


def test_it_speaks_english(ours: tuple) -> None:
    """Not a measure of quality, only that the weights are those of a trained model."""
    text = " ".join(ts.generate(*ours, PROMPTS, max_new_tokens=80, temperature=0))
    common = {"the", "and", "a", "to", "was", "she", "he", "it", "they", "her", "his", "in", "said", "with"}
    words = text.lower().replace(",", " ").replace(".", " ").split()
    assert sum(word in common for word in words) > len(words) / 4


def test_letters_in_transformers() -> None:
    """The model that sorts: the same tokens, logits and letters; both refuse a fourth letter."""
    directory = find_model("letters")
    model, tokenizer = ts.load("letters")
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    their_tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer.encode("CABBAC")
    assert their_tokenizer("CABBAC")["input_ids"] == ids == [2, 0, 1, 1, 0, 2]
    with pytest.raises(Exception, match="UNK"):
        their_tokenizer("CABD")
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(model(ids) - expected).max() < 1e-5 * np.abs(expected).max()
    new = reference.generate(torch.tensor([ids]), max_new_tokens=5, do_sample=False)[0, len(ids) :].tolist()
    assert their_tokenizer.decode(new) == tokenizer.decode(new) == "AABBC"
    assert "".join(piece.text for piece in ts.stream(model, tokenizer, "CABBAC", temperature=0)) == "AABBCC"
