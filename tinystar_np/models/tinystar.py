"""TinyStar: a decoder with every part exchangeable, for comparing designs side by side.

    embedder   tokens, and positions where they are added to tokens     (B, T)    → (B, T, D)
    core       L blocks                                                 (B, T, D) → (B, T, D)
    head       a norm and the output layer                              (B, T, D) → (B, T, V)

Each of the three can be replaced without touching the others, and each block (tinystar_block.py) is made of
the layers that the Hugging Face architectures are made of: nothing is implemented twice. What can be chosen
stands in tinystar_config.py.

    model = TinyStar(TinyStarConfig(attention="mla", positions="alibi"), seed=0)
    print(model)
    model.save("my_model")      # and ts.load("my_model") loads it
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import Cache, Step
from tinystar_np.checkpoints.config_file import CONFIG_FILE, GENERATION_FILE
from tinystar_np.checkpoints.safetensors_writer import write_arrays
from tinystar_np.checkpoints.weight_table import WeightTable, expand
from tinystar_np.errors import CheckpointError, InputError
from tinystar_np.kernels.linear import Matrix
from tinystar_np.kernels.sinusoidal import sinusoidal_positions
from tinystar_np.layers.basic import Embedding, Linear, Mixer, no_norm
from tinystar_np.layers.weights import Weights
from tinystar_np.models.base import Decoder
from tinystar_np.models.tinystar_block import Block, Embedder, norm, positions_of
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.ranks import Part
from tinystar_np.whole_file import whole_file

STARTS = {"gain": 1.0, "bias": 0.0}
"""What arrays of these names are filled with before training; all others are random."""

SHAPES: Mapping[str, tuple[str] | tuple[str, str]] = {
    # name:                                    its shape, when it is there
    "embedding.tokens.weight":                 ("V D",),
    "embedding.positions.weight":              ("C D", "has_learned_positions"),
    "blocks.{i}.attention.q.weight":           ("D HA",),
    "blocks.{i}.attention.q.bias":             ("HA", "attention_bias"),
    "blocks.{i}.attention.k.weight":           ("D GA", "not has_latents"),
    "blocks.{i}.attention.k.bias":             ("GA", "attention_bias and not has_latents"),
    "blocks.{i}.attention.v.weight":           ("D GK", "not has_latents"),
    "blocks.{i}.attention.v.bias":             ("GK", "attention_bias and not has_latents"),
    "blocks.{i}.attention.kv_down.weight":     ("D R+J", "has_latents"),
    "blocks.{i}.attention.kv_down.bias":       ("R+J", "attention_bias and has_latents"),
    "blocks.{i}.attention.kv_norm.gain":       ("R", "has_latents"),
    "blocks.{i}.attention.kv_up.weight":       ("R H2K", "has_latents"),
    "blocks.{i}.attention.relative_keys":      ("2C+1 A", "has_relative_positions"),
    "blocks.{i}.attention.relative_values":    ("2C+1 K", "has_relative_positions"),
    "blocks.{i}.attention.out.weight":         ("HK D",),
    "blocks.{i}.attention.out.bias":           ("D", "attention_bias"),
    "blocks.{i}.feed_forward.gate.weight":     ("D F", "has_gate"),
    "blocks.{i}.feed_forward.gate.bias":       ("F", "has_gate and feed_forward_bias"),
    "blocks.{i}.feed_forward.up.weight":       ("D F",),
    "blocks.{i}.feed_forward.up.bias":         ("F", "feed_forward_bias"),
    "blocks.{i}.feed_forward.down.weight":     ("F D",),
    "blocks.{i}.feed_forward.down.bias":       ("D", "feed_forward_bias"),
    "blocks.{i}.attention_norm.gain":          ("D", "has_norms and has_attention_norm"),
    "blocks.{i}.attention_norm.bias":          ("D", "has_norm_biases and has_attention_norm"),
    "blocks.{i}.feed_forward_norm.gain":       ("D", "has_norms and has_feed_forward_norm"),
    "blocks.{i}.feed_forward_norm.bias":       ("D", "has_norm_biases and has_feed_forward_norm"),
    "blocks.{i}.attention_post_norm.gain":     ("D", "has_norms and has_post_norms"),
    "blocks.{i}.attention_post_norm.bias":     ("D", "has_norm_biases and has_post_norms"),
    "blocks.{i}.feed_forward_post_norm.gain":  ("D", "has_norms and has_post_norms"),
    "blocks.{i}.feed_forward_post_norm.bias":  ("D", "has_norm_biases and has_post_norms"),
    "blocks.{i}.post_norm.gain":               ("D", "has_norms and has_post_norm"),
    "blocks.{i}.post_norm.bias":               ("D", "has_norm_biases and has_post_norm"),
    "final_norm.gain":                         ("D", "has_norms and has_final_norm"),
    "final_norm.bias":                         ("D", "has_norm_biases and has_final_norm"),
    "head.weight":                             ("D V", "not tie_word_embeddings"),
}  # fmt: skip
WEIGHTS: WeightTable = {name: (name, *row) for name, row in SHAPES.items()}  # the file's names are ours


class TinyStar(Decoder[TinyStarConfig]):
    """A decoder built from the parts that its config names.

    config   which parts
    weights  {name: array}, as ``WEIGHTS`` names them; None for random ones
    end_ids  the token ids that end a text
    part     which part of the model this process has, where several share it; None for all of it
    seed     of the random weights

    ``embedder``, ``core`` (the list of blocks) and ``head`` may be replaced by anything with the same call.
    """

    Config = TinyStarConfig
    WEIGHTS = WEIGHTS

    def __init__(
        self,
        config: TinyStarConfig,
        weights: Mapping[str, Matrix] | None = None,
        end_ids: Sequence[int] = (),
        part: Part | None = None,
        *,
        seed: int = 0,
    ):
        super().__init__(config, random_weights(config, seed) if weights is None else weights, end_ids, part)

    def build(self, w: Weights, c: TinyStarConfig) -> None:
        """Build the embedder, the core and the head."""
        self.embedding = self.tokens = Embedding(w / "embedding.tokens")
        self.embedder = Embedder(self.embedding)
        if c.positions == "learned":
            self.embedder.positions = Embedding(w / "embedding.positions")
        elif c.positions == "sinusoidal":
            self.embedder.positions = partial(sinusoidal_positions, width=c.hidden_size, theta=10000.0)
        shared = positions_of(c)
        self.blocks = [Block(w / f"blocks.{i}", c, shared) for i in range(c.num_layers)]
        self.final_norm = norm(w / "final_norm", c) if c.has_final_norm else no_norm
        self.head = Linear(w / "head")

    @property
    def core(self) -> Sequence[Mixer]:
        """The blocks."""
        return self.blocks

    @core.setter
    def core(self, blocks: Sequence[Mixer]) -> None:
        self.blocks = blocks

    def embed(self, ids: NDArray[np.integer], step: Step) -> NDArray:
        """Call the embedder: ids (B, T) → (B, T, D)."""
        return self.embedder(ids, step)

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Cache:
        """Make an empty cache; raises InputError for a bidirectional model."""
        if self.config.mask == "bidirectional":
            raise InputError(
                "A model with mask = 'bidirectional' sees the whole text at once. It cannot continue one, so "
                "it has no cache: call model(ids)."
            )
        return super().new_cache(batch_size, capacity)

    def save(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors, which ``load(directory)`` reads.

        Only ``config`` and ``weights`` are saved, not parts that were replaced.
        Raises InputError for weights in a narrower type than float32, CheckpointError where a file cannot be
        written; existing files are then unchanged.
        """
        arrays = {name: array for name, array in self.weights.items() if isinstance(array, np.ndarray)}
        if len(arrays) < len(self.weights):
            raise InputError("Only float32 weights can be saved; load the model with dtype='float32'.")
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{directory}: cannot be made ({error.strerror}).") from error
        contents = {CONFIG_FILE: self.config.to_dict(), GENERATION_FILE: {"eos_token_id": list(self.end_ids)}}
        with ExitStack() as stack:
            # A model that was loaded from this file still reads its weights from it.
            weights = stack.enter_context(whole_file(directory / "model.safetensors"))
            write_arrays(weights, arrays, {"format": "np"})
            for name, content in contents.items():
                file = stack.enter_context(whole_file(directory / name))
                file.write((json.dumps(content, indent=2) + "\n").encode())
                file.flush()
            weights.flush()  # all are written before the first replaces its predecessor

    def __repr__(self) -> str:
        c: TinyStarConfig = self.config
        H, G, K, F = (c.sizes[letter] for letter in "HGKF")
        heads = f"{H} heads" if G == H else f"{H} heads in {G} groups"
        window = f", window {c.window}" if c.window else ""
        norm = "no norms" if c.norm == "none" else f"{c.norm} ({c.norm_placement}), eps {c.norm_eps:g}"
        lines = [
            f"TinyStar, {self.parameters:,} parameters",
            f"  embedder  {c.vocab_size} tokens ({c.tokens}), {c.hidden_size} wide, positions: {c.positions}",
            f"  core      {c.num_layers} {'parallel' if c.parallel else 'sequential'} blocks, {norm}",
            f"            attention: {c.attention}, {heads} of {K}, {c.mask}{window}",
            f"            feed-forward: {c.feed_forward}, {c.hidden_size} → {F} → {c.hidden_size}",
            f"  head      {'the embedding table' if c.tie_word_embeddings else 'an output layer of its own'}",
        ]
        return "\n".join(lines)


def random_weights(config: TinyStarConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw weights from a normal distribution; gains are 1 and biases 0.

    config  ``init_std``, and ``residual_scaled_init`` for the matrices that write to the stream
    seed    the same seed gives the same weights
    """
    generator = np.random.default_rng(seed)
    weights = {}
    for name, row in expand(WEIGHTS, config).items():
        shape = row.shape
        start = STARTS.get(name.rpartition(".")[2])
        if start is not None:
            weights[name] = np.full(shape, start, dtype=np.float32)
            continue
        std = np.float32(config.init_std)
        writes = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
        if config.residual_scaled_init and writes:
            std /= np.float32(np.sqrt(2 * config.num_layers))
        weights[name] = std * generator.standard_normal(shape, dtype=np.float32)
    return weights
