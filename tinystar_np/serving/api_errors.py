"""Errors as clients get them, in OpenAI's form.

{"error": {"message": "…", "type": "invalid_request_error", "param": "top_p", "code": null}}
"""

import re

from starlette.responses import JSONResponse

from tinystar_np.errors import (
    ContextFullError,
    EngineClosedError,
    InputError,
    QueueFullError,
    RequestTimeoutError,
    TinyStarError,
    TokenizerError,
)
from tinystar_np.serving.tool_schema import ToolsError

INVALID = "invalid_request_error"
OUR_NAMES = {"max_new_tokens": "max_tokens"}
"""{the name of a setting here: OpenAI's}."""
LONGEST = 600  # characters of a message: it may quote what the client sent


class ApiError(Exception):
    """The error that answers a request.

    status   HTTP's
    message  for a person
    param    the name of the parameter that is wrong
    code     for a program
    kind     OpenAI's type of the error
    headers  further headers of the answer
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.kind = status, param, code, kind
        self.message = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
        self.headers = headers or {}

    def as_json(self) -> dict[str, dict[str, str | None]]:
        """Return the error as OpenAI writes it."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        """Return the error as an answer."""
        return JSONResponse(self.as_json(), self.status, self.headers)


def wrong(param: str, message: str, code: str | None = None) -> ApiError:
    """Return the error of one parameter."""
    return ApiError(400, message, param=param, code=code)


def stopping() -> ApiError:
    """Return the error of a request that comes while the server stops, or was not complete by then."""
    retry = {"Retry-After": "5"}
    return ApiError(
        503, "The server is stopping.", code="server_stopping", kind="service_unavailable", headers=retry
    )


def api_error_of(error: BaseException, prompt: str = "prompt") -> ApiError:
    """Return the answer to a request that ended in an error.

    prompt  the name of the parameter that the prompt came from
    """
    message = str(error)
    match error:
        case ApiError():
            return error
        case ToolsError():
            return wrong(error.param, message)
        case ContextFullError():
            return wrong(prompt, message, "context_length_exceeded")
        case QueueFullError():
            retry = {"Retry-After": "1"}
            return ApiError(429, message, code="queue_full", kind="rate_limit_error", headers=retry)
        case EngineClosedError():
            return stopping()
        case RequestTimeoutError():
            return ApiError(504, message, code="timeout", kind="timeout_error")
        case InputError():
            return _of_input(message, prompt)
        case TokenizerError():  # of a chat template that does not take this conversation
            return wrong(prompt, message)
        case TinyStarError():
            return ApiError(500, message, kind="server_error")
        case MemoryError():
            return ApiError(
                503, "There is not enough memory for this.", code="no_memory", kind="server_error"
            )
    return ApiError(500, "The server has failed; its own output says why.", kind="server_error")


def _of_input(message: str, prompt: str) -> ApiError:
    """Return the error of a setting, whose message begins with its name, or of the prompt."""
    found = re.match(r"([a-z]+(?:_[a-z]+)*) is ", message)
    if found is None:
        return wrong(prompt, message)
    name = OUR_NAMES.get(found[1], found[1])
    return wrong(name, name + message[found.end(1) :])
