"""Packed models damaged at random: loading and running them works, or raises an error of ours."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import strategies as st
from mutations import BYTE_WAYS, JSON_WAYS, VALUES, Edit, Harness, outcomes_of
from packed_models import GPT2, LLAMA, save_packed
from test_packed_bitsandbytes import IN_8_BITS, PACKERS, SETTINGS
from test_packed_float8 import BLOCKS, by_blocks
from test_packed_integers import FORMS
from test_packed_mxfp4 import save_mxfp4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")

SIZES = LLAMA | {"num_hidden_layers": 1}
ROUNDS, ROUND = 4, 30
MODELS = {
    "mxfp4": save_mxfp4,
    "fp8": partial(save_packed, pack=by_blocks, settings=BLOCKS, sizes=SIZES),
    "nf4": partial(save_packed, pack=PACKERS["quantised twice"], settings=SETTINGS, sizes=SIZES),
    "int8 of bitsandbytes": partial(
        save_packed,
        pack=PACKERS["8 bits"],
        settings=IN_8_BITS,
        sizes=GPT2 | {"n_layer": 1},
        model_type="gpt2",
    ),
    **{
        form: partial(save_packed, pack=FORMS[form][0], settings=FORMS[form][1], sizes=SIZES)
        for form in ("gptq, in the order of activations", "awq", "mlx, 4 bits")
    },
}
COMPRESSED = ("4 bits in groups, zero points", "8 bits packed", "8 bits in groups", "FP8 in blocks")
COMPRESSED += ("NVFP4", "MXFP4")
edits: st.SearchStrategy[Edit] = st.tuples(
    st.integers(0, 15),
    st.sampled_from([*BYTE_WAYS, *JSON_WAYS * 3]),
    st.integers(0, 2**16),
    st.integers(1, 40) | st.integers(1, 20_000),
    st.sampled_from(VALUES) | st.integers() | st.floats() | st.text(max_size=5),
)
cases = st.lists(edits, min_size=1, max_size=2)


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    made = Harness()
    yield made
    made.close()


@pytest.mark.parametrize("form", MODELS)
def test_mutations(form: str, harness: Harness, tmp_path: Path) -> None:
    MODELS[form](tmp_path)
    damage(tmp_path, harness)


@pytest.mark.parametrize("scheme", COMPRESSED)
def test_mutations_of_compressed_tensors(scheme: str, harness: Harness, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="the package of this format is not installed")
    from test_packed_compressed import SCHEMES, packer, settings

    form, given = SCHEMES[scheme]
    save_packed(tmp_path, packer(form, given), settings(form, given), sizes=SIZES)
    damage(tmp_path, harness)


def damage(model: Path, harness: Harness) -> None:
    assert harness.run(model, []) == "works"
    outcomes = outcomes_of(model, cases, harness, ROUNDS * ROUND, ROUND, fixed=True)
    assert len(outcomes) > 1, outcomes
