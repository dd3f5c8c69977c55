"""Where to read what: for each idea the kernel that defines it, the layer that uses it, models that have it.

A test holds that the files exist and that no kernel is left out.
"""

from typing import NamedTuple


class Idea(NamedTuple):
    """One idea and its files, without folder and ending.

    kernel, layer  None where the idea is none of this floor
    models         to begin with; not all that have it
    """

    name: str
    kernel: str | None
    layer: str | None
    models: tuple[str, ...]


IDEAS = (
    Idea("embedding: a vector for each token", "linear", "embedding", ("gpt2",)),
    Idea("linear maps", "linear", "linear", ("gpt2",)),
    Idea("softmax without overflow", "softmax", "attend", ("gpt2",)),
    Idea("attention", "attention", "attention", ("gpt2",)),
    Idea("softmax over blocks of keys", "blockwise_attention", None, ("gpt2",)),
    Idea("queries that share keys and values (MQA, GQA)", "attention", "attention", ("falcon", "llama")),
    Idea("windows", "masks", "attend", ("mistral", "gemma2")),
    Idea("attention in chunks", "chunked_attention", "attend", ("llama4_text",)),
    Idea("capped scores", "attention", "attend", ("gemma2",)),
    Idea("sinks", "attention", "attend", ("gpt_oss",)),
    Idea("normed queries and keys", "norms", "attention", ("qwen3", "olmo2")),
    Idea("queries that grow with the length of the text", "temperature", "temperature", ("llama4_text",)),
    Idea("latent attention (MLA)", "latent_attention", "latent_attention", ("deepseek_v2",)),
    Idea("complex attention", "complex_attention", "complex_attention", ("tinystar",)),
    Idea("learned positions", "linear", "embedding", ("gpt2",)),
    Idea("sinusoidal positions", "sinusoidal", "sinusoidal", ("tinystar",)),
    Idea("relative positions", "relative_positions", "relative_attention", ("tinystar",)),
    Idea("ALiBi", "alibi", "attend", ("bloom", "mpt")),
    Idea("rotary positions (RoPE), pairs as halves or neighbours", "rope", "rope", ("gptj", "llama")),
    Idea("rotations stretched for longer texts", "rope", "rope", ("llama", "phi3", "deepseek_v2")),
    Idea("layers without positions", None, "attention", ("smollm3", "granitemoehybrid")),
    Idea("LayerNorm, RMSNorm", "norms", "norms", ("gpt2", "llama")),
    Idea("where norms stand: before, behind, both", None, "blocks", ("gpt2", "gemma2", "olmo2")),
    Idea("attention beside feed-forward", None, "blocks", ("gptj", "cohere")),
    Idea("feed-forward layers, plain and gated", "activations", "feed_forward", ("gpt2", "llama", "gemma")),
    Idea("clamped SwiGLU", "clamped_swiglu", "experts", ("gpt_oss",)),
    Idea("experts, and how they are chosen", "experts", "experts", ("mixtral", "qwen2_moe", "deepseek_v3")),
    Idea("multipliers instead of a new learning rate", None, "blocks", ("granite", "falcon_h1")),
    Idea("convolution over the last tokens", "convolution", "mamba2", ("mamba", "mamba2")),
    Idea("selective state space (Mamba 1)", "selective_scan", "mamba1", ("mamba",)),
    Idea("state space as attention (Mamba 2)", "ssm", "mamba2", ("mamba2", "granitemoehybrid")),
    Idea("gated delta rule", "delta_rule", "delta_net", ("qwen3_next",)),
    Idea("attention beside a recurrence", None, "hybrid_block", ("falcon_h1",)),
    Idea("weights in bfloat16", "bfloat16", "linear", ("gpt2",)),
    Idea("weights in 8 bits", "int8", "linear", ("gpt2",)),
    Idea("packed weights", "packed", "linear", ("gpt2",)),
)
