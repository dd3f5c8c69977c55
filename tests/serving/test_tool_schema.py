"""What a request may say of tools, and what is refused, each with its place."""

from typing import Any

import pytest
from tool_templates import WEATHER

from tinystar_np.serving.tool_schema import EarlierCall, ToolsError, param_of, read_tools

BARE: dict[str, Any] = {"type": "function", "function": {"name": "now"}}


def named(name: Any, **more: Any) -> list[dict[str, Any]]:
    return [WEATHER, {"type": "function", "function": {"name": name, **more}}]


def test_tools_are_given_as_they_came() -> None:
    tools = read_tools({"model": "m", "tools": [WEATHER, BARE], "tool_choice": "auto"})
    assert tools is not None
    assert (tools.names, tools.parallel) == (["weather", "now"], True)
    assert tools.given[0] == WEATHER
    # A function without parameters has an empty schema, which templates look into.
    assert tools.given[1]["function"] == {"name": "now", "parameters": {"type": "object", "properties": {}}}
    assert "parameters" not in BARE["function"]


def test_further_keys_of_a_function_stay() -> None:
    tools = read_tools({"tools": named("f", strict=True, **{"return": {"type": "number"}})})
    assert tools is not None
    assert tools.given[1]["function"]["return"] == {"type": "number"}


@pytest.mark.parametrize(
    "body",
    [{}, {"tools": None}, {"tools": []}, {"tool_choice": "none"}, {"tools": [BARE], "tool_choice": "none"}],
)
def test_requests_without_tools(body: dict[str, Any]) -> None:
    assert read_tools(body) is None


def test_one_call_at_a_time() -> None:
    for given, parallel in ((None, True), (True, True), (False, False)):
        tools = read_tools({"tools": [BARE], "parallel_tool_calls": given})
        assert tools is not None
        assert tools.parallel is parallel


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"tools": "x"}, "tools", "must be a list"),
        ({"tools": [3]}, "tools[0]", "must be an object"),
        ({"tools": [WEATHER, {"type": "custom"}]}, "tools[1].type", "should be 'function'"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "is missing"),
        ({"tools": named(3)}, "tools[1].function.name", "must be a text"),
        ({"tools": named("a b")}, "tools[1].function.name", "1 to 64 letters"),
        ({"tools": named("a\n")}, "tools[1].function.name", "1 to 64 letters"),
        ({"tools": named("")}, "tools[1].function.name", "1 to 64 letters"),
        ({"tools": named("a" * 65)}, "tools[1].function.name", "1 to 64 letters"),
        ({"tools": named("weather")}, "tools", "two functions are named 'weather'"),
        ({"tools": named("f", parameters=[])}, "tools[1].function.parameters", "must be an object"),
        ({"tools": named("f", parameters={"type": "array"})}, "tools[1].function.parameters", "'object'"),
        ({"tools": [BARE] * 129}, "tools", "more than 128"),
        ({"tools": [BARE], "tool_choice": "required"}, "tool_choice", "cannot be forced"),
        ({"tools": [BARE], "tool_choice": BARE}, "tool_choice", "cannot be forced"),
        ({"tools": [BARE], "tool_choice": "perhaps"}, "tool_choice", "'auto' or 'none'"),
        ({"tool_choice": "auto"}, "tool_choice", "no tools"),
        ({"tools": [BARE], "parallel_tool_calls": 1}, "parallel_tool_calls", "true or false"),
    ],
)
def test_what_is_refused(body: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(ToolsError, match=message) as caught:
        read_tools(body)
    assert caught.value.param == param
    assert str(caught.value).startswith(param)


def test_a_place_as_openai_names_it() -> None:
    assert param_of(("messages", 2, "tool_calls", 0, "id")) == "messages[2].tool_calls[0].id"


def test_a_call_of_an_earlier_message() -> None:
    call = EarlierCall.model_validate({"id": "a", "type": "function", "function": {"name": "f"}})
    assert call.model_dump() == {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
