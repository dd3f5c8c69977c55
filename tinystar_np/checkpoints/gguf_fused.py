"""Matrices that some GGUF files have below each other in one tensor, as views of its parts.

    blk.{i}.attn_qkv.*            queries, keys, values           attn_q, attn_k, attn_v
    blk.{i}.ffn_gate_up_exps.*    of each expert: gates, ups      ffn_gate_exps, ffn_up_exps

llama.cpp's conversion writes them so with --fuse-qkv and --fuse-gate-up-exps, and so old files of Phi 2 are.
It reads either form of every architecture. Where the fused one is what an architecture has in any case
(gguf_names.py), it stays as it is.
"""

import re
from collections.abc import Mapping

from tinystar_np.checkpoints.gguf_header import GgufTensor
from tinystar_np.checkpoints.gguf_undo import Heads

QKV = re.compile(r"(blk\.[0-9]+\.)attn_qkv\.(weight|bias)")
EXPERTS = re.compile(r"(blk\.[0-9]+\.)ffn_gate_up_exps\.(weight|bias)")


def taken_apart(
    tensors: Mapping[str, GgufTensor], names: Mapping[str, object], heads: Heads
) -> dict[str, GgufTensor]:
    """Return the tensors of a file, with the parts of fused ones in their places.

    names  by which the architecture's tensors are known, from gguf_names.py
    heads  of the model's attention

    What cannot be taken apart, as it has too few rows, stays: whoever gathers weights refuses it by name.
    """
    known = " ".join(names)
    found: dict[str, GgufTensor] = {}
    for name, tensor in tensors.items():
        parts = {name: tensor}
        if (match := QKV.fullmatch(name)) and "attn_qkv" not in known and "attn_q." in known:
            parts = _queries_keys_values(tensor, match, heads) or parts
        elif (match := EXPERTS.fullmatch(name)) and "ffn_gate_exps" in known:
            parts = _gates_and_ups(tensor, match) or parts
        # A file that has a part in a tensor of its own as well is damaged.
        found |= parts if tensors.keys().isdisjoint(parts.keys() - {name}) else {name: tensor}
    return found


def _queries_keys_values(
    tensor: GgufTensor, name: re.Match[str], heads: Heads
) -> dict[str, GgufTensor] | None:
    """Divide the rows: HK of queries, and half of the rest of keys and of values each."""
    queries = heads.queries * heads.width
    rest = tensor.shape[0] - queries
    if queries == 0 or rest < 2 or rest % 2:
        return None
    ends = [0, queries, queries + rest // 2, queries + rest]
    rows = tensor.memory.reshape(tensor.shape[0], -1)
    parts = {}
    for letter, start, end in zip("qkv", ends[:-1], ends[1:], strict=True):
        full = f"{name[1]}attn_{letter}.{name[2]}"
        shape = (end - start, *tensor.shape[1:])
        parts[full] = tensor._replace(name=full, shape=shape, memory=rows[start:end])
    return parts


def _gates_and_ups(tensor: GgufTensor, name: re.Match[str]) -> dict[str, GgufTensor] | None:
    """Divide the rows of each expert: (E, 2F, …) into (E, F, …) twice."""
    if len(tensor.shape) < 2 or tensor.shape[1] % 2 or not tensor.shape[1]:
        return None
    experts, both, *rest = tensor.shape
    rows = tensor.memory.reshape(experts, both, -1)
    parts = {}
    for number, kind in enumerate(("gate", "up")):
        full = f"{name[1]}ffn_{kind}_exps.{name[2]}"
        some = rows[:, number * both // 2 : (number + 1) * both // 2]
        parts[full] = tensor._replace(name=full, shape=(experts, both // 2, *rest), memory=some)
    return parts
