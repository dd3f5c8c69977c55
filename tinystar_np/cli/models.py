"""List the models that are on this disk, and the architectures that run."""

import argparse
import json
import textwrap
from dataclasses import asdict
from pathlib import Path

from tinystar_np.checkpoints.local_models import list_local_models
from tinystar_np.cli.terminal import OK, add_common_arguments
from tinystar_np.inspection.catalogue import catalogue
from tinystar_np.models import ARCHITECTURES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--cache-dir", metavar="DIR", help="where downloads lie (default: the hub's shared cache)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_common_arguments(parser)
    parser.set_defaults(command=models, parser=parser)


def models(arguments: argparse.Namespace) -> int:
    """Run the command."""
    found = list_local_models(Path(arguments.cache_dir) if arguments.cache_dir else None)
    if arguments.json:
        rows = [asdict(model) | {"path": str(model.path)} for model in found]
        print(json.dumps({"architectures": sorted(ARCHITECTURES), "models": rows}, indent=2))
        return OK
    width = max([len(model.name) for model in found], default=0)
    for model in found:
        revision = f" @ {model.revision}" if model.revision else ""
        print(f"{model.name:{width}}  {model.nbytes / 1e6:9.1f} MB  {model.place}{revision}")
    print("\nArchitectures that run (docs/architectures.md says what was new in each):\n")
    for entry in catalogue():
        parts = textwrap.shorten(entry.summary["attention"], 27, placeholder=" …")
        positions = textwrap.shorten(entry.summary["position"], 25, placeholder=" …")
        print(f"  {entry.year}  {entry.model_type:16}  {parts:27}  {positions}")
    print("  your  tinystar          as you choose                as you choose")
    return OK
