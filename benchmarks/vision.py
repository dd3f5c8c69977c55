"""Measure how fast images are encoded: a vision encoder here, and the same in transformers, by turns.

    python benchmarks/vision.py                                   CLIP ViT-L/14 for 336 × 336 pixels
    python benchmarks/vision.py --encoder smolvlm --images 1 5    an image, and five tiles of one, at once

The encoder has random weights and the shape of a published one. Each side is a process of its own, which
loads it once and idles while the other computes. A turn encodes the same random pixels once; a ratio compares
the two turns of one round. Before the first round both encode one image, and nothing is measured unless they
agree about its vectors.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from busy import environment
from checkpoint import write_weights
from numpy.typing import NDArray
from run import Row

from tinystar_np.checkpoints.checkpoint import open_checkpoint
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.cli.streams import say
from tinystar_np.cli.terminal import progress_line, say_table
from tinystar_np.errors import TinyStarError
from tinystar_np.fast.machine import usable_cores
from tinystar_np.inspection.engines import EngineProcess
from tinystar_np.inspection.machine import describe_machine, load_warning
from tinystar_np.inspection.memory import peak_memory
from tinystar_np.inspection.speed import Rounds, by_turns

STEP = 37  # every 37th number of an image's vectors is compared
AGREEMENT = 1e-3  # of the largest: random weights of so many layers amplify what is rounded


class Encoder(NamedTuple):
    """A vision encoder: its class here as "module:class", transformers' class, and its vision_config."""

    ours: str
    theirs: str
    config: dict[str, object]


def vit(layers: int, width: int, heads: int, expanded: int, image: int, patch: int) -> dict[str, object]:
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    return sizes | {"intermediate_size": expanded, "image_size": image, "patch_size": patch}


CLIP = "tinystar_np.models.vision.clip_vision:ClipVision", "CLIPVisionModel"
SIGLIP = "tinystar_np.models.vision.siglip_vision:SiglipVision", "SiglipVisionModel"
IDEFICS3 = "tinystar_np.models.vision.idefics3_vision:Idefics3Vision", "Idefics3VisionTransformer"
NO_HEAD: dict[str, object] = {"vision_use_head": False}
ENCODERS = {
    "tiny": Encoder(*IDEFICS3, vit(2, 32, 2, 64, 28, 14)),
    "clip-b-32": Encoder(*CLIP, vit(12, 768, 12, 3072, 224, 32)),
    "clip-l-336": Encoder(*CLIP, vit(24, 1024, 16, 4096, 336, 14)),  # LLaVA 1.5 reads with it
    "siglip-so400m-224": Encoder(*SIGLIP, vit(27, 1152, 16, 4304, 224, 14) | NO_HEAD),  # PaliGemma
    "siglip-so400m-896": Encoder(*SIGLIP, vit(27, 1152, 16, 4304, 896, 14) | NO_HEAD),  # Gemma 3
    "smolvlm": Encoder(*IDEFICS3, vit(12, 768, 12, 3072, 512, 16)),  # SmolVLM-256M and -500M
}


def write(name: str, directory: Path) -> None:
    """Write an encoder with random weights as a checkpoint of transformers."""
    directory.mkdir(parents=True, exist_ok=True)
    ours, theirs, shape = ENCODERS[name]
    encoder = found(ours)
    table = expand(encoder.WEIGHTS, encoder.Config.from_dict(shape))
    tensors = {encoder.PREFIX + row.theirs: (row.stored, row.ours) for row in table.values()}
    write_weights(tensors, "float32", directory / "model.safetensors")
    described = {**shape, "architectures": [theirs], "dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(described, indent=2))


def found(name: str) -> type:
    """Import a class by "module:class"."""
    module, _, class_name = name.partition(":")
    return getattr(import_module(module), class_name)


class Side:
    """One side in its process: it loads the encoder and encodes; the methods are called by name.

    directory  config.json and weights; its last part is a name of ``ENCODERS``
    """

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.encoder = ENCODERS[self.directory.name]
        self.pixels: dict[int, NDArray[np.float32]] = {}

    def load(self, dtype: str, threads: int) -> None:
        raise NotImplementedError

    def vectors(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode images (n, 3, h, w): (n, vectors, D)."""
        raise NotImplementedError

    def encode(self, images: int) -> float:
        """Encode so many images at once: seconds."""
        pixels = self.drawn(images)
        start = time.perf_counter()
        self.vectors(pixels)
        return time.perf_counter() - start

    def sample(self) -> list[float]:
        """Encode one image, and return some of the numbers of its vectors."""
        return [float(number) for number in self.vectors(self.drawn(1)).ravel()[::STEP]]

    def drawn(self, images: int) -> NDArray[np.float32]:
        if images not in self.pixels:
            side = self.encoder.config["image_size"]
            drawn = np.random.default_rng(0).standard_normal((images, 3, side, side), dtype=np.float32)
            self.pixels[images] = drawn
        return self.pixels[images]

    def peak(self) -> int:
        return peak_memory()


class Ours(Side):
    def load(self, dtype: str, threads: int) -> None:
        # The threads are OpenBLAS's, and have been set in the environment.
        encoder = found(self.encoder.ours)
        config = encoder.Config.from_dict(self.encoder.config)
        self.model = encoder.from_checkpoint(config, open_checkpoint(self.directory), dtype)

    def vectors(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        made: NDArray[np.float32] = self.model(pixels)
        return made.reshape(len(pixels), -1, made.shape[-1])  # some keep rows and columns apart


class Theirs(Side):
    """transformers at its fastest: scaled-dot-product attention and inference mode."""

    def load(self, dtype: str, threads: int) -> None:
        self.torch, transformers = import_module("torch"), import_module("transformers")
        self.torch.set_num_threads(threads)
        self.torch.set_grad_enabled(False)
        module = self.encoder.theirs
        model_class = getattr(transformers, module)
        self.model = model_class.from_pretrained(
            self.directory, dtype=dtype, local_files_only=True, attn_implementation="sdpa"
        ).eval()

    def vectors(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        with self.torch.inference_mode():
            made: NDArray[np.float32] = self.model(self.torch.from_numpy(pixels)).last_hidden_state.numpy()
        return made


@contextmanager
def running(name: str, directory: Path, threads: int) -> Iterator[EngineProcess]:
    """Load the encoder on one side, in a process of its own."""
    with EngineProcess(directory, name, f"vision:{name}", environment(threads)) as engine:
        engine.load("float32", threads)
        yield engine


def compare(options: argparse.Namespace, directory: Path) -> list[Row]:
    """Encode by turns, and compare what both took: ms, and GB of memory."""
    with ExitStack() as stack, progress_line(options) as progress:
        sides = [
            stack.enter_context(running(name, directory, options.threads)) for name in ("Ours", "Theirs")
        ]
        ours, theirs = (np.array(side.ask("sample")) for side in sides)
        apart = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        if not apart <= AGREEMENT:
            raise SystemExit(f"The vectors differ by {apart:.1e} of the largest: two different encoders.")
        turns = {n: [partial(side.ask, "encode", images=n) for side in sides] for n in options.images}
        for calls in turns.values():
            for encode in calls:
                encode()  # the first of this size does not count
        rows = []
        for images, values in by_turns(turns, options.rounds, progress).items():
            milliseconds = [Rounds(tuple(1e3 * seconds for seconds in side)) for side in values]
            rows.append(Row("an image" if images == 1 else f"{images} images at once", "ms", *milliseconds))
        rows.append(Row("peak memory", "GB", *(Rounds((side.peak() / 1e9,)) for side in sides)))
        say(f"vectors apart by {apart:.1e} of the largest")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.set_defaults(color="auto", quiet=False)
    add = parser.add_argument
    add("--encoder", choices=ENCODERS, default="clip-l-336", help="its shape (default: clip-l-336)")
    add("--images", type=int, nargs="+", default=[1], help="images or tiles encoded at once (default: 1)")
    add("--rounds", type=int, default=5, help="pairs of turns (default: 5)")
    add("--threads", type=int, default=usable_cores(), help="threads of both (default: the usable cores)")
    add("--workdir", type=Path, help="where the random model is made and kept (default: a temporary one)")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args()
    if min(options.rounds, options.threads, *options.images) < 1:
        parser.error("--rounds, --threads and --images must be 1 or more")
    about: dict[str, object] = {**describe_machine(), "threads": options.threads, "encoder": options.encoder}
    about |= {name: version(name) for name in ("torch", "transformers")} | {"warning": load_warning()}
    say("\n".join(f"{key}: {value}" for key, value in about.items() if value is not None))
    with TemporaryDirectory() as temporary:
        directory = (options.workdir or Path(temporary)) / options.encoder
        if not (directory / "config.json").exists():
            write(options.encoder, directory)
        rows = compare(options, directory)
    head = ("encode", "unit", "tinystar_np", "transformers", "times better", "from – to")
    say_table(head, [row.cells() for row in rows], options, left=(0, 1))
    say(f"\nMedians of {options.rounds} rounds. Ratios are of the two turns of one round.")
    if options.json:
        facts = {"about": about, "rows": [row.facts() for row in rows]}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except TinyStarError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
