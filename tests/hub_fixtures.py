"""A machine without any model, and a hub on the loopback. Asked for with pytest_plugins."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from hub_machine import NEEDED, TOKEN, UNWANTED
from hub_server import serve_hub
from huggingface_hub import constants

from tinystar_np.checkpoints import hub


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without any model: empty caches, and an environment that says nothing of the hub."""
    for name in list(os.environ):
        foreign = ("HF_", "HUGGING", "TRANSFORMERS_", "XDG_CACHE")
        if name.startswith(foreign) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub, "PACKAGE", tmp_path / "checkout" / "tinystar_np")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def served(machine, monkeypatch):
    with serve_hub({"owner/model": {**NEEDED, **UNWANTED}}, {"v1": "a" * 40}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def in_time(monkeypatch) -> Iterator[None]:
    """Nothing may wait for ever, for a pipe or a byte; and the pauses between tries take no time."""

    def give_up(*arguments: object) -> None:
        raise AssertionError("it takes too long")

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
