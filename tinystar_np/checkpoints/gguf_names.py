"""What GGUF files call the tensors of each architecture, and what transformers does.

    "blk.{i}.attn_q.*":   ("model.layers.{i}.self_attn.q_proj.*", unpermuted)

The first is the file's name, the second transformers'; the third says how to undo the conversion
(gguf_undo.py), where it is more than a new name. ``{i}`` counts layers, ``*`` is "weight" or "bias". Where
``{e}`` stands in transformers' name only, the file's tensor holds one for each expert, or each head, along
its first axis. "a + b" are two tensors of the file that were one.

Source: gguf-py/gguf/tensor_mapping.py of https://github.com/ggml-org/llama.cpp, MIT.
"""

from collections.abc import Mapping

from tinystar_np.checkpoints.gguf_undo import (
    Undo,
    by_group,
    by_head,
    flat,
    in_turns,
    in_turns_transposed,
    joined,
    log_of_minus,
    log_of_minus_column,
    minus_one,
    one_row,
    transposed,
    unpermuted,
    up_of_latents,
    with_middle_axis,
)

Names = dict[str, str | tuple[str, Undo]]

NO_WEIGHTS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Tensors that belong to the config: gguf_rope.py reads them."""

# What most architectures since Llama have in common.
ENDS: Names = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.*":     "model.norm.*",
    "output.*":          "lm_head.*",
}  # fmt: skip
NORMS: Names = {
    "blk.{i}.attn_norm.*": "model.layers.{i}.input_layernorm.*",
    "blk.{i}.ffn_norm.*":  "model.layers.{i}.post_attention_layernorm.*",
}  # fmt: skip
ATTENTION: Names = {
    "blk.{i}.attn_q.*":      "model.layers.{i}.self_attn.q_proj.*",
    "blk.{i}.attn_k.*":      "model.layers.{i}.self_attn.k_proj.*",
    "blk.{i}.attn_v.*":      "model.layers.{i}.self_attn.v_proj.*",
    "blk.{i}.attn_output.*": "model.layers.{i}.self_attn.o_proj.*",
}  # fmt: skip
PERMUTED: Names = ATTENTION | {
    "blk.{i}.attn_q.*": ("model.layers.{i}.self_attn.q_proj.*", unpermuted),
    "blk.{i}.attn_k.*": ("model.layers.{i}.self_attn.k_proj.*", unpermuted),
}
HEAD_NORMS: Names = {
    "blk.{i}.attn_q_norm.weight": "model.layers.{i}.self_attn.q_norm.weight",
    "blk.{i}.attn_k_norm.weight": "model.layers.{i}.self_attn.k_norm.weight",
}
GATED: Names = {
    "blk.{i}.ffn_gate.*": "model.layers.{i}.mlp.gate_proj.*",
    "blk.{i}.ffn_up.*":   "model.layers.{i}.mlp.up_proj.*",
    "blk.{i}.ffn_down.*": "model.layers.{i}.mlp.down_proj.*",
}  # fmt: skip
EXPERTS: Names = {
    "blk.{i}.ffn_gate_inp.weight":  "model.layers.{i}.mlp.gate.weight",
    "blk.{i}.ffn_gate_exps.weight": "model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
    "blk.{i}.ffn_up_exps.weight":   "model.layers.{i}.mlp.experts.{e}.up_proj.weight",
    "blk.{i}.ffn_down_exps.weight": "model.layers.{i}.mlp.experts.{e}.down_proj.weight",
}  # fmt: skip
LLAMA = ENDS | NORMS | PERMUTED | GATED
QWEN2 = ENDS | NORMS | ATTENTION | GATED

GRANITE_EXPERTS: Names = {
    "blk.{i}.ffn_gate_inp.weight": "model.layers.{i}.block_sparse_moe.router.layer.weight",
    "blk.{i}.ffn_gate_exps.weight + blk.{i}.ffn_up_exps.weight":
        ("model.layers.{i}.block_sparse_moe.input_linear.weight", joined),
    "blk.{i}.ffn_down_exps.weight": "model.layers.{i}.block_sparse_moe.output_linear.weight",
}  # fmt: skip
FALCON: Names = {
    "token_embd.weight":     "transformer.word_embeddings.weight",
    "output_norm.*":         "transformer.ln_f.*",
    "output.*":              "lm_head.*",
    "blk.{i}.attn_norm.*":   "transformer.h.{i}.input_layernorm.*",
    "blk.{i}.attn_qkv.*":    ("transformer.h.{i}.self_attention.query_key_value.*", by_group),
    "blk.{i}.attn_output.*": "transformer.h.{i}.self_attention.dense.*",
    "blk.{i}.ffn_up.*":      "transformer.h.{i}.mlp.dense_h_to_4h.*",
    "blk.{i}.ffn_down.*":    "transformer.h.{i}.mlp.dense_4h_to_h.*",
}  # fmt: skip
GEMMA: Names = ATTENTION | GATED | {
    "token_embd.weight":          "model.embed_tokens.weight",
    "output.weight":              "lm_head.weight",
    "output_norm.weight":         ("model.norm.weight", minus_one),
    "blk.{i}.attn_norm.weight":   ("model.layers.{i}.input_layernorm.weight", minus_one),
    "blk.{i}.ffn_norm.weight":    ("model.layers.{i}.post_attention_layernorm.weight", minus_one),
}  # fmt: skip
GEMMA2: Names = GEMMA | {
    "blk.{i}.post_attention_norm.weight":
        ("model.layers.{i}.post_attention_layernorm.weight", minus_one),
    "blk.{i}.ffn_norm.weight":
        ("model.layers.{i}.pre_feedforward_layernorm.weight", minus_one),
    "blk.{i}.post_ffw_norm.weight":
        ("model.layers.{i}.post_feedforward_layernorm.weight", minus_one),
}  # fmt: skip


def _mamba2(mixer: str) -> Names:
    """Return the names of a Mamba-2 mixer, which transformers calls ``mixer`` or ``mamba`` within a layer."""
    return {
        "blk.{i}.ssm_in.*":          f"{mixer}.in_proj.*",
        "blk.{i}.ssm_conv1d.weight": (f"{mixer}.conv1d.weight", with_middle_axis),
        "blk.{i}.ssm_conv1d.bias":   f"{mixer}.conv1d.bias",
        "blk.{i}.ssm_dt.bias":       f"{mixer}.dt_bias",
        "blk.{i}.ssm_a":             (f"{mixer}.A_log", log_of_minus_column),
        "blk.{i}.ssm_d":             (f"{mixer}.D", flat),
        "blk.{i}.ssm_norm.weight":   (f"{mixer}.norm.weight", flat),
        "blk.{i}.ssm_out.*":         f"{mixer}.out_proj.*",
    }  # fmt: skip


NAMES: Mapping[str, Names] = {
    "llama": LLAMA | {  # Mixtral has experts in place of ffn_gate, ffn_up and ffn_down
        "blk.{i}.ffn_gate_inp.weight":  "model.layers.{i}.block_sparse_moe.gate.weight",
        "blk.{i}.ffn_gate_exps.weight": "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
        "blk.{i}.ffn_down_exps.weight": "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",
        "blk.{i}.ffn_up_exps.weight":   "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
    },
    "qwen2": QWEN2,
    "qwen3": QWEN2 | HEAD_NORMS,
    "qwen2moe": QWEN2 | EXPERTS | {
        "blk.{i}.ffn_gate_inp_shexp.weight":
            ("model.layers.{i}.mlp.shared_expert_gate.weight", one_row),
        "blk.{i}.ffn_gate_shexp.weight": "model.layers.{i}.mlp.shared_expert.gate_proj.weight",
        "blk.{i}.ffn_up_shexp.weight":   "model.layers.{i}.mlp.shared_expert.up_proj.weight",
        "blk.{i}.ffn_down_shexp.weight": "model.layers.{i}.mlp.shared_expert.down_proj.weight",
    },
    "qwen3moe": QWEN2 | HEAD_NORMS | EXPERTS,
    "qwen2vl": QWEN2,
    "qwen3vl": QWEN2 | HEAD_NORMS,
    "qwen3vlmoe": QWEN2 | HEAD_NORMS | EXPERTS,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA2 | {
        "blk.{i}.attn_q_norm.weight": ("model.layers.{i}.self_attn.q_norm.weight", minus_one),
        "blk.{i}.attn_k_norm.weight": ("model.layers.{i}.self_attn.k_norm.weight", minus_one),
    },
    "phi2": ATTENTION | {
        "token_embd.weight":     "model.embed_tokens.weight",
        "output_norm.*":         "model.final_layernorm.*",
        "output.*":              "lm_head.*",
        "blk.{i}.attn_norm.*":   "model.layers.{i}.input_layernorm.*",
        "blk.{i}.attn_output.*": "model.layers.{i}.self_attn.dense.*",
        "blk.{i}.ffn_up.*":      "model.layers.{i}.mlp.fc1.*",
        "blk.{i}.ffn_down.*":    "model.layers.{i}.mlp.fc2.*",
    },
    "phi3": ENDS | NORMS | {
        "blk.{i}.attn_qkv.weight":    "model.layers.{i}.self_attn.qkv_proj.weight",
        "blk.{i}.attn_output.weight": "model.layers.{i}.self_attn.o_proj.weight",
        "blk.{i}.ffn_up.weight":      "model.layers.{i}.mlp.gate_up_proj.weight",
        "blk.{i}.ffn_down.weight":    "model.layers.{i}.mlp.down_proj.weight",
    },
    "gpt2": {
        "token_embd.weight":          "transformer.wte.weight",
        "position_embd.weight":       "transformer.wpe.weight",
        "output_norm.*":              "transformer.ln_f.*",
        "output.weight":              "lm_head.weight",
        "blk.{i}.attn_norm.*":        "transformer.h.{i}.ln_1.*",
        "blk.{i}.attn_qkv.weight":    ("transformer.h.{i}.attn.c_attn.weight", transposed),
        "blk.{i}.attn_qkv.bias":      "transformer.h.{i}.attn.c_attn.bias",
        "blk.{i}.attn_output.weight": ("transformer.h.{i}.attn.c_proj.weight", transposed),
        "blk.{i}.attn_output.bias":   "transformer.h.{i}.attn.c_proj.bias",
        "blk.{i}.ffn_norm.*":         "transformer.h.{i}.ln_2.*",
        "blk.{i}.ffn_up.weight":      ("transformer.h.{i}.mlp.c_fc.weight", transposed),
        "blk.{i}.ffn_up.bias":        "transformer.h.{i}.mlp.c_fc.bias",
        "blk.{i}.ffn_down.weight":    ("transformer.h.{i}.mlp.c_proj.weight", transposed),
        "blk.{i}.ffn_down.bias":      "transformer.h.{i}.mlp.c_proj.bias",
    },
    "gptneox": {
        "token_embd.weight":     "gpt_neox.embed_in.weight",
        "output_norm.*":         "gpt_neox.final_layer_norm.*",
        "output.weight":         "embed_out.weight",
        "blk.{i}.attn_norm.*":   "gpt_neox.layers.{i}.input_layernorm.*",
        "blk.{i}.attn_qkv.*":    ("gpt_neox.layers.{i}.attention.query_key_value.*", by_head),
        "blk.{i}.attn_output.*": "gpt_neox.layers.{i}.attention.dense.*",
        "blk.{i}.ffn_norm.*":    "gpt_neox.layers.{i}.post_attention_layernorm.*",
        "blk.{i}.ffn_up.*":      "gpt_neox.layers.{i}.mlp.dense_h_to_4h.*",
        "blk.{i}.ffn_down.*":    "gpt_neox.layers.{i}.mlp.dense_4h_to_h.*",
    },
    "falcon": FALCON,
    "falcon of two norms": FALCON | {  # a name of ours, for 40B and 180B
        "blk.{i}.attn_norm.*":   "transformer.h.{i}.ln_mlp.*",
        "blk.{i}.attn_norm_2.*": "transformer.h.{i}.ln_attn.*",
    },
    "mpt": {
        "token_embd.weight":          "transformer.wte.weight",
        "output_norm.weight":         "transformer.norm_f.weight",
        "output.weight":              "lm_head.weight",
        "blk.{i}.attn_norm.weight":   "transformer.blocks.{i}.norm_1.weight",
        "blk.{i}.attn_qkv.weight":    "transformer.blocks.{i}.attn.Wqkv.weight",
        "blk.{i}.attn_output.weight": "transformer.blocks.{i}.attn.out_proj.weight",
        "blk.{i}.ffn_norm.weight":    "transformer.blocks.{i}.norm_2.weight",
        "blk.{i}.ffn_up.weight":      "transformer.blocks.{i}.ffn.up_proj.weight",
        "blk.{i}.ffn_down.weight":    "transformer.blocks.{i}.ffn.down_proj.weight",
    },
    "bloom": {
        "token_embd.weight":     "transformer.word_embeddings.weight",
        "token_embd_norm.*":     "transformer.word_embeddings_layernorm.*",
        "output_norm.*":         "transformer.ln_f.*",
        "output.weight":         "lm_head.weight",
        "blk.{i}.attn_norm.*":   "transformer.h.{i}.input_layernorm.*",
        "blk.{i}.attn_qkv.*":    ("transformer.h.{i}.self_attention.query_key_value.*", by_head),
        "blk.{i}.attn_output.*": "transformer.h.{i}.self_attention.dense.*",
        "blk.{i}.ffn_norm.*":    "transformer.h.{i}.post_attention_layernorm.*",
        "blk.{i}.ffn_up.*":      "transformer.h.{i}.mlp.dense_h_to_4h.*",
        "blk.{i}.ffn_down.*":    "transformer.h.{i}.mlp.dense_4h_to_h.*",
    },
    "starcoder2": ENDS | NORMS | ATTENTION | {
        "blk.{i}.ffn_up.*":   "model.layers.{i}.mlp.c_fc.*",
        "blk.{i}.ffn_down.*": "model.layers.{i}.mlp.c_proj.*",
    },
    "stablelm": QWEN2 | {
        "blk.{i}.attn_q_norm.weight": "model.layers.{i}.self_attn.q_layernorm.norms.{e}.weight",
        "blk.{i}.attn_k_norm.weight": "model.layers.{i}.self_attn.k_layernorm.norms.{e}.weight",
    },
    "mamba": {
        "token_embd.weight":         "backbone.embeddings.weight",
        "output_norm.weight":        "backbone.norm_f.weight",
        "output.weight":             "lm_head.weight",
        "blk.{i}.attn_norm.weight":  "backbone.layers.{i}.norm.weight",
        "blk.{i}.ssm_in.*":          "backbone.layers.{i}.mixer.in_proj.*",
        "blk.{i}.ssm_conv1d.weight": ("backbone.layers.{i}.mixer.conv1d.weight", with_middle_axis),
        "blk.{i}.ssm_conv1d.bias":   "backbone.layers.{i}.mixer.conv1d.bias",
        "blk.{i}.ssm_x.weight":      "backbone.layers.{i}.mixer.x_proj.weight",
        "blk.{i}.ssm_dt.*":          "backbone.layers.{i}.mixer.dt_proj.*",
        "blk.{i}.ssm_a":             ("backbone.layers.{i}.mixer.A_log", log_of_minus),
        "blk.{i}.ssm_d":             "backbone.layers.{i}.mixer.D",
        "blk.{i}.ssm_out.*":         "backbone.layers.{i}.mixer.out_proj.*",
    },
    "mamba2": _mamba2("backbone.layers.{i}.mixer") | {
        "token_embd.weight":        "backbone.embeddings.weight",
        "output_norm.weight":       "backbone.norm_f.weight",
        "output.weight":            "lm_head.weight",
        "blk.{i}.attn_norm.weight": "backbone.layers.{i}.norm.weight",
    },
    "granite": LLAMA,
    "granitemoe": LLAMA | GRANITE_EXPERTS,
    "granitehybrid": ENDS | NORMS | PERMUTED | GRANITE_EXPERTS | _mamba2("model.layers.{i}.mamba") | {
        "blk.{i}.ffn_gate.weight + blk.{i}.ffn_up.weight":  # where there are no experts
            ("model.layers.{i}.shared_mlp.input_linear.weight", joined),
        "blk.{i}.ffn_down.weight": "model.layers.{i}.shared_mlp.output_linear.weight",
        "blk.{i}.ffn_gate_shexp.weight + blk.{i}.ffn_up_shexp.weight":
            ("model.layers.{i}.shared_mlp.input_linear.weight", joined),
        "blk.{i}.ffn_down_shexp.weight": "model.layers.{i}.shared_mlp.output_linear.weight",
    },
    "falcon-h1": ATTENTION | _mamba2("model.layers.{i}.mamba") | {
        "token_embd.weight":        "model.embed_tokens.weight",
        "output_norm.weight":       "model.final_layernorm.weight",
        "output.weight":            "lm_head.weight",
        "blk.{i}.attn_norm.weight": "model.layers.{i}.input_layernorm.weight",
        "blk.{i}.ffn_norm":         "model.layers.{i}.pre_ff_layernorm.weight",  # so it is
        "blk.{i}.ffn_gate.*":       "model.layers.{i}.feed_forward.gate_proj.*",
        "blk.{i}.ffn_up.*":         "model.layers.{i}.feed_forward.up_proj.*",
        "blk.{i}.ffn_down.*":       "model.layers.{i}.feed_forward.down_proj.*",
    },
    "olmo2": ENDS | ATTENTION | HEAD_NORMS | GATED | {
        "blk.{i}.post_attention_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
        "blk.{i}.post_ffw_norm.weight":       "model.layers.{i}.post_feedforward_layernorm.weight",
    },
    "gpt-oss": ENDS | ATTENTION | {
        "blk.{i}.attn_norm.weight":           "model.layers.{i}.input_layernorm.weight",
        "blk.{i}.post_attention_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
        "blk.{i}.attn_sinks.weight":          "model.layers.{i}.self_attn.sinks",
        "blk.{i}.ffn_gate_inp.*":             "model.layers.{i}.mlp.router.*",
        "blk.{i}.ffn_gate_exps.weight + blk.{i}.ffn_up_exps.weight":
            ("model.layers.{i}.mlp.experts.gate_up_proj", in_turns_transposed),
        "blk.{i}.ffn_gate_exps.bias + blk.{i}.ffn_up_exps.bias":
            ("model.layers.{i}.mlp.experts.gate_up_proj_bias", in_turns),
        "blk.{i}.ffn_down_exps.weight":       ("model.layers.{i}.mlp.experts.down_proj", transposed),
        "blk.{i}.ffn_down_exps.bias":         "model.layers.{i}.mlp.experts.down_proj_bias",
    },
    "deepseek2": ENDS | NORMS | GATED | EXPERTS | {
        "blk.{i}.attn_q.weight":         "model.layers.{i}.self_attn.q_proj.weight",
        "blk.{i}.attn_q_a.weight":       "model.layers.{i}.self_attn.q_a_proj.weight",
        "blk.{i}.attn_q_a_norm.weight":  "model.layers.{i}.self_attn.q_a_layernorm.weight",
        "blk.{i}.attn_q_b.weight":       "model.layers.{i}.self_attn.q_b_proj.weight",
        "blk.{i}.attn_kv_a_mqa.weight":  "model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight",
        "blk.{i}.attn_kv_a_norm.weight": "model.layers.{i}.self_attn.kv_a_layernorm.weight",
        "blk.{i}.attn_kv_b.weight":      "model.layers.{i}.self_attn.kv_b_proj.weight",
        "blk.{i}.attn_k_b.weight + blk.{i}.attn_v_b.weight":
            ("model.layers.{i}.self_attn.kv_b_proj.weight", up_of_latents),
        "blk.{i}.attn_output.weight":    "model.layers.{i}.self_attn.o_proj.weight",
        "blk.{i}.exp_probs_b.bias":      "model.layers.{i}.mlp.gate.e_score_correction_bias",
        "blk.{i}.ffn_gate_shexp.weight": "model.layers.{i}.mlp.shared_experts.gate_proj.weight",
        "blk.{i}.ffn_up_shexp.weight":   "model.layers.{i}.mlp.shared_experts.up_proj.weight",
        "blk.{i}.ffn_down_shexp.weight": "model.layers.{i}.mlp.shared_experts.down_proj.weight",
    },
    "command-r": QWEN2 | HEAD_NORMS,
}  # fmt: skip
"""The names of each architecture that is read."""
