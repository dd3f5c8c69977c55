"""Mamba 2, its heads shared by ranks: the same logits as in one process."""

from pathlib import Path
from typing import Any

import pytest
from divided_by_heads import check_divided, config_of, from_random_file
from thread_ranks import divided

from tinystar_np.errors import InputError

MAMBA2 = {"num_heads": 6, "head_dim": 8, "hidden_size": 24, "expand": 2, "state_size": 5}


def test_adapters(tmp_path: Path) -> None:
    """What is added to queries, keys and values has the same heads."""
    check_divided(config_of("zamba2", "adapters"), tmp_path, 2)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groups(groups: int, tmp_path: Path) -> None:
    """A group may be one rank's, several ranks', or one of several of a rank."""
    raw = config_of("mamba2") | MAMBA2 | {"n_groups": groups}
    check_divided(raw, tmp_path, 2, 3, 4)


def test_what_each_rank_has(tmp_path: Path) -> None:
    """Some heads, their groups, and the same share of every weight but B's and C's of a shared group."""
    build = from_random_file(config_of("mamba2") | MAMBA2 | {"n_groups": 2}, tmp_path)
    ranks: list[Any] = []
    divided(lambda part: ranks.append(build(part)) or ranks[-1], 4)
    mixers = [rank.blocks[0].mixer for rank in ranks]
    assert [(mixer.heads, mixer.groups) for mixer in mixers] == [(2, 1), (1, 1), (2, 1), (1, 1)]
    columns = [2 * H * 8 + 2 * 5 + H for H in (2, 1, 2, 1)]
    assert [mixer.project.weight.shape[1] for mixer in mixers] == columns
    assert [mixer.out.weight.shape[0] for mixer in mixers] == [16, 8, 16, 8]
    assert [mixer.new_state(1, 0)["ssm"].shape for mixer in mixers] == [(1, H, 8, 5) for H in (2, 1, 2, 1)]


def test_too_many_ranks(tmp_path: Path) -> None:
    build = from_random_file(config_of("mamba2") | MAMBA2 | {"n_groups": 1}, tmp_path)
    with pytest.raises(InputError, match="7 ranks cannot share 6 heads"):
        divided(build, 7)
