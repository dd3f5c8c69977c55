"""Latent attention and experts, shared by ranks: who has what, and whose choices count."""

from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from divided_by_heads import IDS, alike, check_divided, config_of, from_random_file
from thread_ranks import divided

from tinystar_np.layers.experts import own_experts
from tinystar_np.ranks import Divides, Division, Part


def test_each_rank_has_its_heads_and_all_latents(tmp_path: Path) -> None:
    build = from_random_file(config_of("deepseek_v3"), tmp_path)
    whole, ranks = build(), []
    parts = divided(lambda part: ranks.append(build(part)) or ranks[-1], 3)
    assert parts is ranks[0]
    attention = whole.blocks[0].attention
    ups = [rank.blocks[0].attention.up for rank in ranks]
    for n in range(2):  # those of keys, those of values
        assert np.array_equal(np.concatenate([up[n] for up in ups]), attention.up[n])
    for rank in ranks:
        assert np.array_equal(rank.blocks[0].attention.kv_down.weight, attention.kv_down.weight)


class OneRank:
    """What a layer knows of the ranks, without any."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size


def test_more_ranks_than_experts(tmp_path: Path) -> None:
    """A rank may have none: it adds nothing."""
    raw = config_of("mixtral") | {"num_local_experts": 2, "num_experts_per_tok": 1}
    check_divided(raw, tmp_path, 3, 4)
    experts = [np.negative, np.square, np.array]
    has = [own_experts(experts, Division(OneRank(rank, 4), Divides()), 1) for rank in range(4)]  # type: ignore[arg-type]
    assert has == [[np.negative, None, np.array], [None, np.square, None], [None] * 3, [None] * 3]


@pytest.mark.parametrize(
    ("model_type", "deciding"),
    [("mixtral", "feed_forward.router"), ("deepseek_v32", "attention.indexer.q")],
    ids=["experts", "keys"],
)
def test_rank_0_chooses(model_type: str, deciding: str, tmp_path: Path) -> None:
    """Ranks that would choose other experts, or other keys to attend to, compute what rank 0 says."""
    build = from_random_file(config_of(model_type), tmp_path)
    whole = build()

    def deciding_otherwise(part: Part) -> Any:
        model = build(part)
        if part.ranks.rank:
            for block in model.blocks:
                layer = attrgetter(deciding)(block)
                layer.weight = -layer.weight
        return model

    alike(divided(deciding_otherwise, 2)(IDS), whole(IDS))
