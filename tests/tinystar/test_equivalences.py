"""Combinations that are some architecture of transformers: with its weights, its logits.

For each there is one table: our array ← the parameter of transformers, and how it is rearranged. A table must
use every parameter, and fill every array.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity import (
    assert_close,
    check_greedy,
    check_interruption,
    check_rows,
    logits_of,
    random_ids,
    reference_model,
)

from tinystar_np.checkpoints.weight_table import expand
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.loading import load
from tinystar_np.models.tinystar import TinyStar
from tinystar_np.models.tinystar_config import TinyStarConfig
from tinystar_np.seeing.comparison.with_transformers import compare_with_transformers

T, W = 90, 16
H, K, D, L, V = 8, 8, 64, 3, 256
R, J = 20, 6
SMALL: dict[str, Any] = {"hidden_size": D, "num_layers": L, "num_heads": H}
PIECES = ([1] * T, [W - 1, 1, W, W + 1, T - 3 * W - 1], [64, T - 64])

# How theirs is rearranged into ours.

Rearranged = Callable[[NDArray], NDArray]


def same(x: NDArray) -> NDArray:
    return x


def turned(x: NDArray) -> NDArray:
    """(out, in) → (in, out)."""
    return x.T


def third(n: int, first: Rearranged = same) -> Rearranged:
    """The queries, keys or values of a layer that makes all three: (in, 3D) → (in, D), (3D,) → (D,)."""
    return lambda x: np.split(first(x), 3, axis=-1)[n]


def halves(width: int, turning: int) -> Rearranged:
    """Neighbours that turn as a pair → one in each half: (heads · width, in) → (in, heads · width).

    In each head the last ``turning`` numbers are those that turn.
    """

    def rearranged(x: NDArray) -> NDArray:
        heads = x.T.reshape(x.shape[1], -1, width)
        still, pairs = heads[..., : width - turning], heads[..., width - turning :]
        return np.concatenate([still, pairs[..., ::2], pairs[..., 1::2]], axis=-1).reshape(x.T.shape)

    return rearranged


def gain(x: NDArray) -> NDArray:
    """A gain that is stored less one."""
    return 1 + x


def scaled(x: NDArray) -> NDArray:
    """An embedding that is multiplied by √D when it is looked up."""
    return x * np.float32(D**0.5)


def zeros(x: NDArray) -> NDArray:
    """A bias that they have not, of the length of their gain."""
    return np.zeros_like(x)


Table = Mapping[str, tuple[str, Rearranged]]

# ours                                     ← theirs, rearranged

GPT2: Table = {
    "embedding.tokens.weight":             ("transformer.wte.weight", same),
    "embedding.positions.weight":          ("transformer.wpe.weight", same),
    "blocks.{i}.attention_norm.gain":      ("transformer.h.{i}.ln_1.weight", same),
    "blocks.{i}.attention_norm.bias":      ("transformer.h.{i}.ln_1.bias", same),
    "blocks.{i}.attention.q.weight":       ("transformer.h.{i}.attn.c_attn.weight", third(0)),
    "blocks.{i}.attention.q.bias":         ("transformer.h.{i}.attn.c_attn.bias", third(0)),
    "blocks.{i}.attention.k.weight":       ("transformer.h.{i}.attn.c_attn.weight", third(1)),
    "blocks.{i}.attention.k.bias":         ("transformer.h.{i}.attn.c_attn.bias", third(1)),
    "blocks.{i}.attention.v.weight":       ("transformer.h.{i}.attn.c_attn.weight", third(2)),
    "blocks.{i}.attention.v.bias":         ("transformer.h.{i}.attn.c_attn.bias", third(2)),
    "blocks.{i}.attention.out.weight":     ("transformer.h.{i}.attn.c_proj.weight", same),
    "blocks.{i}.attention.out.bias":       ("transformer.h.{i}.attn.c_proj.bias", same),
    "blocks.{i}.feed_forward_norm.gain":   ("transformer.h.{i}.ln_2.weight", same),
    "blocks.{i}.feed_forward_norm.bias":   ("transformer.h.{i}.ln_2.bias", same),
    "blocks.{i}.feed_forward.up.weight":   ("transformer.h.{i}.mlp.c_fc.weight", same),
    "blocks.{i}.feed_forward.up.bias":     ("transformer.h.{i}.mlp.c_fc.bias", same),
    "blocks.{i}.feed_forward.down.weight": ("transformer.h.{i}.mlp.c_proj.weight", same),
    "blocks.{i}.feed_forward.down.bias":   ("transformer.h.{i}.mlp.c_proj.bias", same),
    "final_norm.gain":                     ("transformer.ln_f.weight", same),
    "final_norm.bias":                     ("transformer.ln_f.bias", same),
}  # fmt: skip
# GPT, the first: the names of GPT-2, but its norms stand behind the additions, and none behind the last.
GPT1: Table = {
    ours.replace("attention_norm", "attention_post_norm").replace("forward_norm", "forward_post_norm"): (
        theirs.replace("wte", "tokens_embed").replace("wpe", "positions_embed"), how,
    )
    for ours, (theirs, how) in GPT2.items()
    if not ours.startswith("final_norm")
}  # fmt: skip
LLAMA: Table = {
    "embedding.tokens.weight":             ("model.embed_tokens.weight", same),
    "blocks.{i}.attention_norm.gain":      ("model.layers.{i}.input_layernorm.weight", same),
    "blocks.{i}.attention.q.weight":       ("model.layers.{i}.self_attn.q_proj.weight", turned),
    "blocks.{i}.attention.k.weight":       ("model.layers.{i}.self_attn.k_proj.weight", turned),
    "blocks.{i}.attention.v.weight":       ("model.layers.{i}.self_attn.v_proj.weight", turned),
    "blocks.{i}.attention.out.weight":     ("model.layers.{i}.self_attn.o_proj.weight", turned),
    "blocks.{i}.feed_forward_norm.gain":   ("model.layers.{i}.post_attention_layernorm.weight", same),
    "blocks.{i}.feed_forward.gate.weight": ("model.layers.{i}.mlp.gate_proj.weight", turned),
    "blocks.{i}.feed_forward.up.weight":   ("model.layers.{i}.mlp.up_proj.weight", turned),
    "blocks.{i}.feed_forward.down.weight": ("model.layers.{i}.mlp.down_proj.weight", turned),
    "final_norm.gain":                     ("model.norm.weight", same),
}  # fmt: skip
LLAMA_WITH_BIASES: Table = {
    **LLAMA,
    "blocks.{i}.attention.q.bias":         ("model.layers.{i}.self_attn.q_proj.bias", same),
    "blocks.{i}.attention.k.bias":         ("model.layers.{i}.self_attn.k_proj.bias", same),
    "blocks.{i}.attention.v.bias":         ("model.layers.{i}.self_attn.v_proj.bias", same),
    "blocks.{i}.attention.out.bias":       ("model.layers.{i}.self_attn.o_proj.bias", same),
    "blocks.{i}.feed_forward.gate.bias":   ("model.layers.{i}.mlp.gate_proj.bias", same),
    "blocks.{i}.feed_forward.up.bias":     ("model.layers.{i}.mlp.up_proj.bias", same),
    "blocks.{i}.feed_forward.down.bias":   ("model.layers.{i}.mlp.down_proj.bias", same),
    "head.weight":                         ("lm_head.weight", turned),
}  # fmt: skip
# Arcee: Llama with a plain feed-forward layer.
ARCEE: Table = {ours: row for ours, row in LLAMA.items() if ".gate." not in ours}
# DeepSeek-V2: interleaved pairs turn, the last numbers of each query and of what is remembered.
DEEPSEEK: Table = {
    **{ours: row for ours, row in LLAMA.items() if "attention.k." not in ours and "attention.v." not in ours},
    "blocks.{i}.attention.q.weight":       ("model.layers.{i}.self_attn.q_proj.weight", halves(K + J, J)),
    "blocks.{i}.attention.kv_down.weight": ("model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight",
                                            halves(R + J, J)),
    "blocks.{i}.attention.kv_norm.gain":   ("model.layers.{i}.self_attn.kv_a_layernorm.weight", same),
    "blocks.{i}.attention.kv_up.weight":   ("model.layers.{i}.self_attn.kv_b_proj.weight", turned),
}  # fmt: skip
MPT: Table = {
    "embedding.tokens.weight":             ("transformer.wte.weight", same),
    "blocks.{i}.attention_norm.gain":      ("transformer.blocks.{i}.norm_1.weight", same),
    "blocks.{i}.attention_norm.bias":      ("transformer.blocks.{i}.norm_1.weight", zeros),
    "blocks.{i}.attention.q.weight":       ("transformer.blocks.{i}.attn.Wqkv.weight", third(0, turned)),
    "blocks.{i}.attention.k.weight":       ("transformer.blocks.{i}.attn.Wqkv.weight", third(1, turned)),
    "blocks.{i}.attention.v.weight":       ("transformer.blocks.{i}.attn.Wqkv.weight", third(2, turned)),
    "blocks.{i}.attention.out.weight":     ("transformer.blocks.{i}.attn.out_proj.weight", turned),
    "blocks.{i}.feed_forward_norm.gain":   ("transformer.blocks.{i}.norm_2.weight", same),
    "blocks.{i}.feed_forward_norm.bias":   ("transformer.blocks.{i}.norm_2.weight", zeros),
    "blocks.{i}.feed_forward.up.weight":   ("transformer.blocks.{i}.ffn.up_proj.weight", turned),
    "blocks.{i}.feed_forward.down.weight": ("transformer.blocks.{i}.ffn.down_proj.weight", turned),
    "final_norm.gain":                     ("transformer.norm_f.weight", same),
    "final_norm.bias":                     ("transformer.norm_f.weight", zeros),
}  # fmt: skip
# GPT-J: interleaved pairs turn, all numbers of a head. Its output layer has a bias: a head of its own.
GPTJ: Table = {
    "embedding.tokens.weight":             ("transformer.wte.weight", same),
    "blocks.{i}.attention_norm.gain":      ("transformer.h.{i}.ln_1.weight", same),
    "blocks.{i}.attention_norm.bias":      ("transformer.h.{i}.ln_1.bias", same),
    "blocks.{i}.attention.q.weight":       ("transformer.h.{i}.attn.q_proj.weight", halves(K, K)),
    "blocks.{i}.attention.k.weight":       ("transformer.h.{i}.attn.k_proj.weight", halves(K, K)),
    "blocks.{i}.attention.v.weight":       ("transformer.h.{i}.attn.v_proj.weight", turned),
    "blocks.{i}.attention.out.weight":     ("transformer.h.{i}.attn.out_proj.weight", turned),
    "blocks.{i}.feed_forward.up.weight":   ("transformer.h.{i}.mlp.fc_in.weight", turned),
    "blocks.{i}.feed_forward.up.bias":     ("transformer.h.{i}.mlp.fc_in.bias", same),
    "blocks.{i}.feed_forward.down.weight": ("transformer.h.{i}.mlp.fc_out.weight", turned),
    "blocks.{i}.feed_forward.down.bias":   ("transformer.h.{i}.mlp.fc_out.bias", same),
    "final_norm.gain":                     ("transformer.ln_f.weight", same),
    "final_norm.bias":                     ("transformer.ln_f.bias", same),
    "head.weight":                         ("lm_head.weight", turned),
}  # fmt: skip
# Gemma 2: the embedding is scaled where tokens are looked up and not where logits are made.
GEMMA2: Table = {
    **LLAMA,
    "embedding.tokens.weight":                 ("model.embed_tokens.weight", scaled),
    "blocks.{i}.attention_norm.gain":          ("model.layers.{i}.input_layernorm.weight", gain),
    "blocks.{i}.attention_post_norm.gain":     ("model.layers.{i}.post_attention_layernorm.weight", gain),
    "blocks.{i}.feed_forward_norm.gain":       ("model.layers.{i}.pre_feedforward_layernorm.weight", gain),
    "blocks.{i}.feed_forward_post_norm.gain":  ("model.layers.{i}.post_feedforward_layernorm.weight", gain),
    "final_norm.gain":                         ("model.norm.weight", gain),
    "head.weight":                             ("model.embed_tokens.weight", turned),
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A combination and the architecture that it is.

    named      the shipped configuration that it starts from
    changes    what it differs in, besides its size
    table      ours ← theirs
    reference  the keys of transformers' config
    head_bias  a parameter that a head of ours has not
    """

    named: str
    model_type: str
    table: Table
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    head_bias: str | None = None


def llama_like(**keys: Any) -> dict[str, Any]:
    sizes = {"hidden_size": D, "num_hidden_layers": L, "num_attention_heads": H, "intermediate_size": 176}
    return {"tie_word_embeddings": True, "rms_norm_eps": 1e-5, **sizes, **keys}


def gpt_like(**keys: Any) -> dict[str, Any]:
    return {"n_embd": D, "n_layer": L, "n_head": H, "n_positions": 128, **keys}


LEARNED = {"max_positions": 128}
LATENT = {"latent_rank": R, "rope_dim": J, "norm_eps": 1e-6}  # of DeepSeek's latents, whatever others have
PAIRS = {
    "v0.1 is GPT-2": Pair(
        "v0.1-baseline", "gpt2", GPT2, LEARNED, gpt_like(activation_function="gelu")
    ),
    "v0.1 is GPT-2 as it was published": Pair(
        "v0.1-baseline", "gpt2", GPT2, {**LEARNED, "activation": "gelu_tanh"}, gpt_like()
    ),
    "v0.2 is Llama": Pair("v0.2-modern", "llama", LLAMA, {}, llama_like(num_key_value_heads=2)),
    "v0.3 is Llama": Pair("v0.3-mha", "llama", LLAMA, {}, llama_like(num_key_value_heads=H)),
    "v0.4 is Llama": Pair("v0.4-mqa", "llama", LLAMA, {}, llama_like(num_key_value_heads=1)),
    "v0.5 is DeepSeek-V2": Pair(
        "v0.5-mla", "deepseek_v2", DEEPSEEK, LATENT,
        llama_like(rms_norm_eps=1e-6, q_lora_rank=None, kv_lora_rank=R, qk_rope_head_dim=J,
                   qk_nope_head_dim=K, v_head_dim=K, first_k_dense_replace=L, num_experts_per_tok=2,
                   n_routed_experts=4),
    ),
    "v0.6 is Arcee": Pair(
        "v0.6-gelu", "arcee", ARCEE, {},
        llama_like(num_key_value_heads=2, hidden_act="gelu", intermediate_size=4 * D),
    ),
    "v0.7 is Mistral": Pair(
        "v0.7-swa", "mistral", LLAMA, {"window_size": W},
        llama_like(num_key_value_heads=2, sliding_window=W),
    ),
    "linear scaling, wide heads, biases and an output layer are Llama": Pair(
        "v0.2-modern", "llama", LLAMA_WITH_BIASES,
        {"rope_base": 500.0, "rope_scaling": 4.0, "head_dim": 12, "attention_bias": True,
         "feed_forward_bias": True, "tie_word_embeddings": False},
        llama_like(num_key_value_heads=2, head_dim=12, attention_bias=True, mlp_bias=True,
                   tie_word_embeddings=False,
                   rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}),
    ),
    "ALiBi is MPT": Pair(
        "v0.1-baseline", "mpt", MPT,
        {"positions": "alibi", "attention_bias": False, "feed_forward_bias": False},
        {"d_model": D, "n_layers": L, "n_heads": H, "max_seq_len": 128},
    ),
    "parallel is GPT-J": Pair(
        "v0.3-mha", "gptj", GPTJ,
        {"parallel": True, "norm": "layernorm", "feed_forward": "mlp", "activation": "gelu_tanh",
         "feed_forward_bias": True, "tie_word_embeddings": False},
        gpt_like(rotary_dim=K, tie_word_embeddings=False),
        head_bias="lm_head.bias",
    ),
    "a sandwich is Gemma 2": Pair(
        "v0.2-modern", "gemma2", GEMMA2,
        {"norm_placement": "sandwich", "feed_forward": "geglu", "tie_word_embeddings": False},
        llama_like(num_key_value_heads=2, head_dim=K, query_pre_attn_scalar=K, hidden_activation="gelu",
                   attn_logit_softcapping=None, final_logit_softcapping=None, sliding_window=1000),
    ),
    "post-norm is GPT": Pair(
        "v0.1-baseline", "openai-gpt", GPT1,
        {**LEARNED, "norm_placement": "post", "activation": "gelu_tanh"}, gpt_like(),
    ),
}  # fmt: skip


def weights_from(reference: torch.nn.Module, pair: Pair, config: TinyStarConfig) -> dict[str, NDArray]:
    """Carry the weights over, all of theirs into all of ours."""
    theirs = {name: array.detach().numpy() for name, array in reference.named_parameters()}
    rows = {
        ours.replace("{i}", str(i)): (name.replace("{i}", str(i)), rearranged)
        for ours, (name, rearranged) in pair.table.items()
        for i in range(config.num_layers)
    }
    assert set(theirs) == {*(name for name, _ in rows.values()), *filter(None, [pair.head_bias])}
    assert set(rows) == set(expand(TinyStar.WEIGHTS, config))
    return {ours: rearranged(theirs[name]) for ours, (name, rearranged) in rows.items()}


@pytest.mark.parametrize("name", PAIRS)
def test_logits_of_transformers(name: str, tmp_path: Path) -> None:
    pair = PAIRS[name]
    config = replace(TinyStarConfig.named(pair.named), **SMALL, **pair.changes)
    reference = reference_model(pair.model_type, vocab_size=V, **pair.reference)
    TinyStar(config, weights_from(reference, pair, config)).save(tmp_path)
    model, _ = load(tmp_path)
    if pair.head_bias is not None:
        bias = reference.get_parameter(pair.head_bias).detach().numpy()
        model.head = Linear(Weights({"weight": model.weights["head.weight"], "bias": bias}))

    ids = random_ids(3, T, vocabulary=V)
    expected = logits_of(reference, ids)
    assert_close(model(ids), expected, what="whole, a batch of three")
    assert_close(model(ids[0], last_only=True), expected[0, -1:], what="last_only")
    for pieces in PIECES:
        cache = model.new_cache(batch_size=3)
        starts = np.cumsum([0, *pieces])
        found = [model(ids[:, a:b], cache=cache) for a, b in pairwise(starts)]
        assert_close(np.concatenate(found, axis=1), expected, what=f"in pieces of {pieces!s:.20}")
    check_rows(model, ids, expected, 1e-5)
    check_interruption(model, ids[0], expected[0], 1e-5)
    check_greedy(reference, model, ids[0, : T // 2])


def test_every_named_configuration_is_some_architecture() -> None:
    assert {pair.named for pair in PAIRS.values()} == {
        f"v0.{name}" for name in ("1-baseline", "2-modern", "3-mha", "4-mqa", "5-mla", "6-gelu", "7-swa")
    }


def test_compared_activation_by_activation(tmp_path: Path) -> None:
    """``tinystar compare MODEL --against …`` pairs what both have: attention, layer by layer, and logits."""
    pair = PAIRS["v0.2 is Llama"]
    config = replace(TinyStarConfig.named(pair.named), **SMALL)
    reference = reference_model(pair.model_type, vocab_size=V, **pair.reference)
    reference.save_pretrained(tmp_path)
    weights = weights_from(reference, pair, config)
    ids = random_ids(12, vocabulary=V).tolist()
    found = compare_with_transformers(TinyStar(config, weights), ids, tmp_path)
    names = ("q_rotated", "k_rotated", "probabilities")
    attention = [f"blocks.{i}.attention.{name}" for i in range(L) for name in names]
    assert [row.name for row in found] == [*attention, "logits"]
    assert not any(row.exceeds(1e-5) for row in found)
    weights["blocks.1.attention.k.weight"] *= 2
    found = compare_with_transformers(TinyStar(config, weights), ids, tmp_path)
    differing = ["blocks.1.attention.k_rotated", "blocks.1.attention.probabilities"]
    later = [name for name in attention if name > "blocks.2"]
    assert [row.name for row in found if row.exceeds(1e-5)] == [*differing, *later, "logits"]
