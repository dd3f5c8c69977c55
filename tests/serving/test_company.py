"""What company may change in a request: the last bits of its logits, within a bound, and no more."""

import numpy as np
import pytest
from small_models import small_model

import tinystar_np as ts
from tinystar_np.kernels.softmax import log_softmax
from tinystar_np.serving.handle import Handle

# Log-probabilities of these models, whose weights are all random, are rounded sums of a few hundred products
# of numbers around 1, in two orders: 2e-6 to 1.2e-5 apart, by the kind of model and the processor's form of
# BLAS. A trained model's are closer (test_engine.py, within 1e-5). A wrong key, position or state would
# change them by 1e-2 and more (see the last test).
BOUND = 2e-5
KINDS = [
    "rope, groups",
    "window",
    "alibi",
    "latent attention",
    "mamba 2",
    "delta rule",
    "mamba 2 and attention",
]
LENGTHS = (1, 2, 15, 16, 17, 31, 40, 64, 65, 90, 3, 50, 33, 48, 7, 129)
NEW = 12


def ask(name: str, together: int) -> list[Handle]:
    """Submit sixteen prompts, of which half begin alike, to an engine that works on so many at once."""
    model = small_model(name)
    common = np.random.default_rng(0).integers(5, model.config.vocab_size, size=max(LENGTHS))
    handles = []
    with ts.Engine(model, max_batch=together, cache_memory="50MB") as engine:
        for number, length in enumerate(LENGTHS):
            own = np.random.default_rng(number + 1).integers(5, model.config.vocab_size, size=length)
            prompt = np.concatenate((common[: length // 2], own[length // 2 :])) if number % 2 else own
            handles.append(engine.submit(prompt.tolist(), max_new_tokens=NEW, seed=number, top_logprobs=3))
        for handle in handles:
            handle.result(120)
    return handles


def distance(name: str, handle: Handle) -> float:
    """How far its log-probabilities are from those of its text, read alone and at once."""
    ids = handle.ids + handle.token_ids
    logprobs = log_softmax(small_model(name)(ids)[len(handle.ids) - 1 : -1])
    given = np.array([[*dict(piece.top).values(), piece.logprob] for piece in handle.pieces])
    named = np.array([[*dict(piece.top), piece.token_id] for piece in handle.pieces])
    return float(abs(given - np.take_along_axis(logprobs, named, axis=-1)).max())


@pytest.mark.parametrize("name", KINDS)
def test_log_probabilities_are_those_of_the_text_alone(name: str) -> None:
    batch, alone = ask(name, 16), ask(name, 1)
    assert max(handle.usage.cached for handle in batch + alone) > 0
    for one, other in zip(batch, alone, strict=True):
        assert one.token_ids == other.token_ids  # drawn with a seed
        assert distance(name, one) < BOUND
        assert distance(name, other) < BOUND


def test_the_bound_would_not_be_kept_with_another_beginning() -> None:
    """A block of another text's tokens would be found."""
    [handle, *_] = ask("rope, groups", 1)[7:]
    handle.ids[0] += 1
    assert distance("rope, groups", handle) > 100 * BOUND
