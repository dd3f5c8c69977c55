"""The config of a TinyStar model: each choice is one key of a file that people read and write.

    attention: gqa          # YAML, TOML or JSON
    mask: sliding_window
    window_size: 128

Missing keys have their defaults, which are the choices of ``v0.2-modern``. ``auto`` computes a number from
others. A contradiction is refused with the key's name.
"""

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

from tinystar_np.checkpoints.json_file import JsonObject, one_line, shown
from tinystar_np.errors import ConfigError
from tinystar_np.models.config import Config, key, require
from tinystar_np.models.rope_parameters import RopeParameters

CHOICES: dict[str, tuple[str, ...]] = {
    "attention": ("mha", "gqa", "mqa", "mla", "complex"),
    "mask": ("causal", "bidirectional", "sliding_window"),
    "positions": ("rope", "alibi", "sinusoidal", "learned", "relative", "none"),
    "feed_forward": ("swiglu", "geglu", "mlp"),
    "activation": ("silu", "gelu", "gelu_tanh", "relu"),
    "norm": ("rmsnorm", "layernorm", "none"),
    "norm_placement": ("pre", "post", "sandwich"),
    "tokens": ("bytes", "tokenizer"),
}
COUNTS = (
    *("vocab_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim"),
    *("latent_rank", "rope_dim", "max_positions", "window_size"),
)
ABOVE_0 = ("rope_base", "rope_scaling", "expansion", "norm_eps", "init_std")
AUTO_RATIO = 4  # query heads per key/value head of "gqa", where ``num_kv_heads`` is auto
NAMED = files("tinystar_np") / "shipped" / "configs"


@dataclass(frozen=True)
class TinyStarConfig(Config):
    """The parts that a model is built from. ``None`` is ``auto``.

    tokens             "bytes": the 256 values of UTF-8 text, no vocabulary file; "tokenizer": that of the
                       files beside the model, ``vocab_size`` tokens
    num_kv_heads       G; auto: num_heads for "mha" and "complex", 1 for "mqa", num_heads / 4 for "gqa"
    head_dim           K; auto: hidden_size / num_heads
    latent_rank        R of "mla"; auto: 2 K
    rope_dim           width of the part of each query and key of "mla" that is rotated; auto: K / 2
    mask               which tokens a token attends to: "causal": up to itself; "sliding_window": the last
                       ``window_size`` of these; "bidirectional": all (such a model cannot generate)
    max_positions      rows of the table of "learned"; the largest distance that "relative" distinguishes
    rope_base          θ of "rope"; ``rope_scaling`` divides the positions
    feed_forward       "swiglu", "geglu": gated; "mlp": with ``activation``
    expansion          F / D; auto: 4 for "mlp", 8/3 for gated ones, which have three matrices, rounded up to
                       a multiple of 8
    norm_placement     "pre": before each layer; "post": after each addition; "sandwich": before and after
                       each layer
    parallel           attention and feed-forward side by side
    init_std           of random weights; ``residual_scaled_init`` divides it by √(2 · num_layers) in matrices
                       that add to the stream, so that it does not grow with depth (Radford et al. 2019)
    """

    vocab_size: int = key(256, letter="V")
    tokens: str = "bytes"
    hidden_size: int = key(256, letter="D")
    num_layers: int = key(4, letter="L")
    num_heads: int = key(8, letter="H")
    attention: str = "gqa"
    num_kv_heads: int | None = key(None, letter="G")
    head_dim: int | None = key(None, letter="K")
    latent_rank: int | None = None
    rope_dim: int | None = None
    attention_bias: bool = False
    mask: str = "causal"
    window_size: int | None = None
    positions: str = "rope"
    max_positions: int = 1024
    rope_base: float = 10000.0
    rope_scaling: float = 1.0
    feed_forward: str = "swiglu"
    activation: str | None = None
    expansion: float | None = None
    feed_forward_bias: bool = False
    norm: str = "rmsnorm"
    norm_eps: float = 1e-5
    norm_placement: str = "pre"
    parallel: bool = False
    tie_word_embeddings: bool = True
    init_std: float = 0.02
    residual_scaled_init: bool = True

    IGNORED: ClassVar[tuple[str, ...]] = ("model_type", "dtype", "architectures", "name", "description")
    """Keys of a file that change nothing; any other that is no field is refused."""

    def __post_init__(self) -> None:
        try:
            self.check()
        except ConfigError as error:  # of a config that comes from no file
            raise ConfigError(_bare(error)) from None

    @classmethod
    def from_dict(cls, raw: JsonObject) -> Self:
        """Build the config from keys and values; "auto" is the same as a missing key.

        Raises ConfigError for an unknown key, a value of the wrong type, or a contradiction.
        """
        try:
            return cls._from_keys(raw)
        except ConfigError as error:
            raise ConfigError(f"config.json: {_bare(error)}") from None

    @classmethod
    def _from_keys(cls, raw: JsonObject) -> Self:
        given = {key: value for key, value in raw.items() if value != "auto" and key not in cls.IGNORED}
        keys = [field.name for field in fields(cls)]
        unknown = sorted(map(str, given.keys() - {*keys, "quantization_config"}))
        require(not unknown, f"there is no key {one_line(', '.join(unknown))}. Keys: {', '.join(keys)}.")
        return super().from_dict(given)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a file that ends with .yaml, .yml, .toml or .json.

        Raises ConfigError where it cannot be read, is not in the format of its ending, or has a wrong value.
        """
        path = Path(path)
        try:
            return cls.from_dict(_parsed(path.suffix, path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: cannot be read ({error}).") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {_bare(error)}") from error

    @classmethod
    def named(cls, name: str) -> Self:
        """Read one of the shipped configurations, such as "v0.2-modern".

        Raises ConfigError, listing the names, for an unknown one.
        """
        names = configuration_names()
        if name not in names:
            raise ConfigError(f"There is no configuration {name!r}. There are: {', '.join(names)}.")
        return cls.from_dict(_parsed(".yaml", (NAMED / f"{name}.yaml").read_text(encoding="utf-8")))

    def to_dict(self) -> JsonObject:
        """Return all keys and values, as config.json holds them."""
        return {"model_type": "tinystar", **asdict(self)}

    @property
    def sizes(self) -> dict[str, int]:
        """The letters of the weight table.

        V vocabulary · C positions · D width · L layers · H, G heads · K head · F feed-forward · R, J of "mla"
        · A a query or key, Q all queries of a token
        """
        H = max(self.num_heads, 1)
        K = self.hidden_size // H if self.head_dim is None else self.head_dim
        J = max(K // 2, 1) if self.rope_dim is None else self.rope_dim
        A = {"mla": K + J, "complex": 2 * K}.get(self.attention, K)
        shared = {"mqa": 1, "gqa": max(H // AUTO_RATIO, 1)}
        gated = self.feed_forward != "mlp"
        wide = (8 / 3 if gated else 4) if self.expansion is None else self.expansion
        F = round(self.hidden_size * wide)
        return {
            "V": self.vocab_size,
            "C": self.max_positions,
            "D": self.hidden_size,
            "L": self.num_layers,
            "H": self.num_heads,
            "G": shared.get(self.attention, H) if self.num_kv_heads is None else self.num_kv_heads,
            "K": K,
            "F": -(-F // 8) * 8 if gated and self.expansion is None else F,
            "R": 2 * K if self.latent_rank is None else self.latent_rank,
            "J": J,
            "A": A,
            "Q": self.num_heads * A,
        }

    @property
    def has_latents(self) -> bool:
        """Whether the cache holds latents instead of keys and values."""
        return self.attention == "mla"

    @property
    def has_key_biases(self) -> bool:
        """Whether keys and values have biases."""
        return self.attention_bias and not self.has_latents

    @property
    def has_latent_biases(self) -> bool:
        """Whether latents have biases."""
        return self.attention_bias and self.has_latents

    @property
    def has_learned_positions(self) -> bool:
        """Whether positions are a learned table."""
        return self.positions == "learned"

    @property
    def has_relative_positions(self) -> bool:
        """Whether distances have vectors."""
        return self.positions == "relative"

    @property
    def has_gate(self) -> bool:
        """Whether the feed-forward layer is gated."""
        return self.feed_forward != "mlp"

    @property
    def has_gate_bias(self) -> bool:
        """Whether its gate has a bias."""
        return self.has_gate and self.feed_forward_bias

    @property
    def norms(self) -> tuple[str, ...]:
        """The names of the norms of a block."""
        before = ("attention_norm",) if self.parallel else ("attention_norm", "feed_forward_norm")
        after = ("attention_post_norm", "feed_forward_post_norm")
        if self.norm_placement == "post":
            return ("post_norm",) if self.parallel else after
        return before + after if self.norm_placement == "sandwich" else before

    @property
    def has_norms(self) -> bool:
        """Whether there are norms, with a gain each."""
        return self.norm != "none"

    @property
    def has_norm_biases(self) -> bool:
        """Whether norms have a bias as well."""
        return self.norm == "layernorm"

    @property
    def has_final_norm(self) -> bool:
        """Whether a norm follows the last block; the output of post-norm blocks is already normed."""
        return self.norm_placement != "post"

    @property
    def has_attention_norm(self) -> bool:
        """Whether there is a norm before attention."""
        return "attention_norm" in self.norms

    @property
    def has_feed_forward_norm(self) -> bool:
        """Whether there is one before the feed-forward layer."""
        return "feed_forward_norm" in self.norms

    @property
    def has_post_norms(self) -> bool:
        """Whether one follows each of the two."""
        return "attention_post_norm" in self.norms

    @property
    def has_post_norm(self) -> bool:
        """Whether one follows both together."""
        return "post_norm" in self.norms

    @property
    def rope(self) -> RopeParameters:
        """The rotary embedding's parameters for "rope"."""
        K, J = self.sizes["K"], self.sizes["J"]
        rotated = {"mla": J, "complex": 2 * K}.get(self.attention, K)
        rule = "default" if self.rope_scaling == 1 else "linear"
        return RopeParameters(rule, self.rope_base, rotated, factor=self.rope_scaling)

    @property
    def context_length(self) -> int | None:
        """The most tokens: the rows of a table of learned positions; None for no limit."""
        return self.max_positions if self.positions == "learned" else None

    @property
    def window(self) -> int | None:
        """W, the width of the sliding window, or None."""
        return self.window_size if self.mask == "sliding_window" else None

    @property
    def windows(self) -> Sequence[int | None]:
        """The window of each layer, the same in all."""
        return (self.window,) * self.num_layers

    def check(self) -> None:
        """Raise ConfigError where values are unknown or contradict each other."""
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            known = value in choices or (name == "activation" and value is None)
            require(known, f"{name} = {shown(value)}, but it must be one of {', '.join(choices)}.")
        for name in COUNTS:
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} = {value}, but it must be at least 1.")
        for name in ABOVE_0:
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} = {value}, but it must be above 0.")
        H, G, K, F, J = (self.sizes[letter] for letter in "HGKFJ")
        attention = f"attention = {self.attention!r}"
        require(
            self.head_dim is not None or self.hidden_size % H == 0,
            f"hidden_size = {self.hidden_size} cannot be divided among num_heads = {H} heads.",
        )
        require(
            self.attention != "gqa" or self.num_kv_heads is not None or H % AUTO_RATIO == 0,
            f"num_kv_heads is auto, a fourth of num_heads = {H}, which is no whole number.",
        )
        require(H % G == 0, f"num_heads = {H} cannot be divided among num_kv_heads = {G} groups.")
        fixed = {"mha": H, "mqa": 1, "mla": H}.get(self.attention, G)
        require(fixed == G, f"num_kv_heads = {G}, but {attention} has {fixed}.")
        require(F >= 1, f"expansion = {self.expansion} leaves nothing of hidden_size = {self.hidden_size}.")
        windowed = self.mask == "sliding_window"
        require(
            not windowed or self.window_size is not None,
            "window_size is missing for mask = 'sliding_window'.",
        )
        require(
            windowed or self.window_size is None,
            f"window_size = {self.window_size}, but mask = {self.mask!r} has no window.",
        )
        require(
            self.feed_forward == "mlp" or self.activation is None,
            f"activation = {self.activation!r}, but feed_forward = {self.feed_forward!r} brings its own.",
        )
        require(
            self.positions != "relative" or self.attention != "mla",
            "positions = 'relative' are added to keys, which attention = 'mla' never builds.",
        )
        for name in ("latent_rank", "rope_dim"):
            value = getattr(self, name)
            require(value is None or self.attention == "mla", f"{name} = {value}, but {attention} has none.")
        name, rotated = ("rope_dim", J) if self.attention == "mla" else ("head_dim", K)
        require(
            self.positions != "rope" or self.attention == "complex" or rotated % 2 == 0,
            f"positions = 'rope' rotate pairs, but {name} = {rotated}.",
        )
        require(
            self.tokens != "bytes" or self.vocab_size == 256,
            f"vocab_size = {self.vocab_size}, but tokens = 'bytes' are 256.",
        )
        super().check()


def configuration_names() -> list[str]:
    """Return the names of the shipped configurations, in order."""
    names = (entry.name for entry in NAMED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def _bare(error: ConfigError) -> str:
    """Return an error's message without the file's name."""
    return str(error).removeprefix("config.json: ")


def _parsed(suffix: str, text: str) -> JsonObject:
    """Parse a file's text in the format of its ending."""
    readers: dict[str, Callable[[str], Any]] = {
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
        ".toml": tomllib.loads,
        ".json": json.loads,
    }
    require(suffix in readers, f"a config ends with {', '.join(readers)}, not with {shown(suffix)}.")
    try:
        raw = readers[suffix](text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not valid {suffix[1:].upper()} ({one_line(error)}).") from error
    require(isinstance(raw, dict), f"found {type(raw).__name__} where keys and values are expected.")
    return dict(raw)


def _read_yaml(text: str) -> Any:
    """Parse YAML, in which 1e-5 is a number: it is one in YAML 1.2, but not in 1.1, which PyYAML reads."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
