"""Loading a model for a command, and the options of loading, running and sampling."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tinystar_np.checkpoints.model_files import GGUF
from tinystar_np.checkpoints.stored_matrix import ROUNDED
from tinystar_np.cli.model_argument import Given
from tinystar_np.cli.terminal import UsageError, add_loading_arguments, note, warnings_noted
from tinystar_np.errors import InputError, TooLargeError
from tinystar_np.fast.threads import use_threads
from tinystar_np.generation.options import Sampling, SamplingOptions
from tinystar_np.loading import load
from tinystar_np.models import Decoder, EmbeddingModel
from tinystar_np.ranks import AUTO, DIVIDED, PARALLEL, PROMPTS
from tinystar_np.text import Tokenizer

if TYPE_CHECKING:
    from tinystar_np.ranks.mpi import MpiRanks


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a model comes from, how it is kept, and on how many threads it runs."""
    loading = add_loading_arguments(parser)
    loading.add_argument(
        "--in-memory",
        action="store_true",
        help="copy float32 weights out of the file first: it pays off in long answers",
    )
    loading.add_argument(
        "--isolated",
        action="store_true",
        help="run the tokenizer in a process of its own with limits of time and memory",
    )
    add_threads_argument(parser)


def add_parallel_argument(parser: argparse.ArgumentParser, texts: bool = False) -> None:
    """Add the option that says how several processes share the model.

    texts  whether they can share texts instead
    """
    whole = ", or all of it, to share the texts" if texts else ""
    parser.add_argument_group("several processes").add_argument(
        "--parallel",
        choices=(AUTO, *(PARALLEL if texts else DIVIDED)),
        default=AUTO,
        help="under mpiexec, what each process has of the model: some of the layers, or a share of every "
        f"layer's heads and features{whole} (default: {'the last, where it fits' if texts else 'as fits'})",
    )


def add_threads_argument(group: argparse._ActionsContainer) -> None:
    """Add the option that ``use_threads`` is called with."""
    group.add_argument(
        "--threads",
        type=_threads,
        metavar="N",
        help="threads to compute with (default: the cores that this process may use)",
    )


def _threads(given: str) -> int:
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"{given!r}: it must be a number, 1 or more.")
    return int(given)


def open_model(arguments: argparse.Namespace, texts: bool = False) -> tuple[Decoder, Tokenizer | None]:
    """Load the model that the arguments name; warnings of ``load`` are printed as notes.

    texts  whether several processes may share texts: they do, unless asked for something else, where each has
           room for the whole model
    """
    use_threads(arguments.threads)
    ranks: MpiRanks | None = arguments.ranks
    if ranks is None and vars(arguments).get("parallel", AUTO) != AUTO:
        note(
            f"--parallel {arguments.parallel} is for several processes, and this is one. "
            f"To start two: mpiexec -n 2 {arguments.parser.prog} …",
            arguments,
        )

    def opened(parallel: str) -> tuple[Decoder, Tokenizer | None]:
        return load(
            arguments.model,
            arguments.dtype,
            revision=arguments.revision,
            offline=arguments.offline,
            cache_dir=arguments.cache_dir,
            in_memory=arguments.in_memory,
            isolated=arguments.isolated,
            ranks=ranks,
            parallel=parallel,
        )

    with warnings_noted(arguments):
        if ranks is None or not texts or arguments.parallel != AUTO:
            found = opened(AUTO if ranks is None else arguments.parallel)
        else:
            try:
                found = opened(PROMPTS)
            except TooLargeError:
                found = opened(AUTO)
    raise_for_embeddings(found[0])
    if found[0].part is not None:
        note(found[0].part.described(), arguments)
    elif found[0].copies is not None:
        note(f"{found[0].copies.ranks.size} processes share the texts: each has the whole model.", arguments)
    if arguments.dtype in ROUNDED:
        from tinystar_np.conversion import is_worth_keeping  # late: other answers do not need it

        if is_worth_keeping(found[0], arguments.dtype):
            command = f"tinystar convert {shlex.quote(arguments.model)} DIR --dtype {arguments.dtype}"
            note(f"{command} keeps the result.", arguments)
    return found


def raise_for_embeddings(model: Decoder | EmbeddingModel) -> None:
    """Raise InputError for a model that does not write."""
    if isinstance(model, EmbeddingModel):
        raise model.does_not_write()


def raise_for_gguf(path: Path) -> None:
    """Raise InputError for a GGUF file: transformers is given directories, to run the same weights."""
    if path.suffix == GGUF:
        raise InputError(
            f"{path}: transformers reads directories.\n"
            f"Make one: tinystar convert {shlex.quote(str(path))} DIR --dtype float32"
        )


SAMPLING: tuple[tuple[str, type, float, str, str], ...] = (
    # option, type, default, placeholder, help
    ("--top-k", int, 40, "K", "of the K likeliest; 0 is off (default: 40)"),
    ("--top-p", float, 0.95, "P", "1 is off (default: 0.95)"),
    ("--min-p", float, 0.0, "P", "0 is off (default)"),
    ("--typical-p", float, 1.0, "P", "1 is off (default)"),
    ("--repetition-penalty", float, 1.0, "X", "1 is off (default)"),
    ("--frequency-penalty", float, 0.0, "X", "-2 to 2; 0 is off (default)"),
    ("--presence-penalty", float, 0.0, "X", "-2 to 2; 0 is off (default)"),
    ("--no-repeat-ngram-size", int, 0, "N", "0 is off (default)"),
)


def add_sampling_arguments(
    parser: argparse.ArgumentParser,
    max_new_tokens: int | None,
    words: str = "%(default)s",
    temperature: float = 0.8,
) -> None:
    """Add the options that choose tokens.

    max_new_tokens, temperature  the command's own defaults
    words                        the first of them in words
    """
    parser.register("action", None, Given)
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "-n",
        "--max-tokens",
        dest="max_new_tokens",
        type=int,
        default=max_new_tokens,
        metavar="N",
        help=f"new tokens (default: {words})",
    )
    sampling.add_argument(
        "--temperature",
        "--temp",
        type=float,
        default=temperature,
        metavar="T",
        help="0 takes the likeliest (default: %(default)s)",
    )
    for names, kind, default, metavar, said in SAMPLING:
        sampling.add_argument(names, type=kind, default=default, metavar=metavar, help=said)
    sampling.add_argument(
        "--logit-bias",
        action="append",
        type=token_bias,
        default=[],
        metavar="ID=BIAS",
        help="add this, -100 to 100, to a token's logit; repeatable",
    )
    sampling.add_argument(
        "--prompt-lookup",
        dest="prompt_lookup_num_tokens",
        type=int,
        default=0,
        metavar="N",
        help="guess N tokens at once from the text so far: with --temperature 0 the same text, sooner where "
        "it repeats itself (default: off)",
    )
    sampling.add_argument("-s", "--seed", type=int, help="the same seed gives the same text")
    sampling.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end before this text, or this special token; repeatable",
    )
    sampling.add_argument(
        "--model-settings",
        action="store_true",
        help="those that the model's generation_config.json or GGUF file names; options still count more",
    )
    parser.set_defaults(given=())


def token_bias(given: str) -> tuple[int, float]:
    """Read a token's id and the number that is added to its logit, as "50=-5"."""
    id, _, number = given.partition("=")
    try:
        if id.isascii() and id.isdecimal():
            return int(id), float(number)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{given!r}: it must be a token's id and a number, as 50=-5.")


def sampling_settings(arguments: argparse.Namespace) -> Sampling:
    """Return the sampling options that were given, as keyword arguments of ``stream``.

    Raises UsageError where one is out of its range.
    """
    given = Sampling(**{name: getattr(arguments, name) for name in Sampling.__annotations__})  # type: ignore[typeddict-item]
    try:
        SamplingOptions(**given)
    except InputError as error:
        raise UsageError(str(error)) from error
    return given


def model_settings(tokenizer: Tokenizer | None) -> Sampling:
    """Return the settings that a loaded model's files recommend."""
    if tokenizer is None:
        return Sampling()
    from tinystar_np.generation.model_settings import read_model_settings  # late: few answers need it

    path = tokenizer.path
    return read_model_settings(path if path.suffix == GGUF else path.parent)


def chosen_settings(arguments: argparse.Namespace, given: Sampling, tokenizer: Tokenizer | None) -> Sampling:
    """Return the settings of sampling: with --model-settings the model's, where no option says otherwise.

    given  what ``sampling_settings`` returned
    """
    if not arguments.model_settings:
        return given
    found = model_settings(tokenizer)
    if not found:
        note(f"{arguments.model} recommends no settings; the usual ones are used.", arguments)
    of_model = {name: value for name, value in found.items() if name not in arguments.given}
    return Sampling(**{**given, **of_model})  # type: ignore[typeddict-item]
