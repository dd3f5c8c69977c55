"""Per-layer inputs, layer by layer, as the formula says."""

import numpy as np

from tinystar_np.kernels.per_layer_embeddings import per_layer_inputs


def test_definition() -> None:
    draw = np.random.default_rng(0)
    tokens, context = draw.standard_normal((2, 2, 5, 12), dtype=np.float32)
    gain = draw.standard_normal(4, dtype=np.float32)
    found = per_layer_inputs(tokens, context, gain, 1e-3)
    assert found.shape == (2, 5, 3, 4)
    assert found.dtype == np.float32
    for i in range(3):
        part = context[..., 4 * i : 4 * i + 4].astype(np.float64)
        normed = part / np.sqrt((part * part).mean(axis=-1, keepdims=True) + 1e-3) * gain
        expected = (normed + tokens[..., 4 * i : 4 * i + 4]) / np.sqrt(2)
        np.testing.assert_allclose(found[:, :, i], expected, rtol=0, atol=1e-6)
