"""Ctrl-C at any time: the terminal is left in order, what was printed stays, and caches stay usable."""

import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from terminals import TINYSTAR, Terminal, save_scripted_model

import tinystar_np as ts
from tinystar_np.fast.deferred_state import MOST
from tinystar_np.models.base import Decoder

# Programs that wait, and say so, where a person may press Ctrl-C.

WAIT = """
import sys, time
def wait(*ignored, **too):
    sys.stderr.write("NOW\\n"); sys.stderr.flush(); time.sleep(60)
"""
IMPORTING = f"""{WAIT}
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy": wait()
sys.meta_path.insert(0, Slow())
"""
CONVERTING = IMPORTING.replace(
    "wait()",
    """
            try: wait()
            except KeyboardInterrupt: raise ImportError("what C code makes of it") from None
""",
)
LOADING = f"""{WAIT}
import tinystar_np.checkpoints.model_source as source
source.open_checkpoint = wait
"""
CONFIG = f"""{WAIT}
import tinystar_np.checkpoints.model_source as source
source.read_config = wait
"""
READING = f"""{WAIT}
import tinystar_np.models.gpt2 as g
g.GPT2.embed = wait
"""
GENERATING = f"""{WAIT}
import itertools, tinystar_np.models.tinystar as t
plain, calls = t.TinyStar.embed, itertools.count()
t.TinyStar.embed = lambda *given: wait() if next(calls) == 8 else plain(*given)
"""
LISTING = f"""{WAIT}
import tinystar_np.cli.models as m
m.list_local_models = wait
"""
MEASURING = f"""{WAIT}
import tinystar_np.cli.experiments as e
def measure(configs, tokens, new, rounds, say): say("round 1 of 5"); wait()
e.measure, e.load_warning = measure, lambda: None
"""


def interrupt(program: str, *arguments: str, **how: Any) -> tuple[int, str]:
    """Run a program at a terminal, press Ctrl-C where it waits; the exit code, and what was shown.

    The kernel sends the signal first and shows ^C then: a quick program on another core may write before.
    Which of the two came first is not the program's doing, so ^C stands here where it was typed.
    """
    terminal = Terminal(*arguments, program=program + TINYSTAR, **how)
    place = terminal.wait_for("NOW\r\n")
    terminal.type("\x03")
    code = terminal.end()
    assert termios.tcgetattr(terminal.main) == terminal.settings
    terminal.close()
    before, after = terminal.shown[:place], terminal.shown[place:]
    assert after.count("^C") == 1
    shown = before + "^C" + after.replace("^C", "")
    return code, shown.replace("NOW\r\n", "").replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (IMPORTING, ["ask", "hi"]),
        (CONVERTING, ["ask", "hi"]),
        (LOADING, ["ask", "hi"]),
        (READING, ["ask", "-m", "stories", "hi"]),
        (READING, ["ask", "-m", "stories", "--json", "hi"]),
        (LOADING, ["chat", "-m", "stories"]),
        (CONFIG, ["inspect", "stories"]),
        (LISTING, ["models"]),
        (LOADING, ["compare", "stories", "hi"]),
        (MEASURING, ["experiments"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_nothing_but_a_new_line(program: str, arguments: list[str]) -> None:
    code, shown = interrupt(program, *arguments)
    assert code == 130
    assert shown.replace("\rround 1 of 5\x1b[K", "").replace("\r\x1b[K", "") == "^C\n"


@pytest.fixture
def talkative(tmp_path: Path) -> Path:
    save_scripted_model(tmp_path / "model", b"Once upon a time there was")
    return tmp_path / "model"


GREEDY = ["--temperature", "0", "-q"]


def test_what_was_printed_stays(talkative: Path) -> None:
    """Eight tokens were chosen, the ninth is waited for."""
    ask = ["ask", "-m", str(talkative), *GREEDY, "x"]
    assert interrupt(GENERATING, *ask) == (130, "Once upo^C\n")
    reading, writing = os.pipe()
    assert interrupt(GENERATING, *ask, stdout=writing) == (130, "^C\n")
    os.close(writing)
    assert os.read(reading, 100) == b"Once upo"
    os.close(reading)


TEMPLATE = f"""{WAIT}
import tinystar_np.text.worker as w
plain = w.Worker.ask
def ask(*given):
    sys.stderr.write("NOW\\n"); sys.stderr.flush()
    return plain(*given)
w.Worker.ask = ask
"""


def test_in_a_template(talkative: Path) -> None:
    """One that is busy in one call for hours."""
    (talkative / "chat_template.jinja").write_text(
        "{{ ('a' * 6000000).strip('b' * 6000000 + 'a') | length }}"
    )
    terminal = Terminal("chat", "-q", "-m", str(talkative), program=TEMPLATE + TINYSTAR)
    terminal.wait_for("> ")
    terminal.type("Hello\r")
    terminal.wait_for("NOW")
    begun = time.monotonic()
    terminal.type("\x03")
    terminal.wait_for("> ")  # it stops the answer, and nothing else
    assert time.monotonic() - begun < 3
    terminal.type("/exit\r")
    assert terminal.end() == 0


def test_nobody_reads_what_was_printed(talkative: Path) -> None:
    """`tinystar ask … | head`: Ctrl-C ends both, head first."""
    reading, writing = os.pipe()
    os.close(reading)
    assert interrupt(READING, "ask", "-m", "stories", "hi", stdout=writing) == (130, "^C\n")
    os.close(writing)


def test_without_a_terminal(talkative: Path) -> None:
    """A signal from elsewhere: text and messages are as they were, with nothing added."""
    process = subprocess.Popen(
        [sys.executable, "-c", GENERATING + TINYSTAR, "ask", "-m", str(talkative), *GREEDY, "x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"NOW\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (b"Once upo", b"")
    assert process.returncode == 130


def test_impatient_people() -> None:
    """Ctrl-C again and again while the program ends."""
    late = "import atexit, time; atexit.register(lambda: (print('LATE', flush=True), time.sleep(60)))\n"
    terminal = Terminal("ask", "hi", program=LOADING + late + TINYSTAR)
    terminal.wait_for("NOW")
    terminal.type("\x03")
    terminal.wait_for("LATE")
    terminal.type("\x03")
    assert terminal.end() == -signal.SIGINT
    assert "Traceback" not in terminal.shown
    terminal.close()


def test_again_while_the_line_is_ended() -> None:
    """The second Ctrl-C comes before the first has been seen to: the process ends by it, without a word."""
    program = LOADING + "import tinystar_np.cli.streams as s\ns._end_line = wait\n" + TINYSTAR
    terminal = Terminal("ask", "hi", program=program)
    place = terminal.wait_for("NOW")
    terminal.type("\x03")
    terminal.wait_for("NOW", after=place)
    terminal.type("\x03")
    assert terminal.end() == -signal.SIGINT
    assert "Traceback" not in terminal.shown
    terminal.close()


def test_little_is_imported_before_ctrl_c_is_handled() -> None:
    """Until then Python prints a traceback for it: each module more is a wider window."""
    program = (
        "import sys; there = {*sys.modules}; import tinystar_np.cli.main; print(*{*sys.modules} - there)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert {*done.stdout.split()} <= {"tinystar_np", "tinystar_np.cli", "tinystar_np.cli.main", "_signal"}


STARTING = """
import os, signal, sys, tinystar_np.cli.main as main
class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == "tinystar_np.cli.streams": os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Impatient())
main.tinystar()
"""


def test_before_anything_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", STARTING, "ask", "hi"], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


# Within Python: KeyboardInterrupt may come between any two lines, and a cache is then as it was, or as the
# whole call leaves it.


class At:
    """Raises KeyboardInterrupt before the n-th line that runs within the package."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __enter__(self) -> "At":
        sys.settrace(self._of_call)
        return self

    def __exit__(self, *ignored: object) -> None:
        sys.settrace(None)

    def _of_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._of_line if f"{os.sep}tinystar_np{os.sep}" in frame.f_code.co_filename else None

    def _of_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self._of_line


def lines_of(call: Callable[[], Any]) -> int:
    """Count the lines that a call runs."""
    with At(sys.maxsize) as counting:
        call()
    return sys.maxsize - counting.left


def moments(count: int) -> Iterator[int]:
    """All of the last lines, where the cache moves on, and some of the others."""
    yield from range(1, count - 60, 1 + count // 40)
    yield from range(max(1, count - 60), count + 1)


@pytest.fixture(params=["plain", "window", "latent"])
def model(request: Any) -> Decoder:
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "window": {"mask": "sliding_window", "window_size": 8},
        "latent": {"attention": "mla"},
    }
    return ts.TinyStar(ts.TinyStarConfig(hidden_size=16, num_layers=2, num_heads=4, **kinds[request.param]))


@pytest.fixture
def recurrent(tmp_path: Path) -> Decoder:
    """Attention and a recurrence, whose state cannot be computed again from what is left."""
    import torch
    from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM

    config = GraniteMoeHybridConfig(
        **{"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "intermediate_size": 24, "shared_intermediate_size": 24},
        **{"num_local_experts": 0, "num_experts_per_tok": 0, "mamba_n_heads": 8, "mamba_d_head": 4},
        **{"mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_chunk_size": 8},
        layer_types=["mamba", "attention", "mamba"],
        layers_block_type=["mamba", "attention", "mamba"],
    )
    torch.manual_seed(0)
    GraniteMoeHybridForCausalLM(config).save_pretrained(tmp_path / "hybrid")
    return ts.load(tmp_path / "hybrid")[0]


def check_every_moment(model: Decoder) -> None:
    first, second, third = (np.random.default_rng(i).integers(0, 61, 12) for i in range(3))
    given = model.new_cache()
    model(first, cache=given)
    whole = given.copy()
    model(second, cache=whole)
    after = {12: model(third, cache=given.copy()), 24: model(third, cache=whole.copy())}
    spare = given.copy()
    count = lines_of(lambda: model(second, cache=spare))
    seen = set()
    for moment in moments(count):
        cache = given.copy()
        with pytest.raises(KeyboardInterrupt), At(moment):
            model(second, cache=cache)
        held = int(cache.lengths[0])
        seen.add(held)
        np.testing.assert_array_equal(model(third, cache=cache), after[held], f"line {moment} of {count}")
    assert 12 in seen


def test_a_cache_after_ctrl_c_between_any_two_lines(model: Decoder) -> None:
    check_every_moment(model)


def test_a_recurrent_state_after_ctrl_c_between_any_two_lines(recurrent: Decoder) -> None:
    check_every_moment(recurrent)


@pytest.mark.parametrize("read", [3, MOST])  # so many that the next joins them to the state
def test_a_recurrent_state_after_ctrl_c_in_a_single_step(recurrent: Decoder, read: int) -> None:
    ids = np.random.default_rng(0).integers(0, 61, 40)

    def stepped(count: int) -> Any:
        cache = recurrent.new_cache()
        for token in ids[:count]:
            recurrent(token[None], cache=cache)
        return cache

    after = {held: recurrent(ids[25:26], cache=stepped(held)) for held in (read, read + 1)}
    cache = stepped(read)
    count = lines_of(lambda: recurrent(ids[read : read + 1], cache=cache))
    for moment in moments(count):
        cache = stepped(read)
        with pytest.raises(KeyboardInterrupt), At(moment):
            recurrent(ids[read : read + 1], cache=cache)
        held = int(cache.lengths[0])
        np.testing.assert_array_equal(recurrent(ids[25:26], cache=cache), after[held], f"{moment} of {count}")


def test_a_real_signal_in_the_midst_of_generating() -> None:
    """The cache holds what was read, as many tokens as it says; going on gives what it would have given."""
    model, tokenizer = ts.load("stories")
    assert tokenizer is not None
    prompt = tokenizer.encode("Once upon a time")
    whole = ts.generate_ids(model, prompt, max_new_tokens=200, temperature=0)
    caches = []

    def generate_until(delay: float) -> None:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            caches.append(model.new_cache())
            ts.generate_ids(model, prompt, cache=caches[-1], max_new_tokens=200, temperature=0)

    for delay in (0.0, 0.02, 0.05, 0.1):
        with pytest.raises(KeyboardInterrupt):
            generate_until(delay)
        cache = caches[-1] if caches else model.new_cache()
        ids = [*prompt, *whole]
        held = int(cache.lengths[0])
        new = ids[held : held + 3] or whole[-1:]
        expected = model([*ids[:held], *new])[held:]
        assert np.abs(model(new, cache=cache) - expected).max() < 1e-5 * np.abs(expected).max()
