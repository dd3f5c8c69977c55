"""benchmarks/: the load generator asks for what it says, and measures what a service did."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tinystar_np as ts

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytest.importorskip("httpx")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("load")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in both forms."""
    pytest.importorskip("gguf")
    directory = tmp_path_factory.mktemp("served")
    command = [sys.executable, str(BENCHMARKS / "served.py"), "tiny-llama", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def prompts(load: ModuleType, served: Path, tmp_path: Path) -> object:
    text = tmp_path / "text.txt"
    text.write_text((Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    return load.Prompts(served / "model" / "tokenizer.json", [text])


def test_both_forms_are_one_model(served: Path) -> None:
    model, tokenizer = ts.load(served / "model", dtype="float32")
    same, its_tokenizer = ts.load(served / "model.gguf", dtype="float32")
    ids = tokenizer.encode("The same model, twice: 12 tokens?")
    assert its_tokenizer.encode("The same model, twice: 12 tokens?") == ids
    np.testing.assert_allclose(model(ids), same(ids), atol=1e-5)
    assert not model.end_ids


def test_prompts_have_their_lengths_and_begin_differently(prompts: object) -> None:
    encode = prompts.tokenizer.encode
    texts = [prompts.of(length) for length in (16, 16, 5, 40) * 8]
    ids = [encode(text).ids for text in texts]
    assert [len(each) for each in ids] == [16, 16, 5, 40] * 8
    assert len({each[0] for each in ids}) == len(ids)


def test_prompts_that_share_a_beginning(prompts: object) -> None:
    encode = prompts.tokenizer.encode
    begun = prompts.of(100)
    one, other = (encode(prompts.joined(begun, 16)).ids for _ in range(2))
    assert one[:100] == other[:100] == encode(begun).ids
    assert len(one) == len(other) == 116
    assert one[100:] != other[100:]


def test_no_prompt_begins_twice(load: ModuleType, served: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("again and again " * 20)
    few = load.Prompts(served / "model" / "tokenizer.json", [text])
    assert {few.of(4)[0], few.of(4)[0]} == {"a"}  # "ag" and "an"
    with pytest.raises(load.LoadError, match="begins with a new token"):
        few.of(4)


@pytest.mark.parametrize(
    ("tokens", "prompt", "reason"),
    [(7, 16, "length"), (8, 15, "length"), (8, 16, "stop"), (None, 16, "stop")],
)
def test_other_work_is_an_error(load: ModuleType, tokens: int | None, prompt: int, reason: str) -> None:
    answer = load.Answer(0.0, [0.1], tokens, prompt, reason)
    with pytest.raises(load.LoadError):
        answer.check(16, 8)
    load.Answer(0.0, [0.1], None, None, "length").check(16, 8)


class Slow:
    """A service with a step of 20 ms, in which each text gets a token; or one text after another."""

    STEP = 0.02

    def __init__(self, together: bool) -> None:
        self.together, self.turn = together, asyncio.Lock()

    async def stream(self, prompt: str, new: int, answer: object) -> AsyncIterator[None]:
        if not self.together:
            await self.turn.acquire()
        try:
            for _ in range(new):
                await asyncio.sleep(self.STEP)
                answer.times.append(time.perf_counter())
                yield
        finally:
            if not self.together:
                self.turn.release()
        answer.reason = "length"


def test_throughput_of_a_known_service(load: ModuleType, prompts: object) -> None:
    async def both(together: bool) -> tuple[dict[str, float], dict[str, float]]:
        service = Slow(together)
        found = [await load.throughput(service, prompts, clients, 1, 16, 5) for clients in (1, 4)]
        return found[0], found[1]

    one, four = asyncio.run(both(together=True))
    assert one["tokens/s"] < 1 / Slow.STEP  # sleeping takes no less than it is told
    assert 2 < four["tokens/s"] / one["tokens/s"] < 6
    assert one["first, s"] >= Slow.STEP
    assert one["token, s"] >= Slow.STEP
    one, four = asyncio.run(both(together=False))
    assert four["tokens/s"] / one["tokens/s"] < 1.5
    assert four["first, 95 %, s"] > 3 * 5 * Slow.STEP  # the last waits for three others


def test_one_text_after_another_has_no_company(load: ModuleType, prompts: object) -> None:
    def company(together: bool) -> dict[str, float]:
        async def asked() -> dict[str, float]:
            return await load.in_company(Slow(together), prompts, 3, 1, 40)

        return asyncio.run(asked())

    assert company(together=False) == {}
    found = company(together=True)
    assert found["step, s"] >= Slow.STEP * 0.9
    assert abs(found["extra steps"]) < 2


def test_only_the_loopback_is_loaded() -> None:
    command = [sys.executable, str(BENCHMARKS / "serving.py"), "x", "--url", "http://example.org:8000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "loopback" in done.stderr


def test_from_end_to_end(served: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "serving.py"), "tiny-llama", "--workdir", str(served)]
    command += [
        "--servers",
        "engine",
        "--rounds",
        "1",
        "--clients",
        "1",
        "3",
        "--requests",
        "2",
        "--new",
        "4",
    ]
    command += ["--prompt", "5", "--prefix", "64", "--probes", "1", "--json", str(tmp_path / "found.json")]
    command += ["--plot", str(tmp_path / "found.svg")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "found.json").read_text())["found"]["engine"]
    assert found["3 clients"]["tokens/s"] > 0
    assert found["all"]["ratio"] == found["3 clients"]["tokens/s"] / found["1 client"]["tokens/s"]
    assert "second time, s" in found["prefix"]
    assert (tmp_path / "found.svg").read_text().startswith("<?xml")


@pytest.mark.skipif(
    find_spec("uvicorn") is None or find_spec("tinystar_np.cli.serve") is None, reason="there is no server"
)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux says what a process holds")
def test_a_short_soak(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "soak.py"), "stories", "--minutes", "0.1", "--clients", "6"]
    done = subprocess.run([*command, "--json", str(tmp_path / "seen.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert sum(seen["asked"].values()) >= 6
    assert not seen["faults"]
