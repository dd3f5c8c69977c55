"""The settings of generation are seen in signatures, and names of other libraries are answered with ours."""

import dataclasses
import inspect
import re
from typing import Any, get_type_hints

import pytest

import tinystar_np as ts
from tinystar_np.errors import InputError
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.generation.setting_names import ADVICE, CALLED
from tinystar_np.seeing.look import NEW_TOKENS

FUNCTIONS = (ts.generate, ts.generate_ids, ts.stream, ts.Conversation.say, ts.look)


@pytest.fixture(scope="module")
def stories() -> Any:
    return ts.load("stories")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_setting_is_a_keyword_with_its_default_and_type(function: Any) -> None:
    seen = inspect.signature(function).parameters
    types = get_type_hints(Sampling)
    for field in dataclasses.fields(SamplingOptions):
        assert seen[field.name].kind is inspect.Parameter.KEYWORD_ONLY
        own = function is ts.look and field.name == "max_new_tokens"
        assert seen[field.name].default == (NEW_TOKENS if own else field.default)
        assert seen[field.name].annotation == types[field.name]
    assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in seen.values())
    assert set(types) == {field.name for field in dataclasses.fields(SamplingOptions)}


def call(function: Any, model: Any, tokenizer: Any, **settings: Any) -> Any:
    if function is ts.generate_ids:
        return function(model, [1, 2], **settings)
    if function is ts.Conversation.say:
        return function(None, "Hello", **settings)  # refused before the conversation is looked at
    return function(model, tokenizer, "Once", **settings)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("max_tokens", "It is called max_new_tokens here."),
        ("stop_strings", "It is called stop here."),
        ("do_sample", "Nothing is drawn with temperature=0; otherwise tokens are."),
        ("num_predict", "It is called max_new_tokens here."),
        ("temprature", "Did you mean temperature?"),
        ("max_token", "Did you mean max_new_tokens?"),
        ("TopK", "Did you mean top_k?"),
        ("wholly_unknown", "There are: max_new_tokens, temperature, top_k, top_p, min_p, typical_p, "),
    ],
)
def test_unknown_names(function: Any, name: str, says: str, stories: Any) -> None:
    start = re.escape(f"{function.__name__} has no setting '{name}'. {says}")
    with pytest.raises(InputError, match=f"^{start}"):
        call(function, *stories, **{name: 5})


def test_own_parameters_are_near_too(stories: Any) -> None:
    with pytest.raises(
        InputError, match=r"^generate_ids has no setting 'tokeniser'\. Did you mean tokenizer\?$"
    ):
        ts.generate_ids(stories[0], [1, 2], tokeniser=stories[1])  # type: ignore[call-overload]


def test_the_tables_speak_of_settings_that_there_are() -> None:
    ours = {field.name for field in dataclasses.fields(SamplingOptions)}
    assert set(CALLED.values()) <= ours
    assert not (CALLED.keys() | ADVICE.keys()) & ours
    assert not CALLED.keys() & ADVICE.keys()


def test_names_of_transformers_that_we_lack_are_answered() -> None:
    """Those of its settings that people set most often; the rest get the list."""
    transformers = pytest.importorskip("transformers")
    theirs = set(transformers.GenerationConfig().to_dict())
    asked = {"do_sample", "max_length", "min_length", "min_new_tokens", "num_beams", "num_return_sequences"}
    asked |= {"stop_strings", "eos_token_id", "use_cache", "output_scores"}
    assert asked <= theirs
    assert asked <= CALLED.keys() | ADVICE.keys()
    ours = {field.name for field in dataclasses.fields(SamplingOptions)} - {"stop", "seed"}
    ours -= {"frequency_penalty", "presence_penalty", "logit_bias"}  # OpenAI's
    assert ours <= theirs, "a setting that has another name in transformers"


def test_settings_still_arrive(stories: Any) -> None:
    model, tokenizer = stories
    assert len(ts.generate_ids(model, [1, 2], max_new_tokens=3, seed=1)) == 3
    assert ts.generate(model, tokenizer, "Once", max_new_tokens=5, temperature=0.0) == "".join(
        piece.text for piece in ts.stream(model, tokenizer, "Once", max_new_tokens=5, temperature=0.0)
    )
