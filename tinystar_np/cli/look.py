"""Look inside a model while it writes: what it would say at each layer, who wrote the token, where it looked.

With -o a page is written, one HTML file to open in any browser, which shows this for every token, with all
values in between and the lines of code they come from.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path

from tinystar_np.cli.image_option import add_image_option, settle_seeing_model
from tinystar_np.cli.model_argument import add_model_option
from tinystar_np.cli.open_model import (
    add_model_arguments,
    add_sampling_arguments,
    chosen_settings,
    open_model,
    sampling_settings,
)
from tinystar_np.cli.prompt_text import read_prompt
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import (
    KEPT_SPACE,
    UsageError,
    add_common_arguments,
    note,
    say_styled,
    say_table,
    warnings_noted,
)
from tinystar_np.cli.wording import size_of
from tinystar_np.errors import TinyStarError
from tinystar_np.seeing.glance import PARTS, Glance, Link, glance
from tinystar_np.seeing.look import look as look_inside

NEW_TOKENS, NEW_TOKENS_SHOWN = 12, 1
"""How many tokens are written for a page, and for the terminal, which shows the last of them."""
BAR = 16  # characters
EIGHTHS = " ▏▎▍▌▋▊▉"
LONGEST_TOKEN = 16  # characters
LONGEST_TEXT = 200
NARROW = 60
"""On terminals of fewer columns there are no bars, and tokens are shorter."""
SHORT_TOKEN = 10

EPILOG = """examples:
  {command} "The capital city of France is" -m openai-community/gpt2
  {command} "Once upon a time" -n 12 -o page.html --open
  {command} "Once upon a time" --json
  {command} --image cat.jpg "What is on the table?" -o page.html --open

Exit codes: 0 ok, 1 failure, 2 usage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "prompt", nargs="*", help="the text to continue; a text on stdin goes after it, or where - is"
    )
    add_model_option(parser, "stories")
    add_image_option(
        parser, "an image that the prompt is about; both are written by the chat template, if any"
    )
    parser.add_argument(
        "--ids", action="store_true", help="the prompt is token ids with commas between: 5,17,3"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the page to this file, - for stdout"
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    words = f"{NEW_TOKENS} for a page, otherwise {NEW_TOKENS_SHOWN}"
    add_sampling_arguments(parser, max_new_tokens=None, words=words, temperature=0.0)
    add_model_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=look, parser=parser, in_one_process=True)


def look(arguments: argparse.Namespace) -> int:
    """Run the command."""
    to_page = arguments.output is not None or arguments.open
    if arguments.max_new_tokens is None:
        arguments.max_new_tokens = NEW_TOKENS if to_page else NEW_TOKENS_SHOWN
    settings = sampling_settings(arguments)
    to_stdout = arguments.output == Path("-")
    if to_stdout and (arguments.open or arguments.json):
        other = "--open" if arguments.open else "--json"
        raise UsageError(f"-o - writes the page to stdout; {other} needs it in a file.")
    if arguments.output is not None and not arguments.output.parent.is_dir():
        raise UsageError(f"-o {arguments.output}: there is no directory {arguments.output.parent}.")
    if arguments.ids and arguments.image:
        raise UsageError("--image is for a prompt that is a text; --ids are tokens.")
    prompt = read_prompt(arguments.prompt, arguments)
    settle_seeing_model(arguments)
    model, tokenizer = open_model(arguments)
    settings = chosen_settings(arguments, settings, tokenizer)
    # As tinystar ask does: a model that sees was taught to answer questions about images.
    chat = bool(arguments.image) and tokenizer is not None and tokenizer.chat_template is not None
    given = _ids(prompt) if arguments.ids else prompt
    with warnings_noted(arguments):  # of images
        seen = look_inside(model, tokenizer, given, images=arguments.image, chat=chat, **settings)
    seen = replace(seen, model_name=arguments.model)
    if to_stdout:
        say(seen.page(), end="", raw=True)
        return OK
    if to_page:
        page = arguments.output or Path(tempfile.mkdtemp(prefix="tinystar-")) / "page.html"
        seen.save(page)
        note(f"{page}: {len(seen.ids)} tokens, {size_of(page.stat().st_size)}", arguments)
        if arguments.open:
            import webbrowser

            if not webbrowser.open(page.resolve().as_uri()):
                raise TinyStarError(f"{page}: no browser could be started here. Open the file in one.")
    if arguments.json:
        say(json.dumps(glance(seen).as_json()))
    elif not to_page:
        _say(glance(seen), arguments)
    return OK


def _ids(prompt: str) -> list[int]:
    try:
        return [int(part) for part in prompt.split(",")]
    except ValueError as error:
        raise UsageError(f"--ids {prompt}: token ids must be whole numbers with commas between.") from error


def _say(seen: Glance, arguments: argparse.Namespace) -> None:
    """Print the essentials: layers from the first to the last, then the parts that count most."""
    narrow = sys.stdout.isatty() and shutil.get_terminal_size().columns < NARROW
    before = "".join(seen.texts)[-LONGEST_TEXT:]
    say_styled(f"{before}→{_cut(seen.token.text, LONGEST_TEXT)}", "bold", arguments)
    say(f"probability {_percent(seen.token.probability)}, rank {seen.layers[-1].rank}\n")
    say_styled("What it would say after each layer", "bold", arguments)
    rows = [
        (
            "embedding" if each.layer < 0 else f"layer {each.layer}",
            "" if narrow else _bar(each.likeliest[0].probability),
            _percent(each.likeliest[0].probability).replace(" ", KEPT_SPACE),
            " ".join(_in_table(candidate.text, narrow) for candidate in each.likeliest),
            str(each.rank),
        )
        for each in seen.layers
    ]
    rank = "rank" if narrow else f"rank of {_in_table(seen.token.text)}"
    head = ("", "" if narrow else "likeliest", "", "the five likeliest", rank)
    _say_columns(head, rows, arguments, left=(0, 1, 3))
    _say_images(seen, arguments)
    if seen.refused:
        say(f"\nWho wrote it cannot be said: {seen.refused}")
        return
    against = f" rather than {quoted(seen.against.text)}" if seen.against else ""
    say()
    say_styled(f"Who wrote {quoted(seen.token.text)}{against}", "bold", arguments)
    most = max(abs(writer.value) for writer in seen.writers) or 1.0
    writers = [
        (
            in_words(writer.name),
            _signed(writer.value),
            "" if narrow else f"{'−' if writer.value < 0 else ''}{_bar(abs(writer.value) / most)}",
            " ".join(
                f"{_linked(link, narrow)} {100 * link.weight:.0f}{KEPT_SPACE}%" for link in writer.links
            ),
        )
        for writer in seen.writers[:PARTS]
    ]
    _say_columns(("", "adds", "", "takes from"), writers, arguments, left=(0, 2, 3))
    rest = [writer.value for writer in seen.writers[PARTS:]]
    others = f"{len(rest)} others add {_signed(sum(rest))}; all" if rest else "All"
    say(f"{others} together {_signed(seen.difference)}.")


def _say_images(seen: Glance, arguments: argparse.Namespace) -> None:
    """Print where each layer looks on the images."""
    if not seen.images:
        return
    several = any(look.image for look in seen.images)
    say()
    say_styled("Where it looks on the image" + ("s" if several else ""), "bold", arguments)
    rows = [
        (
            f"layer {look.layer}",
            f"image {look.image + 1}" if several else "",
            _percent(look.weight).replace(" ", KEPT_SPACE),
            look.most_at.replace(" ", KEPT_SPACE),
        )
        for look in seen.images
    ]
    _say_columns(("", "", "attention", "most at"), rows, arguments, left=(0, 1, 3))


def _linked(link: Link, narrow: bool) -> str:
    """Name what a head looks at: a token in quotes, or an image without."""
    return link.text.replace(" ", KEPT_SPACE) if link.is_image else _in_table(link.text, narrow)


def _say_columns(
    head: Sequence[str], rows: Sequence[Sequence[str]], arguments: argparse.Namespace, left: Sequence[int]
) -> None:
    """Print a table without the columns in which nothing stands."""
    full = [i for i, cells in enumerate(zip(head, *rows, strict=True)) if any(cells)]
    say_table(
        [head[i] for i in full],
        [[row[i] for i in full] for row in rows],
        arguments,
        left=[full.index(i) for i in left if i in full],
    )


def in_words(part: str) -> str:
    """Say a part's name: "blocks.3.attention head 2" is layer 3, head 2."""
    found = re.fullmatch(r"blocks\.(\d+)\.(\w+)(?: (.*))?", part)
    if found is None:
        return part
    layer, kind, which = found.groups()
    words = which or kind.replace("_", "-")
    if which and not (kind == "attention" and which.startswith("head")):
        words = f"{kind.replace('_', '-')} {which}"
    return f"layer {layer}, {words}"


def quoted(text: str, most: int = LONGEST_TOKEN) -> str:
    """Put a token into quotes, cut and on one line."""
    return f"‘{_cut(text.replace(chr(10), '↵').replace(chr(9), '⇥'), most)}’"


def _in_table(text: str, narrow: bool = False) -> str:
    """Quote a token for a cell, where no line ends within it."""
    return quoted(text, SHORT_TOKEN if narrow else LONGEST_TOKEN).replace(" ", KEPT_SPACE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _percent(share: float) -> str:
    if isnan(share):
        return "NaN"
    return f"{100 * share:.1f} %" if share >= 0.0005 else "0.0 %"


def _bar(share: float) -> str:
    """Draw a share from 0 to 1 as a bar."""
    eighths = 0 if isnan(share) else round(8 * BAR * min(1.0, max(0.0, share)))
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
