"""Write a model's files once more, with its matrices as int8, MXFP4, bfloat16 or float32."""

import argparse
from pathlib import Path

from tinystar_np.cli.model_argument import add_model_word
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import add_common_arguments, add_source_arguments
from tinystar_np.cli.wording import count_of, size_of
from tinystar_np.conversion import ELEMENT_TYPES, convert

EPILOG = """examples:
  {command} HuggingFaceTB/SmolLM2-135M smollm2-int8 --dtype int8
  tinystar ask -m smollm2-int8 "Once upon a time"
  {command} model.Q4_K_M.gguf model --dtype bfloat16

The new directory is read by transformers too (int8 and mxfp4 with the compressed-tensors package, and no
experts in int8). In int8 are the matrices of linear layers; the embedding stays as it is, and so do experts
that are one tensor together. In mxfp4 are the same but the output layer, and what is not is bfloat16; of
gpt-oss it is the experts alone, as published."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_word(parser, "directory", needed=("directory",))
    parser.add_argument("directory", nargs="?", help="where to write it: new, or empty")
    parser.add_argument("--dtype", choices=ELEMENT_TYPES, required=True, help="element type of the matrices")
    add_source_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    done = convert(
        arguments.model,
        Path(arguments.directory),
        arguments.dtype,
        revision=arguments.revision,
        offline=arguments.offline,
        cache_dir=arguments.cache_dir,
    )
    share = done.of_this_type / done.numbers
    say(
        f"{arguments.directory}: {size_of(done.nbytes)}, {share:.0%} of {count_of(done.numbers)} weights "
        f"as {arguments.dtype}"
    )
    if done.missing:
        say(done.missing)
    return OK
