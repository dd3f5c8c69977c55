"""List the models that are on this disk, and the architectures that run.

With --verbose also what tests say of each key of an architecture's config.json: with which values the logits
were held against transformers', which values are refused, and which keys change nothing.
"""

import argparse
import json
import sys
import textwrap
from dataclasses import asdict
from typing import Any

from tinystar_np.checkpoints.hub import list_local_models
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import add_cache_argument, add_common_arguments, styled
from tinystar_np.inspection.catalogue import catalogue
from tinystar_np.inspection.switches import Switches, switches
from tinystar_np.models import ARCHITECTURES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_cache_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_common_arguments(parser)
    parser.set_defaults(command=models, parser=parser)


def models(arguments: argparse.Namespace) -> int:
    """Run the command."""
    found = list_local_models(arguments.cache_dir)
    if arguments.json:
        rows = [asdict(model) | {"path": str(model.path)} for model in found]
        listed: dict[str, Any] = {"architectures": sorted(ARCHITECTURES), "models": rows}
        if arguments.verbose:
            listed["switches"] = {model_type: asdict(known) for model_type, known in switches().items()}
        say(json.dumps(listed, indent=2))
        return OK
    width = max([len(model.name) for model in found], default=0)
    for model in found:
        revision = f" @ {model.revision}" if model.revision else ""
        say(f"{model.name:{width}}  {model.nbytes / 1e6:9.1f} MB  {model.place}{revision}")
    say("\nArchitectures that run (docs/architectures.md says what was new in each):\n")
    for entry in catalogue():
        parts = textwrap.shorten(entry.summary["attention"], 27, placeholder=" …")
        positions = textwrap.shorten(entry.summary["position"], 25, placeholder=" …")
        say(f"  {entry.year}  {entry.model_type:16}  {parts:27}  {positions}")
    say("  your  tinystar          as you choose                as you choose")
    if arguments.verbose:
        for model_type, known in switches().items():
            say(f"\n{styled(model_type, 'bold', sys.stdout, arguments)}")
            say(_written(known))
    return OK


def _written(known: Switches) -> str:
    """Lay out what is known of an architecture's keys, in lines of 80."""
    lines = []
    for key, values in known.rows():
        head, indent = (f"  {key}", 4) if key.endswith(":") else (f"    {key:26}  ", 32)
        text = f"{head} {values}" if indent == 4 else f"{head}{values}"
        lines += textwrap.wrap(text, 80, subsequent_indent=" " * indent, break_on_hyphens=False)
    return "\n".join(lines)
