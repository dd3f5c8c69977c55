"""The server's application: its routes, and the middleware that every request passes."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinystar_np.errors import TinyStarError
from tinystar_np.serving.api_errors import ApiError, api_error_of, stopping
from tinystar_np.serving.bodies import Body
from tinystar_np.serving.chat import chat_completions
from tinystar_np.serving.completions import completions
from tinystar_np.serving.look import Looks
from tinystar_np.serving.metrics import MEDIA_TYPE
from tinystar_np.serving.page_files import page_routes
from tinystar_np.serving.server_state import ServerState
from tinystar_np.serving.texts import CLIENT_HAS_GONE
from tinystar_np.serving.tokens import detokenize, tokenize, tokenizer_info

Endpoint = Callable[[Request], Awaitable[Response]]
MODEL = "/v1/models/{name:path}"
LOOK = "/look/{name}"


def make_app(state: ServerState) -> ASGIApp:
    """Make the application of a server.

    state  what its requests share
    """
    looks = Looks()
    paths: list[tuple[str, str, Endpoint]] = [
        ("GET", "/v1/models", models),
        ("GET", MODEL, one_model),
        ("POST", "/v1/completions", completions),
        ("POST", "/v1/chat/completions", chat_completions),
        ("POST", "/tokenize", tokenize),
        ("POST", "/detokenize", detokenize),
        ("GET", "/tokenizer_info", tokenizer_info),
        ("POST", "/look", looks.answer),
        ("GET", LOOK, looks.page),
        ("GET", "/health", health),
        ("GET", "/metrics", metrics),
    ]
    routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in paths]
    kinds = (ApiError, TinyStarError, MemoryError, Exception)
    handlers: dict[Any, Any] = {HTTPException: _no_route, **dict.fromkeys(kinds, _answer_error)}
    app = Starlette(routes=[*routes, *page_routes()], exception_handlers=handlers)
    app.state.server = state
    return Admission(app, state, frozenset(path for _, path, _ in paths))


async def models(request: Request) -> Response:
    """List the models."""
    found = request.app.state.server.models
    return JSONResponse({"object": "list", "data": [found.entry(each) for each in found.models]})


async def one_model(request: Request) -> Response:
    """Say what is known of one model."""
    found = request.app.state.server.models
    return JSONResponse(found.entry(found.find(request.path_params["name"])))


async def health(request: Request) -> Response:
    """Say that the server takes requests; while it stops, ``Admission`` refuses this one too."""
    return JSONResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Return what the server has done, in Prometheus' text form."""
    state: ServerState = request.app.state.server
    named = [(state.models.id_of(each), each) for each in state.models.models]
    return PlainTextResponse(await run_in_threadpool(state.metrics.written, named), media_type=MEDIA_TYPE)


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answer a request that ended in an error."""
    request.app.state.server.failed(error)
    return api_error_of(error).response()


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer a request for a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return ApiError(
            405, f"{path} is not for {method:.20}; it takes {allowed}.", headers={"Allow": allowed}
        ).response()
    return ApiError(404, f"There is no {path:.100} here.", code="not_found").response()


class Admission:
    """Middleware: every request is counted and logged, and refused where it may not be answered.

    app        what answers requests
    state      the server
    endpoints  paths by whose names requests are counted
    """

    def __init__(self, app: ASGIApp, state: ServerState, endpoints: frozenset[str]) -> None:
        self._app, self._state, self._endpoints = app, state, endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun, state = time.monotonic(), self._state
        status = CLIENT_HAS_GONE

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        state.active += 1
        try:
            await self._admitted(scope, receive, counted)
        finally:
            state.active -= 1
            seconds = time.monotonic() - begun
            state.metrics.request(self._endpoint(scope["path"]), status, seconds)
            if state.log is not None:
                client = (scope.get("client") or ("?",))[0]
                path = scope["raw_path"][:100].decode("ascii", "replace")  # as it came: it ends no line
                state.log(f"{client} {scope['method']} {path} {status} {seconds:.3f} s")

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it; an error becomes its answer, unless one has begun."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        state, headers = self._state, dict(scope["headers"])
        body = Body(receive, state.max_body)
        try:
            state.access.check(scope["path"], headers)
            if state.stopping:
                raise stopping()
            await body.check_length(headers)
            await self._app(scope, body.receive, sent)
        except ClientDisconnect:
            pass
        except Exception as error:
            if not begun:
                state.failed(error)
                await api_error_of(error).response()(scope, receive, send)

    def _endpoint(self, path: str) -> str:
        """Return the name by which a path is counted: those that do not exist are one."""
        if path.startswith("/v1/models/"):
            return MODEL
        if path.startswith("/look/"):
            return LOOK
        return path if path in self._endpoints else "other"
