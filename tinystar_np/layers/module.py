"""A part of a model that shows what it is made of, as text.

>>> model.blocks[0]
Block(
  attention_norm: LayerNorm(gain (192), bias (192), eps=1e-05)
  attention: FusedAttention(heads=6, kv_heads=6, head_dim=32, scale=0.176777
    out: Linear(192 → 192, bias, float32)
    qkv: Linear(192 → 576, bias, float32)
  )
  …
"""

from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from types import FunctionType

import numpy as np

from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.packed import PackedMatrix


class Module:
    """A part of a model: a layer, or a block of layers. All that is inherited is its text.

    reads   the keys of what it reads that earlier layers gave (``Step.give``)
    gives   those under which it gives something anew, in place of what earlier layers gave
    remark  what only the layer of one architecture does, for those who describe models
    """

    reads: tuple[Hashable, ...] = ()
    gives: tuple[Hashable, ...] = ()
    remark: str = ""

    def __repr__(self) -> str:
        facts, parts = [], []
        for name, value in vars(self).items():
            if name.startswith("_") or name in ("reads", "gives"):
                continue
            children = list(_children(name, value))
            parts += children
            if not children and (words := _in_words(name, value)):
                facts.append(words)
        head = f"{type(self).__name__}({', '.join(facts)}"
        return "\n".join([head, *parts, ")"]) if parts else f"{head})"


def read_of_earlier(blocks: Sequence[object]) -> frozenset[Hashable]:
    """Return the keys of what these blocks read that layers before them give."""
    keys: set[Hashable] = set()
    for block in reversed(blocks):  # what a block gives itself, earlier ones need not
        parts = [part for part in (block, *vars(block).values()) if isinstance(part, Module)]
        keys -= {key for part in parts for key in part.gives}
        keys |= {key for part in parts for key in part.reads}
    return frozenset(keys)


def _children(name: str, value: object) -> Iterator[str]:
    """Yield the text of each part that an attribute holds, indented; like ones of a list in a row once."""
    if isinstance(value, Module):
        yield _indented(name, value)
    elif isinstance(value, list | tuple) and value and all(isinstance(each, Module) for each in value):
        texts = [repr(each) for each in value]
        if len(texts) > 1 and len(set(texts)) == 1:
            yield _indented(f"{name}, {len(texts)} of", value[0])
        else:
            yield from (_indented(f"{name}[{i}]", each) for i, each in enumerate(value))


def _indented(name: str, part: Module) -> str:
    return f"  {name}: " + repr(part).replace("\n", "\n  ")


def _in_words(name: str, value: object) -> str:
    """Say what an attribute is, in short; "" for what is off, or says nothing in short."""
    if value is None or value is False:
        return ""
    if value is True:
        return name
    if isinstance(value, int | float | np.floating | np.integer):
        return f"{name}={value:g}" if isinstance(value, float | np.floating) else f"{name}={value}"
    if isinstance(value, str):
        return f"{name}={value!r}"
    if isinstance(value, np.ndarray | PackedMatrix):
        return f"{name} {_shape(value)}"
    function = value.func if isinstance(value, partial) else value
    return f"{name}={function.__name__}" if isinstance(function, FunctionType) else ""


def _shape(array: Matrix) -> str:
    return f"({' × '.join(map(str, array.shape))})"


def element_type(array: Matrix) -> str:
    """Return the type that an array's numbers are kept in: "float32", "bfloat16", "Q4_K"."""
    return array.element_type if isinstance(array, PackedMatrix) else str(array.dtype)
