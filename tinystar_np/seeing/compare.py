"""Comparing two implementations of a model, ours and transformers', activation by activation.

The weight table of a model says which module of the reference has the weights of each of our layers, and so
which activations to compare: the output of module ``h.3.attn.c_attn`` is our ``blocks.3.attention.qkv``. A
layer's input is the activation before it, for those that are no module's output.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.config_file import read_config
from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.checkpoints.packed_formats import packed_method
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.errors import TinyStarError
from tinystar_np.models import Decoder
from tinystar_np.models.text_part import TEXT_PARTS
from tinystar_np.seeing.recorder import record

INPUTS = {  # our activation: the layer of the same block that reads it
    "attention.mixed": "attention.out",
    "attention.gated": "attention.out",
    "residual_middle": "feed_forward_norm",
    "feed_forward.activation": "feed_forward.down",
    "mixer.scan": "mixer.gated_norm",
    "mixer.gated": "mixer.out",
}

UNPACKING = {
    "compressed-tensors": "CompressedTensorsConfig",
    "fp8": "FineGrainedFP8Config",
    "mxfp4": "Mxfp4Config",
}
"""The settings of transformers that unpack weights of a format when they are loaded."""
BEFORE = ("", "model.language_model.", "language_model.")
"""Prefixes of modules' names: a text part is within the model of text and images."""

BY_HEAD = tuple(f"attention.{name}" for name in ("q", "k", "v", "q_norm", "k_norm", "mixed", "gated"))


@dataclass(frozen=True)
class Difference:
    """The difference of one activation from the reference's.

    name     our name for it (docs/taps.md)
    shape    its shape, the batch axis included
    largest  the largest absolute value in the reference's
    error    the largest absolute difference; NaN where either has a NaN
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    error: float

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest value."""
        return self.error / self.largest if self.largest else self.error

    def exceeds(self, tolerance: float) -> bool:
        """Say whether the relative difference is above ``tolerance``, or not a number."""
        return not self.relative <= tolerance


def compare_with_transformers(model: Decoder, ids: Sequence[int], reference: Path) -> list[Difference]:
    """Run both models on the same tokens and compare every activation that can be paired.

    model      ours
    ids        T token ids
    reference  the directory that transformers loads its model from

    Returns the differences in the order of the computation; the logits come last.
    Raises TinyStarError where torch or transformers is missing, or cannot load the directory.
    """
    with record() as ours:
        model(np.asarray(ids))
    theirs = _run_transformers(model, ids, reference, list(ours))
    # A module that computes queries and their gates together has no counterpart here.
    paired = [
        name
        for name in ours
        if name in theirs and not (name.endswith(BY_HEAD) and ours[name].size != theirs[name].size)
    ]
    return [_difference(name, ours[name], theirs[name]) for name in paired]


def _difference(name: str, ours: NDArray, theirs: NDArray) -> Difference:
    if name.endswith(BY_HEAD) and ours.ndim == 4:  # theirs may be (B, T, H, K) or (B, T, HK)
        side_by_side = ours.transpose(0, 2, 1, 3)
        forms = [form.reshape(*form.shape[:2], -1) for form in (ours, side_by_side)] + [ours, side_by_side]
        fitting = [form for form in forms if form.shape == theirs.shape]
        # With as many heads as tokens two forms fit: the nearer one is right.
        ours = min(fitting, key=lambda form: float(np.abs(form - theirs).max()), default=ours)
    if ours.shape != theirs.shape:
        raise TinyStarError(f"{name} has shape {ours.shape} here and {theirs.shape} in transformers.")
    return Difference(name, ours.shape, float(np.abs(theirs).max()), float(np.abs(ours - theirs).max()))


def _run_transformers(
    model: Decoder, ids: Sequence[int], directory: Path, names: Sequence[str]
) -> dict[str, NDArray]:
    """Run the reference; return its activations under our names, those of ``names`` that can be paired."""
    try:
        import torch
        import transformers
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    except ImportError as error:
        raise TinyStarError(
            f"Comparing needs torch and transformers ({error}).\nInstall them: pip install torch transformers"
        ) from error
    # "eager" gives the attention probabilities. But Falcon's eager form in transformers 5.23 adds ALiBi
    # twice, in the mask and once more; its default form and the published models add it once.
    doubled = getattr(model.config, "alibi", False)
    config = read_config(directory)
    sees = config["model_type"] in TEXT_PARTS
    # Otherwise GPT-2's layers would be called with integers, and others would round activations too.
    unpacking = UNPACKING.get(packed_method(config) or "")
    unpacked = {"quantization_config": getattr(transformers, unpacking)(dequantize=True)} if unpacking else {}
    try:
        reference = (
            (AutoModelForImageTextToText if sees else AutoModelForCausalLM)
            .from_pretrained(
                directory,
                attn_implementation="sdpa" if doubled else "eager",
                dtype=torch.float32,
                local_files_only=True,
                **unpacked,
            )
            .eval()
        )
    except Exception as error:  # transformers raises whatever its parts raise
        said = one_line(error, 1000)
        raise TinyStarError(f"{directory}: transformers cannot load this model: {said}") from error

    caught: dict[str, NDArray] = {}

    def keep(name: str, value: Any, which: int = 0) -> None:
        tensor = value[which] if isinstance(value, tuple) else value
        array = tensor.numpy().copy()  # torch refuses this where gradients are on
        # Positions are looked up once for the whole batch: (T, D) or (1, T, D).
        caught[name] = array if array.ndim > 2 else array[None]

    for name, module in _modules(model, reference):
        which = 1 if type(module).__name__ == "Llama4Router" else 0  # others give their scores first
        module.register_forward_hook(lambda _, __, output, name=name, i=which: keep(name, output, i))
        for activation, reader in INPUTS.items():
            path = name.removesuffix(reader) + activation
            gated = activation == "attention.mixed" and path.replace("mixed", "gated") in names
            if name.endswith("." + reader) and not gated:
                module.register_forward_pre_hook(lambda _, inputs, path=path: keep(path, inputs))
    with torch.no_grad():
        output = reference(torch.tensor([list(ids)]), output_attentions=not doubled, use_cache=False)
    # The reference lists only those of attention layers, which in a hybrid are a few.
    attending = [name for name in names if name.endswith("attention.probabilities")]
    for name, probabilities in zip(attending, getattr(output, "attentions", None) or (), strict=False):
        keep(name, probabilities)
    keep("logits", output.logits)
    return caught


def _modules(model: Decoder, reference: Any) -> Iterator[tuple[str, Any]]:
    """Pair our names with the reference's modules: layers with weights, and whole blocks."""
    # A tensor that holds several of our matrices is left out: its module's output is that of all of them.
    rows = [row for row in expand(model.WEIGHTS, model.config).values() if not row.part]
    layers = {row.ours.rpartition(".")[0]: row.theirs.rpartition(".")[0] for row in rows}
    before = re.split(r"\b0\b", next(row.theirs for row in rows if row.ours.startswith("blocks.0.")))[0]
    layers |= {f"blocks.{i}.residual": f"{before}{i}" for i in range(len(model.blocks))}
    modules: Mapping[str, Any] = dict(reference.named_modules())
    for ours, theirs in layers.items():
        for whole in BEFORE:
            module = modules.get(whole + type(model).PREFIX + theirs, modules.get(whole + theirs))
            if module is not None:
                yield ours, module
                break
