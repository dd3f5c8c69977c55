"""Ranks on one machine whose messages are late, as over a network: a token's time, predicted and measured.

    mpiexec -n 2 python benchmarks/delayed_ranks.py
    mpiexec -n 2 --hostfile HOSTS python benchmarks/delayed_ranks.py --wire

The first makes a model with random weights, divides it by layers and by heads, and generates with each while
messages and sums are held back as a wire of some latency and bandwidth would. What is expected is the time
without delay, which is measured in the same round, and what inspection/wire.py says that the wire adds.

The second measures the wire between rank 0 and the last one as it is.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from checkpoint import write
from numpy.typing import NDArray
from shapes import SHAPES

import tinystar_np as ts
from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import say_table
from tinystar_np.inspection.speed import Rounds
from tinystar_np.inspection.wire import Traffic, Wire, adding, by_heads, by_layers
from tinystar_np.models.base import Decoder
from tinystar_np.ranks import DIVIDED
from tinystar_np.ranks.mpi import MpiRanks

AT_ONCE = Wire(0, float("inf"))
NO_DELAY = "no delay"
WIRES = {
    NO_DELAY: AT_ONCE,
    "0.3 ms, 1 Gbit/s": Wire(300e-6, 0.125e9),
    "1 ms, 1 Gbit/s": Wire(1e-3, 0.125e9),
    "3 ms, 1 Gbit/s": Wire(3e-3, 0.125e9),
    "0.3 ms, 10 Mbit/s": Wire(300e-6, 1.25e6),
}
NEARLY = 150e-6
"""Seconds that a sleep may last longer than asked for: so much of the waiting is done awake."""


class Delayed:
    """What makes the messages of ranks arrive as over a slower wire; a class of ``Ranks`` stands after it.

    wire  how late messages are; rank 0 sets it, and the others have that of its last message

    A message is sent at once, with the time at which it may be seen: all ranks see one clock. A sum is there
    as long after the last rank has come to it as the messages take that it is made of.
    """

    wire = AT_ONCE
    _all_left = _all_come = 0.0  # when what was sent has left, and what was received has come

    def send(self, message: object, to: int) -> None:
        """Send anything to another rank."""
        seconds = bytes_of(message) / self.wire.bandwidth
        self._all_left = max(time.perf_counter(), self._all_left) + seconds
        super().send((self._all_left + self.wire.latency, seconds, self.wire, message), to)

    def receive(self, source: int) -> Any:
        """Wait for the next message of another rank, and until it may be seen."""
        seen, seconds, wire, message = super().receive(source)
        if source == 0:
            self.wire = wire
        self._all_come = max(seen, self._all_come + seconds)  # those of several ranks come one by one
        wait_until(self._all_come)
        return message

    def sum(self, x: NDArray) -> NDArray:
        """Add up arrays of the same shape, one of each rank."""
        times = np.zeros(self.size)
        times[self.rank] = time.perf_counter()
        total = super().sum(x)
        if self.wire != AT_ONCE:
            all_here = super().sum(times).max()
            wait_until(all_here + adding(x.size, self.size).seconds(self.wire))
        return total

    def gather(self, x: NDArray) -> NDArray:
        """Put arrays side by side on rank 0, one of each rank."""
        if self.rank:
            self.send(x, to=0)
            return x
        return np.concatenate([x, *map(self.receive, range(1, self.size))], axis=-1)


class DelayedRanks(Delayed, MpiRanks):
    """Processes whose messages are late."""


def bytes_of(message: object) -> int:
    """Return the bytes of the arrays in a message; what else it holds is short."""
    if isinstance(message, np.ndarray):
        return message.nbytes
    if isinstance(message, Mapping):
        return bytes_of(tuple(message.values()))
    return sum(map(bytes_of, message)) if isinstance(message, tuple | list) else 0


def wait_until(seen: float) -> None:
    """Return at this time of ``time.perf_counter``."""
    if (left := seen - time.perf_counter()) > NEARLY:
        time.sleep(left - NEARLY)
    while time.perf_counter() < seen:
        pass


def token_seconds(ranks: DelayedRanks, model: Decoder, new: int) -> dict[str, float]:
    """Generate tokens, one over each wire in turn: the seconds of the quickest over each."""
    cache = model.new_cache(capacity=8 + new * len(WIRES))
    logits = model(list(range(1, 9)), cache=cache, last_only=True)
    taken: dict[str, list[float]] = {name: [] for name in WIRES}
    for _ in range(new):
        for name, ranks.wire in WIRES.items():
            begun = time.perf_counter()
            logits = model([int(logits[-1].argmax())], cache=cache, last_only=True)
            taken[name].append(time.perf_counter() - begun)
    ranks.wire = AT_ONCE
    return {name: min(seconds) for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shape", nargs="?", choices=SHAPES, default="tiny-deep")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new", type=int, default=12, help="tokens to generate in a turn")
    parser.add_argument("--wire", action="store_true", help="measure the wire between rank 0 and the last")
    parser.add_argument("--workdir", type=Path, help="keep the model there")
    parser.set_defaults(color="auto", quiet=False)
    arguments = parser.parse_args()
    ranks = DelayedRanks()
    if arguments.wire:
        measure_wire(ranks)
    elif ranks.rank:
        ts.follow(ranks)
    else:
        with ranks, TemporaryDirectory() as directory:
            compare(ranks, arguments, arguments.workdir or Path(directory))


def compare(ranks: DelayedRanks, arguments: argparse.Namespace, directory: Path) -> None:
    """Measure a token by each way and over each wire, and print it beside what is expected."""
    place = directory / f"{arguments.shape}-float32"
    if not (place / "config.json").exists():
        write(arguments.shape, "float32", place)
    models = {way: ts.load(place, ranks=ranks, parallel=way)[0] for way in DIVIDED}
    turns = [
        {way: token_seconds(ranks, model, arguments.new) for way, model in models.items()}
        for _ in range(arguments.rounds)
    ]
    rows = []
    for way, model in models.items():
        traffic = told(model, way, ranks.size)
        alone = Rounds(tuple(turn[way][NO_DELAY] for turn in turns))
        rows.append((way, NO_DELAY, "", f"{1e3 * alone.median:.1f}", ""))
        for name, wire in list(WIRES.items())[1:]:
            expected = Rounds(tuple(seconds + traffic.seconds(wire) for seconds in alone.values))
            measured = Rounds(tuple(turn[way][name] for turn in turns))
            middle = (f"{1e3 * each.median:.1f}" for each in (expected, measured))
            rows.append((way, name, *middle, measured.over(expected).text("{:.2f}".format)))
    say_table(("way", "wire", "expected, ms", "measured, ms", "measured by expected"), rows, arguments)


def told(model: Decoder, way: str, ranks: int) -> Traffic:
    """Return what ranks tell each other for a token."""
    sizes = model.config.sizes
    if way == "layers":
        return by_layers(ranks, sizes["D"])
    return by_heads(ranks, sizes["L"], sizes["D"], sizes["V"])


def measure_wire(ranks: MpiRanks) -> None:
    """Send messages to the last rank and back, and print its latency and bandwidth."""
    last = ranks.size - 1
    seconds = {}
    for nbytes, times in ((4, 200), (1 << 24, 10)):
        message, taken = np.zeros(nbytes, np.uint8), []
        for _ in range(times):
            begun = time.perf_counter()
            if ranks.rank == 0:
                ranks.send(message, last)
                ranks.receive(last)
            elif ranks.rank == last:
                ranks.send(ranks.receive(0), 0)
            taken.append((time.perf_counter() - begun) / 2)
        seconds[nbytes] = median(taken)
    if ranks.rank == 0:
        latency, long = seconds.values()
        bandwidth = (1 << 24) / (long - latency)
        say(f"{ranks.hosts[0]} to {ranks.hosts[last]}: {1e6 * latency:.0f} µs, {bandwidth / 1e6:.0f} MB/s")


if __name__ == "__main__":
    main()
