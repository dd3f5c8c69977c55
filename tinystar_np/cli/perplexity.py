"""Measure how well a model predicts texts: bits per byte, and perplexity per token and per word.

Each text is read in windows, as for the rolling log-likelihood of EleutherAI's evaluation harness: each as
long as the model's context, and without the text before it. A shorter --stride gives each token more context,
and takes longer. Bits per byte and perplexity per word compare models whose tokens differ.

With --page one HTML file is written, which shows the text with each token coloured by its surprise.
"""

import argparse
import json
import math
import sys
from pathlib import Path

from tinystar_np.amounts import counted
from tinystar_np.checkpoints.json_file import JsonObject
from tinystar_np.cli.model_argument import add_model_option
from tinystar_np.cli.open_model import add_model_arguments, add_parallel_argument, open_model
from tinystar_np.cli.streams import OK, file_text, read_text, say
from tinystar_np.cli.terminal import UsageError, add_common_arguments, note, progress_line, say_table
from tinystar_np.cli.wording import size_of
from tinystar_np.errors import InputError, TokenizerError
from tinystar_np.generation.perplexity import (
    Perplexity,
    Window,
    check_windows,
    scores_of_texts,
    to_score,
    usual_window,
    windows,
)
from tinystar_np.generation.scores import TokenScore
from tinystar_np.models import Decoder
from tinystar_np.text import Tokenizer

MOST_TOKENS = 20_000
"""The most tokens of a page, so that it opens at once and has less than 3 MB."""
TOP = 5  # of the likeliest tokens in each token's place, on the page
STDIN = Path("-")

EPILOG = """examples:
  {command} story.txt
  {command} -m openai-community/gpt2 --stride 512 book.txt
  {command} --page page.html --window 256 story.txt
  cat *.txt | {command} --json -
  {command} --json *.txt
  mpiexec -n 2 {command} *.txt

Exit codes: 0 ok, 1 failure, 2 usage, 130 after Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a text, in UTF-8; - for stdin")
    add_model_option(parser, "stories")
    add = parser.add_argument_group("measuring").add_argument
    add(
        "--window",
        type=int,
        metavar="N",
        help="tokens that are read at once (default: as many as the model was trained on)",
    )
    add(
        "--stride",
        type=int,
        metavar="M",
        help="tokens that each window scores; the others are context (default: all of the window)",
    )
    add("--json", action="store_true", help="print JSON instead of a table, a line a file")
    add("--page", type=Path, metavar="FILE.html", help="write a page with each token's surprise, too")
    add_model_arguments(parser)
    add_parallel_argument(parser, texts=True)
    add_common_arguments(parser)
    parser.set_defaults(command=perplexity, parser=parser)


def perplexity(arguments: argparse.Namespace) -> int:
    """Run the command."""
    for name in ("window", "stride"):
        if (given := getattr(arguments, name)) is not None and given < 1:
            raise UsageError(f"--{name} {given}: it must be a number, 1 or more.")
    page: Path | None = arguments.page
    files = [Path(file) for file in arguments.files]
    if page is not None and len(files) > 1:
        raise UsageError(f"--page {page}: a page shows one text, and {len(files)} files are given.")
    if page is not None and not page.parent.is_dir():
        raise UsageError(f"--page {page}: there is no directory {page.parent}.")
    if files.count(STDIN) > 1:
        raise UsageError("- is given twice: the text on stdin can be read once.")
    texts = [
        read_text(sys.stdin.buffer.read, "The text") if file == STDIN else file_text(file) for file in files
    ]
    model, tokenizer = open_model(arguments, texts=True)
    if tokenizer is None:
        raise TokenizerError("This model has no tokenizer files, so it cannot read a text.")
    window = arguments.window or usual_window(model)
    stride = arguments.stride or window
    check_windows(model, window, stride)
    ids = [_ids_of(model, tokenizer, *each, len(files) > 1) for each in zip(files, texts, strict=True)]
    tokens = [len(each) - 1 for each in ids]
    nats, done = [0.0] * len(files), 0
    kept: list[TokenScore] = []
    with progress_line(arguments) as show:
        for i, scores in scores_of_texts(model, ids, window, stride, TOP if page else 0):
            nats[i] -= math.fsum(score.logprob for score in scores if score.logprob is not None)
            done += len(scores)
            show(f"{done}/{sum(tokens)} tokens, {sum(nats) / done:.3f} nats each")
            if page and len(kept) < MOST_TOKENS:
                kept += scores
    found = [
        Perplexity(its_nats, its_tokens, len(text.split()), len(text.encode()))
        for its_nats, its_tokens, text in zip(nats, tokens, texts, strict=True)
    ]
    cut = [list(windows(each, window, stride)) for each in tokens]
    if page:
        _write_page(page, arguments, tokenizer, found[0], kept, cut[0])
    if arguments.json:
        for file, its, of_it in zip(files, found, cut, strict=True):
            say(json.dumps(_as_json(arguments, file, its, window, stride, len(of_it))))
    elif len(files) > 1:
        _say_all(files, found, window, stride, sum(map(len, cut)), arguments)
    else:
        _say(found[0], window, stride, len(cut[0]), arguments)
    return OK


def _ids_of(model: Decoder, tokenizer: Tokenizer, file: Path, text: str, is_named: bool) -> list[int]:
    """Cut a file's text into tokens; the error of one among several names it."""
    try:
        return to_score(model, tokenizer, text)
    except InputError as error:
        if not is_named:
            raise
        raise InputError(f"{file}: {error}") from None


def _write_page(
    page: Path,
    arguments: argparse.Namespace,
    tokenizer: Tokenizer,
    found: Perplexity,
    kept: list[TokenScore],
    cut: list[Window],
) -> None:
    # Late: figures need none of it.
    from tinystar_np.seeing.page.file import save_page
    from tinystar_np.seeing.page.surprise import surprise_page

    file = Path(arguments.files[0])
    name = "stdin" if file == STDIN else file.name
    shown = kept[:MOST_TOKENS]
    size = save_page(surprise_page(tokenizer, shown, found, cut, arguments.model, name), page)
    part = f"the first {len(shown)} tokens" if found.tokens > len(shown) else counted(len(shown), "token")
    note(f"{page}: {part}, {size_of(size)}", arguments)


def _as_json(
    arguments: argparse.Namespace, file: Path, found: Perplexity, window: int, stride: int, number: int
) -> JsonObject:
    return {
        "model": arguments.model,
        "file": str(file),
        **found.as_json(),
        "window": window,
        "stride": stride,
        "windows": number,
    }


def _say(found: Perplexity, window: int, stride: int, number: int, arguments: argparse.Namespace) -> None:
    say_table(
        ("", "", ""),
        [
            ("bits per byte", f"{found.bits_per_byte:.4f}", ""),
            ("nats per token", f"{found.nats_per_token:.4f}", ""),
            ("perplexity", _digits(found.per_token), "per token"),
            ("", _digits(found.per_word), "per word"),
        ],
        arguments,
        left=(0, 2),
    )
    note(_sizes(found, window, stride, number), arguments)


def _say_all(
    files: list[Path],
    found: list[Perplexity],
    window: int,
    stride: int,
    number: int,
    arguments: argparse.Namespace,
) -> None:
    """Print a row for each file, and one for all of them as if they were one text."""
    total = Perplexity(
        math.fsum(its.nats for its in found),
        *(sum(getattr(its, size) for its in found) for size in ("tokens", "words", "bytes")),
    )
    rows = [(str(file), its) for file, its in zip(files, found, strict=True)]
    say_table(
        ("text", "tokens", "bits per byte", "nats per token", "perplexity per token", "per word"),
        [
            (
                name,
                str(its.tokens),
                f"{its.bits_per_byte:.4f}",
                f"{its.nats_per_token:.4f}",
                _digits(its.per_token),
                _digits(its.per_word),
            )
            for name, its in [*rows, ("all", total)]
        ],
        arguments,
        left=(0,),
    )
    note(_sizes(total, window, stride, number), arguments)


def _sizes(found: Perplexity, window: int, stride: int, number: int) -> str:
    """Say how long a text is, and how it was read."""
    sizes = [(found.tokens, "token"), (found.words, "word"), (found.bytes, "byte")]
    text = ", ".join(counted(number, thing) for number, thing in sizes)
    each = "" if number == 1 or stride == window else f", of which each scores {stride}"
    return f"{text}; {counted(number, 'window')} of at most {window} tokens{each}"


def _digits(x: float) -> str:
    """Write a perplexity: two places, and six digits of a very large one."""
    return f"{x:.2f}" if x < 1e6 else f"{x:.5e}"
