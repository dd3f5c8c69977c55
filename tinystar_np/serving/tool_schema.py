"""The fields of a request about tools, in OpenAI's form, and which of their values are supported.

    {"tools": [{"type": "function", "function": {"name": "weather", "description": "…", "parameters": {…}}}],
     "tool_choice": "auto" | "none", "parallel_tool_calls": true | false}

The parameters are a JSON schema, which the chat template writes into the prompt. Nothing forces an answer
into it, nor into being a call at all: tokens are chosen freely. So a choice that promises a call is refused,
and ``strict`` promises nothing.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from tinystar_np.errors import InputError

MOST_TOOLS = 128  # as OpenAI's
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Schema = dict[str, Any]


class ToolsError(InputError):
    """What a request says of tools is wrong, or cannot be done; ``param`` is its place: "tools[0].type"."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class Function(BaseModel):
    """A function that a model may call; without parameters it takes none."""

    model_config = ConfigDict(extra="allow")  # some templates read further keys, as "return"

    name: StrictStr
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("a name has 1 to 64 letters of a to z, A to Z, 0 to 9, _ and -")
        return name

    @field_validator("parameters")
    @classmethod
    def _is_an_object(cls, schema: Schema | None) -> Schema | None:
        if schema is not None and schema.get("type", "object") != "object":
            raise ValueError("the schema's type must be 'object'")
        return schema


class Tool(BaseModel):
    """One of a request's tools; all are functions."""

    type: Literal["function"]
    function: Function


class ToolFields(BaseModel):
    """The parts of a request that are about tools."""

    model_config = ConfigDict(extra="ignore")

    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: StrictBool | None = None

    @field_validator("tools")
    @classmethod
    def _names_differ(cls, tools: list[Tool] | None) -> list[Tool] | None:
        names = [tool.function.name for tool in tools or ()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two functions are named {twice!r}")
        return tools

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _can_be_done(cls, choice: object) -> object:
        if choice == "required" or isinstance(choice, Mapping):
            raise ValueError(
                "a call cannot be forced here, as nothing limits which tokens the model chooses. "
                "Use 'auto', or 'none'"
            )
        return choice

    @model_validator(mode="after")
    def _choose_among_tools(self) -> "ToolFields":
        if self.tool_choice == "auto" and not self.tools:
            raise ValueError("there are no tools to choose from")
        return self


class CalledFunction(BaseModel):
    """The function of a call in an earlier message, and its arguments as the text of a JSON object."""

    name: Annotated[StrictStr, Field(min_length=1)]
    arguments: str = ""


class EarlierCall(BaseModel):
    """A call in an earlier message of the model."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Tools:
    """The tools of a request.

    given     for the chat template, as they came, a function without parameters with an empty schema
    names     of the functions
    parallel  whether an answer may hold several calls
    """

    def __init__(self, given: list[dict[str, Any]], parallel: bool) -> None:
        self.given, self.parallel = given, parallel
        self.names = [tool["function"]["name"] for tool in given]


def read_tools(body: Mapping[str, Any]) -> Tools | None:
    """Check what a request says of tools.

    body  the request, of which other parts are not looked at

    Returns None where the model is to know of no tools: there are none, or the choice is "none". vLLM writes
    the tools into the prompt then, too, unless told not to; a model that reads of tools calls them, though,
    and here the answer is to hold no calls. Raises ToolsError.
    """
    try:
        fields = ToolFields.model_validate(body)
    except ValidationError as error:
        raise _plain(error) from None
    if not fields.tools or fields.tool_choice == "none":
        return None
    given = [
        {
            **tool,
            "function": {
                **tool["function"],
                "parameters": tool["function"].get("parameters") or NO_PARAMETERS,
            },
        }
        for tool in body["tools"]
    ]
    return Tools(given, fields.parallel_tool_calls is not False)


NO_PARAMETERS: Schema = {"type": "object", "properties": {}}
"""The schema of a function without parameters: most templates write one, and some fail without."""


KINDS = {
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "missing": "is missing",
    "too_long": f"has more than {MOST_TOOLS} tools",
}
"""{pydantic's kind of error: what is wrong}; for other kinds its own sentence is used."""


def _plain(error: ValidationError) -> ToolsError:
    """Return the first of an error's problems as one sentence."""
    problem = error.errors(include_url=False, include_context=False)[0]
    param = param_of(problem["loc"]) or "tool_choice"
    if problem["type"] in KINDS:
        return ToolsError(f"{param} {KINDS[problem['type']]}.", param)
    message = problem["msg"].removeprefix("Value error, ")
    return ToolsError(f"{param}: {message[:1].lower()}{message[1:]}.", param)


def param_of(location: tuple[int | str, ...]) -> str:
    """Return a place in a request as OpenAI's errors name it: "tools[0].function.name"."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")
