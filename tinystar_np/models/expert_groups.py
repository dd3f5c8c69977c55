"""Groups of experts, from which DeepSeek-V3's router and those like it choose: what a config may say."""

from tinystar_np.models.config import require


def check_groups(
    experts: int, per_token: int | None, groups: int | None, kept: int | None, key: str = "n_routed_experts"
) -> None:
    """Refuse groups of experts that cannot be made or chosen from.

    experts    how many there are
    per_token  ``num_experts_per_tok``
    groups     ``n_group``
    kept       ``topk_group``
    key        what ``experts`` is called in the file

    Raises ConfigError, naming key and value.
    """
    made = f"{key} = {experts} cannot be divided among n_group = {groups} groups."
    require(groups is not None and groups >= 1 and experts % groups == 0, made)
    assert groups is not None
    chosen = f"topk_group = {kept} of n_group = {groups} cannot be chosen."
    require(kept is not None and 1 <= kept <= groups, chosen)
    assert kept is not None
    size = experts // groups
    enough = f"num_experts_per_tok = {per_token} experts are not in topk_group = {kept} groups of {size}."
    require(per_token is None or per_token <= kept * size, enough)
    require(size >= 2, f"n_group = {groups} groups of {key} = {experts} have no two best experts each.")
