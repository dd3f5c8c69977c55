"""Train a TinyStar with torch, and write a directory that tinystar_np reads.

    pip install 'tinystar_np[train]'
    python examples/train_tinystar.py --text tinyshakespeare.txt --out my_star
    tinystar ask -m my_star "ROMEO:"
    tinystar look -m my_star "ROMEO:" --open

Any of the seven named configurations (``--config v0.5-mla``) or a file (``mine.yaml``), in any size. The
torch model is torch_tinystar.py. Text is cut into tokens by a byte-pair encoding that is trained on it, by a
tokenizer.json or as bytes, and the last twentieth of each file is held out; or it comes as a directory of
tokens (``--data``), see ``prepared_text``.

At the end: the curve of the losses, as text and, where matplotlib is installed, as OUT/curve.png; how far
tinystar_np's logits are from torch's; and a sample. OUT/training.json has every loss.

What it costs: the first command above, on Tiny Shakespeare (1.1 MB,
github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare), is 0.8 million parameters and 1,000 steps of
4,096 tokens: seven minutes of processor time (``--threads 1``; AMD EPYC, Zen 5) and 0.8 GB of memory. It
ends at 1.518 nats per byte on the held-out twentieth.

The given run

    python examples/train_tinystar.py --data DATA --config v0.2-modern --width 224 --layers 6 --context 512
        --batch 64 --rows 8 --steps 1050 --bfloat16 --out OUT

is how the seven designs were trained on a GPU, by another script: the same first weights, rows in the same
order, and schedule. Their mean losses over steps 1 to 20 and 21 to 40, there and here on a processor
(``--stop 40``):

    v0.2-modern   7.85096  6.69533 there,  7.8510  6.6953 here;  with two other seeds 7.82105 and 7.83034
    v0.5-mla      7.83430          there,  7.8343         here

A step of that size, 32,768 tokens, takes 5.4 s on two cores (AMD EPYC, Zen 5; 8.1 s without --bfloat16), so
the whole takes an hour and a half.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import lzma
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch_tinystar import TorchTinyStar

import tinystar_np as ts
from tinystar_np.models.tinystar_config import configuration_names

# --- 1. The text --------------------------------------------------------------------------------

END = "<|endoftext|>"  # between texts, where the tokenizer has it


class Text(NamedTuple):
    """What is trained on, and what the model is measured on.

    train        (N,) token ids
    held_out     {name: (N,) token ids}
    token_bytes  (V,), how many bytes of text each token stands for
    tokenizer    None where tokens are bytes
    """

    train: Tensor
    held_out: dict[str, Tensor]
    token_bytes: Tensor
    tokenizer: Tokenizer | None

    def to(self, device: str) -> Text:
        held_out = {name: ids.to(device) for name, ids in self.held_out.items()}
        return Text(self.train.to(device), held_out, self.token_bytes.to(device), self.tokenizer)


def prepared_text(folder: Path) -> Text:
    """Read tokens that were written before.

    folder  has train.npy or train.npy.xz and any number of held_out_NAME.npy, one-dimensional arrays of ids;
            token_bytes.npy, how many bytes each token stands for; and tokenizer.json
    """

    def ids(path: Path) -> Tensor:
        packed = path.suffix == ".xz"
        file = io.BytesIO(lzma.decompress(path.read_bytes())) if packed else path
        return torch.from_numpy(np.load(file).astype(np.int64))

    train = folder / "train.npy"
    return Text(
        ids(train if train.exists() else folder / "train.npy.xz"),
        {path.stem.removeprefix("held_out_"): ids(path) for path in sorted(folder.glob("held_out_*.npy"))},
        ids(folder / "token_bytes.npy"),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )


def read_text(paths: list[Path], kind: str, vocabulary: int) -> Text:
    """Read text files; the last twentieth of each, from a line's beginning on, is held out.

    kind        "bytes"; "bpe": a byte-pair encoding is trained on the text; else the path of a tokenizer.json
    vocabulary  tokens of "bpe"
    """
    train, held_out = [], {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        at = text.rfind("\n", 0, len(text) * 19 // 20) + 1
        train.append(text[:at])
        held_out[path.stem] = text[at:]
    if kind == "bytes":
        tokenizer, sizes = None, torch.ones(256, dtype=torch.int64)
    else:
        tokenizer = trained_tokenizer(train, vocabulary) if kind == "bpe" else Tokenizer.from_file(kind)
        sizes = bytes_of_tokens(tokenizer)

    def encoded(texts: list[str]) -> Tensor:
        if tokenizer is None:
            return torch.tensor(list("\n".join(texts).encode()))
        end = tokenizer.token_to_id(END)
        between = [] if end is None else [end]
        every = [[*between, *tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]
        return torch.tensor([token for ids in every for token in ids] + between)

    return Text(encoded(train), {name: encoded([text]) for name, text in held_out.items()}, sizes, tokenizer)


def trained_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((part for text in texts for part in text.split("\n\n")), trainer)
    return tokenizer


def bytes_of_tokens(tokenizer: Tokenizer) -> Tensor:
    """Count the bytes that each token stands for: one for each character, in a byte-level vocabulary."""
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    sizes = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.int64)
    for token, i in tokenizer.get_vocab().items():
        if token not in special:
            if not letters.issuperset(token):
                raise SystemExit(f"The tokenizer is not byte-level: it has {token!r}.")
            sizes[i] = len(token)
    return sizes


def batches(length: int, context: int, batch: int, steps: int, seed: int) -> Tensor:
    """Say where each row of each batch begins in a text of ``length`` tokens: (steps, batch).

    An epoch is the whole text in pieces that do not overlap, in random order; each epoch cuts it elsewhere.
    """
    if length < 2 * context + 1:
        raise SystemExit(f"The text has {length} tokens, too few for a context of {context}.")
    random = np.random.default_rng(seed)
    rows: list[int] = []
    while len(rows) < steps * batch:
        starts = np.arange(int(random.integers(context)), length - context - 1, context)
        random.shuffle(starts)
        rows.extend(starts)
    return torch.tensor(rows[: steps * batch]).view(steps, batch)


def windows(ids: Tensor, starts: Tensor, context: int) -> Tensor:
    """The tokens that begin at ``starts``, and the one that follows them: (B, context + 1)."""
    return ids[starts[:, None] + torch.arange(context + 1, device=ids.device)]


# --- 2. Training --------------------------------------------------------------------------------


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; weights that are matrices decay, gains and biases do not."""
    parameters = list(model.parameters())
    matrices, vectors = ([p for p in parameters if (p.ndim >= 2) == wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)


@dataclass(frozen=True)
class Plan:
    """How a model is trained.

    context, batch  tokens in a row, and rows in a step
    rows            rows computed at once: fewer take less memory, and the gradient is the same
    steps, stop     of the schedule; ends after ``stop`` of them
    rate            the highest learning rate
    seed            of the order of the rows
    """

    context: int
    batch: int
    rows: int
    steps: int
    stop: int | None = None
    rate: float = 2e-3
    seed: int = 0
    log_every: int = 20
    measure_every: int = 100
    bfloat16: bool = False

    def learning_rate(self, step: int) -> float:
        """A line up to the highest rate, for a tenth of the steps and at most 200, then half a cosine down to
        a twentieth of it; steps count from 0."""
        warmup = max(min(200, self.steps // 10), 1)
        if step < warmup:
            return self.rate * (step + 1) / warmup
        done = (step - warmup) / max(self.steps - warmup, 1)
        return self.rate * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)


@torch.no_grad()
def nats(model: nn.Module, text: Text, context: int, most: int = 64) -> dict[str, tuple[float, float]]:
    """Measure nats per token and per byte on each held-out text, on at most ``most`` windows of it."""
    found = {}
    for name, ids in text.held_out.items():
        if len(ids) <= context:
            raise SystemExit(f"{name}: {len(ids)} tokens are held out, too few for a context of {context}.")
        starts = torch.arange(0, len(ids) - context, context, device=ids.device)
        if len(starts) > most:
            starts = starts[torch.linspace(0, len(starts) - 1, most, device=ids.device).long()]
        total, tokens, size = 0.0, 0, 0
        for part in starts.split(16):
            rows = windows(ids, part, context)
            losses = model.losses(rows)
            total += losses.sum().item()
            tokens += losses.numel()
            size += int(text.token_bytes[rows[:, -losses.shape[1] :]].sum())
        found[name] = total / tokens, total / size
    return found


class Log(NamedTuple):
    """The losses on the way: (step, nats per token), and (step, {text: nats per token and per byte})."""

    train: list[tuple[int, float]]
    held_out: list[tuple[int, dict[str, tuple[float, float]]]]


def train(model: nn.Module, text: Text, plan: Plan) -> Log:
    """Train a model that has ``losses``; leaves it with the weights that were best on the held-out text."""
    optimiser = optimiser_of(model)
    order = batches(len(text.train), plan.context, plan.batch, plan.steps, plan.seed).to(text.train.device)
    narrow = torch.autocast(text.train.device.type, dtype=torch.bfloat16, enabled=plan.bfloat16)
    log, recent, best, best_weights = Log([], []), [], math.inf, model.state_dict()
    begun, last = time.time(), min(plan.steps, plan.stop or plan.steps)
    for step, starts in enumerate(order[:last], 1):
        loss = 0.0
        for part in starts.split(plan.rows):
            with narrow:
                mean = model.losses(windows(text.train, part, plan.context)).mean()
            share = mean * (len(part) / len(starts))
            share.backward()
            loss += share.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate(step - 1)
        optimiser.step()
        optimiser.zero_grad()
        recent.append(loss)
        if step % plan.log_every == 0 or step == last:
            log.train.append((step, sum(recent) / len(recent)))
            recent.clear()
            speed = step * plan.batch * plan.context / (time.time() - begun)
            say(f"step {step} of {plan.steps}: {log.train[-1][1]:.4f} nats/token, {speed:.0f} tokens/s")
        if step % plan.measure_every == 0 or step == last:
            with narrow:
                found = nats(model, text, plan.context)
            log.held_out.append((step, found))
            mean_per_byte = sum(per_byte for _, per_byte in found.values()) / len(found)
            say("    held out, nats/byte: " + ", ".join(f"{name} {x[1]:.4f}" for name, x in found.items()))
            if mean_per_byte < best:
                best, best_weights = mean_per_byte, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    say(f"{last} steps in {time.time() - begun:.0f} s; the best, {best:.4f} nats/byte, is kept")
    return log


def say(line: str) -> None:
    print(line, flush=True)


# --- 3. What is written -------------------------------------------------------------------------


def save(model: TorchTinyStar, tokenizer: Tokenizer | None, out: Path, dtype: torch.dtype) -> None:
    """Write config.json, the weights and the tokenizer; the model's own weights become the rounded ones."""
    out.mkdir(parents=True, exist_ok=True)
    rounded = {name: x.to("cpu", dtype).contiguous() for name, x in model.state_dict().items()}
    model.load_state_dict({name: x.float() for name, x in rounded.items()})
    save_file(rounded, out / "model.safetensors", metadata={"format": "pt"})
    files = {"config.json": {**model.config.to_dict(), "dtype": str(dtype).removeprefix("torch.")}}
    if tokenizer is not None:
        tokenizer.save(str(out / "tokenizer.json"))
        end = tokenizer.token_to_id(END)
        files["generation_config.json"] = {"eos_token_id": [] if end is None else [end]}
        files["tokenizer_config.json"] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **({} if end is None else {"bos_token": END, "eos_token": END, "unk_token": END}),
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.config.max_positions,
        }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def difference(model: TorchTinyStar, out: Path, ids: Tensor) -> float:
    """The largest difference between torch's logits and tinystar_np's, relative to the largest logit."""
    expected = model(ids[None])[0].cpu().numpy()
    found = ts.load(out)[0](ids.cpu().numpy())
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def curve(log: Log, width: int = 72, height: int = 16) -> str:
    """Draw the losses as text: · in training, o held out (the mean over the texts), nats per token."""
    held_out = [(step, sum(x[0] for x in found.values()) / len(found)) for step, found in log.held_out]
    points = [(step, loss, "·") for step, loss in log.train] + [(step, loss, "o") for step, loss in held_out]
    low, high = min(y for _, y, _ in points), max(y for _, y, _ in points)
    last = max(step for step, _, _ in points)
    rows = [[" "] * width for _ in range(height)]
    for step, loss, mark in points:
        row = round((high - loss) / ((high - low) or 1) * (height - 1))
        rows[row][round(step / last * (width - 1))] = mark
    labels = [f"{high - (high - low) * i / (height - 1):6.2f} ┤" for i in range(height)]
    lines = [label + "".join(row).rstrip() for label, row in zip(labels, rows, strict=True)]
    axis = f"{'':7}└{'─' * width}\n{'':8}0{last:>{width - 1}} steps"
    return "\n".join(["nats/token: · in training, o held out", *lines, axis])


def picture(log: Log, path: Path) -> bool:
    """Draw the losses as a picture, where matplotlib is installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="nats per token")
    axes.plot(*zip(*log.train, strict=True), color="#9ca3af", label="in training")
    steps = [step for step, _ in log.held_out]
    for name in log.held_out[0][1]:
        losses = [found[name][0] for _, found in log.held_out]
        axes.plot(steps, losses, "o-", label=f"{name}, held out", markersize=3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    return True


# --- 4. The command -----------------------------------------------------------------------------


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", type=Path, nargs="+", help="text files")
    source.add_argument("--data", type=Path, help="a directory of tokens: train.npy.xz, held_out_*.npy, …")
    parser.add_argument("--out", type=Path, required=True, help="the directory to write")
    parser.add_argument("--config", default="v0.2-modern", help="a named configuration, or a file")
    parser.add_argument("--tokenizer", default="bpe", help="of --text: bpe, bytes, or a tokenizer.json")
    parser.add_argument("--vocabulary", type=int, default=1024, help="tokens of bpe")
    parser.add_argument("--width", type=int, help="128, or the config file's")
    parser.add_argument("--layers", type=int, help="4, or the config file's")
    parser.add_argument("--heads", type=int, help="8, or the config file's")
    parser.add_argument("--context", type=int, default=256, help="tokens in a row")
    parser.add_argument("--batch", type=int, default=16, help="rows in a step")
    parser.add_argument("--rows", type=int, default=16, help="rows computed at once")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--stop", type=int, help="end after so many; the schedule is that of --steps")
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--measure-every", type=int, default=100, help="steps between looks at held-out text")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16", help="of the file")
    parser.add_argument("--bfloat16", action="store_true", help="products in bfloat16 while training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the processor; all, if not given")
    return parser.parse_args(given)


def config_of(args: argparse.Namespace, text: Text) -> ts.TinyStarConfig:
    """The configuration, in the sizes asked for and with the text's tokens."""
    vocabulary = {"tokens": "bytes", "vocab_size": 256}
    if text.tokenizer is not None:
        vocabulary = {"tokens": "tokenizer", "vocab_size": len(text.token_bytes)}
    named = args.config in configuration_names()
    config = ts.TinyStarConfig.named(args.config) if named else ts.TinyStarConfig.from_file(args.config)
    sizes = {
        "hidden_size": args.width or (128 if named else config.hidden_size),
        "num_layers": args.layers or (4 if named else config.num_layers),
        "num_heads": args.heads or (8 if named else config.num_heads),
        "max_positions": args.context,
    }
    if named and config.window:
        sizes["window_size"] = args.context // 4  # as in the named one
    return replace(config, **vocabulary, **sizes)


def main(given: list[str] | None = None) -> None:
    args = arguments(given)
    if args.threads:
        torch.set_num_threads(args.threads)
    text = prepared_text(args.data) if args.data else read_text(args.text, args.tokenizer, args.vocabulary)
    text = text.to(args.device)
    torch.manual_seed(args.seed)
    model = TorchTinyStar(config_of(args, text)).to(args.device)
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{args.config}: {parameters:,} parameters; {len(text.train):,} tokens to train on")
    plan = Plan(
        args.context, args.batch, args.rows, args.steps, args.stop, rate=args.rate, seed=args.seed,
        log_every=args.log_every, measure_every=args.measure_every, bfloat16=args.bfloat16,
    )  # fmt: skip
    log = train(model, text, plan)
    save(model, text.tokenizer, args.out, getattr(torch, args.dtype))
    record = {"config": args.config, "parameters": parameters, "plan": asdict(plan), **log._asdict()}
    (args.out / "training.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    say(curve(log))
    some = next(iter(text.held_out.values()))[: args.context]
    say(f"{args.out}: tinystar_np's logits differ from torch's by {difference(model, args.out, some):.1e}")
    if picture(log, args.out / "curve.png"):
        say(f"{args.out / 'curve.png'}: the curve")
    star, tokenizer = ts.load(args.out)
    prompt = tokenizer.decode(some[:16].tolist())
    say(f"\n{prompt}|{ts.generate(star, tokenizer, prompt, max_new_tokens=100, temperature=0.8, seed=0)}")


if __name__ == "__main__":
    main()
