"""The exercises of docs/serving/several_machines.md, solved."""

import numpy as np
import pytest

from tinystar_np.inspection.wire import Wire, by_heads, by_layers
from tinystar_np.kernels.norms import rms_norm
from tinystar_np.ranks import shares


def test_a_token_of_an_8b_model_on_four_machines() -> None:
    # Llama 3.1 8B: L = 32, D = 4096, V = 128256. A vector has 16384 bytes, which take 131 µs at 125 MB/s.
    wire, vector = Wire(latency=100e-6, bandwidth=125e6), 4 * 4096
    hop = 100e-6 + vector / 125e6
    assert by_layers(4, 4096).seconds(wire) == pytest.approx(4 * hop)  # 0.9 ms
    # By heads: rank 0's message; 65 sums in two steps, in each of which a rank sends three quarters of a
    # vector; the logits, of which three ranks send their quarters to rank 0.
    call, sums = 100e-6, 65 * 2 * (100e-6 + 3 / 4 * vector / 125e6)
    logits = 100e-6 + 3 * 128256 / 125e6
    assert by_heads(4, 32, 4096, 128256).seconds(wire) == pytest.approx(call + sums + logits)  # 29 ms
    # Four machines that read 8 GB at 40 GB/s each save three quarters of 200 ms: worth it, but not for a
    # model of a hundredth of the size.


def test_a_slow_rank() -> None:
    def last_turn(seconds: list[int], pieces: int, overlap: bool) -> int:
        ends = np.zeros((len(seconds), pieces), dtype=int)
        for p in range(pieces):
            for r, taken in enumerate(seconds):
                arrives = ends[r - 1, p] if r else 0
                free = ends[r if overlap else -1, p - 1] if p else 0
                ends[r, p] = max(arrives, free) + taken
        return int(ends[-1, -1])

    assert last_turn([1, 1, 1], 4, overlap=False) == 12
    assert last_turn([1, 2, 1], 4, overlap=False) == 16  # each piece waits once: a third more
    assert last_turn([1, 1, 1], 4, overlap=True) == 6
    assert last_turn([1, 2, 1], 4, overlap=True) == 10  # all go at the pace of the slowest
    # By heads a piece takes a third of all three ranks' work, and each sum waits for the slowest: 4 pieces of
    # 1 take 4, of 2 take 8. So whoever divides by heads wants equal machines, and by layers can give a slow
    # one fewer.


def test_rms_norm_of_divided_features() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 12)).astype(np.float32)
    gain = rng.standard_normal(12).astype(np.float32)
    parts = [x[:, run.start : run.stop] for run in shares(12, 3)]
    gains = [gain[run.start : run.stop] for run in shares(12, 3)]

    # Each rank adds up its squares; a sum over ranks of one number for each token says the rest.
    squares = sum((part**2).sum(axis=-1, keepdims=True) for part in parts)
    assert isinstance(squares, np.ndarray)
    assert squares.size == 5
    scale = 1 / np.sqrt(squares / 12 + 1e-5)
    normed = [part * scale * own for part, own in zip(parts, gains, strict=True)]
    np.testing.assert_allclose(np.concatenate(normed, axis=-1), rms_norm(x, gain, 1e-5), rtol=1e-5)
