"""A model of transformers, run with its activations and weights under our names.

The weight table of a model says which module of the reference has the weights of each of our layers, and so
which activation its output is: that of ``h.3.attn.c_attn`` is our ``blocks.3.attention.qkv``. A layer's input
is the activation before it, for those that are no module's output. Queries and keys as attention reads them,
rotated, are the arguments of transformers' attention function.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tinystar_np.checkpoints.config_file import read_config
from tinystar_np.checkpoints.json_file import one_line
from tinystar_np.checkpoints.packed_formats import packed_method
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.errors import TinyStarError
from tinystar_np.models import Decoder
from tinystar_np.models.text_part import TEXT_PARTS

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
UNLIKE = {"falcon_h1": "k", "jetmoe": "qk", "granite_swa": "p"}
"""Models whose queries ("q") or keys ("k") are multiplied before attention there, and scores here; or which
stand in another order there, as those of JetMoe's experts; or whose probabilities ("p") know no sink."""
FROM_1 = ("paligemma",)
"""Models whose positions transformers counts from 1. Rotations go by their differences: the logits are those
of positions from 0, but rotated queries and keys are not."""
ENCODED = ("blt",)
"""Models of several stacks, of which our blocks are the last: more than the embedding stands before them, and
transformers lists the probabilities of all."""
OF_A_LAYER = (".weight", ".bias")
"""How the names of tensors end that have a layer to themselves."""
OUT = re.compile(r"blocks\.(\d+)\.attention\.out")
ATTEND, ROTATE = "eager_attention_forward", "apply_rotary_pos_emb"
BEFORE = ("", "model.language_model.", "language_model.", "model.text_model.")
"""Prefixes of modules' names: a text part is within the model of text and images."""


@dataclass(frozen=True)
class Reference:
    """What transformers made of the same tokens.

    activations  {our name: array}, those that can be paired
    parameters   {the weight table's name of a tensor: array}
    """

    activations: Mapping[str, NDArray]
    parameters: Mapping[str, NDArray]


def run_transformers(model: Decoder, ids: Sequence[int], directory: Path, names: Sequence[str]) -> Reference:
    """Run the reference on the same tokens.

    model      ours
    ids        T token ids
    directory  what transformers loads
    names      our names of all activations, in their order

    Raises TinyStarError where torch or transformers is missing, or cannot load the directory.
    """
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
        if name in caught:  # of a layer that runs at several depths, the first is ours of this name
            return
        tensor = value[which] if isinstance(value, tuple | list) else value
        if tensor.ndim == 4 and name.endswith(("residual", "embedding")):  # P vectors, before rows or after
            vectors_first = tensor.shape[:2] != (1, len(ids))
            tensor = (tensor.permute(1, 2, 0, 3) if vectors_first else tensor).flatten(2)
        if name.endswith(".convolution"):  # (B, channels, T and what the padding adds)
            tensor = tensor.transpose(1, 2)[:, : len(ids)]
        array = tensor.numpy().copy()  # torch refuses this where gradients are on
        # Positions are looked up once for the whole batch: (T, D) or (1, T, D).
        caught[name] = array if array.ndim > 2 else array[None]

    outs: dict[int, int] = {}
    for name, module in _modules(model, reference):
        if found := OUT.fullmatch(name):
            outs.setdefault(id(module), int(found[1]))
        which = 1 if type(module).__name__ == "Llama4Router" else 0  # others give their scores first
        module.register_forward_hook(lambda _, __, output, name=name, i=which: keep(name, output, i))
        for activation, reader in INPUTS.items():
            path = name.removesuffix(reader) + activation
            gated = activation == "attention.mixed" and path.replace("mixed", "gated") in names
            if name.endswith("." + reader) and not gated:
                module.register_forward_pre_hook(lambda _, inputs, path=path: keep(path, inputs))
        if name == "blocks.0.residual" and config["model_type"] not in ENCODED:
            # What enters the first block is no module's output where it is scaled.
            module.register_forward_pre_hook(
                lambda _, inputs, more: keep("embedding", inputs or more["hidden_states"]), with_kwargs=True
            )
    given = torch.tensor([list(ids)])
    positions = {"position_ids": torch.arange(len(ids))[None]} if config["model_type"] in FROM_1 else {}
    with torch.no_grad(), _attention_watched(reference, names, keep, outs):
        output = reference(given, output_attentions=not doubled, use_cache=False, **positions)
    # The reference lists only those of attention layers, which in a hybrid are a few.
    attending = [name for name in names if name.endswith("attention.probabilities")]
    unlike = {*"qp"} & {*UNLIKE.get(config["model_type"], "")}
    others = unlike or config["model_type"] in ENCODED
    attending = [] if others else attending
    for name, probabilities in zip(attending, getattr(output, "attentions", None) or (), strict=False):
        keep(name, probabilities)
    keep("logits", output.logits)
    parameters = {
        _short(name, type(model).PREFIX): value.detach().numpy()
        for name, value in reference.named_parameters()
    }
    return Reference(caught, parameters)


def _short(name: str, prefix: str) -> str:
    """Return a parameter's name as the weight table has it."""
    for before in sorted({*BEFORE, *(whole + prefix for whole in BEFORE)}, key=len, reverse=True):
        if before and name.startswith(before):
            return name.removeprefix(before)
    return name


@contextmanager
def _attention_watched(
    reference: Any, names: Sequence[str], keep: Callable[[str, Any], None], outs: Mapping[int, int]
) -> Iterator[None]:
    """Keep the queries and keys that attention reads, inside the ``with`` block.

    outs  {the id of an output layer of attention: its block's number}, since stacks count from 0 each

    A model's file has a function that computes attention, ``eager_attention_forward(module, query, key, …)``.
    Older ones have none, but one that rotates those of a layer, ``apply_rotary_pos_emb(query, key, …)``. A
    whole model of text and images is in several files, of which the decoder's is another than its own.
    """
    files = {type(layer).__module__: sys.modules[type(layer).__module__] for layer in reference.modules()}
    unlike = UNLIKE.get(reference.config.model_type, "")
    last = {kind: _last_of(kind, names) if kind not in unlike else {} for kind in "qk"}
    blocks = list(last["q"])

    def keep_both(block: int, query: Any, key: Any) -> None:
        for kind, tensor in (("q", query), ("k", key)):
            name = last[kind].get(block)
            if name is not None and not name.endswith(f"attention.{kind}"):  # those are modules' outputs
                keep(name, tensor)

    def watching(attend: Callable[..., Any]) -> Callable[..., Any]:
        def watched(layer: Any, query: Any, key: Any, *rest: Any, **more: Any) -> Any:
            numbers = (outs[id(part)] for part in layer.children() if id(part) in outs)
            # Of several stacks, the others' layers count from 0, too.
            own = -1 if reference.config.model_type in ENCODED else getattr(layer, "layer_idx", -1)
            keep_both(next(numbers, own), query, key)
            return attend(layer, query, key, *rest, **more)

        return watched

    changed: list[tuple[Any, str, Any]] = [
        (file, ATTEND, watching(getattr(file, ATTEND))) for file in files.values() if hasattr(file, ATTEND)
    ]
    module = files[type(reference).__module__]
    if not changed and hasattr(module, ROTATE):
        rotate, remaining = module.apply_rotary_pos_emb, iter(blocks)

        def rotated(*given: Any, **more: Any) -> Any:
            both = rotate(*given, **more)
            block = next(remaining, None)
            if block is not None and isinstance(both, tuple):
                keep_both(block, *both)
            return both

        changed = [(module, ROTATE, rotated)]
    before = [(file, name, getattr(file, name)) for file, name, _ in changed]
    for file, name, function in changed:
        setattr(file, name, function)
    try:
        yield
    finally:
        for file, name, function in before:
            setattr(file, name, function)


def _last_of(kind: str, names: Sequence[str]) -> dict[int, str]:
    """Find what attention reads of each block: the last of our names of its queries ("q") or keys ("k")."""
    pattern = re.compile(rf"blocks\.(\d+)\.attention\.{kind}(_norm|_rotated|_scaled)?")
    return {int(found[1]): name for name in names if (found := pattern.fullmatch(name))}


def _modules(model: Decoder, reference: Any) -> Iterator[tuple[str, Any]]:
    """Pair our names with the reference's modules: layers with weights, and whole blocks."""
    # A tensor that holds several of our matrices is left out: its module's output is that of all of them. So
    # is one that is of no layer.
    rows = [row for row in expand(model.WEIGHTS, model.config).values() if not row.part and "." in row.theirs]
    # A layer of ours whose weight is a tensor of another name there is within a larger module of theirs.
    whole = [row for row in rows if row.ours.endswith(OF_A_LAYER) <= row.theirs.endswith(OF_A_LAYER)]
    whole.sort(key=lambda row: row.ours.endswith(".weight"))  # last: a layer's module is where its matrix is
    layers = {row.ours.rpartition(".")[0]: row.theirs.rpartition(".")[0] for row in whole}
    within = {row.ours: row.theirs.rpartition(".")[0] for row in rows}
    for name, module in within.items():
        layer = name.removesuffix(".bias")
        if layer != name and within.get(f"{layer}.weight", module) != module:
            layers.pop(layer, None)  # the bias is added elsewhere: no module's output is this layer's
    before = re.split(r"\b0\b", next(row.theirs for row in rows if row.ours.startswith("blocks.0.")))[0]
    their_numbers = {
        found[1] for row in rows if (found := re.match(rf"{re.escape(before)}(\d+)\.", row.theirs))
    }
    each = max(len(model.blocks) // max(len(their_numbers), 1), 1) if their_numbers else 1
    last = range(each - 1, len(model.blocks), each)  # where each of their layers is several blocks here
    layers |= {f"blocks.{i}.residual": f"{before}{i // each}" for i in last}
    modules: Mapping[str, Any] = dict(reference.named_modules())
    for ours, theirs in layers.items():
        for prefix in BEFORE:
            module = modules.get(prefix + type(model).PREFIX + theirs, modules.get(prefix + theirs))
            if module is not None:
                yield ours, module
                break
