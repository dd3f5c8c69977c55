"""The exercises of docs/seven_designs.md, solved."""

from dataclasses import replace

from tinystar_np.inspection.experiments import takes
from tinystar_np.inspection.trained import read_training


def test_bytes_of_a_token() -> None:
    # Keys and values: 2 · G · K numbers in a layer. A latent and one rotated key: R + J. Six layers, 4 bytes
    # for each number.
    designs = read_training().designs
    for name, numbers in (("v0.2-modern", 2 * 2 * 28), ("v0.5-mla", 56 + 14)):
        state = takes(designs[name].config, [512]).state
        assert state is not None
        assert state.per_token == 6 * numbers * 4
    # 2,688 and 1,680 bytes. v0.3-mha has 8 heads of them, each as wide: four times as many.
    state = takes(designs["v0.3-mha"].config, [512]).state
    assert state is not None
    assert state.per_token == 4 * 2688


def test_all_heads_are_not_told_apart_from_a_quarter_of_them() -> None:
    training = read_training()
    mha, gqa = training.designs["v0.3-mha"], training.repeated
    assert gqa.name == "v0.2-modern"
    # One way: its mean loss against those of the three seeds. It is lower than each, but by less than they
    # differ.
    best = gqa.losses().lowest
    assert 0 < best - mha.losses().median < training.noise()
    # Another: text by text. Chance would not make it the better one on all; a real difference would.
    better = [text for text in training.texts if mha.losses(text).median < gqa.losses(text).lowest]
    assert 0 < len(better) < len(training.texts)


def test_one_head_and_a_window() -> None:
    designs = read_training().designs
    eighth = replace(designs["v0.4-mqa"].config, mask="sliding_window", window_size=128)
    state = takes(eighth, [512, 8192]).state
    assert state is not None
    # 2 · 1 · 28 numbers of 4 bytes, in 6 layers, of 128 tokens, however long the text: 172 KB.
    assert state.at(8192) == state.at(512) == 6 * 2 * 28 * 4 * 128
    # It differs from v0.4-mqa in the window alone and from v0.7-swa in the heads alone. Those two answer a
    # question each; a comparison with v0.2-modern would mix both.
    for name in ("v0.4-mqa", "v0.7-swa"):
        there = designs[name].config.to_dict()
        differ = {key for key, value in eighth.to_dict().items() if value != there[key]}
        assert differ in ({"mask", "window_size"}, {"attention"})
