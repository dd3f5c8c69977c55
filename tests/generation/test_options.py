import dataclasses

import numpy as np
import pytest

from tinystar_np.errors import InputError
from tinystar_np.generation import SamplingOptions

NAN, INFINITE = float("nan"), float("inf")


def test_defaults_are_off():
    assert dataclasses.asdict(SamplingOptions()) == {
        "max_new_tokens": 100,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "logit_bias": (),
        "no_repeat_ngram_size": 0,
        "prompt_lookup_num_tokens": 0,
        "stop": (),
        "seed": None,
    }


BAD = [
    *(("max_new_tokens", value) for value in (-1, 1.5, "3", None, True, NAN)),
    *(("temperature", value) for value in (-0.1, NAN, INFINITE, "1", None, 1e31)),
    *(("top_k", value) for value in (-1, 2.0, NAN)),
    *(("top_p", value) for value in (-0.1, 1.01, NAN, None)),
    *(("min_p", value) for value in (-0.1, 1.01, NAN)),
    *(("typical_p", value) for value in (0, -0.1, 1.01, NAN)),
    *(("repetition_penalty", value) for value in (0, -1.0, NAN, INFINITE)),
    *(("frequency_penalty", value) for value in (-2.01, 2.01, NAN, None)),
    *(("presence_penalty", value) for value in (-2.01, 2.01, NAN, "1")),
    *(("logit_bias", value) for value in ({5: 100.5}, {5: NAN}, {5: "1"}, {-1: 0}, {"5": 1}, {True: 1})),
    *(("logit_bias", value) for value in (5, None, [5], "ab", [(5, 1, 2)], [([], 1)])),
    *(("no_repeat_ngram_size", value) for value in (-1, 1.0)),
    *(("seed", value) for value in (-1, 0.5, "x")),
    *(("stop", value) for value in ("", ("a", ""), (1,), 5, None, NAN)),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=str)
def test_out_of_range(name, value):
    with pytest.raises(InputError, match=rf"(?s)^{name} is .*; it must be "):
        SamplingOptions(**{name: value})


GOOD = [
    ("max_new_tokens", 0),
    ("temperature", 0),
    ("temperature", 5),
    ("temperature", np.float32(0.5)),
    ("top_k", np.int64(7)),
    ("top_p", 0.0),
    ("min_p", 1),
    ("typical_p", 0.001),
    ("repetition_penalty", 0.5),
    ("frequency_penalty", -2),
    ("presence_penalty", 2),
    ("seed", 0),
    ("seed", 2**70),
]


@pytest.mark.parametrize(("name", "value"), GOOD, ids=str)
def test_in_range(name, value):
    assert getattr(SamplingOptions(**{name: value}), name) == value


def test_stop_takes_one_text_or_several():
    assert SamplingOptions(stop="abc").stop == ("abc",)
    assert SamplingOptions(stop=["a", "b"]).stop == ("a", "b")


def test_biases_are_stored_as_pairs():
    given = {7: 1, np.int64(3): np.float32(-0.5)}
    for biases in (given, given.items(), [[7, 9], [7, 1], [3, -0.5]]):
        options = SamplingOptions(logit_bias=biases)
        assert options.logit_bias == options.biases == ((7, 1.0), (3, -0.5))
        assert [(type(id), type(bias)) for id, bias in options.biases] == [(int, float)] * 2
        assert hash(options) == hash(SamplingOptions(logit_bias=((7, 1.0), (3, -0.5))))
    given[8] = 2  # what the caller changes later changes no options
    assert SamplingOptions(logit_bias={}) == SamplingOptions()


def test_an_unknown_setting_is_not_ignored():
    with pytest.raises(TypeError, match="top_q"):
        SamplingOptions(top_q=1)
