from typing import Any

from parity_case import ALL_OF_4, ONE_OF_4, Case, rope
from switch_values import OF_SECTIONS, Other

CASE = Case(
    "qwen3_vl_moe_text",
    small={"rope_parameters": rope(mrope_section=[1, 2, 1])},
    variants={
        "every_second_layer": {"num_hidden_layers": 3, "decoder_sparse_step": 2},
        "some_dense": {"mlp_only_layers": [0]},
        "one": ONE_OF_4,
        "all": ALL_OF_4,
    },
)

OTHERS: dict[str, list[Any]] = OF_SECTIONS | {
    "intermediate_size": [Other(28, given={"mlp_only_layers": [0]})],
    "norm_topk_prob": [Other(True, same=True), False],
    "use_sliding_window": [Other(False, same=True), True],
}
