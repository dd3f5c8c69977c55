"""InternLM2 and Baichuan in torch, after the makers' own modeling files; transformers has neither.

Tensors have the makers' names, and what is computed is written as there: matrices that hold queries, keys and
values are taken apart in their way, ALiBi is added as a matrix of distances. Without a cache and without
padding, which the tests of parity need not. Registered, so that ``AutoModelForCausalLM`` builds them.
"""

import math
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
    eager_attention_forward,
)


def causal(length: int) -> Tensor:
    """Minus infinity at later positions: (1, 1, T, T)."""
    return torch.full((length, length), -math.inf).triu(1)[None, None]


class Mlp(nn.Module):
    """A gated feed-forward layer, with the names that its model gives the three matrices."""

    def __init__(self, config: PreTrainedConfig, gate: str, up: str, down: str):
        super().__init__()
        D, F = config.hidden_size, config.intermediate_size
        self.names = gate, up, down
        for name, sizes in zip(self.names, ((D, F), (D, F), (F, D)), strict=True):
            self.add_module(name, nn.Linear(*sizes, bias=False))
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(self.act_fn(gate(x)) * up(x))


class OwnModel(PreTrainedModel, GenerationMixin):
    """What all have in common: ``base`` turns ids into vectors, ``score`` these into logits."""

    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = False

    def score(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(
        self, input_ids: Any = None, logits_to_keep: int = 0, output_attentions: bool = False, **given: Any
    ) -> CausalLMOutputWithPast:
        found: list[Tensor] = []
        x = self.model(input_ids, found)
        attentions = tuple(found) if output_attentions else None
        return CausalLMOutputWithPast(logits=self.score(x[:, -logits_to_keep:]), attentions=attentions)


# --- InternLM2


@strict
class InternLM2Config(PreTrainedConfig):
    """Defaults of the makers' class."""

    model_type = "internlm2"

    vocab_size: int = 103168
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    bias: bool = True
    rope_parameters: dict | None = None

    def __post_init__(self, **kwargs: Any):
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        super().__post_init__(**kwargs)


class InternLM2Attention(nn.Module):
    def __init__(self, config: InternLM2Config, layer_idx: int):
        super().__init__()
        self.layer_idx = layer_idx
        self.groups = config.num_key_value_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.num_key_value_groups = config.num_attention_heads // self.groups
        D, width = config.hidden_size, (config.num_attention_heads + 2 * self.groups) * self.head_dim
        self.wqkv = nn.Linear(D, width, bias=config.bias)
        self.wo = nn.Linear(D, D, bias=config.bias)

    def forward(self, x: Tensor, position: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        B, T, _ = x.shape
        qkv = self.wqkv(x).view(B, T, self.groups, 2 + self.num_key_value_groups, self.head_dim)
        q = qkv[..., : self.num_key_value_groups, :].flatten(2, 3).transpose(1, 2)
        k, v = qkv[..., -2, :].transpose(1, 2), qkv[..., -1, :].transpose(1, 2)
        q, k = apply_rotary_pos_emb(q, k, *position)
        y, probabilities = eager_attention_forward(self, q, k, v, mask, scaling=self.head_dim**-0.5)
        return self.wo(y.reshape(B, T, -1)), probabilities


class InternLM2Layer(nn.Module):
    def __init__(self, config: InternLM2Config, layer_idx: int):
        super().__init__()
        self.attention = InternLM2Attention(config, layer_idx)
        self.feed_forward = Mlp(config, "w1", "w3", "w2")
        self.attention_norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn_norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: Tensor, position: Any, mask: Tensor, found: list[Tensor]) -> Tensor:
        y, probabilities = self.attention(self.attention_norm(hidden_states), position, mask)
        found.append(probabilities)
        x = hidden_states + y
        return x + self.feed_forward(self.ffn_norm(x))


class InternLM2Model(nn.Module):
    def __init__(self, config: InternLM2Config):
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([InternLM2Layer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config)

    def forward(self, ids: Tensor, found: list[Tensor]) -> Tensor:
        x = self.tok_embeddings(ids)
        position = self.rotary_emb(x, torch.arange(ids.shape[1])[None])
        for layer in self.layers:
            x = layer(x, position, causal(ids.shape[1]), found)
        return self.norm(x)


class InternLM2ForCausalLM(OwnModel):
    config_class = InternLM2Config
    _tied_weights_keys = {"output.weight": "model.tok_embeddings.weight"}  # noqa: RUF012 — as transformers has it

    def __init__(self, config: InternLM2Config):
        super().__init__(config)
        self.model = InternLM2Model(config)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.tok_embeddings

    def get_output_embeddings(self) -> nn.Module:
        return self.output

    def score(self, x: Tensor) -> Tensor:
        return self.output(x)


# --- Baichuan: 7B where the file has max_position_embeddings; 2 by its vocabulary or z_loss_weight


@strict
class BaichuanConfig(PreTrainedConfig):
    """The keys of the makers' four classes of this name, of which each has some."""

    model_type = "baichuan"

    vocab_size: int = 125696
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    hidden_act: str = "silu"
    max_position_embeddings: int | None = None
    model_max_length: int | None = None
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    z_loss_weight: float | int | None = None


def slopes(heads: int) -> list[float]:
    """ALiBi's: powers of 2, and where heads are no power of 2, every second of twice as many."""
    whole = 2 ** math.floor(math.log2(heads))
    powers = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
    return powers if whole == heads else powers + slopes(2 * whole)[0::2][: heads - whole]


def rotations(head_dim: int, length: int) -> tuple[Tensor, Tensor]:
    """The makers' table of cosines and sines, base 10000: (1, T, K) each."""
    inverse = 1.0 / (10000 ** (torch.arange(0, head_dim, 2).float() / head_dim))
    angles = torch.outer(torch.arange(length).float(), inverse)
    angles = torch.cat((angles, angles), dim=-1)[None]
    return angles.cos(), angles.sin()


class BaichuanAttention(nn.Module):
    def __init__(self, config: BaichuanConfig, layer_idx: int):
        super().__init__()
        self.layer_idx, self.num_key_value_groups = layer_idx, 1
        self.rotates = config.max_position_embeddings is not None
        self.heads = config.num_attention_heads
        self.head_dim = config.hidden_size // self.heads
        self.W_pack = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        B, T, D = x.shape
        qkv = self.W_pack(x).unflatten(-1, (3, D)).unsqueeze(0).transpose(0, -2).squeeze(-2)
        q, k, v = (part.view(B, T, self.heads, self.head_dim).transpose(1, 2) for part in qkv)
        mask = causal(T)
        if self.rotates:
            q, k = apply_rotary_pos_emb(q, k, *rotations(self.head_dim, T))
        else:
            distance = torch.arange(T)[None] - torch.arange(T)[:, None]  # j − i, 0 at a token itself
            mask = mask + torch.tensor(slopes(self.heads))[None, :, None, None] * distance
        y, probabilities = eager_attention_forward(self, q, k, v, mask, scaling=self.head_dim**-0.5)
        return self.o_proj(y.reshape(B, T, D)), probabilities


class BaichuanLayer(nn.Module):
    def __init__(self, config: BaichuanConfig, layer_idx: int):
        super().__init__()
        self.self_attn = BaichuanAttention(config, layer_idx)
        self.mlp = Mlp(config, "gate_proj", "up_proj", "down_proj")
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states: Tensor, found: list[Tensor]) -> Tensor:
        y, probabilities = self.self_attn(self.input_layernorm(hidden_states))
        found.append(probabilities)
        x = hidden_states + y
        return x + self.mlp(self.post_attention_layernorm(x))


class BaichuanModel(nn.Module):
    def __init__(self, config: BaichuanConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([BaichuanLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids: Tensor, found: list[Tensor]) -> Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, found)
        return self.norm(x)


class BaichuanForCausalLM(OwnModel):
    config_class = BaichuanConfig
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 — as transformers has it

    def __init__(self, config: BaichuanConfig):
        super().__init__(config)
        self.model = BaichuanModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def score(self, x: Tensor) -> Tensor:
        if self.config.vocab_size != 125696 and self.config.z_loss_weight is None:
            return self.lm_head(x)
        return nn.functional.linear(x, nn.functional.normalize(self.lm_head.weight))


for config_class, model in (
    (InternLM2Config, InternLM2ForCausalLM),
    (BaichuanConfig, BaichuanForCausalLM),
):
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModelForCausalLM.register(config_class, model, exist_ok=True)
