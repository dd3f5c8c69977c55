"""TinyStar: a decoder with every part exchangeable, for comparing designs side by side.

    embedder   tokens, and positions where they are added to tokens     (B, T)    → (B, T, D)
    core       L blocks                                                 (B, T, D) → (B, T, D)
    head       a norm and the output layer                              (B, T, D) → (B, T, V)

Each of the three can be replaced without touching the others, and each block is made of the layers that the
Hugging Face architectures are made of: nothing is implemented twice. What can be chosen stands in
tinystar_config.py; here each choice becomes a layer.

    model = TinyStar(TinyStarConfig(attention="mla", positions="alibi"), seed=0)
    print(model)
    model.save("my_model")      # and ts.load("my_model") loads it
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinystar_np.checkpoints.config_file import CONFIG_FILE, GENERATION_FILE
from tinystar_np.checkpoints.safetensors_writer import write_safetensors
from tinystar_np.configs.tinystar_config import TinyStarConfig
from tinystar_np.errors import CheckpointError, InputError
from tinystar_np.kernels.activations import gelu, gelu_tanh, relu, silu
from tinystar_np.kernels.alibi import alibi_bias, alibi_slopes
from tinystar_np.kernels.packed import PackedMatrix
from tinystar_np.layers import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    Linear,
    ParallelBlock,
    RMSNorm,
    SequentialBlock,
    Weights,
)
from tinystar_np.layers.blocks import (
    FeedForwardLayer,
    Mixer,
    Norm,
    ParallelPostNormBlock,
    PostNormBlock,
    no_norm,
)
from tinystar_np.layers.complex_attention import ComplexAttention, ComplexRelativeAttention
from tinystar_np.layers.latent_attention import LatentAttention
from tinystar_np.layers.relative_attention import RelativeAttention
from tinystar_np.layers.rope import Rotary
from tinystar_np.layers.sinusoidal import Sinusoidal
from tinystar_np.models.decoder import Decoder
from tinystar_np.state import Cache, Span
from tinystar_np.tap import tap
from tinystar_np.weights.weight_table import WeightTable, expand, shape_of
from tinystar_np.whole_file import whole_file

ACTIVATIONS = {"silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}
GATES = {"swiglu": silu, "geglu": gelu}
NORMS: dict[str, Callable[..., Norm]] = {
    "rmsnorm": RMSNorm,
    "layernorm": LayerNorm,
}
NORM_ARRAYS = {
    "rmsnorm": {"gain": "D"},
    "layernorm": {"gain": "D", "bias": "D"},
}
STARTS = {
    "gain": 1.0,
    "bias": 0.0,
}
"""What arrays of these names are filled with before training; all others are random."""


class Embedder:
    """Looks up tokens, and adds a vector for the position where positions are such vectors.

    tokens     a table
    positions  maps positions (B, T) to vectors (B, T, D); None where order comes in elsewhere
    """

    def __init__(self, tokens: Embedding, positions: Any = None):
        self.tokens = tokens
        self.positions = positions

    def __call__(self, ids: NDArray[np.integer], span: Span) -> NDArray:
        """Turn ids (B, T) at the span's positions into (B, T, D)."""
        x = tap("embedding.tokens", self.tokens(ids))
        if self.positions is not None:
            x = x + tap("embedding.positions", self.positions(span.positions))
        return tap("embedding", x)


class TinyStar(Decoder):
    """The model that a config describes.

    config   which parts
    weights  {name: array}, as ``weight_table`` names them; None for random ones
    end_ids  the token ids that end a text
    seed     of the random weights

    ``embedder``, ``core`` (the list of blocks) and ``head`` may be replaced by anything that is called alike.
    """

    Config = TinyStarConfig

    def __init__(
        self,
        config: TinyStarConfig,
        weights: Mapping[str, NDArray | PackedMatrix] | None = None,
        end_ids: Sequence[int] = (),
        *,
        seed: int = 0,
    ):
        super().__init__(config, random_weights(config, seed) if weights is None else weights, end_ids)

    @property
    def core(self) -> list[Block]:
        """The blocks."""
        return self.blocks

    @core.setter
    def core(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    @staticmethod
    def weight_table(config: TinyStarConfig) -> WeightTable:
        """Name every array; the file's names are ours."""
        return {ours: (ours, axes) for ours, axes in weight_shapes(config).items()}

    def block(self, i: int, w: Weights) -> Block:
        """Attention and feed-forward, wired and normed as the config says."""
        c: TinyStarConfig = self.config
        attention, feed_forward = self.attention(w.attention), self.feed_forward(w.feed_forward)
        if c.norm_placement == "post":
            if c.parallel:
                return ParallelPostNormBlock(
                    attention=attention, feed_forward=feed_forward, post_norm=self.norm(w.post_norm)
                )
            return PostNormBlock(
                attention=attention,
                attention_post_norm=self.norm(w.attention_post_norm),
                feed_forward=feed_forward,
                feed_forward_post_norm=self.norm(w.feed_forward_post_norm),
            )
        behind = ("attention_post_norm", "feed_forward_post_norm") if c.norm_placement == "sandwich" else ()
        post_norms: dict[str, Any] = {name: self.norm(w.branch(name)) for name in behind}
        if c.parallel:
            return ParallelBlock(
                attention_norm=self.norm(w.attention_norm),
                attention=attention,
                feed_forward_norm=None,
                feed_forward=feed_forward,
                **post_norms,
            )
        return SequentialBlock(
            attention_norm=self.norm(w.attention_norm),
            attention=attention,
            feed_forward_norm=self.norm(w.feed_forward_norm),
            feed_forward=feed_forward,
            **post_norms,
        )

    def norm(self, w: Weights) -> Norm:
        """Build a norm."""
        c: TinyStarConfig = self.config
        return no_norm if c.norm == "none" else NORMS[c.norm](w, eps=c.norm_eps)

    def attention(self, w: Weights) -> Mixer:
        """Build the attention layer."""
        c: TinyStarConfig = self.config
        H, G, K, R, J = (c.sizes[letter] for letter in "HGKRJ")
        causal = c.mask != "bidirectional"
        settings: dict[str, Any] = {"heads": H, "rope": self.rope, "window": c.window, "causal": causal}
        if c.positions == "alibi":
            settings["key_bias" if causal else "distance_bias"] = self.alibi
        if c.attention == "mla":
            settings |= {"rank": R, "head_dim": K, "rope_dim": J, "value_dim": K, "eps": c.norm_eps}
            return LatentAttention(w, scale=(K + J) ** -0.5, **settings)
        width = 2 * K if c.attention == "complex" else K
        relative = c.positions == "relative"
        if c.attention == "complex":
            layer: Any = ComplexRelativeAttention if relative else ComplexAttention
        else:
            layer = RelativeAttention if relative else Attention
        return layer(w, groups=G, head_dim=K, scale=width**-0.5, **settings)

    def feed_forward(self, w: Weights) -> FeedForwardLayer:
        """Build the feed-forward layer."""
        c: TinyStarConfig = self.config
        if c.feed_forward == "mlp":
            return FeedForward(w, activation=ACTIVATIONS[c.activation or "gelu"])
        return GatedFeedForward(w, activation=GATES[c.feed_forward])

    def build_ends(self, w: Weights) -> None:
        """The embedder before the blocks, the head behind them."""
        c: TinyStarConfig = self.config
        self.tokens = Embedding(w.embedding.tokens)
        places: dict[str, Callable[[], Any]] = {
            "learned": lambda: Embedding(w.embedding.positions),
            "sinusoidal": lambda: Sinusoidal(c.hidden_size),
        }
        self.embedder = Embedder(self.tokens, places[c.positions]() if c.positions in places else None)
        self.final_norm = no_norm if c.norm_placement == "post" else self.norm(w.final_norm)
        self.head = Linear(w.head or self.tokens.tied_head())

    def embed(self, ids: NDArray[np.integer], span: Span) -> NDArray:
        """Let the embedder do it."""
        return self.embedder(ids, span)

    @cached_property
    def rope(self) -> Rotary | None:
        """The rotations, where positions are such."""
        c: TinyStarConfig = self.config
        if c.positions != "rope":
            return None
        return c.rope.rotary(interleaved=c.attention == "complex")

    @cached_property
    def alibi(self) -> Any:
        """What ALiBi adds to the scores: by the positions of keys, or by distances to both sides."""
        slopes = alibi_slopes(self.config.num_heads)
        if self.config.mask == "bidirectional":
            return lambda distances: alibi_bias(slopes, -np.abs(distances))
        return partial(alibi_bias, slopes)

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Cache:
        """Make an empty cache; raises InputError for a model that looks both ways."""
        if self.config.mask == "bidirectional":
            raise InputError(
                "A model with mask = 'bidirectional' sees the whole text at once. It cannot continue one, so "
                "it has no cache: call model(ids)."
            )
        return super().new_cache(batch_size, capacity)

    def save(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors, from which ``load(directory)`` makes this model again.

        What was put in the place of embedder, core or head is not saved, only ``config`` and ``weights``.
        Raises InputError for a model whose weights are kept in a narrower type than float32, CheckpointError
        where a file cannot be written; what was there is then as it was.
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
            # A model that was loaded from this very file reads its weights where they lie, meanwhile too.
            weights = stack.enter_context(whole_file(directory / "model.safetensors"))
            write_safetensors(weights, arrays, {"format": "np"})
            for name, content in contents.items():
                file = stack.enter_context(whole_file(directory / name))
                file.write((json.dumps(content, indent=2) + "\n").encode())
                file.flush()
            weights.flush()  # all are written before the first takes its place

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


def weight_shapes(config: TinyStarConfig) -> dict[str, str]:
    """Give the axes of every array, in the config's letters: {name: "D HK"}."""
    c = config
    rows = {"embedding.tokens.weight": "V D"}
    if c.positions == "learned":
        rows["embedding.positions.weight"] = "C D"
    rows |= {f"blocks.{{i}}.attention.{name}": axes for name, axes in _attention_shapes(c).items()}
    inner = ["up"] if c.feed_forward == "mlp" else ["gate", "up"]
    rows |= {f"blocks.{{i}}.feed_forward.{name}.weight": "D F" for name in inner}
    rows["blocks.{i}.feed_forward.down.weight"] = "F D"
    if c.feed_forward_bias:
        rows |= {f"blocks.{{i}}.feed_forward.{name}.bias": "F" for name in inner}
        rows["blocks.{i}.feed_forward.down.bias"] = "D"
    for norm in _norms(c):
        rows |= {f"{norm}.{array}": axes for array, axes in NORM_ARRAYS[c.norm].items()}
    if not c.tie_word_embeddings:
        rows["head.weight"] = "D V"
    return rows


def _attention_shapes(c: TinyStarConfig) -> dict[str, str]:
    if c.attention == "mla":
        rows = {
            "q.weight": "D HK+HJ",
            "kv_down.weight": "D R+J",
            "kv_up.weight": "R 2HK",
            "kv_norm.gain": "R",
        }
        biased = {"q.bias": "HK+HJ", "kv_down.bias": "R+J"}
    else:
        pair = "2" if c.attention == "complex" else ""
        rows = {"q.weight": f"D {pair}HK", "k.weight": f"D {pair}GK", "v.weight": "D GK"}
        biased = {"q.bias": f"{pair}HK", "k.bias": f"{pair}GK", "v.bias": "GK"}
        if c.positions == "relative":
            rows |= {"relative_keys": f"2C+1 {pair}K", "relative_values": "2C+1 K"}
    rows["out.weight"] = "HK D"
    return rows | (biased | {"out.bias": "D"} if c.attention_bias else {})


def _norms(c: TinyStarConfig) -> list[str]:
    """Name the norms that a config asks for."""
    if c.norm == "none":
        return []
    before = ["attention_norm"] if c.parallel else ["attention_norm", "feed_forward_norm"]
    behind = ["attention_post_norm", "feed_forward_post_norm"]
    if c.norm_placement == "post":
        return [f"blocks.{{i}}.{name}" for name in (["post_norm"] if c.parallel else behind)]
    inside = before + (behind if c.norm_placement == "sandwich" else [])
    return [*(f"blocks.{{i}}.{name}" for name in inside), "final_norm"]


def random_weights(config: TinyStarConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Draw weights from a normal distribution; gains are 1 and biases 0.

    config  ``init_std``, and ``residual_scaled_init`` for the matrices that write to the stream
    seed    the same seed gives the same weights
    """
    generator = np.random.default_rng(seed)
    weights = {}
    for name, row in expand(TinyStar.weight_table(config), config.sizes).items():
        shape = shape_of(row.used, config.sizes)
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
