import itertools

import numpy as np
import pytest

from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation import SamplingOptions, sample
from tinystar_np.generation import sampling as ours


def logits_with_ties(seed, size=1000, step=0.25):
    """Random logits on a grid, so that many are equal."""
    values = np.random.default_rng(seed).normal(0, 3, size)
    return (np.round(values / step) * step).astype(np.float32)


def random_logits(seed, size=1000):
    return np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)


class VllmPenalties:
    """vLLM's frequency and presence penalty, written anew after its apply_penalties, on (1, V)."""

    def __init__(self, options, generated):
        self.frequency, self.presence = options.frequency_penalty, options.presence_penalty
        self.generated = generated

    def __call__(self, ids, logits):
        torch = pytest.importorskip("torch")
        counts = torch.zeros(logits.shape[-1] + 1, dtype=torch.int64)
        within = torch.tensor(self.generated, dtype=torch.int64).clamp(max=logits.shape[-1])
        counts = counts.scatter_add(0, within, torch.ones_like(within))[:-1]
        return logits - self.frequency * counts - self.presence * (counts > 0)


def reference(options, logits, history, generated=()):
    """What transformers' own processors make of the logits, in the order of its generate."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("transformers.generation.logits_process")
    chain = []
    if options.biases:
        # Theirs takes sequences of ids.
        chain.append(theirs.SequenceBiasLogitsProcessor({(id,): bias for id, bias in options.biases}))
    if options.repetition_penalty != 1.0:
        chain.append(theirs.RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    chain.append(VllmPenalties(options, generated))
    if options.no_repeat_ngram_size:
        chain.append(theirs.NoRepeatNGramLogitsProcessor(options.no_repeat_ngram_size))
    if options.temperature not in (0.0, 1.0):
        chain.append(theirs.TemperatureLogitsWarper(options.temperature))
    if options.top_k:
        chain.append(theirs.TopKLogitsWarper(options.top_k))
    if options.top_p < 1:
        chain.append(theirs.TopPLogitsWarper(options.top_p))
    if options.min_p:
        chain.append(theirs.MinPLogitsWarper(options.min_p))
    if options.typical_p < 1:
        chain.append(theirs.TypicalLogitsWarper(options.typical_p))
    ids = torch.tensor([list(history)])
    return theirs.LogitsProcessorList(chain)(ids, torch.tensor(logits)[None])[0].numpy()


def assert_same(options, logits, history, generated=()):
    """Equal logits may be dropped in another order of ids, so the kept values are compared."""
    mine = ours.filtered(logits, history, options, generated)
    wanted = reference(options, logits, history, generated)
    assert mine.dtype == np.float32
    kept, kept_there = np.sort(mine[mine > -np.inf]), np.sort(wanted[wanted > -np.inf])
    assert len(kept) == len(kept_there)
    # temperature is applied with the largest shifted to 0, which softmax does not see
    shift = kept_there[-1] - kept[-1]
    np.testing.assert_allclose(kept + shift, kept_there, rtol=2e-6, atol=1e-5)
    if len(np.unique(logits)) == len(logits):
        np.testing.assert_array_equal(mine > -np.inf, wanted > -np.inf)


ONE_BY_ONE = [
    *({"repetition_penalty": value} for value in (0.5, 1.3, 10.0)),
    *({"frequency_penalty": value} for value in (-2.0, -0.3, 0.5, 2.0)),
    *({"presence_penalty": value} for value in (-2.0, -0.3, 0.5, 2.0)),
    {"logit_bias": {3: -100.0, 0: 4.5, 999: 100.0}},
    *({"no_repeat_ngram_size": value} for value in (1, 2, 3, 5, 60)),
    *({"temperature": value} for value in (0.1, 0.7, 3.0)),
    *({"top_k": value} for value in (1, 2, 40, 999, 1000, 5000)),
    *({"top_p": value} for value in (0.0, 0.01, 0.5, 0.9, 0.999)),
    *({"min_p": value} for value in (0.001, 0.07, 0.51, 1.0)),
    *({"typical_p": value} for value in (0.01, 0.3, 0.9, 0.999)),
]


@pytest.mark.parametrize("settings", ONE_BY_ONE, ids=str)
@pytest.mark.parametrize("make", [logits_with_ties, random_logits])
def test_each_setting_equals_transformers(settings, make):
    for seed in range(4):
        history = np.random.default_rng(100 + seed).integers(0, 12, 50).tolist()
        assert_same(SamplingOptions(**settings), make(seed), history, history[20:])


ALL = {
    "logit_bias": {1: 3.0, 7: -100.0, 390: 0.5},
    "frequency_penalty": 0.7,
    "presence_penalty": -0.4,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 2,
    "temperature": 0.8,
    "top_k": 60,
    "top_p": 0.93,
    "min_p": 0.02,
    "typical_p": 0.85,
}


@pytest.mark.parametrize(
    "names", [c for size in (2, 3, 10) for c in itertools.combinations(ALL, size)], ids=str
)
def test_combinations_in_transformers_order(names):
    options = SamplingOptions(**{name: ALL[name] for name in names})
    for seed, make in enumerate((random_logits, logits_with_ties)):
        # the likeliest tokens stand in the history, so that penalty and ban decide what the filters see
        logits = make(seed, 400)
        history = np.argsort(logits)[-20:].tolist() * 2
        assert_same(options, logits, history, history[7:])


def test_a_flat_distribution_and_one_with_a_single_peak():
    flat = np.zeros(64, np.float32)  # probabilities are exact: top_p = 0.5 falls on a sum
    peak = np.full(64, -200, np.float32)
    peak[5] = 200
    for settings in ONE_BY_ONE[ONE_BY_ONE.index({"temperature": 0.1}) :]:
        for logits in (flat, peak):
            assert_same(SamplingOptions(**settings), logits, [1, 2])


def test_logits_are_not_changed_in_place():
    logits = random_logits(0)
    before = logits.copy()
    sample(logits, [1, 2, 1, 2], SamplingOptions(**ALL), np.random.default_rng(0), [1, 2])
    np.testing.assert_array_equal(logits, before)


def test_ids_beyond_the_output_head_are_ignored():
    logits = random_logits(0, 8)
    options = SamplingOptions(repetition_penalty=2.0, no_repeat_ngram_size=1)
    assert_same(options, logits, [2, 11, 5])
    options = SamplingOptions(frequency_penalty=1.0, presence_penalty=0.5)
    assert_same(options, logits, [2, 11, 5, 11], [11, 5, 11])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_for_a_token_that_there_is_not(temperature):
    options = SamplingOptions(logit_bias={2: 1.0, 8: 1.0}, temperature=temperature)
    with pytest.raises(InputError, match="logit_bias names token 8; the model has tokens 0 to 7"):
        sample(random_logits(0, 8), [], options, np.random.default_rng(0))


def test_only_what_was_generated_counts():
    logits = np.array([1.0, 3.0, 2.9, -1.0], np.float32)
    for name in ("frequency_penalty", "presence_penalty"):
        options = SamplingOptions(temperature=0, **{name: 0.2})
        assert sample(logits, [1, 1, 0], options, None, [0]) == 1
        assert sample(logits, [1, 1, 0, 1], options, None, [0, 1]) == 2
    once = SamplingOptions(temperature=0, presence_penalty=0.05)
    often = SamplingOptions(temperature=0, frequency_penalty=0.05)
    assert sample(logits, [], once, None, [1, 1, 1]) == 1
    assert sample(logits, [], often, None, [1, 1, 1]) == 2
    assert sample(logits, [], SamplingOptions(temperature=0, logit_bias={3: 5.0}), None) == 3


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}, {"typical_p": 0.7}],
    ids=str,
)
@pytest.mark.parametrize("size", [20, 700])
def test_drawn_frequencies_are_the_probabilities(settings, size):
    """Chi-square: the sum of (seen - expected)² / expected is near its degrees of freedom n, ± sqrt(2n)."""
    options = SamplingOptions(**settings)
    logits = np.random.default_rng(3).normal(0, 1, size).astype(np.float32)
    kept = ours.filtered(logits, [], options).astype(np.float64)
    expected = np.exp(kept - kept.max())
    expected *= 6000 / expected.sum()
    rng = np.random.default_rng(11)
    drawn = np.bincount([sample(logits, [], options, rng) for _ in range(6000)], minlength=size)
    assert drawn[expected == 0].sum() == 0
    often = expected >= 5  # the rest as one class
    seen = np.append(drawn[often], drawn[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    seen, wanted = seen[wanted > 0], wanted[wanted > 0]
    freedom = len(wanted) - 1
    assert freedom >= 1
    statistic = ((seen - wanted) ** 2 / wanted).sum()
    assert statistic < freedom + 4 * np.sqrt(2 * freedom) + 4


def test_greedy_takes_the_largest_after_penalties_and_without_filters():
    logits = np.array([1.0, 3.0, 2.9, -1.0], np.float32)
    rng = np.random.default_rng(0)
    assert sample(logits, [], SamplingOptions(temperature=0), rng) == 1
    assert sample(logits, [1], SamplingOptions(temperature=0, repetition_penalty=1.5), rng) == 2
    assert sample(logits, [1], SamplingOptions(temperature=0, no_repeat_ngram_size=1), rng) == 2
    # typical_p would drop the likeliest token if it were applied
    peaked = np.log(np.array([0.4] + [0.006] * 100, np.float32))
    assert ours.typical_p(peaked, 0.2)[0] == -np.inf
    assert sample(peaked, [], SamplingOptions(temperature=0, typical_p=0.2), rng) == 0
    # nothing was drawn
    assert rng.random() == np.random.default_rng(0).random()


def test_greedy_takes_the_first_of_equals():
    assert (
        sample(np.array([0, 2, 2], np.float32), [], SamplingOptions(temperature=0), np.random.default_rng(0))
        == 1
    )


def test_the_same_seed_draws_the_same():
    logits, options = random_logits(5), SamplingOptions(top_p=0.9)
    drawn = [
        [sample(logits, [], options, rng) for _ in range(20)]
        for rng in (np.random.default_rng(4) for _ in range(2))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 5


@pytest.mark.parametrize("temperature", [1e-50, 1e-30, 1e-5, 1e30])
def test_extreme_temperatures(temperature):
    logits = random_logits(1)
    rng = np.random.default_rng(0)
    drawn = {sample(logits, [], SamplingOptions(temperature=temperature), rng) for _ in range(30)}
    if temperature < 1:
        assert drawn == {int(logits.argmax())}
    else:
        assert len(drawn) > 20


def test_tokens_at_minus_infinity_are_never_drawn():
    logits = np.full(600, -np.inf, np.float32)
    logits[[0, 300, 599]] = [1.0, 1.5, 0.5]
    for settings in (
        {},
        {"top_k": 10},
        {"top_p": 0.99},
        {"min_p": 0.01},
        {"typical_p": 0.99},
        {"temperature": 2.0},
    ):
        rng = np.random.default_rng(0)
        drawn = {sample(logits, [], SamplingOptions(**settings), rng) for _ in range(200)}
        assert drawn == {0, 300, 599}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(bad, temperature):
    logits = random_logits(0)
    logits[7] = bad
    with pytest.raises(TinyStarError, match="not finite"):
        sample(logits, [], SamplingOptions(temperature=temperature), np.random.default_rng(0))


def test_nothing_left_is_an_error():
    rng = np.random.default_rng(0)
    with pytest.raises(TinyStarError, match="not finite"):
        sample(np.full(4, -np.inf, np.float32), [], SamplingOptions(), rng)
    for temperature in (0.0, 1.0):
        options = SamplingOptions(no_repeat_ngram_size=1, temperature=temperature)
        with pytest.raises(InputError, match="no_repeat_ngram_size=1 forbids"):
            sample(np.zeros(3, np.float32), [0, 1, 2], options, rng)


def test_log_probability():
    logits = random_logits(2)
    wanted = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    for token in (0, 17, int(logits.argmax())):
        assert ours.log_probability(logits, token) == pytest.approx(wanted[token], abs=1e-5)
