"""Train the shipped model "stories": a GPT-2 of 3 million parameters for children's stories.

    python examples/train_stories.py --corpus tinystories.txt --teacher stories260K --out stories

Sampling takes about 13 minutes of one processor core (ten batches of 79 s). Training took 65 minutes
on two cores shared with other work, about 72 minutes of processor time, with --compile; no GPU. The
result has a held-out loss of 0.768 nats per byte; the teacher's own is 0.708.

Corpus: one megabyte of TinyStories (Eldan & Li 2023, arXiv:2305.07759), from the Hugging Face
dataset roneneldan/TinyStories, licence CDLA-Sharing-1.0: stories one newline apart, paragraphs two.
Teacher: karpathy/tinyllamas stories260K (MIT) in Hugging Face form, trained on all of TinyStories.

A megabyte is little: three million parameters soon know it by heart. Two things are meant to help
(neither was measured alone):

- the teacher, a twelfth of the student's size, has seen two thousand times more. Its samples are
  fluent from word to word and make little sense as stories; they teach the first and dilute the
  second, so that the share of real text grows towards the end;
- the children of the real stories get other names in each of many copies, so that who does what
  has to be read from the context.

Needs torch, transformers and tokenizers; --compile also a C++ compiler.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import time
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
)

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--corpus", type=Path, required=True, help="TinyStories text, one file")
parser.add_argument("--teacher", type=Path, help="a Hugging Face Llama directory to sample from")
parser.add_argument("--out", type=Path, required=True, help="where the model is written")
parser.add_argument("--work", type=Path, default=Path("train_stories"), help="samples, checkpoint")
parser.add_argument("--sample-mb", type=float, default=6.5, help="text to sample, in 10**6 bytes")
parser.add_argument("--renamed", type=int, default=16, help="copies of each real story")
parser.add_argument("--vocab", type=int, default=2048)
parser.add_argument("--width", type=int, default=192)
parser.add_argument("--layers", type=int, default=6)
parser.add_argument("--heads", type=int, default=6)
parser.add_argument("--context", type=int, default=512)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--steps", type=int, default=1950, help="the file WORK/steps, if there, wins")
parser.add_argument("--batch-tokens", type=int, default=4096)
parser.add_argument("--real", type=float, nargs=2, default=(0.4, 0.7), help="share, start and end")
parser.add_argument("--lr", type=float, default=2e-3, help="AdamW: embeddings, norms, biases")
parser.add_argument("--muon-lr", type=float, default=0.01, help="Muon: the blocks' matrices")
parser.add_argument("--weight-decay", type=float, default=0.1, help="of the blocks' matrices")
parser.add_argument("--warmup", type=int, default=50)
parser.add_argument("--decay", type=float, default=0.4, help="last part: learning rate to 0")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--compile", action="store_true", help="torch.compile")
args = parser.parse_args()

args.work.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)
rng = random.Random(args.seed)
start = time.time()


def log(*words: object) -> None:
    print(f"[{time.time() - start:6.0f} s]", *words, flush=True)


# --- 1. Real text -------------------------------------------------------------------------------

# The corpus was once decoded as Windows-1252: “ became â€œ. The last byte of ” has no meaning there
# and is lost, so that its remainder begins all the others: it comes last.
PLAIN = {"“": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "”": '"'}


def paragraphs(text: str) -> str:
    return re.sub(r" +", " ", re.sub(r"\s*\n\s*", "\n\n", text.strip()))


def read_stories(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    for mark, plain in PLAIN.items():
        text = text.replace(mark.encode().decode("cp1252", "ignore"), plain)
    stories = map(paragraphs, re.split(r"(?<!\n)\n(?!\n)", text))
    # Some stories have a single newline between paragraphs, too: their short pieces are left out.
    return [s for s in stories if len(s) >= 400 and s.isascii() and s[0].isupper() and s[-1] in '.!?"']


stories = read_stories(args.corpus)
held_out = stories[10::20]
real = [s for i, s in enumerate(stories) if i % 20 != 10]
log(f"{len(real)} real stories, {sum(map(len, real))} bytes; {len(held_out)} held out")

GIRLS = """Lily Anna Mia Sara Lucy Sarah Molly Lila Jane Daisy Sally Amy Mary Emma Grace Jenny
    Emily Ella Rachel Kate Claire Sophie Polly Alice Bella Nora Rita Chloe Betty Ruby"""
BOYS = """Ben Tom Timmy Jack Tim Max John Bob Joe Tommy Jimmy Billy Andy James Jake Jim Frank
    George Oliver Charlie Danny Peter Henry Gary Ted Leo Thomas Paul Mike Fred"""
seen = Counter(word for story in real for word in re.findall(r"[A-Z][a-z]+", story))


def renamed(story: str) -> str:
    """The same story of other children: who is who has to be read, not learnt by heart."""
    present, new = set(re.findall(r"[A-Z][a-z]+", story)), {}
    for names in GIRLS.split(), BOYS.split():
        old = [n for n in names if n in present]
        # Without replacement, and frequent names remain frequent.
        order = sorted(names, key=lambda n: rng.random() ** (1 / (seen[n] + 5)), reverse=True)
        new |= zip(old, order, strict=False)
    return re.sub(r"[A-Z][a-z]+", lambda match: new.get(match[0], match[0]), story)


# --- 2. Text sampled from the teacher -----------------------------------------------------------


def opening(story: str) -> str:
    """The first one to four sentences, with the teacher's single newlines between paragraphs."""
    sentences = re.split(r'(?<=[.!?"])(?=\s)', story.replace("\n\n", "\n"))
    return "".join(sentences[: rng.randint(1, 4)])


@torch.inference_mode()
def continue_all(prompts: list[str]) -> list[str]:
    """The teacher's stories, prompts included, that end by themselves within its context."""
    length, ends = teacher.config.max_position_embeddings, torch.tensor([1, 2])  # BOS, EOS
    ids = torch.full((len(prompts), length), -1)
    for row, prompt in zip(ids, prompts, strict=True):
        encoded = torch.tensor(teacher_tokenizer(prompt).input_ids)  # begins with BOS
        row[: len(encoded)] = encoded
    # Cool rows are fluent, warm ones diverse.
    temperature = 0.65 + 0.3 * torch.rand(len(prompts), 1)
    cache, ended = DynamicCache(config=teacher.config), []
    for t in range(length - 1):
        logits = teacher(ids[:, t : t + 1], past_key_values=cache).logits[:, -1] / temperature
        logits[logits < logits.amax(-1, keepdim=True) - 4] = -torch.inf  # min-p of exp(-4)
        token = torch.multinomial(logits.softmax(-1), 1)[:, 0]
        ids[:, t + 1] = torch.where(ids[:, t + 1] < 0, token, ids[:, t + 1])  # first the prompt
        if t % 32 == 31:  # a smaller batch for the longer stories
            stop = torch.isin(ids[:, 1 : t + 2], ends)
            done = stop.any(-1)
            for row, end in zip(ids[done], stop[done].int().argmax(-1), strict=True):
                ended.append(teacher_tokenizer.decode(row[1 : end + 1]))
            ids, temperature = ids[~done], temperature[~done]
            cache.batch_select_indices(torch.nonzero(~done)[:, 0])
    return ended


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def well_formed(sampled: list[str]) -> list[str]:
    """Leave out a sentence said twice, a word over and over, a word that is none."""
    often = Counter(word for story in sampled for word in set(words(story)))
    known = {word for word, n in often.items() if n >= 12} | set(words(" ".join(real)))
    kept = []
    for story in map(paragraphs, dict.fromkeys(sampled)):
        sentences = [s for s in re.split(r'[.!?"\n]\s*', story) if len(s) > 20]
        long_words = Counter(word for word in words(story) if len(word) > 4)
        if (
            len(story) >= 300
            and story.isascii()
            and story[-1] in '.!?"'
            and story.count('"') % 2 == 0
            and len(set(sentences)) == len(sentences)
            and max(long_words.values()) <= 0.06 * len(words(story))
            and known.issuperset(words(story))
        ):
            kept.append(story)
    return kept


sampled = []
if args.teacher:
    teacher = AutoModelForCausalLM.from_pretrained(args.teacher)
    teacher_tokenizer = AutoTokenizer.from_pretrained(args.teacher)
    with (args.work / "samples.jsonl").open("a+", encoding="utf-8") as file:
        file.seek(0)
        sampled = [json.loads(line) for line in file]
        while sum(map(len, sampled)) < args.sample_mb * 1e6:
            # Half begin from nothing, half as a real story does.
            prompts = ["" if row % 2 else opening(rng.choice(real)) for row in range(1024)]
            sampled += (new := continue_all(prompts))
            file.writelines(json.dumps(story) + "\n" for story in new)
            log(f"sampled {len(sampled)} stories, {sum(map(len, sampled)) / 1e6:.1f} MB")
    sampled = well_formed(sampled)
    log(f"kept {len(sampled)} samples, {sum(map(len, sampled)) / 1e6:.1f} MB")


# --- 3. Tokenizer -------------------------------------------------------------------------------

END = "<|endoftext|>"
bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bpe.decoder = decoders.ByteLevel()
bpe_trainer = trainers.BpeTrainer(
    vocab_size=args.vocab,
    special_tokens=[END],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
bpe.train_from_iterator(real, bpe_trainer)
end_id = bpe.token_to_id(END)
assert all(bpe.decode(bpe.encode(story).ids) == story for story in held_out)


def encode(texts: list[str]) -> list[list[int]]:
    """Each story with the end token before it: packed, it ends the one before."""
    return [[end_id, *e.ids] for e in bpe.encode_batch(texts)]


real_ids = encode(real + [renamed(s) for s in real for _ in range(args.renamed)])
sampled_ids = encode(sampled)
log(f"tokens: {sum(map(len, real_ids))} real, {sum(map(len, sampled_ids))} sampled")


def window(texts: list[list[int]], length: int) -> list[int]:
    """Stories in random order; the first often from its start, where a prompt will stand."""
    first, where = rng.choice(texts), rng.random()
    # With its end token, without it, or from anywhere.
    ids = first[0 if where < 0.3 else 1 if where < 0.7 else rng.randrange(len(first)) :]
    while len(ids) < length:
        ids = ids + rng.choice(texts)
    return ids[:length]


# --- 4. Model and optimisers --------------------------------------------------------------------

config = GPT2Config(
    vocab_size=args.vocab,
    n_positions=args.context,
    n_embd=args.width,
    n_layer=args.layers,
    n_head=args.heads,
    resid_pdrop=args.dropout,
    embd_pdrop=args.dropout,
    attn_pdrop=0.0,
    bos_token_id=end_id,
    eos_token_id=end_id,
    activation_function="gelu_pytorch_tanh",  # gelu_new in one kernel; exported under that name
)
model = GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
log(f"{model.num_parameters()} parameters")


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Jordan 2024, kellerjordan.github.io/posts/muon).

    At equal steps ahead of AdamW: 1.12 against 1.18 nats per byte, held out, after 100 steps.
    """

    def __init__(self, params, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                x = p.grad.lerp(average, group["momentum"])  # Nesterov's
                wide = x.shape[0] <= x.shape[1]
                x = (x if wide else x.mT) / (x.norm() + 1e-7)
                for _ in range(5):  # Newton-Schulz: all singular values towards 1
                    a = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                p.mul_(1 - group["lr"] * group["weight_decay"])
                gain = max(1, p.shape[1] / p.shape[0]) ** 0.5  # GPT-2 stores (in, out)
                p.add_(x if wide else x.mT, alpha=-group["lr"] * gain)


blocks = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
others = [p for name, p in model.named_parameters() if p.ndim == 1 or ".h." not in name]
optimisers = [
    torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.0),
    Muon(blocks, lr=args.muon_lr, weight_decay=args.weight_decay),
]
for optimiser in optimisers:
    for group in optimiser.param_groups:
        group["peak"] = group["lr"]


# --- 5. Measures, export ------------------------------------------------------------------------

# The teacher's 512 tokens hold less text than ours: both are measured on what both can hold.
measured = [s if len(s) <= 800 else s[: s.rindex(" ", 0, 800)] for s in held_out]


@torch.inference_mode()
def losses_on(texts: list[str], ids: list[list[int]], model) -> tuple[float, float]:
    """Negative log-likelihood in nats, per token and per byte; each text on its own."""
    training, total, tokens = model.training, 0.0, 0
    model.eval()
    for row in ids:
        x = torch.tensor([row])
        loss = F.cross_entropy(model(x).logits[0, :-1].float(), x[0, 1:], reduction="sum")
        total, tokens = total + loss.item(), tokens + len(row) - 1
    model.train(training)
    return total / tokens, total / sum(map(len, texts))


def export() -> None:
    """What transformers loads, in float16."""
    exported_config = copy.deepcopy(config)
    exported_config.activation_function = "gelu_new"
    exported = GPT2LMHeadModel(exported_config)
    exported.load_state_dict(model.state_dict())
    exported.half().save_pretrained(args.out)
    bpe.save(str(args.out / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": args.context,
    }
    (args.out / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n")


# --- 6. Training --------------------------------------------------------------------------------

run = torch.compile(model, dynamic=False) if args.compile else model
checkpoint, steps_file = args.work / "checkpoint.pt", args.work / "steps"
step, steps = 0, args.steps
if checkpoint.exists():
    saved = torch.load(checkpoint, weights_only=False)
    model.load_state_dict(saved["model"])
    for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    rng.setstate(saved["rng"])
    step = saved["step"]

losses, since = [], time.time()
while step < steps:
    if steps_file.exists():  # to lengthen or shorten a training that runs
        steps = int(steps_file.read_text())
    left = min(1, (steps - step) / (args.decay * steps))  # falls from 1 to 0 in the decay
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * min(left, (step + 1) / args.warmup)
    share = args.real[1] + (args.real[0] - args.real[1]) * left if sampled else 1
    # Most batches of short windows, which are cheaper; some to teach the later positions.
    length = args.context if step % 4 == 3 else args.context // 2
    texts = (real_ids if rng.random() < share else sampled_ids for _ in range(args.batch_tokens // length))
    x = torch.tensor([window(t, length) for t in texts])
    loss = run(input_ids=x, labels=x).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad()
    step += 1
    losses.append(loss.item())
    if step % 100 == 0 or step >= steps:
        held, known = (losses_on(t, encode(t), model)[1] for t in (measured, real[:24]))
        log(
            f"step {step}/{steps}: batches {sum(losses) / len(losses):.3f} per token,"
            f" held out {held:.4f} per byte, seen {known:.4f} per byte,"
            f" {len(losses) * args.batch_tokens / (time.time() - since):.0f} tokens/s"
        )
        losses, since = [], time.time()
    if step % 200 == 0 or step >= steps:
        state = [optimiser.state_dict() for optimiser in optimisers]
        saved = {"model": model.state_dict(), "optimisers": state, "rng": rng.getstate(), "step": step}
        torch.save(saved, checkpoint)
        export()


# --- 7. What the model card says ----------------------------------------------------------------

export()
student = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32)
student_tokenizer = AutoTokenizer.from_pretrained(args.out)
candidates = {"float32": (model, encode(measured)), "float16, as exported": (student, encode(measured))}
if args.teacher:
    teacher_ids = [teacher_tokenizer(s.replace("\n\n", "\n")).input_ids for s in measured]
    candidates["teacher"] = teacher, teacher_ids
for name, (candidate, ids) in candidates.items():
    per_token, per_byte = losses_on(measured, ids, candidate)
    log(f"held out, {name}: {per_token:.4f} per token, {per_byte:.4f} per byte")
for seed in range(5):
    torch.manual_seed(seed)
    prompt = student_tokenizer("Once upon a time", return_tensors="pt")
    out = student.generate(**prompt, do_sample=True, temperature=0.8, top_k=40, max_new_tokens=400)
    log(f"seed {seed}\n\n{student_tokenizer.decode(out[0], skip_special_tokens=True)}\n")
