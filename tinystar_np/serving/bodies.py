"""Bodies of requests: read in pieces up to a limit, as JSON, and checked by a schema."""

import asyncio
import time
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from tinystar_np.serving.api_errors import ApiError, wrong

SECONDS = 60.0  # in which a body must arrive
DISCARDING = 2.0  # seconds for which a body that is too large is thrown away, so that its sender may listen
LONGEST = 60  # characters of a value in a message

Schema = TypeVar("Schema", bound=BaseModel)


async def read(request: Request, schema: type[Schema], limit: int) -> Schema:
    """Read a request's body as what a schema describes; raises the ApiError that says what is wrong with it.

    limit  the most bytes
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "The body must be JSON: send the header Content-Type: application/json.")
    return checked(schema, parsed(await _body(request, limit)))


async def _body(request: Request, limit: int) -> bytes:
    """Read a body; one that is larger than the limit is not kept."""
    body: list[bytes] = []
    size = 0
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and int(declared) > limit
    until = time.monotonic() + (DISCARDING if too_large else SECONDS)
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                piece = await anext(pieces, None)
        except TimeoutError:
            if too_large:
                break
            raise ApiError(408, f"The body did not arrive within {SECONDS:.0f} s.") from None
        if piece is None:
            break
        size += len(piece)
        if size > limit and not too_large:
            too_large, until = True, time.monotonic() + DISCARDING
        if too_large:
            body.clear()
        else:
            body.append(piece)
    if too_large:
        raise ApiError(413, f"The body has more than {limit / 1e6:g} MB.", headers={"Connection": "close"})
    return b"".join(body)


def parsed(body: bytes) -> dict[str, Any]:
    """Parse JSON: one object, in UTF-8, without NaN, halves of surrogates, or lists nested too deeply."""
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The body is no valid JSON: {error}.") from None
    if not isinstance(found, dict):
        raise ApiError(400, "The body must be a JSON object.")
    return found


def checked(schema: type[Schema], found: dict[str, Any]) -> Schema:
    """Check a body by its schema; null stands for what is not given."""
    try:
        return schema.model_validate({name: value for name, value in found.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise _told(first["type"], first["loc"], first["msg"], first["input"]) from None


def _told(kind: str, place: tuple[int | str, ...], message: str, value: object) -> ApiError:
    """Say in one sentence what is wrong at a place."""
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if kind == "missing":
        return wrong(name, f"{name} is missing.")
    shown = repr(value)
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
    should = message.removeprefix("Value error, ").replace("Input should be", "it should be")
    return wrong(name, f"{name} is {shown}; {should}.")
