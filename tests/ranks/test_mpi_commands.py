"""Commands and programs under mpiexec: what one process gives, on two and three ranks."""

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from divided_by_heads import config_of
from mpi_processes import IS_OPEN_MPI, PATIENCE, TINYSTAR, Ranks, run, run_alone, started
from random_models import save_random_model

from tinystar_np import generate, load
from tinystar_np.inspection.speed import bytes_per_token, weight_bytes

ROOT = Path(__file__).parents[2]
PROMPT = "Once upon a time"
GREEDY = ["--temperature", "0"]
LAYERS = ["--parallel", "layers"]
NEW = 24  # tokens of a server's answers: so many that several are written at once


@pytest.mark.parametrize(("ranks", "shared"), [(2, "0–1, 2–5"), (3, "0, 1–2, 3–5")])
def test_a_text_by_layers_is_the_same_to_the_last_bit(ranks: int, shared: str) -> None:
    ask = ["ask", "-m", "stories", *GREEDY, "--json", "-n", "30"]
    ended = run(*ask, *LAYERS, PROMPT, ranks=ranks)
    assert ended.stderr == f"{ranks} processes share the model: layers {shared}.\n"
    assert ended.returncode == 0
    assert json.loads(ended.stdout) == json.loads(run_alone(*ask, PROMPT).stdout)


def test_a_text_by_heads_is_the_same() -> None:
    ask = ["ask", "-m", "stories", *GREEDY, "--json", "-n", "30", PROMPT]
    ended = run(*ask)  # the usual way on one machine
    assert ended.stderr == "2 processes share the model: each has a share of every layer.\n"
    assert ended.returncode == 0
    found, expected = json.loads(ended.stdout), json.loads(run_alone(*ask).stdout)
    assert found["text"] == expected["text"]
    for mine, its in zip(found["tokens"], expected["tokens"], strict=True):
        assert mine["logprob"] == pytest.approx(its["logprob"], abs=1e-5)


def test_what_is_drawn_is_the_same() -> None:
    ask = ["ask", "-q", "--seed", "3", "-n", "40", "--stop", "mom", "--dtype", "int8"]
    ended = run(*ask, *LAYERS, PROMPT)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == run_alone(*ask, PROMPT).stdout != ""


def test_a_conversation_is_the_same(talker: Path) -> None:
    chat = ["chat", "-q", "-m", str(talker), *GREEDY, "-n", "12"]
    said = (
        "Hello\nAnd then?\n/undo\nWho are you?\n/exit\n"  # Open MPI 5 does not pass on that input has ended
    )
    ended = run(*chat, *LAYERS, given=said)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == run_alone(*chat, given=said).stdout != ""


@pytest.mark.skipif(IS_OPEN_MPI, reason="Open MPI 5 does not pass on that input has ended")
def test_a_prompt_on_stdin_where_there_are_no_words() -> None:
    ask = ["ask", "-q", *GREEDY, "-n", "12"]
    assert run(*ask, given=PROMPT).stdout == run_alone(*ask, given=PROMPT).stdout != ""


def test_perplexity_is_the_same() -> None:
    command = ["perplexity", "-q", "--json", "--window", "64", str(ROOT / "CITATION.cff")]
    ended = run(*command, *LAYERS)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == json.loads(run_alone(*command).stdout)


def test_texts_are_shared() -> None:
    """Two files and their windows on three ranks, each with the whole model: figures to the last bit."""
    files = [str(ROOT / "CITATION.cff"), str(ROOT / "CONTRIBUTING.md")]
    command = ["perplexity", "--window", "64", *files]
    ended = run(*command, "--json", ranks=3)  # the usual way
    said = "3 processes share the texts: each has the whole model.\n"
    assert (ended.returncode, ended.stderr) == (0, said)
    assert ended.stdout == run_alone(*command, "--json").stdout
    assert [json.loads(line)["file"] for line in ended.stdout.splitlines()] == files
    ended = run(*command, "-q", "--json", "--dtype", "int8", "--parallel", "prompts")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == run_alone(*command, "-q", "--json", "--dtype", "int8").stdout


LISTS = """
import sys, tinystar_np as ts
ranks = ts.MpiRanks()
if ranks.rank > 0:
    ts.follow(ranks)
    sys.exit()
prompts = ["Once upon a time", "The sun", "Tom and Sue went to the", "Lily saw", "A dog"]
alone, tokenizer = ts.load("stories")
with ranks:
    model, tokenizer = ts.load("stories", ranks=ranks, parallel="prompts")
    for how in {"temperature": 0}, {"seed": 4, "stop": "."}:
        found = ts.generate(model, tokenizer, prompts, max_new_tokens=20, **how)
        assert found == ts.generate(alone, tokenizer, prompts, max_new_tokens=20, **how)
    again, _ = ts.load("stories", dtype="int8", ranks=ranks, parallel="prompts")
    ids = [tokenizer.encode(text) for text in prompts]
    del model
    eight, _ = ts.load("stories", dtype="int8")
    how = {"temperature": 0, "max_new_tokens": 20}
    assert ts.generate_ids(again, ids, **how) == ts.generate_ids(eight, ids, **how)
    print("lists")
"""


def test_lists_of_prompts() -> None:
    ended = run(program=LISTS)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "lists\n", "")


def test_bench_runs() -> None:
    small = ["--prefill", "8", "--batch", "1", "2", "--new", "4", "--rounds", "1"]
    ended = run("bench", "-q", "--json", *small, *LAYERS)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert set(found["engines"][0]["tokens_per_second"]) == {"prefill 8", "decode", "decode, 2 at once"}
    whole = load("stories")[0]
    assert found["parameters"] == whole.parameters
    assert found["bits_per_weight"] == 32
    each = found["processes"]
    assert sum(one["weight_bytes"] for one in each) == weight_bytes(whole)
    assert sum(one["weight_bytes_per_token"] for one in each) == bytes_per_token(whole)
    assert max(one["weight_bytes"] for one in each) < 0.6 * weight_bytes(whole)
    assert found["engines"][0]["peak_bytes"] == sum(one["peak_bytes"] for one in each)
    assert found["bandwidth_bytes_per_second"] is found["share_of_bandwidth"] is None


def test_figures_count_what_all_processes_have() -> None:
    ended = run("ask", *GREEDY, *LAYERS, "--stats", "-n", "3", PROMPT)
    figures = dict(re.findall(r"^(\w+) +(\d+ MB.*)", ended.stderr, re.MULTILINE))
    nbytes = weight_bytes(load("stories")[0]) / 1e6
    assert re.fullmatch(
        rf"{nbytes:.0f} MB, 32 bits each \(float32\), \d+ MB at most in one of 2 processes",
        figures["weights"],
    )
    assert re.fullmatch(r"\d+ MB at the peak, \d+ MB at most in one of 2 processes", figures["memory"])
    assert "bandwidth" not in ended.stderr


def test_each_process_has_as_many_threads_as_are_asked_for() -> None:
    counted = f"""
import atexit, sys
from tinystar_np.fast.threads import chosen_threads
atexit.register(lambda: sys.stderr.write(f"{{chosen_threads()}} threads\\n"))
{TINYSTAR}"""
    ask = ["ask", "-q", *GREEDY, "-n", "2", PROMPT]
    ended = run(*ask, "--threads", "3", program=counted, OPENBLAS_NUM_THREADS="")
    assert ended.stderr == "3 threads\n" * 2


def test_copies_in_memory() -> None:
    ask = ["ask", "-q", *GREEDY, "-n", "12", PROMPT]
    for way in LAYERS, ["--parallel", "heads"]:
        assert run(*ask, *way, "--in-memory").stdout == run_alone(*ask).stdout


def test_one_process_alone_is_told_so() -> None:
    ask = ["ask", *GREEDY, "-n", "2", PROMPT]
    ended = run_alone(*ask, *LAYERS)
    assert ended.returncode == 0
    assert ended.stderr == (
        "--parallel layers is for several processes, and this is one. "
        "To start two: mpiexec -n 2 tinystar ask …\n"
    )


def address_of(ranks: Ranks) -> str:
    """Wait until a server listens, and return where."""
    assert ranks.process.stderr is not None
    until = time.monotonic() + PATIENCE
    while line := ranks.process.stderr.readline():
        assert time.monotonic() < until
        if found := re.search(r"listening at (\S+)", line):
            return found[1]
    raise AssertionError("it ended")


@pytest.mark.parametrize("way", [[], LAYERS], ids=["heads", "layers"])
def test_the_server_answers(way: list[str]) -> None:
    """Many at once, some as they are written, in a cache too small for all; wrong requests are told so."""
    prompts = [PROMPT, "The sun", "Tom and Sue went to the", f"{PROMPT} there was a big dog", "Lily saw"]
    model, tokenizer = load("stories")
    expected = [generate(model, tokenizer, text, max_new_tokens=NEW, temperature=0) for text in prompts]
    small = ["--cache-memory", "400KB", "--max-batch", "4"]
    with started("serve", "-m", "stories", "--port", "0", "--grace", "0", *small, *way) as ranks:
        address = address_of(ranks)

        def answer(number: int) -> str:
            asked = {"prompt": prompts[number % len(prompts)], "max_tokens": NEW, "temperature": 0}
            streams = number % 3 == 0
            found = httpx.post(
                f"{address}/v1/completions", json={**asked, "stream": streams}, timeout=PATIENCE
            )
            assert found.status_code == 200
            pieces = re.findall(r"data: ({.*})", found.text) if streams else [found.text]
            return "".join(json.loads(piece)["choices"][0]["text"] for piece in pieces)

        with ThreadPoolExecutor(5) as threads:
            assert list(threads.map(answer, range(10))) == 2 * expected
        wrong = httpx.post(f"{address}/v1/completions", json={"prompt": [10**6]}, timeout=PATIENCE)
        assert wrong.status_code == 400
        assert answer(1) == expected[1]
        metrics = httpx.get(f"{address}/metrics", timeout=PATIENCE).text
        preempted = re.search(r"^tinystar_preemptions_total\S* (\d+)", metrics, re.MULTILINE)
        assert preempted is not None
        assert int(preempted[1]) > 0
        ranks.process.send_signal(signal.SIGINT)
        assert ranks.end().returncode == (1 if IS_OPEN_MPI else 0)
        ranks.wait_until_gone()


def test_a_server_lets_answers_end() -> None:
    """Rank 0 is told to stop while it answers, and the others stay until it has answered."""
    with started("serve", "-m", "stories", "--port", "0") as ranks:
        address = address_of(ranks)
        asked = {"prompt": PROMPT, "max_tokens": 200, "temperature": 1, "seed": 1}
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(httpx.post, f"{address}/v1/completions", json=asked, timeout=PATIENCE)
            until = time.monotonic() + PATIENCE
            generating = re.compile(r"^tinystar_requests_generating\S* 1$", re.MULTILINE)
            while not generating.search(httpx.get(f"{address}/metrics").text):
                assert time.monotonic() < until
                time.sleep(0.01)
            (leader,) = ranks.left(0)
            os.kill(leader, signal.SIGTERM)
            assert answer.result(PATIENCE).json()["usage"]["completion_tokens"] > 100
        ended = ranks.end()
        ranks.wait_until_gone()
    assert ended.stderr == "stopping: 1 request may end within 30 s (Ctrl-C ends at once)\n"
    assert ended.returncode == 0


def test_a_program() -> None:
    """Messages, sums, models, caches and errors on three ranks: the program is a test of its own."""
    program = (ROOT / "tests" / "ranks" / "three_ranks.py").read_text("utf-8")
    ended = run(program=program, ranks=3)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split("\n") == ["sums", "logits", "two models", "caches", "errors", "threads", ""]


def test_the_example() -> None:
    program = (ROOT / "examples" / "with_mpi.py").read_text("utf-8")
    ended = run("stories", PROMPT, program=program)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(", there was a little girl named Lily. She loved")


def test_commands_of_one_process() -> None:
    ended = run("inspect", "stories", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == run_alone("inspect", "stories", "--json").stdout
    ended = run("look", "stories", PROMPT)
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        "error: `tinystar look` runs in one process, with the whole model: start it without mpiexec.\n"
        "Help: tinystar look --help\n"
    )


WHAT_HEADS_REFUSE = """
import sys, tinystar_np as ts
ranks = ts.MpiRanks()
if ranks.rank > 0:
    ts.follow(ranks)
    sys.exit()
with ranks:
    model, _ = ts.load(sys.argv[1], ranks=ranks)
    print(model.part.words)
    try:
        ts.load(sys.argv[1], ranks=ranks, parallel="heads")
    except ts.TinyStarError as error:
        print(error)
    print(model([5, 6, 7]).shape)
"""


def test_a_model_that_cannot_be_divided_by_heads(tmp_path: Path) -> None:
    """Ranks of one machine share its layers, and where heads are asked for, it is said why not."""
    save_random_model(config_of("blt"), tmp_path)
    ended = run(str(tmp_path), program=WHAT_HEADS_REFUSE)
    words, why, advice, shape = ended.stdout.splitlines()
    assert words.startswith("2 processes, with layers 0")
    assert why.startswith("Blt cannot be divided by heads: its four stacks")
    assert advice == 'Divide it by layers: --parallel layers, or parallel="layers".'
    assert shape.startswith("(3, ")
    assert (ended.returncode, ended.stderr) == (0, "")
