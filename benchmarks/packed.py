"""Measure how fast packed matrices are multiplied: a model in blocks of few bits, beside one in float32.

    python benchmarks/packed.py llama-1.1b Q8_0 Q4_K --rounds 5

Both have random weights and are in one process; they take turns at generating tokens and at reading a prompt,
and every ratio compares two neighbouring turns. The types are those of GGUF files. What is packed is what is
packed in such a file: all matrices, the embedding table too.
"""

import argparse
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from checkpoint import write
from shapes import SHAPES

import tinystar_np as ts
from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import progress_line, say_table
from tinystar_np.cli.wording import speed_of
from tinystar_np.inspection.machine import describe_machine, load_warning
from tinystar_np.inspection.speed import Rounds, by_turns
from tinystar_np.kernels.block_matrix import BlockMatrix
from tinystar_np.kernels.block_types import BLOCK_TYPES
from tinystar_np.kernels.linear import Matrix
from tinystar_np.models.base import Decoder

POOL = 1 << 24  # bytes drawn, of which every matrix takes a part
# At which bytes of a block its float16 scales begin; MXFP4 has one byte for a power of two.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,)}
SCALES |= {"Q6_K": (208,), "MXFP4": ()}
SMALL = np.array([2**-12], np.float16).view(np.uint8)


def packed(matrix: Matrix, element_type: str, place: int, pool: np.ndarray, is_table: bool) -> BlockMatrix:
    """Return a matrix of the same shape, in blocks of any whole numbers with small scales."""
    kind = BLOCK_TYPES[element_type]
    rows, columns = matrix.shape if is_table else matrix.shape[::-1]
    stored = np.resize(np.roll(pool, place), rows * columns // kind.weights * kind.bytes)
    blocks = stored.reshape(-1, kind.bytes)
    for at in SCALES.get(element_type, (0,)):
        blocks[:, at : at + 2] = SMALL
    if element_type == "MXFP4":
        blocks[:, 0] = 118
    return BlockMatrix(stored.reshape(rows, -1), element_type, not is_table)


def twin(model: Decoder, element_type: str) -> Decoder:
    """Make a model of the same shape whose matrices are packed."""
    pool = np.random.default_rng(0).integers(0, 256, POOL, dtype=np.uint8)
    weights: dict[str, Matrix] = {}
    for place, (name, weight) in enumerate(model.weights.items()):
        inputs = weight.shape[-1] if name.startswith("embedding.") else weight.shape[0]
        fits = len(weight.shape) == 2 and inputs % BLOCK_TYPES[element_type].weights == 0
        is_table = name.startswith("embedding.")
        weights[name] = packed(weight, element_type, place * 977, pool, is_table) if fits else weight
    return type(model)(model.config, weights)


def generate(model: Decoder, prompt: int, new: int) -> float:
    """Return tokens/s of generating, one token a call."""
    cache = model.new_cache(capacity=prompt + new)
    logits = model(_ids(prompt), cache=cache, last_only=True)
    start = perf_counter()
    for _ in range(new):
        logits = model([int(logits[-1].argmax())], cache=cache, last_only=True)
    return new / (perf_counter() - start)


def read(model: Decoder, prompt: int) -> float:
    """Return tokens/s of reading a prompt."""
    start = perf_counter()
    model(_ids(prompt), cache=model.new_cache(capacity=prompt), last_only=True)
    return prompt / (perf_counter() - start)


def _ids(count: int) -> list[int]:
    return random.Random(0).choices(range(30_000), k=count)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("types", nargs="+", choices=[name for name in BLOCK_TYPES if name != "F32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new", type=int, default=16, help="tokens to generate in a turn")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prompt; 0: none is read")
    parser.add_argument("--workdir", type=Path, help="keep the model there")
    parser.set_defaults(color="auto", quiet=False)
    arguments = parser.parse_args()
    say(", ".join(f"{name}: {value}" for name, value in describe_machine().items()))
    if warning := load_warning():
        say(warning)
    with TemporaryDirectory() as directory:
        place = (arguments.workdir or Path(directory)) / f"{arguments.shape}-float32"
        if not (place / "config.json").exists():
            write(arguments.shape, "float32", place)
        model, _ = ts.load(place, in_memory=True)
        for element_type in arguments.types:
            report(model, element_type, arguments)


def report(model: Decoder, element_type: str, arguments: argparse.Namespace) -> None:
    """Measure one type and print its table."""
    other = twin(model, element_type)
    tasks: Mapping[str, Callable[[Decoder], float]] = {
        f"generate {arguments.new}": partial(generate, prompt=16, new=arguments.new)
    }
    if arguments.prefill:
        tasks = {**tasks, f"read {arguments.prefill}": partial(read, prompt=arguments.prefill)}
    turns = {name: [partial(task, other), partial(task, model)] for name, task in tasks.items()}
    generate(other, 16, 4)
    with progress_line(arguments) as line:
        found = by_turns(turns, arguments.rounds, line)
    rows = []
    for name, (ours, float32) in found.items():
        ratios = Rounds(tuple(ours)).over(Rounds(tuple(float32)))
        middle = (speed_of(Rounds(tuple(side)).median) for side in (ours, float32))
        rows.append((name, *middle, f"{ratios.median:.2f}", f"{ratios.lowest:.2f} – {ratios.highest:.2f}"))
    say_table(("tokens/s", element_type, "float32", "ratio", "range"), rows, arguments)


if __name__ == "__main__":
    main()
