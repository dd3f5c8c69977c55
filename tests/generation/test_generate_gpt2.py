"""Whole way with a real architecture: a small random GPT-2 here and in transformers."""

import numpy as np
import pytest
import torch

from tinystar_np.generation import generate, generate_ids, scheduler, stream
from tinystar_np.loading import load

PROMPTS = [[3], [10, 20, 30, 40, 50, 60, 70, 80, 90], [7, 7, 7], [1, 2, 3, 4]]


@pytest.fixture(autouse=True)
def _one_thread():
    """For a model this small, torch's threads would spend their time waiting for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def greedy(reference, prompt, max_new_tokens, **settings):
    with torch.no_grad():
        ids = reference.generate(
            torch.tensor([prompt]), max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0, **settings
        )
    return ids[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 1},
    ],
    ids=str,
)
def test_greedy_ids_are_those_of_transformers(save_gpt2, settings):
    reference, directory = save_gpt2(seed=5)
    model, _ = load(directory)
    wanted = [greedy(reference, prompt, 40, **settings) for prompt in PROMPTS]
    if settings:
        assert wanted != [greedy(reference, prompt, 40) for prompt in PROMPTS]
    assert [generate_ids(model, p, max_new_tokens=40, temperature=0, **settings) for p in PROMPTS] == wanted
    assert generate_ids(model, PROMPTS, max_new_tokens=40, temperature=0, **settings) == wanted


def test_greedy_ends_where_transformers_ends(save_gpt2):
    """The end-of-text token is one that the model says soon, at a different step in each row."""
    reference, directory = save_gpt2(seed=5)
    model, _ = load(directory)
    free = [greedy(reference, prompt, 40, eos_token_id=-1, repetition_penalty=2.0) for prompt in PROMPTS]
    ends = sorted({row[3 + 4 * i] for i, row in enumerate(free)})
    wanted = [greedy(reference, prompt, 40, eos_token_id=ends, repetition_penalty=2.0) for prompt in PROMPTS]
    assert len({len(row) for row in wanted}) > 1
    model.end_ids = tuple(ends)
    assert generate_ids(model, PROMPTS, max_new_tokens=40, temperature=0, repetition_penalty=2.0) == wanted


def test_a_seed_gives_each_row_what_it_gets_alone(save_gpt2):
    _, directory = save_gpt2()
    model, _ = load(directory)
    settings = {"max_new_tokens": 30, "seed": 8, "temperature": 0.9, "top_p": 0.95}
    alone = [generate_ids(model, prompt, **settings) for prompt in PROMPTS]
    assert generate_ids(model, PROMPTS, **settings) == alone
    assert len({tuple(row) for row in alone}) == len(alone)


def test_the_context_fills_exactly(save_gpt2):
    _, directory = save_gpt2()
    model, _ = load(directory)
    model.end_ids = ()
    prompts = [[1] * 96, [2] * 90, [3]]
    ids = generate_ids(model, prompts, max_new_tokens=200, temperature=0)
    assert [len(row) for row in ids] == [1, 7, 96]
    # each token is the likeliest after all before it, the last one too
    text = prompts[2] + ids[2]
    np.testing.assert_array_equal(model(text[:-1])[-1].argmax(), text[-1])


def test_prefill_in_pieces_gives_the_same(save_gpt2, monkeypatch):
    _, directory = save_gpt2()
    model, _ = load(directory)
    prompt = np.random.default_rng(0).integers(0, 211, 70).tolist()
    whole = generate_ids(model, prompt, max_new_tokens=20, temperature=0)
    monkeypatch.setattr(scheduler, "PREFILL", 16)
    assert generate_ids(model, prompt, max_new_tokens=20, temperature=0) == whole


def test_text_and_stream(talking_model):
    model, tokenizer = load(talking_model)
    settings = {"max_new_tokens": 40, "seed": 4}
    prompts = ["Once", "日本 and a longer prompt", "x"]
    texts = generate(model, tokenizer, prompts, **settings)
    for prompt, text in zip(prompts, texts, strict=True):
        pieces = list(stream(model, tokenizer, prompt, **settings))
        assert (
            "".join(piece.text for piece in pieces) == text == generate(model, tokenizer, prompt, **settings)
        )
        ids = generate_ids(model, tokenizer.encode(prompt), **settings)
        assert text == tokenizer.decode(ids)
        assert [piece.token_id for piece in pieces] == ids
    assert "\ufffd" in "".join(texts)  # random bytes: pieces did have to wait
