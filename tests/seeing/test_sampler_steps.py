"""The sampler's steps: the sampler's own choice, and each step against transformers' and NumPy's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import FIXED

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation import SamplingOptions, generate_ids, sample
from tinystar_np.loading import load
from tinystar_np.seeing import record
from tinystar_np.seeing.sampler_steps import sampler_steps

OPTIONS = st.builds(
    SamplingOptions,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, 50, 5000]),
    top_p=st.sampled_from([0.0, 0.4, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.02, 0.3]),
    typical_p=st.sampled_from([0.2, 0.9, 1.0]),
    repetition_penalty=st.sampled_from([0.7, 1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.6]),
    presence_penalty=st.sampled_from([-0.4, 0.0]),
    logit_bias=st.sampled_from([{}, {3: 2.0, 29: -100.0}]),
    no_repeat_ngram_size=st.sampled_from([0, 1, 2, 3]),
)
ORDER = [
    "logit_bias",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "no_repeat_ngram_size",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
]


def random_case(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(30, 1500))
    logits = rng.normal(0, rng.choice([0.1, 1, 4]), size).astype(np.float32)
    if seed % 3 == 0:
        logits = np.round(logits)  # many equal ones
    return logits, rng.integers(0, 12, int(rng.integers(0, 40))).tolist()


@FIXED
@given(st.integers(0, 10**6), OPTIONS)
def test_the_token_is_the_samplers_own(seed, options):
    """Three tokens in a row, so that the random generator is used up alike too."""
    logits, history = random_case(seed)
    rng, other = np.random.default_rng(seed), np.random.default_rng(seed)
    for _ in range(3):
        generated = history[len(history) // 2 :]
        chosen = sample(logits, history, options, other, generated)
        found = sampler_steps(logits, history, options, rng, generated=generated)
        assert found.token_id == chosen
        history = [*history, chosen]
    assert rng.random() == other.random()


@FIXED
@given(st.integers(0, 10**6), OPTIONS)
def test_what_a_step_says_is_what_it_did(seed, options):
    """All numbers again from the logits of two steps, in float64."""
    logits, history = random_case(seed)
    found = sampler_steps(
        logits, history, options, np.random.default_rng(seed), shown=4, generated=history[5:]
    )
    names = [step.name for step in found.steps]
    assert all(step.setting == len(options.biases) for step in found.steps if step.name == "logit_bias")
    assert names == ["model", *(name for name in ORDER if name in names)]
    np.testing.assert_array_equal(found.steps[0].logits, logits)
    model = probabilities(logits)
    before = logits
    for step in found.steps:
        possible = {int(i) for i in np.flatnonzero(np.isfinite(before))}
        left = {int(i) for i in np.flatnonzero(np.isfinite(step.logits))}
        fallen = sorted(possible - left, key=lambda i: (-before[i], i))
        leading = sorted(left, key=lambda i: (-step.logits[i], i))
        assert (step.left, step.fell) == (len(left), len(fallen))
        assert [token.token_id for token in step.fallen] == fallen[:4]
        assert [token.token_id for token in step.leading] == leading[:4]
        assert step.mass == pytest.approx(probabilities(before)[list(left)].sum(), abs=1e-5)
        assert step.model_mass == pytest.approx(model[list(left)].sum(), abs=1e-5)
        for token in step.leading:
            wanted = probabilities(step.logits)[token.token_id]
            assert token.probability == pytest.approx(wanted, rel=1e-4, abs=1e-7)
        for token in step.fallen:
            wanted = probabilities(before)[token.token_id]
            assert token.probability == pytest.approx(wanted, rel=1e-4, abs=1e-7)
        before = step.logits
    assert found.token_id in left


def probabilities(logits):
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


@FIXED
@given(st.integers(0, 10**6), OPTIONS)
def test_the_random_number_falls_on_the_chosen_token(seed, options):
    """One cumulative sum over the whole vocabulary, which the sampler itself never makes."""
    logits, history = random_case(seed)
    found = sampler_steps(logits, history, options, np.random.default_rng(seed))
    if options.temperature == 0:
        assert found.drawn is None
        return
    sums = np.cumsum(probabilities(found.steps[-1].logits))
    start = sums[found.token_id - 1] if found.token_id else 0.0
    drawn = found.drawn
    assert (drawn.start, drawn.end) == pytest.approx((start, sums[found.token_id]), abs=1e-5)
    assert drawn.start <= drawn.number <= drawn.end
    first, second = np.random.default_rng(seed).random(2)
    assert (drawn.draw.block.number, drawn.draw.within.number) == (first, second)


def test_the_place_on_the_line_is_evenly_distributed():
    """So the two draws stand for one number between 0 and 1: Kolmogorov's distance of 4000 of them."""
    logits = np.random.default_rng(1).normal(0, 2, 900).astype(np.float32)
    rng = np.random.default_rng(2)
    options = SamplingOptions(top_k=300)
    places = np.sort([sampler_steps(logits, [], options, rng, 1).drawn.number for _ in range(4000)])
    assert np.abs(places - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / np.sqrt(4000)


def test_the_steps_of_a_generated_text():
    """The logits that a listener hears while a model generates give the very ids that it generates."""
    model, tokenizer = load("stories")
    prompt = tokenizer.encode("Once upon a time")
    settings = {
        "temperature": 0.9,
        "top_k": 40,
        "top_p": 0.95,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.2,
        "logit_bias": {tokenizer.encode(" dragon")[0]: 3.0},
        "no_repeat_ngram_size": 3,
    }
    options = SamplingOptions(**settings)
    with record("logits"):  # heard as below, so that the same forms run
        new = generate_ids(model, prompt, max_new_tokens=25, seed=3, **settings)
    cache, rng = model.new_cache(), np.random.default_rng(3)
    history, unread = list(prompt), list(prompt)
    for token in new:
        with record("logits") as caught:
            model(unread, cache=cache, last_only=True)
        logits = caught["logits"][0, -1]
        found = sampler_steps(logits, history, options, rng, generated=history[len(prompt) :])
        assert found.token_id == token
        assert found.steps[0].left == model.vocab_size
        assert found.steps[-1].left <= 40
        history.append(token)
        unread = [token]


def test_errors_are_the_samplers_own():
    rng = np.random.default_rng(0)
    with pytest.raises(TinyStarError, match="not finite"):
        sampler_steps(np.array([1, np.nan], np.float32), [], SamplingOptions(), rng)
    with pytest.raises(InputError, match="no_repeat_ngram_size=1 forbids"):
        sampler_steps(np.zeros(2, np.float32), [0, 1], SamplingOptions(no_repeat_ngram_size=1), rng)


def test_each_step_equals_transformers():
    """Their chain, one function longer at each step."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("transformers.generation.logits_process")
    chain = {
        "repetition_penalty": theirs.RepetitionPenaltyLogitsProcessor(1.2),
        "no_repeat_ngram_size": theirs.NoRepeatNGramLogitsProcessor(2),
        "temperature": theirs.TemperatureLogitsWarper(0.8),
        "top_k": theirs.TopKLogitsWarper(60),
        "top_p": theirs.TopPLogitsWarper(0.93),
        "min_p": theirs.MinPLogitsWarper(0.02),
        "typical_p": theirs.TypicalLogitsWarper(0.85),
    }
    options = SamplingOptions(
        repetition_penalty=1.2,
        no_repeat_ngram_size=2,
        temperature=0.8,
        top_k=60,
        top_p=0.93,
        min_p=0.02,
        typical_p=0.85,
    )
    logits = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)
    history = [*np.argsort(logits)[-20:].tolist()] * 2
    found = sampler_steps(logits, history, options, np.random.default_rng(0))
    assert [step.name for step in found.steps[1:]] == list(chain)
    there = torch.tensor(logits)[None]
    for step in found.steps[1:]:
        there = chain[step.name](torch.tensor([history]), there)
        wanted = there[0].numpy()
        np.testing.assert_array_equal(np.isfinite(step.logits), np.isfinite(wanted))
        np.testing.assert_allclose(probabilities(step.logits), probabilities(wanted), rtol=1e-4, atol=1e-7)
