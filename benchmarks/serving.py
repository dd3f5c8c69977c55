"""Measure servers under load: many clients at once, each server in its turn.

    python benchmarks/serving.py smollm2 --workdir DIR                   our server, and the engine alone
    python benchmarks/serving.py smollm2 --workdir DIR --servers tinystar transformers-cb llama.cpp
    python benchmarks/serving.py llama-1.1b --workdir DIR --clients 1 16 --new 32 --requests 1
    python benchmarks/serving.py DIR/model --url http://127.0.0.1:8000 --name NAME    one that runs already

The model is SmolLM2-135M with its real weights ("smollm2"), a shape of ``shapes.py`` with random ones, or a
directory, see ``served.py``. In each round every server (``servers.py``) is started, asked, and stopped, in
turn; what is measured of it is in ``load.py``. All new texts are greedy and have the same number of tokens.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from busy import HERE, environment
from load import LoadError, Prompts, Server, Service, in_company, shared_prefix, throughput, warm_up
from load_picture import draw, load_of
from others import Watch
from servers import MODEL, NAMES, Programs, resident, serving

from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import progress_line, say_table
from tinystar_np.errors import TinyStarError
from tinystar_np.inspection.machine import describe_machine, load_warning
from tinystar_np.inspection.speed import Rounds, by_turns
from tinystar_np.seeing.plots import check_plotting

TEXTS = (HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("**/*.md")))
OTHERS = 15  # texts that are generated while another begins
LONGER = 48  # tokens of each of them: more than are made until the other has begun
PARTS = ("throughput", "company", "prefix")
PAUSE = 3.0  # seconds before a disturbed measurement is made again
NONE = "–"

Measured = dict[str, dict[str, float]]
"""{what was asked: {quantity: value}}"""


async def measure(
    service: Service, prompts: Prompts, options: argparse.Namespace, progress: Callable[[str], None]
) -> Measured:
    """Ask one server all that is to be measured."""
    found: Measured = {}

    async def part(what: str, words: str, ask: Callable[[], Awaitable[dict[str, float]]]) -> None:
        """Measure something, again while other processes are busy, and keep the least disturbed try."""
        for i in range(options.tries):
            progress(words if i == 0 else f"{words}, again: others were busy")
            watch = Watch()
            values = await ask()
            share = watch.share()
            if share is not None:
                values["others, %"] = 100 * share
            if what not in found or values.get("others, %", 0) < found[what]["others, %"]:
                found[what] = values
            if share is None or share <= options.quiet_below:
                break
            await asyncio.sleep(PAUSE)

    await warm_up(service, prompts)
    if "throughput" in options.only:
        for clients in options.clients:
            asked = (clients, options.requests, options.prompt, options.new)
            await part(load_of(clients), load_of(clients), partial(throughput, service, prompts, *asked))
        one, many = (found.get(load_of(clients)) for clients in (1, max(options.clients)))
        if one and many and max(options.clients) > 1:
            found["all"] = {"ratio": many["tokens/s"] / one["tokens/s"]}
    if "company" in options.only:
        beside = partial(in_company, service, prompts, OTHERS, options.probes, LONGER)
        await part("company", f"16 tokens beside {OTHERS} texts", beside)
    if "prefix" in options.only:
        twice = partial(shared_prefix, service, prompts, options.prefix, options.probes)
        await part("prefix", f"a prefix of {options.prefix} tokens, twice", twice)
    return found


def turn(
    name: str, options: argparse.Namespace, programs: Programs, progress: Callable[[str], None]
) -> Measured:
    """Start a server, measure it, and stop it; a server that fails has no figures."""
    prompts = Prompts(options.workdir / MODEL / "tokenizer.json", options.texts)
    progress(f"{name}: starting")
    try:
        with serving(name, options.workdir, programs) as (service, process):
            found = asyncio.run(
                measure(service, prompts, options, lambda words: progress(f"{name}: {words}"))
            )
            found.setdefault("all", {})["memory, GB"] = resident(process) / 1e9
    except LoadError as error:  # the others' figures shall not be lost
        say(f"{name} failed: {error}")
        return {}
    return found


def running(options: argparse.Namespace, progress: Callable[[str], None]) -> Measured:
    """Measure a server that runs already."""
    prompts = Prompts(Path(options.model) / "tokenizer.json", options.texts)
    service = Server(options.url, options.name)
    return asyncio.run(measure(service, prompts, options, progress))


def table(found: dict[str, list[Measured]], options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Make a line for each quantity, with a cell for each server: the median, and the range of the rounds."""
    lines: dict[tuple[str, str], None] = {}
    for rounds in found.values():
        lines |= dict.fromkeys(
            (what, name) for each in rounds for what, some in each.items() for name in some
        )
    words = {"company": f"16 tokens beside {OTHERS}", "prefix": f"prefix of {options.prefix}"}

    def cell(rounds: Sequence[Measured], what: str, name: str) -> str:
        values = [each[what][name] for each in rounds if name in each.get(what, ())]
        return Rounds(tuple(values)).text(lambda value: f"{value:.3g}") if values else NONE

    return [
        (words.get(what, what), name, *(cell(rounds, what, name) for rounds in found.values()))
        for what, name in lines
    ]


def describe(options: argparse.Namespace) -> dict[str, object]:
    """Say what the figures depend on."""
    about: dict[str, object] = {**describe_machine(), "model": options.model, "warning": load_warning()}
    about |= {name: version(name) for name in ("torch", "transformers", "httpx") if find_spec(name)}
    about["prompt, tokens"], about["new, tokens"] = options.prompt, options.new
    return about | {"requests of each client": options.requests, "rounds": options.rounds}


def on_the_loopback(url: str) -> str:
    """Refuse an address of another machine: nobody else's server shall get this load."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_ours = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_ours = False
    if parts.scheme != "http" or not is_ours:
        raise argparse.ArgumentTypeError(f"{url} is no http address of this machine's loopback")
    return url.removesuffix("/").removesuffix("/v1")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serving.py", description="Measure servers under load.")
    parser.set_defaults(color="auto", quiet=False)
    add = parser.add_argument
    add("model", help="smollm2, a shape of shapes.py, or a directory")
    add("--workdir", type=Path, help="where models are made and kept (default: a temporary directory)")
    add("--servers", nargs="+", choices=NAMES, default=["tinystar", "engine"], help="which, by turns")
    add("--url", type=on_the_loopback, help="measure a server that runs already, on this machine")
    add("--name", default="model", help="with --url: the model's name in requests")
    add("--clients", type=int, nargs="+", default=[1, 16], help="how many at once (default: 1 16)")
    add("--requests", type=int, default=2, help="of each client, one after another (default: 2)")
    add("--prompt", type=int, default=16, help="tokens of a prompt (default: 16)")
    add("--new", type=int, default=64, help="tokens of a text (default: 64)")
    add("--prefix", type=int, default=1024, help="tokens of a shared prefix (default: 1024)")
    add("--probes", type=int, default=3, help="of time to the first token, in a round (default: 3)")
    add("--rounds", type=int, default=3, help="(default: 3)")
    add("--minutes", type=float, default=60, help="after which no further round begins (default: 60)")
    add("--tries", type=int, default=1, help="of each measurement, while others are busy (default: 1)")
    add("--quiet-below", type=float, default=0.03, help="others' share of the processor that is none (0.03)")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="measure these alone")
    add("--texts", type=Path, nargs="+", default=TEXTS, help="what prompts are cut from (default: the docs)")
    add("--transformers-python", default=sys.executable, help="a Python with transformers[serving]")
    add("--llama-python", default=sys.executable, help="a Python with llama-cpp-python[server]")
    add("--llama-server", default="llama-server", help="llama.cpp's program")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    add("--plot", type=Path, metavar="FILE", help="draw throughput and time to the first token, PNG or SVG")
    options = parser.parse_args()
    if min(options.rounds, options.requests, options.probes, *options.clients) < 1 or options.new < 2:
        parser.error("numbers must be 1 or more, and --new 2 or more")
    if options.plot:
        check_plotting(options.plot)
    return options


def main() -> None:
    options = parsed()
    about = describe(options)
    programs = Programs(options.transformers_python, options.llama_python, options.llama_server)
    made = nullcontext(options.workdir) if options.workdir else tempfile.TemporaryDirectory()
    with made as directory, progress_line(options) as progress:
        options.workdir = Path(directory)
        if options.url:
            names, turns = [options.name], [partial(running, options, progress)]
        else:
            progress("preparing the model")
            # By a process of its own: the engine in this one shall find its memory, and OpenBLAS, untouched.
            command = [sys.executable, str(HERE / "served.py"), options.model, directory]
            subprocess.run(list(map(str, command)), env=environment(1), check=True)
            names = options.servers
            turns = [partial(turn, name, options, programs, progress) for name in names]
        say("\n".join(f"{key}: {value}" for key, value in about.items() if value is not None))
        enough = options.minutes * 60 / len(turns)
        (rounds,) = by_turns({"servers": turns}, options.rounds, progress, enough).values()
    found = dict(zip(names, rounds, strict=True))
    say()
    say_table(("", "", *names), table(found, options), options, left=(0, 1))
    say(f"\nMedians of {len(rounds[0])} rounds, and their range. Ratios are within one round.")
    if options.json:
        options.json.write_text(json.dumps({"about": about, "found": found}, indent=2) + "\n")
    if options.plot:
        draw(
            options.plot,
            found,
            options.clients,
            f"{options.model}, {options.new} tokens after {options.prompt}",
        )


if __name__ == "__main__":
    try:
        main()
    except (TinyStarError, LoadError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
