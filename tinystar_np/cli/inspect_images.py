"""``tinystar inspect``: what reads a model's images, and what an image costs."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tinystar_np.checkpoints.json_file import JsonObject, one_line, shown
from tinystar_np.checkpoints.model_source import ModelSource
from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import KEPT_SPACE, say_table
from tinystar_np.cli.wording import count_of, in_words, size_of
from tinystar_np.errors import InputError, TinyStarError
from tinystar_np.inspection.hollow import hollow_vision
from tinystar_np.inspection.images import (
    USUAL_SIZES,
    ImageCost,
    SeenPart,
    VisionDescription,
    describe_vision,
    image_costs,
    seen_parts,
)
from tinystar_np.inspection.memory import StateSize
from tinystar_np.models import Decoder
from tinystar_np.vision.processor import PREPROCESSOR, form_in, has_settings
from tinystar_np.vision.transforms import MOST_PIXELS, Size

NO_SETTINGS = f"how images are prepared is not known: there is no {PREPROCESSOR}."
SIZE = re.compile(r"([0-9]{1,9})[x×]([0-9]{1,9})")


@dataclass(frozen=True)
class Images:
    """What is said of a model's images.

    description  of what reads them
    costs        of images of some sizes
    unknown      why there are no costs
    """

    description: VisionDescription
    costs: Sequence[ImageCost]
    unknown: str = ""

    @property
    def facts(self) -> JsonObject:
        """The same for programs."""
        return {**self.description.facts, "sizes": [cost.facts for cost in self.costs]}


def add_image_size_option(parser: argparse.ArgumentParser) -> None:
    """Add --image-size, which may be given several times."""
    parser.add_argument(
        "--image-size",
        action="append",
        default=[],
        type=image_size,
        metavar="WIDTHxHEIGHT",
        help="of a model that reads images: what one of this size costs, such as 800x600; may be given "
        "several times",
    )


def image_size(text: str) -> Size:
    """Read a size such as 800x600: its height and width. Raises ArgumentTypeError for another text."""
    found = SIZE.fullmatch(text)
    size = (int(found[2]), int(found[1])) if found else (0, 0)
    if not 0 < size[0] * size[1] <= MOST_PIXELS:
        raise argparse.ArgumentTypeError(
            f"{shown(text)}: give width and height in pixels, such as 800x600, and no more than "
            f"{MOST_PIXELS:,} of them."
        )
    return size


def images_of(
    source: ModelSource, text: Decoder, states: Sequence[StateSize], sizes: Sequence[Size]
) -> Images | None:
    """Describe what reads a model's images; None for a model of text alone.

    text    its text part, which may be hollow
    states  of it
    sizes   of images, height and width; usual ones where there are none

    Raises ConfigError as ``load`` does.
    """
    part = None if source.metadata is not None else hollow_vision(source.config, text)
    if part is None:
        return None
    description = describe_vision(part)
    if not has_settings(source.path):
        return Images(description, (), NO_SETTINGS)
    form = form_in(source.path, source.config)
    try:
        costs = image_costs(form, description.patch_size, states, sizes or USUAL_SIZES)
    except InputError:
        raise
    except TinyStarError as error:  # no Pillow
        return Images(description, (), one_line(error))
    return Images(description, costs)


def seen_parts_of(source: ModelSource, sizes: Sequence[Size]) -> tuple[list[SeenPart], str]:
    """Say what a model that embeds images sees of images of some sizes, and why that is not known.

    Raises ConfigError as ``load`` does.
    """
    if not has_settings(source.path):
        return [], NO_SETTINGS
    form = form_in(source.path, source.config)
    try:
        return seen_parts(form, sizes or USUAL_SIZES), ""
    except InputError:
        raise
    except TinyStarError as error:  # no Pillow
        return [], one_line(error)


def print_seen_parts(parts: Sequence[SeenPart], arguments: argparse.Namespace) -> None:
    """Print what is seen of images of some sizes."""
    rows = [
        (
            f"{part.width} × {part.height}",
            *(
                ("not read", "")
                if part.refused
                else (f"{part.share:.0%}", f"{part.patch[1]:.0f} × {part.patch[0]:.0f} of its pixels")
            ),
        )
        for part in parts
    ]
    head = ("an image of", "is seen", "a patch shows")
    say_table(head, [[cell.replace(" ", KEPT_SPACE) for cell in row] for row in rows], arguments, indent=2)
    _print_refused(parts)


def _print_refused(found: Sequence[ImageCost | SeenPart]) -> None:
    for each in found:
        if each.refused:
            say(f"  {each.width} × {each.height}: {one_line(each.refused, 300)}")


def image_rows(images: Images) -> list[tuple[str, str]]:
    """Return labels and words about what reads the images."""
    found = images.description
    rows = [
        ("encoder", found.kind),
        ("", f"{found.layers} layers, {found.width} wide, {in_words(found.encoder_parameters)} parameters"),
        *(
            ("", words if len(found.mixers) == 1 else f"{count} of {found.layers} layers: {words}")
            for words, count in found.mixers.items()
        ),
        ("", f"feed-forward {found.feed_forward.words}"),
        ("patches", f"{found.patch_size} × {found.patch_size} pixels"),
    ]
    label = "projector"
    for name, part in found.projector.items():
        rows.append((label, part.words if name == "projector" else f"{name.replace('_', ' ')}: {part.words}"))
        label = ""
    own = f", {count_of(found.projector_parameters)} of them between encoder and text part"
    rows.append(("parameters", f"{in_words(found.parameters)} ({found.parameters:,}){own}"))
    return rows


def print_costs(images: Images, arguments: argparse.Namespace) -> None:
    """Print what images of some sizes cost."""
    if images.unknown:
        say(f"  {images.unknown}")
        return
    rows = [
        (
            f"{cost.width} × {cost.height}",
            *(
                ("", "", "", "not read", "")
                if cost.refused
                else (
                    str(cost.tiles),
                    f"{cost.tile[1]} × {cost.tile[0]}",
                    f"{cost.patches:,}",
                    f"{cost.vectors:,}",
                    size_of(cost.cache),
                )
            ),
        )
        for cost in images.costs
    ]
    head = ("an image of", "tiles", "of pixels", "patches", "tokens", "their cache")
    say_table(head, [[cell.replace(" ", KEPT_SPACE) for cell in row] for row in rows], arguments, indent=2)
    _print_refused(images.costs)
