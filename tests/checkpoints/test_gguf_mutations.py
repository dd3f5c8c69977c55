"""GGUF files damaged at random: reading all of them works, or raises an error of ours, and nothing else.

MUTATIONS=100000 pytest tests/checkpoints/test_gguf_mutations.py            a longer run
"""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from mutations import BYTE_WAYS, Edit, Harness, outcomes_of

gguf = pytest.importorskip("gguf", reason="the gguf package writes the files")

CASES = int(os.environ.get("MUTATIONS", 2000))
ROUND = 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")

# What counts, lengths, offsets, types and dimensions are most likely to be wrong by.
NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 16, 31, 32, 33, 64, 99, 255, 256, 1 << 16, (1 << 31) - 1]
NUMBERS += [1 << power for power in (31, 32, 40, 53, 60, 62, 63)] + [
    (1 << 32) - 1,
    (1 << 63) - 1,
    (1 << 64) - 1,
]
wide = st.sampled_from([struct.pack("<Q", number) for number in NUMBERS])
narrow = st.sampled_from([struct.pack("<I", number) for number in NUMBERS if number < 1 << 32])

edits: st.SearchStrategy[Edit] = st.one_of(
    st.tuples(st.just(0), st.just("overwrite"), st.integers(0, 1500), st.just(0), wide | narrow),
    st.tuples(
        st.just(0),
        st.sampled_from(BYTE_WAYS),
        st.integers(0, 1 << 12),
        st.integers(1, 40),
        st.binary(max_size=12),
    ),
)
cases = st.lists(edits, min_size=1, max_size=2)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(32)
    writer.add_array("tokens", ["a", "b", "é", "longer"])
    writer.add_array("scores", [0.5, 1.5])
    writer.add_array("flags", [True, False])
    writer.add_float32("eps", 1e-5)
    writer.add_bool("yes", True)
    numbers = np.random.default_rng(0)
    for name in ("F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K", "IQ4_XS", "MXFP4"):
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        data = numbers.integers(0, 256, (1, size * max(1, 32 // elements)), dtype=np.uint8)
        whole = {"F32": np.float32, "F16": np.float16}.get(name)
        writer.add_tensor(name, data if whole is None else data.view(whole), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_mutations(file: Path) -> None:
    harness = Harness()
    try:
        assert harness.run(file, []) == "works"
        outcomes = outcomes_of(file, cases, harness, CASES, ROUND, fixed=CASES <= 2000)
    finally:
        harness.close()
    assert outcomes["works"] > CASES // 20, outcomes
    assert outcomes["CheckpointError"] > CASES // 4, outcomes
