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


def settle_seeing_model(arguments: argparse.Namespace, named: str | None = None) -> None:
    """Let a model that sees be the one where there are images and no model is named.

    named  the model of the conversation that goes on, if it is known

    Raises InputError for an image that is not there, TinyStarError where Pillow is absent, before anything
    is loaded or downloaded.
    """
    if arguments.image:
        from tinystar_np.vision.pillow import require_pillow  # late: other prompts need none of it
        from tinystar_np.vision.reading import check_file

        require_pillow()
        for path in arguments.image:
            check_file(path)
    if "model" not in getattr(arguments, "given", ()) and (named or arguments.image):
        arguments.model = named or SEEING_MODEL
