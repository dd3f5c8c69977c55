"""Every architecture divided by heads: the logits of one process, but for the order of its sums."""

from pathlib import Path
from typing import Any

import pytest
from divided_by_heads import CASES, IDS, alike, check_divided, check_pieces, config_of, from_random_file
from thread_ranks import divided

from tinystar_np.checkpoints.weight_table import WeightTable
from tinystar_np.errors import InputError
from tinystar_np.models import ARCHITECTURES, model_class

pytestmark = pytest.mark.usefixtures("one_blas_thread")

REFUSED = {"blt"}
"""Architectures that say why ranks cannot have shares of each of their layers."""
FEW_HEADS = {"diffllama": 2, "jetmoe": 2, "zamba": 2}
"""How many things that stay together the small models of these have: no more ranks can share them."""
MODELS = [
    *(
        pytest.param(config_of(case.model_type), id=case.model_type)
        for case in CASES
        if case.model_type not in REFUSED
    ),
    pytest.param(config_of("gemma4_text", "experts"), id="gemma4_text-experts"),
    pytest.param(config_of("nemotron_h", "latent_biases"), id="nemotron_h-latent_biases"),
]


@pytest.mark.parametrize("raw", MODELS)
def test_same_logits(raw: dict[str, Any], tmp_path: Path) -> None:
    """Of a text, in pieces, with rows that are chosen, joined, saved and cut; by two ranks and by three."""
    most = FEW_HEADS.get(raw["model_type"], 3)
    check_divided(raw, tmp_path, *range(2, most + 1))
    if most < 3:
        with pytest.raises(InputError, match="Start fewer"):
            divided(from_random_file(raw, tmp_path), 3)


@pytest.mark.parametrize(
    ("model_type", "variant"),
    [
        ("baichuan", "2_7b"),  # rows of the output layer are scaled to length 1
        ("codegen", "six_heads"),  # heads that lie in two quarters
        ("falcon", "grouped_alibi_biases"),
        ("gemma3n_text", "sparse"),  # a cutoff from all features
        ("gpt_bigcode", "multi_head"),
        ("stablelm", "all_of_it"),  # a norm of each head, in a tensor of its own
        ("zamba2", "adapters"),
    ],
)
def test_variants(model_type: str, variant: str, tmp_path: Path) -> None:
    """Of architectures whose layers are put together in several ways."""
    build = from_random_file(config_of(model_type, variant), tmp_path)
    check_pieces(build(), divided(build, 2))


FORMS = [
    pytest.param(config_of(case.model_type), form, id=f"{case.model_type}-{n}")
    for case in CASES
    for n, form in enumerate(model_class(case.model_type).OTHER_FORMS)
    if case.model_type not in REFUSED
]


@pytest.mark.parametrize(("raw", "form"), FORMS)
def test_other_forms(raw: dict[str, Any], form: WeightTable, tmp_path: Path) -> None:
    """Files that hold the same weights in other tensors."""
    build = from_random_file(raw, tmp_path, form)
    alike(divided(build, 2)(IDS[0]), build()(IDS[0]))


def test_refused(tmp_path: Path) -> None:
    """What cannot be divided says why, and what to do; all others are tried above."""
    assert {name for name in ARCHITECTURES if model_class(name).DIVIDES.why_not} == REFUSED
    assert {case.model_type for case in CASES} | {"tinystar"} == set(ARCHITECTURES)
    with pytest.raises(InputError, match=r"Blt cannot be divided by heads: its .+\nDivide it by layers"):
        divided(from_random_file(config_of("blt"), tmp_path), 2)
