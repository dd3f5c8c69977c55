"""Rows of weight tables for experts, in the two ways in which files have them.

Files on the hub have three matrices for each expert; transformers 5 has, in memory and in files of its own
format, one tensor for the gates and ups of all experts of a layer, and one for their downs. Files of both
kinds are read where they lie, nothing is put together or taken apart.
"""

from dataclasses import replace
from typing import Any

from tinystar_np.checkpoints.checkpoint import Checkpoint
from tinystar_np.models.decoder import Decoder
from tinystar_np.weights.weight_table import FittedTable, WeightTable, for_layers

# E experts, each M wide; some models have dense layers beside those with experts, F wide.
EXPERTS: WeightTable = {
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.mlp.gate.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.experts.{e}.gate.weight":
        ("layers.{i}.mlp.experts.{e}.gate_proj.weight", "M D -> D M"),
    "blocks.{i}.feed_forward.experts.{e}.up.weight":
        ("layers.{i}.mlp.experts.{e}.up_proj.weight", "M D -> D M"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.{e}.down_proj.weight", "D M -> M D"),
}  # fmt: skip
FUSED_EXPERTS: WeightTable = {
    "blocks.{i}.feed_forward.router.weight":
        ("layers.{i}.mlp.gate.weight", "E D -> D E"),
    "blocks.{i}.feed_forward.experts.{e}.gate_up.weight":
        ("layers.{i}.mlp.experts.gate_up_proj", "E 2M D -> D 2M"),
    "blocks.{i}.feed_forward.experts.{e}.down.weight":
        ("layers.{i}.mlp.experts.down_proj", "E D M -> M D"),
}  # fmt: skip


class EitherExperts(Decoder):
    """A model whose files have its experts in either way; ``fused_experts`` of its config says in which."""

    @classmethod
    def fit(cls, config: Any, checkpoint: Checkpoint) -> tuple[Any, FittedTable]:
        """Find each row of the weight table, after a look at the names in the file."""
        fused = any(name.endswith(".mlp.experts.gate_up_proj") for name in checkpoint)
        return super().fit(replace(config, fused_experts=fused), checkpoint)


def letters_of_none(layers_with_experts: int, layers: int, of_experts: str) -> str:
    """Return the shape letters of the kind of feed-forward layer that a model has none of."""
    return ("" if layers_with_experts else of_experts) + ("F" if layers_with_experts == layers else "")


def with_experts(dense: WeightTable, experts: WeightTable, config: Any) -> WeightTable:
    """Replace the feed-forward rows of a table, in the layers that have experts.

    dense    rows of layers without experts
    experts  rows of a feed-forward layer with experts, of which ``FUSED_EXPERTS`` replace those they know
    config   says ``layers_with_experts``, and with ``fused_experts`` how the file has them
    """
    if config.fused_experts:
        beside = {ours: row for ours, row in experts.items() if ours not in EXPERTS}
        experts = {**FUSED_EXPERTS, **beside}
    there = set(config.layers_with_experts)
    feed_forward = {ours: row for ours, row in dense.items() if ".feed_forward." in ours}
    return {
        **{ours: row for ours, row in dense.items() if ours not in feed_forward},
        **for_layers(feed_forward, (i for i in range(config.sizes["L"]) if i not in there)),
        **for_layers(experts, sorted(there)),
    }
