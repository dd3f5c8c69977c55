"""What the chapters of docs/from_gpt2/ count and measure: published configs, and models with random weights.

    memory("Llama 2 7B", "Llama 3.1 8B")            a table: parameters and bytes of cache, from the configs
    speed({"MHA": model, "GQA": another})           a table: tokens per second, measured by turns

Both return Markdown that a chapter shows.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from tables import table

from tinystar_np.amounts import count_of, size_of
from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.fast.threads import at_most
from tinystar_np.inspection.flops import flops_per_token
from tinystar_np.inspection.hollow import hollow_model
from tinystar_np.inspection.memory import StateSize, state_sizes, weight_sizes
from tinystar_np.inspection.speed import by_turns
from tinystar_np.models.base import Decoder
from tinystar_np.models.registry import model_class
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing.reading import Reading

Keys = dict[str, object]


def llama_like(model_type: str, sizes: Sequence[int], **others: object) -> Keys:
    """Name the six sizes of a relative of Llama: D, F, L, H, G, V."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    names += ("num_key_value_heads", "vocab_size")
    return {"model_type": model_type, **dict(zip(names, sizes, strict=True)), **others}


def llama3(factor: float) -> Keys:
    """Return the scaling of rotations that Llama 3.1 and 3.2 have, with their lengths."""
    keys = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    scaling = {"rope_type": "llama3", "factor": factor, **keys}
    return {"rope_theta": 5e5, "max_position_embeddings": 131072, "rope_scaling": scaling}


def granite(sizes: Sequence[int], **others: object) -> Keys:
    """Name the sizes of a Granite 4 with experts and 36 layers of Mamba 2."""
    layers: Keys = {"layer_types": ["attention" if i % 10 == 5 else "mamba" for i in range(40)]}
    mamba: Keys = {"mamba_d_head": 64, "mamba_d_state": 128, "position_embedding_type": "nope"}
    return llama_like("granitemoehybrid", sizes, **layers, **mamba, tie_word_embeddings=True, **others)


LLAMA_3 = (4096, 14336, 32, 32, 8, 128256)
PUBLISHED: dict[str, Keys] = {
    "GPT-2 XL": {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25},
    "GPT-J 6B": {"model_type": "gptj"},
    "Llama 1 7B": {"model_type": "llama"},
    "Llama 1 65B": llama_like("llama", (8192, 22016, 80, 64, 64, 32000)),
    "Llama 2 7B": {"model_type": "llama", "max_position_embeddings": 4096},
    "Llama 2 70B": llama_like("llama", (8192, 28672, 80, 64, 8, 32000), max_position_embeddings=4096),
    "Llama 3 8B": llama_like("llama", LLAMA_3, rope_theta=5e5, max_position_embeddings=8192),
    "Llama 3.1 8B": llama_like("llama", LLAMA_3, **llama3(8.0)),
    "Llama 3.2 1B": llama_like(
        "llama", (2048, 8192, 16, 32, 8, 128256), tie_word_embeddings=True, **llama3(32.0)
    ),
    "Llama 3.2 3B": llama_like(
        "llama", (3072, 8192, 28, 24, 8, 128256), tie_word_embeddings=True, **llama3(32.0)
    ),
    "Llama 4 Scout": {"model_type": "llama4_text"},
    "Mistral 7B v0.1": {"model_type": "mistral", "max_position_embeddings": 32768},
    "Mistral 7B v0.2": {"model_type": "mistral", "max_position_embeddings": 32768, "sliding_window": None},
    "Mixtral 8x7B": {"model_type": "mixtral", "max_position_embeddings": 32768},
    "DeepSeek-V2": {
        **{"model_type": "deepseek_v2", "hidden_size": 5120, "intermediate_size": 12288},
        **{"num_hidden_layers": 60, "num_attention_heads": 128, "moe_intermediate_size": 1536},
        **{"n_routed_experts": 160, "topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3},
        **{"routed_scaling_factor": 16.0, "first_k_dense_replace": 1, "max_position_embeddings": 163840},
    },
    "DeepSeek-V3": {"model_type": "deepseek_v3", "max_position_embeddings": 163840},
    "Gemma 2 2B": {"model_type": "gemma2"},
    "Gemma 3 4B": llama_like("gemma3_text", (2560, 10240, 34, 8, 4, 262208), sliding_window=1024),
    "gpt-oss 20B": {"model_type": "gpt_oss", "num_hidden_layers": 24, "num_local_experts": 32},
    "gpt-oss 120B": {"model_type": "gpt_oss"},
    "Granite 4 H-Tiny": granite(
        (1536, 512, 40, 12, 4, 100352), mamba_n_heads=48, shared_intermediate_size=1024,
        num_local_experts=64, num_experts_per_tok=6, max_position_embeddings=131072,
    ),
    "Granite 4 H-Small": granite(
        (4096, 768, 40, 32, 8, 100352), mamba_n_heads=128, shared_intermediate_size=1536,
        num_local_experts=72, num_experts_per_tok=10, max_position_embeddings=131072,
    ),
    "Qwen3-Next 80B": {"model_type": "qwen3_next", "max_position_embeddings": 262144},
}  # fmt: skip
"""The keys of published config.json files that parameters, cache and FLOPs depend on.

A key that is not named has transformers' default. Of models that read images, the text part.
"""


@cache
def hollow(name: str) -> Decoder:
    """Build a published model without weights."""
    return hollow_model(PUBLISHED[name])


def own_state(model: Decoder) -> StateSize:
    """Return the size of the cache of one text."""
    return state_sizes(model)[0]


def memory(*names: str, lengths: Sequence[int] = (1024, 8192, 32768)) -> Reading:
    """Tabulate published models: parameters, and bytes of the cache of one text, in float32."""
    return memory_of({name: hollow(name) for name in names}, lengths)


def memory_of(models: Mapping[str, Decoder], lengths: Sequence[int] = (1024, 8192, 32768)) -> Reading:
    """Tabulate models in the same way."""
    head = ("", "parameters", "used by a token", "cache per token", *(f"at {n}" for n in lengths))
    rows: list[tuple[str, ...]] = [head]
    for name, model in models.items():
        sizes, state = weight_sizes(model), own_state(model)
        most = model.context_length or max(lengths)
        full = (size_of(state.at(n)) if n <= most else "–" for n in lengths)
        rows.append(
            (name, count_of(sizes.parameters), count_of(sizes.active), size_of(state.per_token), *full)
        )
    return table(rows)


def costs(*names: str) -> Reading:
    """Tabulate published models: what they are, and what a token costs."""
    rows = [
        (
            "",
            "parameters",
            "used by a token",
            "cache per token",
            "cache at 32768",
            "GFLOP at 1024",
            "at 32768",
        )
    ]
    for name in names:
        model = hollow(name)
        sizes, state = weight_sizes(model), own_state(model)
        near, far = (f"{flops_per_token(model, n) / 1e9:.1f}" for n in (1024, 32768))
        fits = (model.context_length or 32768) >= 32768
        used = count_of(sizes.active) if sizes.active != sizes.parameters else "all"
        cached = size_of(state.at(32768)) if fits else "–"
        row = (count_of(sizes.parameters), used, size_of(state.per_token), cached, near, far if fits else "–")
        rows.append((name, *row))
    return table(rows)


def random_model(raw: Keys, seed: int = 0, std: float = 0.02) -> Decoder:
    """Build the model of a parsed config.json with random weights: to be measured and looked into.

    raw   the keys of config.json; others have transformers' defaults
    seed  the same seed gives the same weights
    std   their standard deviation: in narrow models 0.02 would leave all scores near 0

    Gains are 1 and biases 0; matrices lie in memory as the file would have them.
    """
    architecture = model_class(str(raw["model_type"]))
    config = architecture.Config.from_dict(raw)
    generator = np.random.default_rng(seed)
    weights = {}
    for name, row in expand(architecture.WEIGHTS, config).items():
        start = {"gain": 1.0, "bias": 0.0}.get(name.rpartition(".")[2])
        shape = row.shape[::-1] if row.transposed else row.shape
        if start is not None:
            array = np.full(shape, start, dtype=np.float32)
        else:
            array = np.float32(std) * generator.standard_normal(shape, dtype=np.float32)
        weights[name] = array.T if row.transposed else array
    return architecture(config, weights)


SIZES: Keys = {
    **{"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
}
WIDER: Keys = {
    **{"vocab_size": 1000, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4},
    **{"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64},
}


def small_model(model_type: str, seed: int = 0, std: float = 0.3, **keys: object) -> Decoder:
    """Build a model of 2 layers, 32 wide, 4 heads in 2 groups, 50 tokens: to be looked into.

    keys  of its config.json, beside those or instead
    """
    return random_model({"model_type": model_type, **SIZES, **keys}, seed, std)


def wider_model(model_type: str, **keys: object) -> Decoder:
    """Build a model of 4 layers, 256 wide, 4 heads, 1000 tokens: to be measured; ``keys`` as above."""
    return random_model({"model_type": model_type, **WIDER, **keys})


def tinystar(**keys: Any) -> TinyStar:
    """Build a TinyStar of 2 layers, 512 wide, 8 heads: to be measured; ``keys`` as above."""
    return TinyStar(TinyStarConfig(**{"hidden_size": 512, "num_layers": 2, **keys}))


def speed(models: Mapping[str, Decoder], tokens: int, new: int = 6, rounds: int = 15) -> Reading:
    """Measure models by turns and tabulate how many times as fast as the first each generates.

    In one thread, since threads that wait for a busy core would be what is measured.

    tokens  in the cache when generating begins
    new     tokens that are generated in a turn
    rounds  how often each has its turn; a ratio is computed within a round, and the table shows the median
            and between which numbers the middle half of the rounds lies
    """
    with at_most(1):
        found = by_turns({"": [turn_of(model, tokens, new) for model in models.values()]}, rounds)[""]
    rows = [("", f"generating after {tokens} tokens, in one thread", "middle half of the rounds")]
    for name, seconds in zip(models, found, strict=True):
        times = np.divide(found[0], seconds)
        low, middle, high = np.quantile(times, (0.25, 0.5, 0.75))
        if seconds is found[0]:
            rows.append((name, f"{1000 * np.median(seconds) / new:.1f} ms a token", ""))
        else:
            rows.append((name, f"{middle:.2f} times as fast", f"{low:.2f} – {high:.2f}"))
    return table(rows)


def turn_of(model: Decoder, tokens: int, new: int) -> Callable[[], float]:
    """Read a random prompt once, and return what generates after it and takes the seconds."""
    ids = np.random.default_rng(0).integers(model.vocab_size, size=tokens)
    held = model.new_cache(capacity=tokens + new)
    last = model(ids, cache=held, last_only=True).argmax(axis=-1)

    def turn() -> float:
        cache, token = held.copy(), last
        start = time.perf_counter()
        for _ in range(new):
            token = model(token, cache=cache, last_only=True).argmax(axis=-1)
        return time.perf_counter() - start

    turn()  # the first does not count
    return turn
