"""``tinystar compare`` on the text part of every model of text and images: as transformers computes it."""

from pathlib import Path

import pytest
import test_llama4
from parity import save
from test_converted_seeing import CASES
from vision_parity import whole_model

from tinystar_np.cli.main import tinystar

CONFIGS = {kind: config for kind, (config, _, _) in CASES.items()} | {"llama4": test_llama4.small_config()}


@pytest.mark.parametrize("kind", CONFIGS)
def test_all_activations_agree(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(whole_model(CONFIGS[kind]), tmp_path)
    assert tinystar(["compare", str(tmp_path), "--ids", "5,17,3,90,41,8,2"]) == 0
    out = capsys.readouterr().out
    assert int(out.split("All ")[1].split()[0]) > 40
