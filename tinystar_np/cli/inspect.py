"""Describe a model, its size and its memory, from its config alone: no weights are read or fetched.

With --check they are: their names and shapes are held against the architecture's, and they are searched for
NaN and infinity; the tokenizer and the chat template are tried.

Sizes are decimal: 1 KB is 1000 bytes.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from tinystar_np.checkpoints.compressed_tensors import is_int8_per_output
from tinystar_np.checkpoints.hub import find_model
from tinystar_np.checkpoints.json_file import JsonObject, one_line
from tinystar_np.checkpoints.model_files import has_model
from tinystar_np.checkpoints.model_source import ModelSource, open_source
from tinystar_np.checkpoints.packed_formats import packed_method
from tinystar_np.checkpoints.stored_matrix import is_int8
from tinystar_np.cli.check_names import CheckedNames, check_names
from tinystar_np.cli.check_text import CheckedText, check_text
from tinystar_np.cli.check_weights import CheckedWeights, check_weights
from tinystar_np.cli.inspect_embedding import inspect_embedding
from tinystar_np.cli.inspect_images import Images, add_image_size_option, image_rows, images_of, print_costs
from tinystar_np.cli.model_argument import add_model_word
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import (
    MODEL_HELP,
    UsageError,
    add_common_arguments,
    add_source_arguments,
    say_styled,
    say_table,
)
from tinystar_np.cli.wording import count_of, in_words, size_of, wrapped
from tinystar_np.inspection.describe import Description, describe_model
from tinystar_np.inspection.describe_layers import heads_in_words
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.llama_generations import Likeness, likeness
from tinystar_np.inspection.memory import StateSize, WeightSizes, lengths_to_show, state_sizes, weight_sizes
from tinystar_np.models.llama import LlamaConfig
from tinystar_np.models.registry import EMBEDDING_ARCHITECTURES
from tinystar_np.models.text_part import TEXT_PARTS, has_vision, text_config

LABEL = 15  # columns
ROWS = {  # role or part: its label, in the order of printing
    "layers": "layers",
    "block": "block",
    "mixer": "mixer",
    "positions": "positions",
    "scores": "scores",
    "feed_forward": "feed-forward",
    "norms": "norms",
    "biases": "biases",
    "multipliers": "multipliers",
    "output": "output layer",
    "vocabulary": "vocabulary",
    "context": "context",
}
MOST_KINDS = 6  # of one row
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_word(parser, words=f"{MODEL_HELP}; a directory need hold no more than config.json")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--check",
        action="store_true",
        help="hold names and shapes of the weights against the architecture's, and report NaN and infinity "
        "among them; try the tokenizer and the chat template",
    )
    add_image_size_option(parser)
    add_source_arguments(parser)
    add_common_arguments(parser)
    parser.set_defaults(command=inspect, parser=parser)


def inspect(arguments: argparse.Namespace) -> int:
    """Run the command."""
    source = open_source(
        find_model(
            arguments.model,
            revision=arguments.revision,
            offline=arguments.offline,
            cache_dir=arguments.cache_dir,
            config_only=not arguments.check,
        )
    )
    whole = source.config
    if whole["model_type"] in EMBEDDING_ARCHITECTURES:
        return inspect_embedding(source, arguments)
    raw = text_config(whole)
    model = hollow_model(raw)
    description, weights, states = describe_model(model), weight_sizes(model), state_sizes(model)
    images = images_of(source, model, states, arguments.image_size)
    if arguments.image_size and images is None:
        raise UsageError("--image-size is of models that read images, and this one reads text alone.")
    like = likeness(model.config) if type(model.config) is LlamaConfig else None
    stored = _stored(source, raw, weights, images)
    lengths = lengths_to_show(model)
    checked = check_weights(source.tensors(), source.path, arguments) if arguments.check else None
    names = check_names(source, model) if arguments.check else None
    text = check_text(source.path) if arguments.check else None
    if arguments.json:
        found = {
            "model": arguments.model,
            "path": str(source.path),
            "model_type": raw["model_type"],
            "parts": {name: part.facts for name, part in description.parts.items()},
            "layers": [{role: part.facts for role, part in layer.items()} for layer in description.layers],
            "weights": {**asdict(weights), "stored": stored},
            "state": [
                {
                    "name": size.name,
                    "fixed": size.fixed,
                    "per_token": size.per_token,
                    "at": {tokens: size.at(tokens) for tokens in lengths},
                }
                for size in states
            ],
            **({"images": images.facts} if images else {}),
            "llama": like and like._asdict(),
            **({"check": names.facts | checked.facts | text.facts} if names and checked and text else {}),
        }
        say(json.dumps(found, indent=2))
        _raise_faults(names, checked, text)
        return OK

    def title(words: str) -> None:
        say_styled(words, "bold", arguments)

    kind = whole["model_type"]
    part = f", the text part of {kind}" if kind in TEXT_PARTS else ""
    title(f"{arguments.model}: {raw['model_type']}{part}")
    _print_architecture(description)
    title("\nWeights of the text part" if images else "\nWeights")
    _print_weights(weights, stored)
    if images:
        _row("", f"what reads images is {'' if stored.get('images_here') else 'not '}counted in the files")
        title("\nImages")
        for label, words in image_rows(images):
            _row(label, words)
        say()
        print_costs(images, arguments)
    title("\nState of one text, in float32")
    if states:
        _print_states(states, lengths, arguments)
        say()
    say(wrapped(explanation(description, states, lengths[-1]), _width(), first="  ", indent=2))
    if like:
        title("\nWhich Llama?")
        _print_likeness(like)
    if names and checked and text:
        title("\nCheck")
        for line in (*names.lines, *checked.lines, *text.lines):
            say(f"  {line}")
    _raise_faults(names, checked, text)
    return OK


def _raise_faults(
    names: CheckedNames | None, weights: CheckedWeights | None, text: CheckedText | None
) -> None:
    """Raise the error of what was checked, after all is printed."""
    if names:
        names.raise_if_any()
    if weights:
        weights.raise_if_any()
    if text and text.error:
        raise text.error


def _print_architecture(description: Description) -> None:
    for role, label in ROWS.items():
        if role in description.parts:
            _row(label, description.parts[role].words)
        kinds = description.kinds(role)
        lines = [
            part.words if len(kinds) == 1 else f"{_layers(where)}: {part.words}" for part, where in kinds
        ]
        if len(lines) > MOST_KINDS:
            left_out = len(lines) - MOST_KINDS + 1
            lines = [*lines[: MOST_KINDS - 2], f"… {left_out} more kinds …", lines[-1]]
        for line in lines:
            _row(label, line)
            label = ""


def _layers(numbers: Sequence[int]) -> str:
    """Write runs of layers: "layers 0–4, 6"."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    words = ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"{'layer' if len(numbers) == 1 else 'layers'} {words}"


def _stored(source: ModelSource, raw: JsonObject, weights: WeightSizes, images: Images | None) -> JsonObject:
    """Return the bytes of the stored weights: of the files if they are on this disk, else by the config."""
    if has_model(source.path):
        checkpoint = source.checkpoint(raw)
        parameters = weights.parameters + (images.description.parameters if images else 0)
        packed = {checkpoint.name_in_file(name) for name in checkpoint if checkpoint.packed(name) is not None}
        return {
            "nbytes": checkpoint.nbytes,
            "bits_per_weight": round(8 * checkpoint.nbytes / max(parameters, 1), 3),
            "types": checkpoint.types(),
            "packed": len(packed),
            "int8_matrices": sum(is_int8(checkpoint, name) for name in checkpoint),
            "here": True,
            **({"images_here": has_vision(checkpoint)} if images else {}),
        }
    if is_int8_per_output(raw.get("quantization_config")):
        return {"nbytes": None, "dtype": "int8", "here": False}
    method = packed_method(raw)
    if method is not None:
        return {"nbytes": None, "dtype": method, "here": False}
    dtype = one_line(raw.get("dtype") or raw.get("torch_dtype") or "")
    nbytes = weights.parameters * BYTES.get(dtype or "float32", 0)
    return {"nbytes": nbytes or None, "dtype": dtype or None, "here": False}


def _print_weights(weights: WeightSizes, stored: JsonObject) -> None:
    _row("parameters", f"{in_words(weights.parameters)} ({weights.parameters:,})")
    if weights.active != weights.parameters:
        share = weights.active / weights.parameters
        _row("", f"{in_words(weights.active)} active for each token ({share:.0%})")
    parts = sorted(weights.parts.items(), key=lambda part: -part[1])
    _row("", " · ".join(f"{part} {count_of(count)}" for part, count in parts))
    if stored["here"]:
        types = ", ".join(f"{count} tensors {kind}" for kind, count in stored["types"].items())
        _row("in the files", f"{size_of(stored['nbytes'])}, {types}")
        if stored["packed"]:
            of_each = f"{stored['bits_per_weight']:.3g} bits a weight, scales included"
            _row("", f"{stored['packed']} of these are packed matrices; all together {of_each}")
        if stored["int8_matrices"]:
            count = stored["int8_matrices"]
            _row("", f"{count} linear layers in int8, a scale per output (compressed-tensors)")
    else:
        known = size_of(stored["nbytes"]) if stored["nbytes"] else "unknown"
        dtype = f"{stored['dtype']} by" if stored["dtype"] else "float32, no type in"
        _row("in the files", f"{known}, {dtype} config.json; they are not here")
    as_packed = [f"packed {size_of(stored['nbytes'])}"] if stored.get("packed") else []
    sizes = [f"{dtype} {size_of(n)}" for dtype, n in weights.nbytes.items()]
    _row("loaded as", " · ".join([*as_packed, *sizes]))


def _print_states(states: Sequence[StateSize], lengths: Sequence[int], arguments: argparse.Namespace) -> None:
    fixed = ["fixed"] if any(size.fixed for size in states) else []
    head = ["tokens", "per token", *fixed, *map(str, lengths)]
    cells = [[size.per_token, *(size.fixed for _ in fixed), *map(size.at, lengths)] for size in states]
    rows = [[size.name, *map(size_of, row)] for size, row in zip(states, cells, strict=True)]
    say_table(head, rows, arguments, indent=2, least=7)


def explanation(description: Description, states: Sequence[StateSize], tokens: int) -> str:
    """Explain in a few sentences what the table of states shows at this length."""
    mixers = [layer["mixer"] for layer in description.layers if "mixer" in layer]
    attending = [mixer for mixer in mixers if mixer.facts["kind"] in ("MHA", "GQA", "MQA", "MLA")]
    if not states:
        return "None: a bidirectional model reads a text at once, and cannot continue it."
    now, *others = (size_of(size.at(tokens)) for size in states)
    if not attending and states[0].per_token:  # a mixer that is not known here
        return f"{tokens} tokens take {now}; every new one reads it all."
    if not attending:
        return (
            f"No layer attends: the state is {now} however long the text; attention of this width would need "
            f"{others[0]} for {tokens} tokens. What does not fit into the state is forgotten."
        )
    first = attending[0]
    heads = first.count("heads")
    groups = first.count("groups") if "groups" in first.facts else heads
    names = [size.name for size in states[1:]]
    if first.facts["kind"] == "MLA":
        words = (
            f"What {heads} heads need of a token is made from one latent: {tokens} tokens take {now}; "
            f"with a key and value for each head it would be {others[0]}."
        )
    elif len(attending) < len(mixers):
        everywhere = others[names.index(f"every layer {heads_in_words(heads, groups)}")]
        words = (
            f"Only {len(attending)} of {len(mixers)} layers attend; the others keep "
            f"{size_of(states[0].fixed)} together, however long the text. {tokens} tokens take {now}, and "
            f"would take {everywhere} if all attended."
        )
    elif groups < heads:
        words = (
            f"{heads // groups} queries share each key and value, so that {tokens} tokens take {now}; with a "
            f"key and value for each query it would be {others[0]}."
        )
    else:
        words = f"Each head keeps keys and values of its own: {now} for {tokens} tokens."
        if heads > 1:
            shared = others[names.index(f"as {heads_in_words(heads, 1)}")]
            words += f" Later models let queries share them; {shared} is what remains where all do."
    if any(size.name == "without window" for size in states):
        words += " The cache of a layer with a window holds no more tokens than that, and stops growing."
    return f"{words} Every new token reads the whole state: a smaller one is faster, too."


def _print_likeness(like: Likeness) -> None:
    _row("it is like", like.says)
    _row("agreeing", ", ".join(like.agreeing))
    if like.differing:
        _row("differing", ", ".join(like.differing))


def _row(label: str, words: str) -> None:
    """Print a label and its text, in several lines if needed."""
    say(wrapped(words, _width(), first=f"  {label}", indent=LABEL))


def _width() -> int:
    return max(min(shutil.get_terminal_size().columns, 100), 2 * LABEL)
