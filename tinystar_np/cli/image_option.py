"""The images that a command shows to a model: --image FILE, as often as there are images."""

import argparse
from pathlib import Path

SEEING_MODEL = "HuggingFaceTB/SmolVLM-256M-Instruct"
"""The model of a command that is given images and no model: the smallest that sees."""


def add_image_option(parser: argparse.ArgumentParser, words: str) -> None:
    """Add --image, which may be given several times."""
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help=f"{words}; may be given several times (without -m: {SEEING_MODEL})",
    )


def settle_seeing_model(arguments: argparse.Namespace) -> None:
    """Let a model that sees be the one where there are images and no model is named.

    Raises InputError for an image that is not there, before anything is loaded.
    """
    if arguments.image:
        from tinystar_np.vision.reading import check_file  # late: other prompts need none of it

        for path in arguments.image:
            check_file(path)
    if arguments.image and "model" not in getattr(arguments, "given", ()):
        arguments.model = SEEING_MODEL
