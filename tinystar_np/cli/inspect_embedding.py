"""``tinystar inspect`` of a model that embeds texts and images, and does not write."""

import argparse
import json
import shutil

from tinystar_np.checkpoints.gather import Faults
from tinystar_np.checkpoints.model_files import has_model
from tinystar_np.checkpoints.model_source import ModelSource
from tinystar_np.cli.check_names import CheckedNames
from tinystar_np.cli.check_text import check_text
from tinystar_np.cli.check_weights import CheckedWeights, check_weights
from tinystar_np.cli.inspect_images import print_seen_parts, seen_parts_of
from tinystar_np.cli.streams import OK, say
from tinystar_np.cli.terminal import say_styled
from tinystar_np.cli.wording import in_words, size_of, wrapped
from tinystar_np.inspection.embedding_model import EmbeddingDescription, describe_embedding_model
from tinystar_np.inspection.hollow import hollow_embedding_model
from tinystar_np.models.embedding_model import EmbeddingModel
from tinystar_np.models.fitted import fitting
from tinystar_np.models.text_part import vision_tensors, without_vision

LABEL = 15  # columns


def inspect_embedding(source: ModelSource, arguments: argparse.Namespace) -> int:
    """Run the command for such a model."""
    kind = source.config["model_type"]
    model = hollow_embedding_model(source.config)
    description = describe_embedding_model(model)
    parts, unknown = seen_parts_of(source, arguments.image_size)
    stored = source.tensors() if has_model(source.path) else None
    checked: list[CheckedNames | CheckedWeights] = []
    if arguments.check:
        checked = [_check_names(source, model), check_weights(source.tensors(), source.path, arguments)]
    text = check_text(source.path) if arguments.check else None
    if arguments.json:
        in_files = None if stored is None else {"nbytes": stored.nbytes, "types": stored.types()}
        facts = {
            "model": arguments.model,
            "path": str(source.path),
            "model_type": kind,
            **description.facts,
            "stored": in_files,
            "sizes": [part.facts for part in parts],
        }
        if text is not None:
            facts["check"] = {key: value for each in (*checked, text) for key, value in each.facts.items()}
        say(json.dumps(facts, indent=2))
    else:
        say_styled(f"{arguments.model}: {kind}, which embeds texts and images", "bold", arguments)
        _print(description)
        if stored is not None:
            types = ", ".join(f"{count} tensors {name}" for name, count in stored.types().items())
            _row("in the files", f"{size_of(stored.nbytes)}, {types}")
        if unknown:
            _row("sizes", unknown)
        _row("it gives", "model.embed_text(ids), model.embed_image(pixels), model.similarity; no words")
        if parts:
            say()
            print_seen_parts(parts, arguments)
        if text is not None:
            say_styled("\nCheck", "bold", arguments)
            for line in [line for each in (*checked, text) for line in each.lines]:
                say(f"  {line}")
    for each in checked:
        each.raise_if_any()
    if text is not None and text.error:
        raise text.error
    return OK


def _print(found: EmbeddingDescription) -> None:
    _row("vectors", f"{found.width} numbers for a text, and for an image; compared by their angle")
    filled = ", and is filled up to that with padding" if found.padded else ""
    for label, encoder, reads in (
        ("texts", found.text, f"{found.vocabulary} tokens; a text has {found.tokens} at most{filled}"),
        (
            "images",
            found.image,
            f"{found.image_size} × {found.image_size} pixels; {found.side} × {found.side} patches of "
            f"{found.patch_size} × {found.patch_size}",
        ),
    ):
        _row(label, reads)
        _row("", f"{encoder.layers} layers, {encoder.width} wide, {in_words(encoder.parameters)} parameters")
        _row("", f"{encoder.mixer.words}; {encoder.feed_forward.words}")
    _row("parameters", f"{in_words(found.parameters)} ({found.parameters:,})")


def _check_names(source: ModelSource, model: EmbeddingModel) -> CheckedNames:
    """Hold the tensors of both encoders against their weight tables."""
    whole = source.checkpoint(source.config)
    encoder, rest = model.encoder, without_vision(whole)
    _, of_image, first = fitting(type(encoder), encoder.config, vision_tensors(whole))
    _, of_text, second = fitting(type(model), model.config, rest)
    faults = Faults(
        [*first.missing, *second.missing],
        [*first.left_over, *second.left_over],
        {**first.misfits, **second.misfits},
    )
    return CheckedNames(source.path, len(of_image.tensors) + len(of_text.tensors), faults)


def _row(label: str, words: str) -> None:
    """Print a label and its text, in several lines if needed."""
    width = max(min(shutil.get_terminal_size().columns, 100), 2 * LABEL)
    say(wrapped(words, width, first=f"  {label}", indent=LABEL))
