"""Reading texts: several processes with the whole model each, beside one process with all threads, by turns.

    python benchmarks/ranks_texts.py MODEL TEXT.txt --dtype float32 int8 --window 512

What is timed is the reading alone, after a model is loaded and has read a window; each turn is a start of its
own. Tokens/s, and their ratio in neighbouring turns.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import together
from busy import environment

import tinystar_np as ts
from tinystar_np.generation.perplexity import scores_of_texts, to_score
from tinystar_np.loading import DTYPES
from tinystar_np.models import Decoder
from tinystar_np.processes import started_together
from tinystar_np.text import Tokenizer

LEAST = 64
"""Tokens that are read before anything is timed."""


def measured(model_name: str, file: Path, dtype: str, window: int) -> float:
    """Return how many tokens of a text are read per second, by all ranks; on others than rank 0 nothing."""
    if started_together().size == 1:
        return _rate(*ts.load(model_name, dtype), file, window)
    ranks = ts.MpiRanks()
    if ranks.rank > 0:
        ts.follow(ranks)
        sys.exit()
    with ranks:
        return _rate(*ts.load(model_name, dtype, ranks=ranks, parallel="prompts"), file, window)


def _rate(model: Decoder, tokenizer: Tokenizer | None, file: Path, window: int) -> float:
    assert tokenizer is not None
    ids = to_score(model, tokenizer, file.read_text(encoding="utf-8"))
    for _ in scores_of_texts(model, [ids[:LEAST]] * started_together().size, window, window):
        pass
    begun = time.perf_counter()
    for _ in scores_of_texts(model, [ids], window, window):
        pass
    return (len(ids) - 1) / (time.perf_counter() - begun)


def main() -> None:
    """Measure by turns, and print what was found."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("--dtype", nargs="+", default=["float32", "int8"], choices=DTYPES)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="measure in this process, and print tokens/s")
    given = parser.parse_args()
    if given.once:
        print(measured(given.model, given.file, given.dtype[0], given.window))
        return
    alone = [sys.executable, __file__, "--once", given.model, str(given.file), "--window", str(given.window)]
    shared = [*together.mpiexec(given.ranks), *alone]
    for dtype in given.dtype:
        rates: list[tuple[float, float]] = []
        for _ in range(given.rounds):
            one, several = (
                float(
                    subprocess.run(
                        [*command, "--dtype", dtype],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        text=True,
                        check=True,
                        env=environment(None) | together.ENVIRONMENT,
                    ).stdout
                )
                for command in (alone, shared)
            )
            rates.append((one, several))
        ratios = sorted(several / one for one, several in rates)
        ones, all_together = (statistics.median(each) for each in zip(*rates, strict=True))
        print(
            f"{dtype:9} one process {ones:8.0f} tokens/s   {given.ranks} ranks {all_together:8.0f}   "
            f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
