"""How fast the evaluation harness's requests are answered, here and by ``hf``, its model of transformers.

    pip install 'tinystar_np[eval]' torch transformers accelerate
    python benchmarks/evaluation.py MODEL TEXT

MODEL is a directory that both can read (``tinystar convert`` makes one of a GGUF file), TEXT a file of prose
in paragraphs. Three kinds of requests are made of it:

    choices  which of four sentences comes next after a story's beginning: 4 requests for each beginning
    pairs    a sentence, and the same one with two neighbouring words exchanged
    texts    whole texts (rolling log-likelihood)

Each engine is a process of its own, float32, with the same number of threads, and they take turns; ``hf``
with the batch size that was the fastest of those given for the first choices. Beside the seconds stand the
largest difference of a log-likelihood, and how many answers differ. ``--softmax-dtype float64`` has ``hf``
sum over the vocabulary in float64: in float32 torch's sum is off by up to 1e-5 for each token.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

KINDS = ("choices", "pairs", "texts")
Answers = list[tuple[float, bool]]


def sentences(paragraph: str) -> list[str]:
    """Cut a paragraph after full stops."""
    return re.findall(r"[^.!?]+[.!?]+\"?", paragraph)


def make_requests(text: str, count: int, seed: int = 0) -> dict[str, list[tuple[str, ...]]]:
    """Make ``count`` requests of choices, as many of pairs, and a few texts."""
    rng = random.Random(seed)
    paragraphs = [" ".join(block.split()) for block in re.split(r"\n\s*\n|<\|endoftext\|>", text)]
    stories = [cut for cut in map(sentences, paragraphs) if len(cut) > 5]
    rng.shuffle(stories)
    if len(stories) < 4:
        raise SystemExit("The text has too few paragraphs of six sentences and more.")
    choices: list[tuple[str, ...]] = []
    pairs: list[tuple[str, ...]] = []
    for i in range((count + 3) // 4):
        story = stories[i % len(stories)]
        place = rng.randrange(3, len(story) - 1)
        others = rng.sample([other for other in stories if other is not story], 3)
        ends = [story[place], *(rng.choice(other) for other in others)]
        context = "".join(story[:place]).strip()
        choices += [(context, " " + end.strip()) for end in ends]
    long = [words for story in stories for words in map(str.split, story) if len(words) > 3]
    while len(pairs) < count:
        words = rng.choice(long)
        at = rng.randrange(len(words) - 1)
        swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
        if swapped != words:
            pairs += [("", " ".join(words)), ("", " ".join(swapped))]
    whole = [(" ".join("".join(story).strip() for story in stories[i : i + 4]),) for i in range(0, 32, 4)]
    return {"choices": choices[:count], "pairs": pairs[:count], "texts": [each for each in whole if each[0]]}


def work(pipe: Connection, engine: str, model: str, softmax_dtype: str | None) -> None:
    """Answer requests that come through a pipe: (kind, requests, batch size) → (seconds, answers)."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lm_eval.api.instance import Instance

    lm: Any
    if engine == "hf":
        import torch
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(model, device="cpu", dtype="float32", softmax_dtype=softmax_dtype)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(len(os.sched_getaffinity(0)))
    else:
        from tinystar_np.evaluation import TinyStarLM

        lm = TinyStarLM(model, dtype="float32")
    pipe.send("ready")
    while (task := pipe.recv()) is not None:
        kind, requests, batch_size = task
        if engine == "hf":
            lm.batch_size_per_gpu = batch_size
        name = "loglikelihood_rolling" if kind == "texts" else "loglikelihood"
        instances = [Instance(name, {}, tuple(request), i) for i, request in enumerate(requests)]
        start = time.perf_counter()
        found = getattr(lm, name)(instances, disable_tqdm=True)
        seconds = time.perf_counter() - start
        pipe.send((seconds, [(each, False) for each in found] if kind == "texts" else found))


class Worker:
    """An engine in a process of its own."""

    def __init__(self, engine: str, model: str, softmax_dtype: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=work, args=(other, engine, model, softmax_dtype), daemon=True)
        self._process.start()
        other.close()
        self._pipe.recv()

    def ask(self, kind: str, requests: Sequence[Any], batch_size: int = 1) -> tuple[float, Answers]:
        """Return the seconds that the requests took, and the answers."""
        self._pipe.send((kind, list(requests), batch_size))
        answer: tuple[float, Answers] = self._pipe.recv()
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def right_ones(kind: str, answers: Answers) -> list[int]:
    """Return which choice is the likeliest, for each question."""
    width = {"choices": 4, "pairs": 2}[kind]
    sums = [each[0] for each in answers]
    questions = [sums[i : i + width] for i in range(0, len(sums) - width + 1, width)]
    return [max(range(width), key=question.__getitem__) for question in questions]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a directory with config.json, *.safetensors and a tokenizer")
    parser.add_argument("text", type=Path, help="a file of prose in paragraphs")
    parser.add_argument("--requests", type=int, default=1000, help="of choices, and of pairs (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine (default: 3)")
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 4, 16, 64], help="batch sizes of hf to try"
    )
    parser.add_argument("--softmax-dtype", help="of hf's last step (default: the logits' own, float32)")
    parser.add_argument("--json", type=Path, help="keep every single value in a file")
    arguments = parser.parse_args()
    requests = make_requests(arguments.text.read_text(encoding="utf-8"), arguments.requests)
    ours = Worker("tinystar", arguments.model)
    theirs = Worker("hf", arguments.model, arguments.softmax_dtype)
    first = requests["choices"][: max(64, arguments.requests // 10)]
    tried = dict.fromkeys(arguments.batch, 0.0)
    if len(tried) > 1:
        tried = {size: min(theirs.ask("choices", first, size)[0] for _ in range(2)) for size in tried}
        found = ", ".join(f"{size}: {seconds:.2f}" for size, seconds in tried.items())
        print(f"hf, seconds by batch size: {found}", flush=True)
    best = min(tried, key=tried.__getitem__)
    record: dict[str, Any] = {"batch sizes": tried, "best": best}
    for kind in arguments.only:
        times: list[tuple[float, float]] = []
        for turn in range(arguments.rounds):
            pair = [("ours", ours, 1), ("hf", theirs, best)]
            took = {}
            for name, worker, size in pair if turn % 2 == 0 else pair[::-1]:
                took[name], answers = worker.ask(kind, requests[kind], size)
                record.setdefault(f"{kind} {name}", []).append(took[name])
                if name == "ours":
                    mine = answers
                else:
                    reference = answers
            times.append((took["ours"], took["hf"]))
            print(f"  {kind}, turn {turn + 1}: {took['ours']:.2f} s here, {took['hf']:.2f} s hf", flush=True)
        ratios = [theirs_took / ours_took for ours_took, theirs_took in times]
        apart = [abs(a[0] - b[0]) for a, b in zip(mine, reference, strict=True)]
        line = f"{kind}: {len(apart)} requests, hf took {statistics.median(ratios):.2f} times as long "
        line += f"({min(ratios):.2f} to {max(ratios):.2f}); largest difference {max(apart):.1e}"
        line += f", median {statistics.median(apart):.1e}"
        if kind != "texts":
            chosen, expected = right_ones(kind, mine), right_ones(kind, reference)
            score = sum(answer == 0 for answer in chosen) / len(chosen)
            their_score = sum(answer == 0 for answer in expected) / len(expected)
            differ = sum(a != b for a, b in zip(chosen, expected, strict=True))
            greedy = sum(a[1] != b[1] for a, b in zip(mine, reference, strict=True))
            line += f"; accuracy {score:.4f} here, {their_score:.4f} hf, {differ} answers differ"
            line += f", {greedy} of 'greedy' differ"
        record[kind] = line
        print(line, flush=True)
    ours.close()
    theirs.close()
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
