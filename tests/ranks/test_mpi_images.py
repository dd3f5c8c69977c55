"""A command with an image under mpiexec: what one process answers, on two ranks."""

import json
from pathlib import Path

import pytest
from mpi_processes import run, run_alone
from PIL import Image
from small_seeing import picture, small_seeing_model


@pytest.mark.parametrize("way", ["layers", "heads"])
def test_an_image_is_described(way: str, tmp_path: Path) -> None:
    """Rank 0 alone has the encoder; the others find the text part among all weights."""
    small_seeing_model(tmp_path)
    Image.fromarray(picture(40, 60)).save(tmp_path / "it.png")
    ask = ["ask", "-q", "--json", "-m", str(tmp_path), "--image", str(tmp_path / "it.png")]
    ask += ["--temperature", "0", "-n", "8"]
    ended = run(*ask, "--parallel", way, "What is it?")
    assert (ended.returncode, ended.stderr) == (0, "")
    alone = run_alone(*ask, "What is it?")
    assert json.loads(ended.stdout)["text"] == json.loads(alone.stdout)["text"] != ""
