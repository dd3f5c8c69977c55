"""Request bodies: read in pieces up to a limit, as JSON, and checked by a schema."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Message, Receive

from tinystar_np.serving.api_errors import ApiError, wrong
from tinystar_np.serving.tool_schema import param_of

SECONDS = 60.0  # in which a body must arrive
DISCARDING = 2.0  # seconds for which a body that is too large is thrown away, so that its sender may listen
LONGEST = 60  # characters of a value in a message

Schema = TypeVar("Schema", bound=BaseModel)


class Body:
    """A request's body as it arrives.

    receive  the server's
    limit    the most bytes
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit = receive, limit
        self._until = time.monotonic() + SECONDS
        self._size, self._complete = 0, False

    async def check_length(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise an ApiError where a body is said to be too large."""
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._limit:
            raise await self._too_large()

    async def receive(self) -> Message:
        """Return the next part of it, and then what else comes; raises an ApiError where it is too large."""
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, f"The body did not arrive within {SECONDS:.0f} s.") from None
        self._size += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._size > self._limit:
            raise await self._too_large()
        return message

    async def _too_large(self) -> ApiError:
        """Throw away the rest for a while: a sender that is cut off does not read the answer."""
        more = not self._complete
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARDING):
                while more:
                    more = (await self._receive()).get("more_body", False)
        words = f"The body has more than {self._limit / 1e6:g} MB. Send less at a time."
        return ApiError(413, words, headers={"Connection": "close"})


async def read(request: Request, schema: type[Schema]) -> Schema:
    """Read a request's body as what a schema describes; raises the ApiError that says what is wrong."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "The body must be JSON: send the header Content-Type: application/json.")
    return checked(schema, parsed(await request.body()))


def parsed(body: bytes) -> dict[str, Any]:
    """Parse JSON: one object, in UTF-8, without NaN, halves of surrogates, or lists nested too deeply."""
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The body is no valid JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return found


def checked(schema: type[Schema], found: Mapping[str, Any], within: str = "") -> Schema:
    """Check a JSON object by its schema; null stands for what is not given.

    within  its place in the body, for messages: "messages[0]"
    """
    try:
        return schema.model_validate({name: value for name, value in found.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = param_of((within, *first["loc"]) if within else first["loc"])
        raise _error_at(place, first["type"], first["msg"], first["input"]) from None


def _error_at(name: str, kind: str, message: str, value: object) -> ApiError:
    """Return pydantic's error of one value as a sentence, with the value's place in the body as its name."""
    if kind == "missing":
        return wrong(name, f"{name} is missing.")
    shown = repr(value)
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
    should = message.removeprefix("Value error, ").replace("Input should be", "it should be")
    return wrong(name, f"{name} is {shown}; {should}.")
