"""A TinyStar whose core works on patches of six bytes: an embedder gathers them, a head spells them.

    pip install 'tinystar_np[train]'
    python examples/next_thought.py --text tinyshakespeare.txt --out thoughts

    bytes       T h e   c a   t   s a t   o
                └────┬────┘   └────┬────┘
    embedder         x₀            x₁           the P bytes of a patch → one vector
    core             h₀            h₁           TinyStar's blocks: each sees those before it
                     └──┐          └──┐
    head              spells        spells      hₜ → the P bytes of patch t + 1, one after the other

The core says what comes next as one vector, not as one letter. It runs once for P bytes, and its cache holds
one entry for P bytes. The bytes of a patch are not taken for independent: byte k is conditioned on all the
patches before, through h, and on bytes 0 … k − 1 of its own patch, through the state of a small recurrent
network. The product of these probabilities is that of the text, so nats per byte compare with any other
model's.

MEGABYTE (Yu et al. 2023, arXiv:2305.07185) has a small transformer for a head; the head here is a gated
recurrent unit (Cho et al. 2014, arXiv:1406.1078), which keeps D numbers and no cache.

Three models are trained on the same text: a TinyStar of bytes; one of patches, about as large, on as many
bytes; and that one for as long, in processor time. In tinystar_np the embedder and the head of a TinyStar are
exchanged by assignment; its logits are compared with torch's, it is timed, and it writes a text. Besides the
two parts one number is set: ``vocab_size``, which says what an id may be.

What came out, on Tiny Shakespeare (1.1 MB, the last twentieth held out), one thread of an AMD
EPYC (Zen 5), twelve minutes in all:

                                      bytes    patches    patches, longer
    parameters                      726,144    766,592            766,592
    steps of 8 rows of 510 bytes        700        700              3,953
    processor seconds                   358         62                315
    nats/byte, held out               1.682      2.129              1.667
    µs a byte in NumPy, to read          30                           6.5
                       to write         360                            69
    bytes of cache a byte             1,024                           128

A patch costs about as much as a byte, in training too: in the same time the model of patches sees 5.6 times
as much text, and in NumPy it reads and writes five times as fast. Its cache is an eighth, as six bytes share
an entry and it has three blocks instead of four. From the same amount of text it learns far less. In the same
time it catches up with the model of bytes and is 0.01 to 0.02 ahead, little beside seeds, which differ by up
to 0.008, and it has 6 % more parameters: on 64 windows of the held-out text two seeds gave 1.689 and 1.684
for bytes, 2.132 and 2.140 for patches on as many bytes, 1.667 and 1.674 after 3,953 steps. It replaces no
vocabulary: train_tinystar.py, in seven minutes on the same text, comes to 1.518 nats per byte with 1,024
tokens of byte-pair encoding.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_tinystar import Block, Linear, Place, Table, TorchTinyStar, norm_of
from train_tinystar import Log, Plan, Text, read_text, save, say, train

import tinystar_np as ts

Choose = Callable[[NDArray], NDArray]
"""Chooses bytes (…) from logits (…, 256)."""

# --- 1. In torch, to be trained -----------------------------------------------------------------


class PatchEmbedder(nn.Module):
    """The vectors of a patch's bytes, side by side, times a matrix."""

    def __init__(self, c: ts.TinyStarConfig, P: int):
        super().__init__()
        self.mix = Linear(P * c.hidden_size, c.hidden_size, (P * c.hidden_size) ** -0.5)

    def forward(self, vectors: Tensor) -> Tensor:  # (B, T, P, D) → (B, T, D)
        return self.mix(vectors.flatten(-2))


class Speller(nn.Module):
    """A gated recurrent unit whose first state is made from the core's output.

    s₀ = h W;  sₖ₊₁ = GRU(sₖ, vector of byte k);  logits of byte k = sₖ Eᵀ, E the table of bytes
    """

    def __init__(self, c: ts.TinyStarConfig):
        super().__init__()
        D = c.hidden_size
        self.first = Linear(D, D, D**-0.5)
        self.input = Linear(D, 3 * D, D**-0.5, bias=True)
        self.state = Linear(D, 3 * D, D**-0.5, bias=True)

    def next(self, state: Tensor, vector: Tensor) -> Tensor:  # (…, D), (…, D) → (…, D)
        reset, update, new = self.input(vector).chunk(3, dim=-1)
        reset_too, update_too, old = self.state(state).chunk(3, dim=-1)
        proposed = torch.tanh(new + torch.sigmoid(reset + reset_too) * old)
        return torch.lerp(proposed, state, torch.sigmoid(update + update_too))

    def forward(self, h: Tensor, vectors: Tensor) -> Tensor:  # (B, T, D), (B, T, P, D) → (B, T, P, D)
        states = [self.first(h)]
        for k in range(vectors.shape[-2] - 1):
            states.append(self.next(states[-1], vectors[..., k, :]))
        return torch.stack(states, dim=-2)


class PatchStar(nn.Module):
    """TinyStar's blocks between the two; all three parts read the same table of bytes."""

    def __init__(self, c: ts.TinyStarConfig, P: int):
        super().__init__()
        self.config, self.P = c, P
        self.embedding = nn.ModuleDict({"tokens": Table(c.vocab_size, c.hidden_size, c.init_std)})
        self.embedder = PatchEmbedder(c, P)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.num_layers))
        self.final_norm = norm_of(c)
        self.speller = Speller(c)

    def forward(self, patches: Tensor) -> Tensor:  # (B, T + 1, P) → (B, T, P, 256)
        """The logits of each byte of each patch but the first, given all bytes before it."""
        place = Place.of(self.config, patches.shape[1] - 1, patches.device)
        vectors = self.embedding["tokens"](patches)
        x = self.embedder(vectors[:, :-1])
        for block in self.blocks:
            x = block(x, place)
        return F.linear(self.speller(self.final_norm(x), vectors[:, 1:]), self.embedding["tokens"].weight)

    def losses(self, rows: Tensor) -> Tensor:  # (B, (T + 1) · P) → (B, T · P)
        logits, targets = self(rows.unflatten(-1, (-1, self.P))), rows[:, self.P :]
        return F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none").view_as(targets)


def parameters_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def patch_star(c: ts.TinyStarConfig, P: int) -> PatchStar:
    """Build the one whose size is nearest to that of a TinyStar of bytes: embedder and head cost blocks."""
    size = parameters_of(TorchTinyStar(c))
    candidates = [PatchStar(replace(c, num_layers=layers), P) for layers in range(1, c.num_layers + 1)]
    return min(candidates, key=lambda model: abs(parameters_of(model) - size))


# --- 2. In NumPy, to be used --------------------------------------------------------------------


class PatchEmbedding:
    """TinyStar's embedder for patches; an id is a whole patch, its P bytes as one number.

    tokens  TinyStar's own table of bytes, a layer
    mix     (P · D, D)
    """

    def __init__(self, tokens: Callable[[NDArray], NDArray], mix: NDArray):
        self.tokens, self.mix = tokens, mix
        self.P = len(mix) // mix.shape[1]

    def __call__(self, ids: NDArray[np.integer], step: object) -> NDArray:  # (B, T) → (B, T, D)
        return self.tokens(bytes_of(ids, self.P)).reshape(*ids.shape, -1) @ self.mix


class SpellingHead:
    """TinyStar's head for patches: ``logits`` scores given ones, ``spell`` makes new ones.

    table  (256, D), TinyStar's table of bytes
    w      the arrays of ``Speller``, by its names
    """

    def __init__(self, table: NDArray, w: Mapping[str, NDArray], P: int):
        self.table, self.w, self.P = table, w, P
        self.inputs = table @ w["input.weight"] + w["input.bias"]  # (256, 3 D), of every byte

    def next(self, state: NDArray, letters: NDArray[np.integer]) -> NDArray:  # (…, D), (…) → (…, D)
        reset, update, new = np.split(self.inputs[letters], 3, axis=-1)
        from_state = state @ self.w["state.weight"] + self.w["state.bias"]
        reset_too, update_too, old = np.split(from_state, 3, axis=-1)
        proposed = np.tanh(new + sigmoid(reset + reset_too) * old)
        return proposed + sigmoid(update + update_too) * (state - proposed)

    def logits(self, h: NDArray, patches: NDArray[np.integer]) -> NDArray:
        """Say what each byte was predicted to be: (B, T, D), (B, T, P) → (B, T, P, 256)."""
        states = [h @ self.w["first.weight"]]
        for k in range(self.P - 1):
            states.append(self.next(states[-1], patches[..., k]))
        return np.stack(states, axis=-2) @ self.table.T

    def spell(self, h: NDArray, choose: Choose) -> NDArray[np.integer]:
        """Choose a patch, byte by byte: (B, T, D) → (B, T, P)."""
        state = h @ self.w["first.weight"]
        letters = [choose(state @ self.table.T)]
        while len(letters) < self.P:
            state = self.next(state, letters[-1])
            letters.append(choose(state @ self.table.T))
        return np.stack(letters, axis=-1)


def sigmoid(x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x))


def bytes_of(ids: NDArray[np.integer], P: int) -> NDArray[np.integer]:
    """The bytes of patches, the lowest first: (…) → (…, P)."""
    return (ids[..., None] >> (8 * np.arange(P))) & 255


def ids_of(patches: NDArray[np.integer]) -> NDArray[np.integer]:
    """The ids of patches: (…, P) → (…)."""
    return (patches.astype(np.int64) << (8 * np.arange(patches.shape[-1]))).sum(axis=-1)


def load(directory: Path) -> tuple[ts.TinyStar, SpellingHead]:
    """Load the core, which is a TinyStar like any other, and exchange its embedder.

    Returns it and the head: which of the head's two functions becomes ``model.head`` is said at each use.
    """
    model, _ = ts.load(directory)
    with np.load(directory / "parts.npz") as file:
        parts = dict(file)
    model.embedder = PatchEmbedding(model.tokens, parts["embedder.mix.weight"])
    P = model.embedder.P
    model.vocab_size = 256**P
    w = {name.removeprefix("speller."): array for name, array in parts.items()}
    return model, SpellingHead(model.weights["embedding.tokens.weight"], w, P)


def logits_of(model: ts.TinyStar, head: SpellingHead, text: bytes) -> NDArray:
    """The logits of each byte of a text but the first P, given all bytes before it: (T · P, 256)."""
    patches = np.frombuffer(text, dtype=np.uint8).reshape(-1, head.P)
    model.head = partial(head.logits, patches=patches[None, 1:])
    return model(ids_of(patches[:-1])).reshape(-1, 256)


def continued(model: ts.TinyStar, P: int, prompt: bytes) -> Iterator[bytes]:
    """Continue a prompt, P bytes at a time, without end; ``model.head`` returns bytes, (B, T, P).

    Spaces before the prompt fill up its first patch.
    """
    prompt = b" " * (-len(prompt) % P) + prompt
    patches = np.frombuffer(prompt, dtype=np.uint8).reshape(-1, P)
    cache = model.new_cache()
    while True:
        patches = model(ids_of(patches), cache=cache, last_only=True)  # (1, P)
        yield bytes(patches[0].tolist())


def greedy(logits: NDArray) -> NDArray[np.integer]:
    return logits.argmax(axis=-1)


def drawn(temperature: float, seed: int) -> Choose:
    """Draw from softmax(logits / temperature): the largest after noise of Gumbel's distribution is added."""
    random = np.random.default_rng(seed)
    return lambda logits: (logits / temperature + random.gumbel(size=logits.shape)).argmax(axis=-1)


# --- 3. Files and measures ----------------------------------------------------------------------


def save_patches(model: PatchStar, directory: Path) -> None:
    """Write the core as a TinyStar of bytes, and in parts.npz the arrays of the other two parts."""
    core, arrays = TorchTinyStar(model.config), model.state_dict()
    others = {name: x for name, x in arrays.items() if name.startswith(("embedder.", "speller."))}
    core.load_state_dict({name: x for name, x in arrays.items() if name not in others})
    save(core, None, directory, torch.float32)
    np.savez(directory / "parts.npz", **{name: x.numpy() for name, x in others.items()})


@torch.no_grad()
def nats_per_byte(model: nn.Module, ids: Tensor, row: int, P: int) -> float:
    """Measure on a whole text, in rows; the first P bytes of each are only read, whichever the model."""
    starts = torch.arange(0, len(ids) - row + 1, row - P)
    losses = [model.losses(ids[part[:, None] + torch.arange(row)])[:, P - row :] for part in starts.split(16)]
    return torch.cat(losses).mean().item()


def seconds_of_step(model: nn.Module, batch: int, row: int) -> float:
    """Measure the processor time of a forward and a backward pass, the mean of eight after two."""
    rows = torch.zeros(batch, row, dtype=torch.int64)
    for i in range(10):
        if i == 2:
            begun = time.process_time()
        model.losses(rows).mean().backward()
    model.zero_grad()
    return (time.process_time() - begun) / 8


def microseconds(work: Callable[[], object], size: int) -> float:
    """The time that work takes for each of ``size`` bytes, the median of five."""
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return 1e6 * float(np.median(taken)) / size


@dataclass
class Trained:
    """A model that was trained, and what that took."""

    model: TorchTinyStar | PatchStar
    steps: int
    processor_seconds: float
    log: Log

    @classmethod
    def of(cls, model: TorchTinyStar | PatchStar, text: Text, plan: Plan) -> Trained:
        say(f"\n{parameters_of(model):,} parameters, {len(model.blocks)} blocks, {plan.steps} steps")
        begun = time.process_time()
        log = train(model, text, plan)
        return cls(model, plan.steps, time.process_time() - begun, log)

    def facts(self, text: Text, batch: int, row: int, P: int) -> dict[str, float]:
        """What a reader compares, by its label."""
        return {
            "parameters": parameters_of(self.model),
            "steps": self.steps,
            "million bytes read": self.steps * batch * row / 1e6,
            "processor seconds": self.processor_seconds,
            **{f"nats/byte, {k}": nats_per_byte(self.model, ids, row, P) for k, ids in text.held_out.items()},
        }


def facts_of_numpy(
    expected: NDArray, read: Callable[[], NDArray], model: ts.TinyStar, P: int, prompt: bytes, row: int
) -> dict[str, float]:
    """What a reader compares of the models in tinystar_np: as torch says it, how quick, how large.

    expected  torch's logits of what ``read`` reads
    model     whose head returns bytes
    """
    difference = np.abs(read() - expected).max() / np.abs(expected).max()
    written = 30 * P
    return {
        "logits differ from torch's by": difference,
        "µs a byte, to read": microseconds(read, row),
        "µs a byte, to write": microseconds(lambda: list(islice(continued(model, P, prompt), 30)), written),
        "bytes of cache a byte": model.new_cache(1, row // P).nbytes / row,
    }


# --- 4. The command -----------------------------------------------------------------------------


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="text files")
    parser.add_argument("--out", type=Path, required=True, help="the directory to write")
    parser.add_argument("--patch", type=int, default=6, choices=range(1, 8), help="bytes in a patch")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4, help="of the model of bytes")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--context", type=int, default=512, help="bytes in a row")
    parser.add_argument("--batch", type=int, default=8, help="rows in a step")
    parser.add_argument("--steps", type=int, default=700, help="of the model of bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    args = arguments(given)
    torch.set_num_threads(args.threads)
    P, row = args.patch, args.context // args.patch * args.patch
    text = read_text(args.text, "bytes", 0)
    sizes = {"hidden_size": args.width, "num_layers": args.layers, "num_heads": args.heads}
    config = replace(ts.TinyStarConfig.named("v0.2-modern"), **sizes, max_positions=row)
    plan = Plan(
        row - 1, args.batch, args.batch, args.steps, seed=args.seed, log_every=args.log_every,
        measure_every=args.log_every,
    )  # fmt: skip
    torch.manual_seed(args.seed)
    of_bytes, of_patches = TorchTinyStar(config), patch_star(config, P)
    ratio = seconds_of_step(of_bytes, args.batch, row) / seconds_of_step(of_patches, args.batch, row)
    say(f"{len(text.train):,} bytes; a step of bytes takes {ratio:.2f} times as long as one of patches")
    longer = copy.deepcopy(of_patches)
    trained = {
        "bytes": Trained.of(of_bytes, text, plan),
        "patches": Trained.of(of_patches, text, plan),
        "patches, longer": Trained.of(longer, text, replace(plan, steps=round(args.steps * ratio))),
    }
    facts = {name: each.facts(text, args.batch, row, P) for name, each in trained.items()}
    save(of_bytes, None, args.out / "bytes", torch.float32)
    save_patches(longer, args.out / "patches")

    # From here on in NumPy.
    rows = next(iter(text.held_out.values()))[None, :row]
    known = bytes(rows[0].tolist())
    prompt = known[: 8 * P]
    with torch.no_grad():
        by_bytes = of_bytes(rows[:, :-1])[0].numpy()
        by_patches = longer(rows.unflatten(-1, (-1, P))).reshape(-1, 256).numpy()
    star, _ = ts.load(args.out / "bytes")
    speller, _ = ts.load(args.out / "bytes")
    own = speller.head
    speller.head = lambda h: greedy(own(h))[..., None]  # (B, T, D) → (B, T, 1): patches of one byte
    facts["bytes"] |= facts_of_numpy(by_bytes, lambda: star(list(known[:-1])), speller, 1, prompt, row)
    reader, head = load(args.out / "patches")
    writer, _ = load(args.out / "patches")
    writer.head = partial(head.spell, choose=greedy)
    facts["patches, longer"] |= facts_of_numpy(
        by_patches, lambda: logits_of(reader, head, known), writer, P, prompt, row
    )
    say(table(facts))
    record = {"facts": facts, "logs": {name: each.log._asdict() for name, each in trained.items()}}
    (args.out / "results.json").write_text(json.dumps(record, default=float) + "\n", encoding="utf-8")
    for temperature in (0.5, 0.8):
        writer.head = partial(head.spell, choose=drawn(temperature, args.seed))
        written = b"".join(islice(continued(writer, P, prompt), 50))
        say(f"\nAt temperature {temperature}:\n{(prompt + b'|' + written).decode(errors='replace')}")


def table(facts: dict[str, dict[str, float]]) -> str:
    lines = [f"\n{'':32}" + "".join(f"{name:>17}" for name in facts)]
    for label in facts["bytes"]:
        cells = [f"{each[label]:,.5g}" if label in each else "" for each in facts.values()]
        lines.append(f"{label:32}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
