"""Serve models over HTTP: OpenAI's interface, and a page to talk with them."""

import argparse
import os
from typing import TYPE_CHECKING

from tinystar_np.amounts import counted
from tinystar_np.cli.model_argument import completed
from tinystar_np.cli.open_model import add_model_arguments, add_parallel_argument, model_settings, open_model
from tinystar_np.cli.streams import OK, tell
from tinystar_np.cli.terminal import MODEL_HELP, UsageError, add_common_arguments, note
from tinystar_np.cli.visible import visible
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.generation.options import Sampling

if TYPE_CHECKING:
    from tinystar_np.serving.access import Access
    from tinystar_np.serving.served import Served

EPILOG = """The address is printed when it listens. Clients of OpenAI's interface take it with /v1, as in
OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="any"); a browser shows a page there.

The key is best given by the environment: TINYSTAR_API_KEY=... {command} -m MODEL. Without a key the server
listens on this machine alone, unless --no-key says that everybody may ask.

examples:
  {command} -m stories
  {command} -m smollm2 -m ./my-model --port 8080 --cache-memory 4GB
  curl http://127.0.0.1:8000/v1/completions -H "Content-Type: application/json" \\
    -d '{{"prompt": "Once upon a time", "max_tokens": 20}}'

SIGTERM and Ctrl-C stop it: running answers may end within --grace seconds. A second one ends it at once.
With -v there is a line on stderr for each request.
Exit codes: 0 after it was stopped, 1 failure, 2 usage."""

NO_PACKAGES = (
    "The server needs the packages starlette, uvicorn and pydantic.\n"
    "Install them: pip install 'tinystar_np[serve]'"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    option = parser.add_argument(
        *("-m", "--model"),
        dest="models",
        action="append",
        default=[],
        metavar="MODEL",
        help=f"repeatable: {MODEL_HELP}",
    )
    completed(option)
    server = parser.add_argument_group("server")
    add = server.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    add("--port", type=_port, default=8000, metavar="N", help="0 takes a free one (default: %(default)s)")
    add("--api-key", metavar="KEY", help="what clients must send (or the environment's TINYSTAR_API_KEY)")
    add("--no-key", action="store_true", help="everybody may ask, from other machines too")
    add(
        "--grace",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="for running answers after SIGTERM or Ctrl-C (default: 30)",
    )
    add("--timeout", type=_seconds, metavar="SECONDS", help="for one text (default: none)")
    engine = parser.add_argument_group("engine")
    add = engine.add_argument
    add("--max-batch", type=_count, default=16, metavar="N", help="texts at the same time (default: 16)")
    add("--max-waiting", type=_count, default=256, metavar="N", help="texts that may wait (default: 256)")
    add(
        "--context",
        type=_count,
        metavar="N",
        help="the most tokens of a text (default: those the model has or was trained on)",
    )
    add(
        "--cache-memory",
        default="1GB",
        metavar="SIZE",
        help="of each model's cache, in each process (default: %(default)s)",
    )
    add(
        "--model-settings",
        action="store_true",
        help="where a request says nothing, the settings of the model's generation_config.json or GGUF file",
    )
    add_model_arguments(parser)
    add_parallel_argument(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=serve, parser=parser)


def _port(given: str) -> int:
    if not given.isdecimal() or int(given) > 65535:
        raise argparse.ArgumentTypeError(f"{given!r}: it must be a number from 0 to 65535.")
    return int(given)


def _count(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"{given!r}: it must be a number, 1 or more.")
    return int(given)


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{given!r}: it must be a number of seconds.")
    return seconds


def serve(arguments: argparse.Namespace) -> int:
    """Run the command."""
    try:
        import pydantic  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise TinyStarError(NO_PACKAGES) from error
    # Late: every other command does without these packages.
    from tinystar_np.serving.served import ServedModels
    from tinystar_np.serving.server import Server, address_of, bind
    from tinystar_np.serving.server_state import ServerState

    if not arguments.models:
        raise UsageError("No model is given. `tinystar models` lists those on this disk; stories is one.")
    if len(set(arguments.models)) < len(arguments.models):
        raise UsageError("A model is given twice.")
    access = _access(arguments)
    models = [_served(name, arguments) for name in arguments.models]
    log = (lambda line: tell(visible(line))) if arguments.verbose else None
    state = ServerState(ServedModels(models), access, arguments.timeout, log=log)
    listening = bind(arguments.host, arguments.port)
    names = ", ".join(map(state.models.id_of, models))

    def listens() -> None:
        note(f"{names}: listening at {address_of(listening)} (Ctrl-C stops it)", arguments)

    def waits(running: int) -> None:
        if arguments.grace:
            many = counted(running, "request")
            note(f"stopping: {many} may end within {arguments.grace:g} s (Ctrl-C ends at once)", arguments)

    Server(state, arguments.grace).run(listening, [each.engine for each in models], listens, waits)
    return OK


def _access(arguments: argparse.Namespace) -> "Access":
    """Return the access control; raises UsageError where other machines could ask without a key."""
    from tinystar_np.serving.access import VARIABLE, Access, check_key, hide, is_loopback, own_names

    given, of_environment = arguments.api_key, os.environ.pop(VARIABLE, None)
    arguments.api_key = None
    if given:
        hide(given)
    if arguments.no_key and given is not None:
        raise UsageError("--api-key and --no-key are given: one of them only.")
    key = None if arguments.no_key else of_environment if given is None else given
    if key is not None:
        try:
            check_key(key)
        except InputError as error:
            raise UsageError(str(error)) from None
    local = is_loopback(arguments.host)
    if key is None and not local and not arguments.no_key:
        raise UsageError(
            f"--host {arguments.host}: other machines could ask. Set {VARIABLE} to a key that clients must "
            "know, or say --no-key."
        )
    return Access(key, own_names(arguments.host) if key is None and local and not arguments.no_key else None)


def _served(name: str, arguments: argparse.Namespace) -> "Served":
    """Load a model, and make its engine."""
    from tinystar_np.serving.engine import Engine
    from tinystar_np.serving.served import Served

    model, tokenizer = open_model(argparse.Namespace(**{**vars(arguments), "model": name}))
    if tokenizer is None:
        raise TinyStarError(f"{name} has no tokenizer files: it cannot be served.")
    engine = Engine(
        model,
        tokenizer,
        cache_memory=arguments.cache_memory,
        max_batch=arguments.max_batch,
        max_waiting=arguments.max_waiting,
        own_thread=False,
    )
    context = _context(arguments.context, model.context_length, model.trained_length)
    settings = model_settings(tokenizer) if arguments.model_settings else Sampling()
    most = arguments.max_batch + arguments.max_waiting
    return Served(name, model, tokenizer, engine, most, context, settings)


def _context(given: int | None, has: int | None, trained: int | None) -> int | None:
    """Return the most tokens of a text: what was asked for, but no more than the model has."""
    if given is not None and has is not None:
        return min(given, has)
    return given or has or trained
