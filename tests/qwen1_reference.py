"""The first Qwen in torch, which transformers has not: written from its makers' definition, for tests.

Registered, so that ``AutoModelForCausalLM`` builds it like any other. It has no cache: what counts is the
text read at once.
"""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


@strict
class Qwen1Config(PreTrainedConfig):
    """The makers' keys and defaults."""

    model_type = "qwen"

    vocab_size: int = 151936
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    emb_dropout_prob: float = 0.0
    attn_dropout_prob: float = 0.0
    layer_norm_epsilon: float = 1e-6
    initializer_range: float = 0.02
    max_position_embeddings: int = 8192
    scale_attn_weights: bool = True
    use_cache: bool = True
    bf16: bool = False
    fp16: bool = False
    fp32: bool = False
    kv_channels: int = 128
    rotary_pct: float = 1.0
    rotary_emb_base: float | int = 10000
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    use_flash_attn: str | bool | int = "auto"
    intermediate_size: int = 22016
    no_bias: bool = True
    tie_word_embeddings: bool = False
    use_cache_quantization: bool = False
    use_cache_kernel: bool = False
    softmax_in_fp32: bool = False
    seq_length: int = 8192  # the makers' class has it from files alone


def rotations(c: Qwen1Config, length: int) -> Tensor:
    """Angles of a text of this length: (T, J)."""
    width = c.kv_channels if c.rotary_pct == 1 else int(c.kv_channels * c.rotary_pct)
    alpha = 1
    if c.use_dynamic_ntk:
        alpha = max(2 ** math.ceil(math.log(length / c.seq_length, 2) + 1) - 1, 1)
    base = c.rotary_emb_base * alpha ** (width / (width - 2)) if alpha > 1 else c.rotary_emb_base
    frequencies = 1.0 / (base ** (torch.arange(0, width, 2).float() / width))
    return torch.outer(torch.arange(length).float(), frequencies)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the first 2J numbers of each head of (B, T, H, K), whose halves make pairs."""
    J = angles.shape[-1]
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second, rest = x[..., :J], x[..., J : 2 * J], x[..., 2 * J :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def eager_attention_forward(module: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Causal attention of (B, H, T, K)."""
    T = q.shape[2]
    scores = q @ k.transpose(-1, -2) / v.shape[-1] ** 0.5
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights @ v, weights


class Qwen1Norm(nn.Module):
    """Root mean square normalisation."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """Norm (..., D)."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Qwen1Attention(nn.Module):
    """One matrix for queries, keys and values."""

    def __init__(self, c: Qwen1Config, layer_idx: int):
        super().__init__()
        self.c, self.layer_idx = c, layer_idx
        inner = c.kv_channels * c.num_attention_heads
        self.c_attn = nn.Linear(c.hidden_size, 3 * inner)
        self.c_proj = nn.Linear(c.hidden_size, inner, bias=not c.no_bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens see earlier ones: (B, T, D)."""
        c, (B, T, D) = self.c, x.shape
        q, k, v = (y.view(B, T, c.num_attention_heads, -1) for y in self.c_attn(x).split(D, dim=2))
        angles = rotations(c, T)
        q, k = rotated(q, angles), rotated(k, angles)
        if c.use_logn_attn:
            scale = [math.log(i, c.seq_length) if i > c.seq_length else 1.0 for i in range(1, T + 1)]
            q = q * torch.tensor(scale, dtype=q.dtype)[None, :, None, None]
        y, weights = eager_attention_forward(self, *(z.transpose(1, 2) for z in (q, k, v)))
        return self.c_proj(y.transpose(1, 2).reshape(B, T, D)), weights


class Qwen1FeedForward(nn.Module):
    """Gated: w1 · silu(w2)."""

    def __init__(self, c: Qwen1Config):
        super().__init__()
        inner = c.intermediate_size // 2
        self.w1 = nn.Linear(c.hidden_size, inner, bias=not c.no_bias)
        self.w2 = nn.Linear(c.hidden_size, inner, bias=not c.no_bias)
        self.c_proj = nn.Linear(inner, c.hidden_size, bias=not c.no_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return self.c_proj(self.w1(x) * nn.functional.silu(self.w2(x)))


class Qwen1Block(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, c: Qwen1Config, i: int):
        super().__init__()
        self.ln_1 = Qwen1Norm(c.hidden_size, c.layer_norm_epsilon)
        self.attn = Qwen1Attention(c, i)
        self.ln_2 = Qwen1Norm(c.hidden_size, c.layer_norm_epsilon)
        self.mlp = Qwen1FeedForward(c)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Map the stream to the stream, and give the attention weights."""
        y, weights = self.attn(self.ln_1(hidden_states))
        hidden_states = hidden_states + y
        return hidden_states + self.mlp(self.ln_2(hidden_states)), weights


class Qwen1PreTrainedModel(PreTrainedModel):
    """What both classes are."""

    config: Qwen1Config
    config_class = Qwen1Config
    base_model_prefix = "transformer"
    _supports_attention_backend = False


class Qwen1Model(Qwen1PreTrainedModel):
    """All but the output layer."""

    def __init__(self, config: Qwen1Config):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList([Qwen1Block(config, i) for i in range(config.num_hidden_layers)])
        self.ln_f = Qwen1Norm(config.hidden_size, config.layer_norm_epsilon)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens."""
        return self.wte

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Exchange it."""
        self.wte = value

    def forward(self, input_ids: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The last vectors, those before each block and at the end, and attention weights."""
        x = self.wte(input_ids)
        hidden, attentions = [x], []
        for block in self.h:
            x, weights = block(x)
            hidden.append(x)
            attentions.append(weights)
        x = self.ln_f(x)
        hidden[-1] = x
        return x, hidden, attentions


class Qwen1ForCausalLM(Qwen1PreTrainedModel, GenerationMixin):
    """The whole."""

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012 — as transformers has it

    def __init__(self, config: Qwen1Config):
        super().__init__(config)
        self.transformer = Qwen1Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.lm_head

    def forward(
        self, input_ids: Tensor, logits_to_keep: int = 0, output_attentions: bool = False, **_: Any
    ) -> CausalLMOutputWithPast:
        """Score every token of the vocabulary."""
        x, hidden, attentions = self.transformer(input_ids)
        logits = self.lm_head(x[:, -logits_to_keep:])
        seen = tuple(attentions) if output_attentions else None
        return CausalLMOutputWithPast(logits=logits, hidden_states=tuple(hidden), attentions=seen)


AutoConfig.register("qwen", Qwen1Config, exist_ok=True)
AutoModelForCausalLM.register(Qwen1Config, Qwen1ForCausalLM, exist_ok=True)
