"""Two models side by side: which keys and tensors differ, how, and at which activation it first shows.

    print(ts.diff("original", "converted"))

What a conversion got wrong is mostly one simple thing: an epsilon, a transposed matrix, two heads exchanged.
The tensors say what it is (tensor_kinds.py), and the first activation that differs says where it counts.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.checkpoints.weight_table import EMBEDDING, HEAD
from tinystar_np.errors import InputError
from tinystar_np.models import Decoder
from tinystar_np.seeing.comparison.activations import Difference, first_beyond
from tinystar_np.seeing.comparison.configs import differing_keys, keys_without_effect
from tinystar_np.seeing.comparison.prompt_reach import unseen_in
from tinystar_np.seeing.comparison.sides import Side, open_side
from tinystar_np.seeing.comparison.tensors import TensorDifference, differing_tensors, grouped, in_words
from tinystar_np.seeing.recorder import record

TOKENS = 40  # enough for rotations, masks and small windows to count
TOLERANCE = 1e-5
NAMED = 3  # causes that the answer names
END = "eos_token_id"
"""Read from generation_config.json where there is one."""


@dataclass(frozen=True, repr=False)
class ModelDifference:
    """How two models differ.

    keys            {key of config.json: (in A, in B)}, of those that change what is computed or where it ends
    without_effect  keys that differ and change nothing
    compared        how many tensors both have
    tensors         those that differ
    only            tensors that only one has, (in A, in B): {our name: its name in the files}
    faults          what is wrong with the tensors of each by its own config, in words
    activations     the differences of all activations; empty where one of them cannot run
    first           the first that differs by more than the tolerance
    tokens          T that both ran on; 0 for none
    unseen          what so few tokens cannot show, in words
    """

    keys: Mapping[str, tuple[object, object]]
    without_effect: Sequence[str]
    compared: int
    tensors: Sequence[TensorDifference]
    only: tuple[Mapping[str, str], Mapping[str, str]]
    faults: tuple[Sequence[str], Sequence[str]]
    activations: Sequence[Difference]
    first: Difference | None
    tokens: int
    unseen: Sequence[str]

    @property
    def differs(self) -> bool:
        """Whether anything that counts differs."""
        return bool(self.keys or self.tensors or any(self.only) or any(self.faults) or self.first)

    @property
    def answer(self) -> str:
        """The first activation that differs, and what makes it differ, in a sentence or two."""
        if not self.differs:
            return f"no difference: {self.compared} tensors are equal, and so are the configs"
        causes = "; ".join(self._causes())
        if self.first is None:
            return f"{causes} ({self._not_found()})"
        agree = self.activations.index(self.first)
        before = f"the {agree} before it agree" if agree else "nothing comes before it"
        return f"first: {self.first.name}, {self.first.relative:.1e} of its largest; {before}\n{causes}"

    def _not_found(self) -> str:
        """Say why there is no first activation that differs."""
        if not self.tokens:
            return "what does not fit does not run"
        if not self.activations:
            return "no activation has the same shape in both"
        return f"on {self.tokens} tokens no activation differs"

    def _causes(self) -> list[str]:
        """Name what differs, what makes the first activation differ before the rest."""
        faults = [f"{side}: {fault}" for side, its in zip("AB", self.faults, strict=True) for fault in its]
        keys = [f"{key} is {shown(a)} in A and {shown(b)} in B" for key, (a, b) in self.keys.items()]
        tensors = in_words(self.grouped())
        only = [
            f"only {side} has {names_listed(names.values())}"
            for side, names in zip("AB", self.only, strict=True)
            if names and not any(self.faults)
        ]
        if self.first is not None:
            at = {each.family for each in self.tensors if _is_read_by(each.name, self.first.name)}
            alike = [each for each in self.tensors if each.family in at]
            at_first = in_words(grouped(alike))
            lone = [
                f"only {side} has {names_listed(its)}"
                for side, names in zip("AB", self.only, strict=True)
                if (its := [name for ours, name in names.items() if _is_read_by(ours, self.first.name)])
            ]
            if at_first or lone:
                return [*at_first[:NAMED], *lone]
        causes = [*faults, *keys, *only, *tensors]
        more = len(causes) - NAMED
        return [*causes[:NAMED], f"and {more} more"] if more > 0 else causes

    def __repr__(self) -> str:
        first = self.first.name if self.first else None
        return f"ModelDifference({len(self.keys)} keys, {len(self.tensors)} tensors, first {first})"

    def __str__(self) -> str:
        return self.answer

    def grouped(self) -> list[tuple[str, str]]:
        """Return the differing tensors, those of several layers that differ alike as one: (names, kind)."""
        return grouped(self.tensors)


def diff(
    a: Decoder | str | Path,
    b: Decoder | str | Path,
    ids: Sequence[int] | NDArray[np.integer] | None = None,
    *,
    tolerance: float = TOLERANCE,
    offline: bool = False,
    cache_dir: str | Path | None = None,
) -> ModelDifference:
    """Compare two models: configs, tensors, and activations on the same tokens.

    a, b       loaded models, or what ``load`` takes
    ids        T token ids; None for ``TOKENS`` random ones
    tolerance  the largest difference of an activation, as a share of its largest value, that is no difference
    offline    never touch the network
    cache_dir  where downloads are, instead of the hub's shared cache

    Returns what differs; its ``answer`` is a sentence.
    Raises TinyStarError where files cannot be read; missing or misshapen tensors are reported instead.
    """
    sides = [open_side(model, offline=offline, cache_dir=cache_dir) for model in (a, b)]
    return compare_sides(sides[0], sides[1], ids, tolerance)


def compare_sides(
    a: Side, b: Side, ids: Sequence[int] | NDArray[np.integer] | None, tolerance: float
) -> ModelDifference:
    """Compare two opened models: arguments and result as of ``diff``."""
    common = [name for name in a.weights if name in b.weights]
    only_a = {name: a.names[name] for name in a.weights if name not in b.weights}
    only_b = {name: b.names[name] for name in b.weights if name not in a.weights}
    keys: dict[str, tuple[object, object]] = {}
    if type(a.config) is not type(b.config):
        keys["model_type"] = (_architecture(a.config), _architecture(b.config))
    keys |= differing_keys(a.config, b.config)
    if a.end_ids is not None and b.end_ids is not None and set(a.end_ids) != set(b.end_ids):
        keys[END] = (sorted(set(a.end_ids)), sorted(set(b.end_ids)))
    known = a.raw is not None and b.raw is not None and "model_type" not in keys
    without = keys_without_effect(a.raw or {}, b.raw or {}, type(a.config)) if known else []
    without = [key for key in without if key not in keys]
    activations: list[Difference] = []
    unseen: list[str] = []
    tokens = 0
    if a.model is not None and b.model is not None:
        given = default_ids(a.model, b.model) if ids is None else np.asarray(ids)
        tokens = given.size
        activations = compare_activations(a.model, b.model, given)
        unseen = list(dict.fromkeys([*unseen_in(a.model, tokens), *unseen_in(b.model, tokens)]))
    return ModelDifference(
        keys,
        without,
        len(common),
        list(differing_tensors(a, b, common)),
        (only_a, only_b),
        (_faults(a), _faults(b)),
        activations,
        first_beyond(activations, tolerance),
        tokens,
        unseen,
    )


def _architecture(config: object) -> str:
    return type(config).__module__.rpartition(".")[2]


def default_ids(*models: Decoder) -> NDArray[np.integer]:
    """Draw some tokens that all these models know: (T,)."""
    limits = [model.context_length for model in models if model.context_length is not None]
    return np.random.default_rng(0).integers(
        min(model.vocab_size for model in models), size=min([TOKENS, *limits])
    )


def _faults(side: Side) -> list[str]:
    missing, left_over, misfits = side.faults
    said = [f"lacks {names_listed(missing)}"] if missing else []
    said += [f"has {names_listed(left_over)}, unknown to the architecture"] if left_over else []
    for name, (found, asked) in misfits.items():
        turned = ": it is transposed" if found == asked[::-1] else ""
        said.append(f"{one_line(name)} has shape {shown(found)}, expected {asked}{turned}")
    return said


def names_listed(names: Iterable[str]) -> str:
    """List names; those that differ by the layer's number alone are one."""
    templates: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        templates[re.sub(r"\d+", "{}", one_line(name))].append(one_line(name))
    said = [
        its[0] if len(its) == 1 else f"{its[0]} … {its[-1]} ({len(its)})" for its in list(templates.values())
    ]
    return ", ".join(said[:NAMED]) + (
        f" and {len(said) - NAMED} more kind{'s' if len(said) > NAMED + 1 else ''}"
        if len(said) > NAMED
        else ""
    )


def _is_read_by(tensor: str, activation: str) -> bool:
    """Say whether an activation is the output of the layer that has a tensor."""
    if activation == "logits":
        return tensor in (HEAD, EMBEDDING)
    return tensor.rpartition(".")[0] == activation


def compare_activations(a: Decoder, b: Decoder, ids: NDArray[np.integer]) -> list[Difference]:
    """Run two models on the same tokens, and measure the difference of each activation that both have.

    Raises InputError for ids that are no tokens of one of them.
    """
    if ids.ndim != 1:
        raise InputError(f"ids have shape {ids.shape}, but two models are compared on one text: (T,).")
    with record() as ours:
        a(ids)
    with record() as theirs:
        b(ids)
    return [
        Difference.between(name, theirs[name], ours[name])  # A is the reference
        for name in ours
        if name in theirs and ours[name].shape == theirs[name].shape
    ]
