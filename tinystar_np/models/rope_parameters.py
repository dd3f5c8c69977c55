"""The parameters of a rotary embedding, read from a config.json: the frequencies' rule and its numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.kernels.rope import (
    default_frequencies,
    dynamic_frequencies,
    linear_frequencies,
    llama3_frequencies,
    longrope_attention_factor,
    longrope_frequencies,
    proportional_frequencies,
    yarn_attention_factor,
    yarn_frequencies,
)
from tinystar_np.layers.rope import Frequencies, FrequenciesByLength, Rotary
from tinystar_np.models.config import require
from tinystar_np.models.rope_keys import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    FRACTION,
    TRUE_OR_FALSE,
    RopeKeys,
)

ALIASES = {"su": "longrope"}  # in Phi-3's first files
STRETCHING = ("factor", "short_factor", "long_factor", "low_freq_factor", "high_freq_factor")
"""Keys that mean nothing without a rule."""
ELSEWHERE = ("alpha", "llama_4_scaling_beta", "long_mscale", "short_mscale")
"""Keys of single architectures that change the mathematics; a config that knows one takes it out first."""


@dataclass(frozen=True)
class RopeParameters:
    """A rule for frequencies and its numbers, checked, under Hugging Face's names.

    Numbers that the rule does not use stay at their defaults. ``attention_factor`` is given or computed.
    """

    rope_type: str
    rope_theta: float
    head_dim: int
    partial_rotary_factor: float = 1.0
    max_position_embeddings: int = 0
    original_max_position_embeddings: int = 0
    factor: float = 1.0
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    @classmethod
    def read(
        cls, keys: Mapping[str, object], *, head_dim: int, partial: bool = False, kind: str | None = None
    ) -> "RopeParameters":
        """Read and check what a config says; a config class calls ``RopeParameters.read(vars(self), …)``.

        keys      of these, what there is: rope_theta, rope_scaling, rope_parameters, partial_rotary_factor,
                  max_position_embeddings, original_max_position_embeddings
        head_dim  K
        partial   whether this architecture can rotate only a part of each head
        kind      the kind of layer, as in ``layer_types``, where each may have parameters of its own

        Raises ConfigError, naming key and value.
        """
        given = RopeKeys.of(keys, kind)
        rule = _rule(given)
        fraction = given.number("partial_rotary_factor", FRACTION, 1.0)
        require(
            partial or fraction == 1 or rule == "proportional",
            f"{given.name('partial_rotary_factor')} = {fraction}, but this architecture rotates whole heads.",
        )
        bare = cls(rule, given.number("rope_theta", ABOVE_0, 10000.0), head_dim, fraction)
        _check_width(bare)
        return RULES[rule](given, bare)

    @property
    def rotary_dim(self) -> int:
        """How many numbers of each head are rotated, from its first on."""
        if self.rope_type == "proportional":
            return self.head_dim
        return int(self.head_dim * self.partial_rotary_factor)

    def rotary(self, interleaved: bool = False) -> Rotary:
        """Return the layer, the same object for equal parameters, so that tables are made once a call.

        interleaved  how the architecture lays out its pairs, see kernels/rope.py
        """
        return _rotary(self, interleaved)

    def frequencies(self) -> Frequencies:
        """Apply the rule: return one array, or a function of the length of the text."""
        dim, theta, factor = self.rotary_dim, self.rope_theta, self.factor
        longest, trained = self.max_position_embeddings, self.original_max_position_embeddings
        match self.rope_type:
            case "linear":
                return linear_frequencies(dim, theta, factor)
            case "dynamic":
                return FrequenciesByLength(
                    lambda length: dynamic_frequencies(dim, theta, factor, longest, length), shortest=longest
                )
            case "yarn":
                betas = self.beta_fast, self.beta_slow
                return yarn_frequencies(dim, theta, factor, trained, *betas, self.truncate)
            case "llama3":
                ends = self.low_freq_factor, self.high_freq_factor
                return llama3_frequencies(dim, theta, factor, *ends, trained)
            case "longrope":
                short = longrope_frequencies(dim, theta, self.short_factor)
                long = longrope_frequencies(dim, theta, self.long_factor)
                return FrequenciesByLength(
                    lambda length: long if length > trained else short, shortest=trained, longest=trained + 1
                )
            case "proportional":
                return proportional_frequencies(dim, theta, self.partial_rotary_factor, factor)
            case _:
                return default_frequencies(dim, theta)

    def __str__(self) -> str:
        """Describe in a phrase: "RoPE, base 500000, llama3 scaling ×8 from 8192"."""
        part = f" on {self.rotary_dim} of {self.head_dim} numbers" if self.rotary_dim < self.head_dim else ""
        words = f"RoPE{part}, base {self.rope_theta:.10g}"
        times = f"×{self.factor:.6g}"
        match self.rope_type:
            case "linear":
                return f"{words}, linear scaling {times}"
            case "dynamic":
                beyond = f"beyond {self.max_position_embeddings}, where each token reads the text again"
                return f"{words}, dynamic NTK scaling {times} {beyond}"
            case "yarn" | "llama3" | "longrope":
                trained = self.original_max_position_embeddings
                return f"{words}, {self.rope_type} scaling {times} from {trained}"
            case "proportional":
                scaling = f", linear scaling {times}" if self.factor > 1 else ""
                return f"{words}, rotating {self.partial_rotary_factor:.0%} of the pairs{scaling}"
            case _:
                return words


def with_stretched_base(keys: Mapping[str, object], head_dim: int) -> Mapping[str, object]:
    """Return a config's keys with Hunyuan's α, which its files have beside "dynamic", worked into the base.

    keys      as for ``RopeParameters.read``
    head_dim  K; the base is multiplied by α^(K/(K−2)), so that the slowest pair rotates α times as slowly

    Without α the keys are as they were. Raises ConfigError, naming key and value.
    """
    given = RopeKeys.of(keys, None)
    rule = given.get("rope_type") or given.get("type")
    if rule != "dynamic" or given.get("alpha") in (None, 0, False):
        without = {name: value for name, value in given.inside.items() if name != "alpha" or value}
        return {**keys, given.called: without} if given.inside else keys
    alpha, base = given.number("alpha", ABOVE_0), given.number("rope_theta", ABOVE_0, 10000.0)
    require(head_dim > 2, f"{given.name('alpha')} = {alpha}, but heads of {head_dim} have only one pair.")
    stretched = {"rope_type": "default", "rope_theta": base * alpha ** (head_dim / (head_dim - 2))}
    fraction = given.get("partial_rotary_factor")
    if fraction is not None:
        stretched["partial_rotary_factor"] = fraction
    return {**keys, "rope_scaling": None, "rope_parameters": stretched}


@cache
def _rotary(parameters: RopeParameters, interleaved: bool) -> Rotary:
    return Rotary(
        parameters.frequencies(),
        attention_factor=parameters.attention_factor,
        interleaved=interleaved,
        rule=parameters,
    )


def _rule(given: RopeKeys) -> str:
    """Return the rule's name, one of ``RULES``."""
    key = "rope_type" if given.get("rope_type") is not None else "type"
    value = given.get(key)
    known = f"Known: {', '.join(sorted({*RULES, *ALIASES}))}."
    if value is None:
        loose = [f"{name} = {shown(given.get(name))}" for name in STRETCHING if given.get(name) is not None]
        require(not loose, f"{given.called} has {', '.join(loose)}, but no rope_type. {known}")
        value = "default"
    rule = ALIASES.get(value, value) if isinstance(value, str) else shown(value)
    require(rule in RULES, f"{given.name(key)} = {shown(value)} is not known here. {known}")
    for name in ELSEWHERE:
        value = given.get(name)
        require(
            value is None,
            f"{given.name(name)} = {shown(value)} is not implemented for this architecture.",
        )
    return rule


def _check_width(bare: RopeParameters) -> None:
    """Check that whole pairs are rotated, and no more than a head has."""
    width, rule = bare.rotary_dim, bare.rope_type
    of_a_head = f"head_dim = {bare.head_dim} and partial_rotary_factor = {bare.partial_rotary_factor}"
    # An odd width is rounded up to a pair, where the head has room for it.
    require(
        width >= 1 and width + width % 2 <= bare.head_dim,
        f"{of_a_head} rotate {width} numbers of each head, which makes no pairs within the head.",
    )
    require(
        width % 2 == 0 or rule not in ("longrope", "yarn"),
        f"{of_a_head} rotate {width} numbers of each head; {rule} needs an even number.",
    )
    require(
        width > 2 or rule != "dynamic",
        f"{of_a_head} rotate {width} numbers of each head; dynamic needs more than 2.",
    )


def _default(given: RopeKeys, bare: RopeParameters) -> RopeParameters:
    return bare


def _linear(given: RopeKeys, bare: RopeParameters) -> RopeParameters:
    return replace(bare, factor=given.number("factor", AT_LEAST_1))


def _dynamic(given: RopeKeys, bare: RopeParameters) -> RopeParameters:
    return replace(bare, factor=given.number("factor", AT_LEAST_1), max_position_embeddings=given.longest())


def _proportional(given: RopeKeys, bare: RopeParameters) -> RopeParameters:
    return replace(bare, factor=given.number("factor", AT_LEAST_1, 1.0))


def _llama3(given: RopeKeys, bare: RopeParameters) -> RopeParameters:
    low = given.number("low_freq_factor", ABOVE_0)
    high = given.number("high_freq_factor", ABOVE_0)
    require(
        high >= low,
        f"{given.name('high_freq_factor')} = {high}, but it must be at least low_freq_factor = {low}.",
    )
    return replace(
        bare,
        factor=given.number("factor", AT_LEAST_1),
        original_max_position_embeddings=given.trained(),
        low_freq_factor=low,
        high_freq_factor=high,
    )


def _yarn(given: RopeKeys, bare: RopeParameters) -> RopeParameters:
    theta = bare.rope_theta
    require(theta > 1, f"{given.name('rope_theta')} = {theta}, but yarn needs a base above 1.")
    factor = _factor_or_ratio(given)
    mscale = given.number("mscale", AT_LEAST_0, 0.0)
    mscale_all_dim = given.number("mscale_all_dim", AT_LEAST_0, 0.0)
    computed = yarn_attention_factor(factor, mscale, mscale_all_dim)
    fast = given.number("beta_fast", AT_LEAST_0, 32.0) or 32.0  # 0 counts as absent, as in transformers
    slow = given.number("beta_slow", AT_LEAST_0, 1.0) or 1.0
    require(fast >= slow, f"{given.name('beta_fast')} = {fast}, but it must be at least beta_slow = {slow}.")
    truncate = given.inside.get("truncate", True)
    given.check(given.name("truncate"), truncate, TRUE_OR_FALSE)
    return replace(
        bare,
        factor=factor,
        original_max_position_embeddings=given.trained(),
        attention_factor=given.number("attention_factor", ABOVE_0, computed),
        beta_fast=fast,
        beta_slow=slow,
        truncate=bool(truncate),
    )


def _longrope(given: RopeKeys, bare: RopeParameters) -> RopeParameters:
    factor, trained = _factor_or_ratio(given), given.trained()
    require(
        trained > 1,
        f"original_max_position_embeddings = {trained}, but longrope needs more than 1 token.",
    )
    pairs = bare.rotary_dim // 2
    short, long = given.factors("short_factor", pairs), given.factors("long_factor", pairs)
    computed = longrope_attention_factor(factor, trained)
    return replace(
        bare,
        factor=factor,
        original_max_position_embeddings=trained,
        attention_factor=given.number("attention_factor", ABOVE_0, computed),
        short_factor=short,
        long_factor=long,
    )


def _factor_or_ratio(given: RopeKeys) -> float:
    """Return the factor, or where none is given the ratio of the two lengths (DeepSeek, Phi-3)."""
    if given.get("factor") is None:
        return given.longest() / given.trained()
    return given.number("factor", AT_LEAST_1)


RULES: Mapping[str, Callable[[RopeKeys, RopeParameters], RopeParameters]] = {
    "default": _default,
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "proportional": _proportional,
    "yarn": _yarn,
}
"""The functions that read what each rule needs besides base and width."""
