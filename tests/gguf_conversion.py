"""Writing small models as GGUF files as llama.cpp's conversion does, to hold the reading of them against.

Names come from the gguf package's own map, keys from its writer. What the conversion changes in weights is
written here from its definition (conversion/*.py of llama.cpp), without a look at the code under test.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import gguf
import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter
from safetensors.numpy import load_file

Config = dict[str, Any]
Tensors = Iterator[tuple[str, np.ndarray]]
F32 = GGMLQuantizationType.F32

ARCHITECTURES = {  # transformers' model_type: llama.cpp's architecture
    "llama": MODEL_ARCH.LLAMA,
    "mixtral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
    "qwen2_moe": MODEL_ARCH.QWEN2MOE,
    "qwen3_moe": MODEL_ARCH.QWEN3MOE,
    "qwen2_vl_text": MODEL_ARCH.QWEN2VL,
    "qwen3_vl_text": MODEL_ARCH.QWEN3VL,
    "qwen3_vl_moe_text": MODEL_ARCH.QWEN3VLMOE,
    "gemma": MODEL_ARCH.GEMMA,
    "gemma2": MODEL_ARCH.GEMMA2,
    "gemma3_text": MODEL_ARCH.GEMMA3,
    "phi": MODEL_ARCH.PHI2,
    "phi3": MODEL_ARCH.PHI3,
    "gpt2": MODEL_ARCH.GPT2,
    "gpt_neox": MODEL_ARCH.GPTNEOX,
    "falcon": MODEL_ARCH.FALCON,
    "mpt": MODEL_ARCH.MPT,
    "bloom": MODEL_ARCH.BLOOM,
    "starcoder2": MODEL_ARCH.STARCODER2,
    "stablelm": MODEL_ARCH.STABLELM,
    "mamba": MODEL_ARCH.MAMBA,
    "mamba2": MODEL_ARCH.MAMBA2,
    "granite": MODEL_ARCH.GRANITE,
    "granitemoe": MODEL_ARCH.GRANITE_MOE,
    "granitemoehybrid": MODEL_ARCH.GRANITE_HYBRID,
    "falcon_h1": MODEL_ARCH.FALCON_H1,
    "olmo2": MODEL_ARCH.OLMO2,
    "gpt_oss": MODEL_ARCH.GPT_OSS,
    "deepseek_v2": MODEL_ARCH.DEEPSEEK2,
    "deepseek_v3": MODEL_ARCH.DEEPSEEK2,
    "cohere": MODEL_ARCH.COMMAND_R,
}


def write_gguf(
    directory: Path,
    path: Path,
    kind: GGMLQuantizationType = F32,
    unpacked: bool = False,
    fused: bool = False,
) -> Path:
    """Convert a directory with config.json and model.safetensors.

    kind      the type of matrices whose rows it can divide
    unpacked  write them as float32 after rounding them to that type
    fused     as with --fuse-qkv and --fuse-gate-up-exps

    Returns the path.
    """
    config = json.loads((directory / "config.json").read_text())
    architecture = ARCHITECTURES[config["model_type"]]
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    find = Keys(config)
    write_keys(writer, config, find)
    SPECIAL_KEYS.get(config["model_type"], lambda *_: None)(writer, config, find)
    names = gguf.get_tensor_name_map(architecture, find("layers"))
    tensors = load_file(directory / "model.safetensors")
    ready = (
        (names.get_name(name, try_suffixes=(".weight", ".bias")) or name, tensor)
        for name, tensor in converted(config, find, tensors)
    )
    for ours, tensor in together(dict(ready)).items() if fused else ready:
        if tensor.ndim > 1 and tensor.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 and keeps(ours):
            rounded = gguf.quantize(np.ascontiguousarray(tensor), kind)
            if unpacked:
                writer.add_tensor(ours, gguf.dequantize(rounded, kind))
            else:
                writer.add_tensor(ours, rounded, raw_dtype=kind)
        else:
            writer.add_tensor(ours, np.ascontiguousarray(tensor, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def together(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put matrices below each other where llama.cpp's conversion can: of attention, and of experts."""
    joined = {}
    for name in list(tensors):
        found = re.fullmatch(r"(blk.\d+.)(attn_q|ffn_gate_exps)\.(weight|bias)", name)
        if found is None:
            continue
        layer, first, end = found.groups()
        parts, whole, axis = {
            "attn_q": (["attn_q", "attn_k", "attn_v"], "attn_qkv", 0),
            "ffn_gate_exps": (["ffn_gate_exps", "ffn_up_exps"], "ffn_gate_up_exps", 1),
        }[first]
        if all(f"{layer}{part}.{end}" in tensors for part in parts):
            rows = [tensors.pop(f"{layer}{part}.{end}") for part in parts]
            joined[f"{layer}{whole}.{end}"] = np.concatenate(rows, axis=axis)
    return tensors | joined


def keeps(name: str) -> bool:
    """Whether a tensor may be in few bits: no norm, router, convolution, bias or table of positions."""
    return not re.search(r"_norm\.|ffn_gate_inp|ssm_conv1d|position_embd|ssm_[ad]$|\.bias$", name)


class Keys:
    """Finds sizes in a config.json, whatever its architecture calls them."""

    NAMES: ClassVar = {
        "layers": "num_hidden_layers n_layer n_layers num_layers",
        "width": "hidden_size n_embd d_model",
        "heads": "num_attention_heads n_head n_heads",
        "kv_heads": "num_key_value_heads num_kv_heads n_head_kv",
        "inner": "intermediate_size n_inner ffn_hidden_size",
        "context": "max_position_embeddings n_positions max_seq_len",
    }

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, what: str, otherwise: Any = None) -> Any:
        if what == "kv_heads" and self.config.get("multi_query"):
            return self.config["num_kv_heads"] if self.config["new_decoder_architecture"] else 1
        found = (self.config.get(name) for name in self.NAMES[what].split())
        return next((value for value in found if value is not None), otherwise)

    @property
    def head(self) -> int:
        """K."""
        return self.config.get("head_dim") or self("width") // self("heads")


def write_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    """Write what the conversion writes for most models."""
    writer.add_block_count(find("layers"))
    writer.add_embedding_length(find("width"))
    writer.add_context_length(find("context", 2048))
    writer.add_file_type(0)
    if "mamba" in config["model_type"] and "granite" not in config["model_type"]:
        return
    writer.add_feed_forward_length(find("inner", 4 * find("width")))
    writer.add_head_count(find("heads"))
    if (kv_heads := find("kv_heads")) is not None and config["model_type"] != "granitemoehybrid":
        writer.add_head_count_kv(1 if config["model_type"].startswith("deepseek") else kv_heads)
    for key in ("rms_norm_eps",):
        if key in config:
            writer.add_layer_norm_rms_eps(config[key])
    for key in ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"):
        if key in config:
            writer.add_layer_norm_eps(config[key])
    if config.get("head_dim") is not None and not config["model_type"].startswith("deepseek"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    experts = config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts")
    if experts is not None:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    if "rope_theta" in rope and config["model_type"] not in ("phi", "gpt_neox", "falcon"):
        writer.add_rope_freq_base(rope["rope_theta"])
    match rope.get("rope_type"):
        case "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        case "yarn":
            writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
            writer.add_rope_scaling_factor(rope["factor"])
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if config["model_type"] in ("llama", "mixtral", "granite", "granitemoe", "granitemoehybrid"):
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(find.head)


# Keys of single architectures.


def qwen_moe_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in config:
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])


def qwen_vl_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_rope_dimension_sections([*config["rope_parameters"]["mrope_section"], 0])
    if config["model_type"] != "qwen2_vl_text":
        writer.add_num_deepstack_layers(3)
    if "moe" in config["model_type"]:
        qwen_moe_keys(writer, config, find)


def gemma2_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])


def gemma3_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_sliding_window(config["sliding_window"])
    writer.add_rope_freq_base_swa(config["rope_parameters"]["sliding_attention"]["rope_theta"])


def partly_rotated(writer: GGUFWriter, config: Config, find: Keys) -> None:
    share = config["rope_parameters"].get("partial_rotary_factor", 1.0)
    writer.add_rope_dimension_count(int(share * find.head))
    if "use_parallel_residual" in config:
        writer.add_parallel_residual(config["use_parallel_residual"])


def phi3_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    partly_rotated(writer, config, find)
    writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
    writer.add_sliding_window(config["sliding_window"] or 0)
    rope = config["rope_parameters"]
    if rope["rope_type"] == "longrope":
        scale = config["max_position_embeddings"] / config["original_max_position_embeddings"]
        log = np.log(scale) / np.log(config["original_max_position_embeddings"])
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + log)))
        for which in ("long", "short"):
            writer.add_tensor(f"rope_factors_{which}.weight", np.array(rope[f"{which}_factor"], np.float32))


def mpt_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_layer_norm_eps(1e-5)
    writer.add_max_alibi_bias(8.0)


def mamba_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(config["conv_kernel"])
    writer.add_ssm_inner_size(config.get("intermediate_size") or config["expand"] * find("width"))
    writer.add_ssm_state_size(config["state_size"])
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    if config["model_type"] == "mamba":
        writer.add_ssm_time_step_rank(config["time_step_rank"])
        writer.add_ssm_dt_b_c_rms(False)
    else:
        writer.add_ssm_time_step_rank(config["num_heads"])
        writer.add_ssm_group_count(config["n_groups"])


def granite_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_attention_scale(config["attention_multiplier"])
    writer.add_embedding_scale(config["embedding_multiplier"])
    writer.add_residual_scale(config["residual_multiplier"])
    writer.add_logit_scale(config["logits_scaling"])


def hybrid_mamba_keys(writer: GGUFWriter, config: Config) -> None:
    writer.add_ssm_conv_kernel(config["mamba_d_conv"])
    writer.add_ssm_state_size(config["mamba_d_state"])
    writer.add_ssm_group_count(config["mamba_n_groups"])
    writer.add_ssm_time_step_rank(config["mamba_n_heads"])


def granite_hybrid_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    granite_keys(writer, config, find)
    hybrid_mamba_keys(writer, config)
    writer.add_ssm_inner_size(config["mamba_expand"] * find("width"))
    attends = [kind in ("attention", "full_attention") for kind in config["layer_types"]]
    writer.add_head_count_kv([find("kv_heads") if each else 0 for each in attends])
    writer.add_rope_scaling_finetuned(config["position_embedding_type"] == "rope")
    writer.add_expert_shared_feed_forward_length(config["shared_intermediate_size"])


def falcon_h1_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    hybrid_mamba_keys(writer, config)
    writer.add_ssm_inner_size(config["mamba_d_ssm"])


def gpt_oss_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_sliding_window(config["sliding_window"])
    writer.add_expert_feed_forward_length(config["intermediate_size"])


def deepseek_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    if config["q_lora_rank"] is not None:
        writer.add_q_lora_rank(config["q_lora_rank"])
    writer.add_kv_lora_rank(config["kv_lora_rank"])
    writer.add_key_length(config["kv_lora_rank"] + config["qk_rope_head_dim"])
    writer.add_value_length(config["kv_lora_rank"])
    writer.add_key_length_mla(config["qk_nope_head_dim"] + config["qk_rope_head_dim"])
    writer.add_value_length_mla(config["v_head_dim"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_rope_dimension_count(config["qk_rope_head_dim"])
    if config.get("n_group") is not None:
        writer.add_expert_group_count(config["n_group"])
        writer.add_expert_group_used_count(config["topk_group"])
    if config["model_type"] == "deepseek_v3":
        writer.add_expert_weights_norm(config["norm_topk_prob"])
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if (mscale := config["rope_parameters"].get("mscale_all_dim")) is not None:
        writer.add_rope_scaling_yarn_log_mul(0.1 * mscale)


def cohere_keys(writer: GGUFWriter, config: Config, find: Keys) -> None:
    writer.add_logit_scale(config["logit_scale"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)


SPECIAL_KEYS: dict[str, Callable[[GGUFWriter, Config, Keys], None]] = {
    "qwen2_moe": qwen_moe_keys,
    "qwen3_moe": qwen_moe_keys,
    "qwen2_vl_text": qwen_vl_keys,
    "qwen3_vl_text": qwen_vl_keys,
    "qwen3_vl_moe_text": qwen_vl_keys,
    "gemma2": gemma2_keys,
    "gemma3_text": gemma3_keys,
    "phi": partly_rotated,
    "phi3": phi3_keys,
    "gpt_neox": partly_rotated,
    "stablelm": partly_rotated,
    "mpt": mpt_keys,
    "mamba": mamba_keys,
    "mamba2": mamba_keys,
    "granite": granite_keys,
    "granitemoe": granite_keys,
    "granitemoehybrid": granite_hybrid_keys,
    "falcon_h1": falcon_h1_keys,
    "gpt_oss": gpt_oss_keys,
    "deepseek_v2": deepseek_keys,
    "deepseek_v3": deepseek_keys,
    "cohere": cohere_keys,
}


# Weights.


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """The two halves of each head become neighbours."""
    halves = weights.reshape(heads, 2, len(weights) // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def llama3_factors(config: Config, head: int) -> np.ndarray:
    """What llama.cpp divides the frequencies of Llama 3.1 by."""
    rope = config["rope_parameters"]
    waves = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, head, 2) / head)
    low, high, trained = rope["low_freq_factor"], rope["high_freq_factor"], 8192
    smooth = (trained / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / rope["factor"] + smooth)
    found = np.where(waves < trained / high, 1, np.where(waves > trained / low, rope["factor"], between))
    return found.astype(np.float32)


def converted(config: Config, find: Keys, tensors: dict[str, np.ndarray]) -> Tensors:
    """Change the tensors of a model as the conversion does, still by transformers' names."""
    kind = config["model_type"]
    tied = config.get("tie_word_embeddings", False)
    tensors = {name: tensor for name, tensor in tensors.items() if not (tied and name == "lm_head.weight")}
    if (config.get("rope_parameters") or {}).get("rope_type") == "llama3":
        yield "rope_freqs.weight", llama3_factors(config, find.head)
    for name, tensor in merged_experts(tensors):
        if kind in ("llama", "mixtral", "granite", "granitemoe", "granitemoehybrid"):
            if re.search(r"q_proj\.(weight|bias)$", name):
                tensor = permute(tensor, find("heads"))
            if re.search(r"k_proj\.(weight|bias)$", name):
                tensor = permute(tensor, find("kv_heads") or find("heads"))
        if kind.startswith("gemma") and name.endswith("norm.weight"):
            tensor = tensor + 1
        if kind == "gpt2" and re.search(r"c_(attn|proj|fc)\.weight$", name):
            tensor = tensor.T
        if kind in ("bloom", "gpt_neox") and "query_key_value" in name:
            by_head = tensor.reshape(find("heads"), 3, find.head, -1)
            tensor = np.concatenate([by_head[:, i] for i in range(3)]).reshape(tensor.shape)
        if kind == "falcon" and "query_key_value" in name:
            H = find("heads")
            G = find("kv_heads")
            groups = tensor.reshape(G, H // G + 2, find("width") // H, -1)
            parts = groups[:, :-2], groups[:, -2:-1], groups[:, -1:]
            tensor = np.concatenate([part.reshape(-1, groups.shape[-1]) for part in parts])
            tensor = tensor.reshape(tensors[name].shape)
        if name.endswith(".A_log"):
            tensor = -np.exp(tensor)
        if "conv1d.weight" in name:
            tensor = tensor.squeeze()
        if name.endswith("dt_bias"):
            name = name.replace(".dt_bias", ".dt_proj.bias")
        if kind in ("mamba2", "granitemoehybrid", "falcon_h1"):
            if name.endswith((".A_log", ".D")):
                tensor = tensor[:, None]
            if name.endswith((".mixer.norm.weight", ".mamba.norm.weight")):
                groups = config.get("n_groups") or config.get("mamba_n_groups")
                tensor = tensor.reshape(groups, -1)
        if kind == "falcon_h1":
            tensor = multiplied(config, name, tensor)
        yield from renamed(config, name, tensor)


def merged_experts(tensors: dict[str, np.ndarray]) -> Tensors:
    """Put the matrices of all experts of a layer into one tensor; the norms of heads likewise."""
    together: dict[str, list[tuple[int, np.ndarray]]] = {}
    for name, tensor in tensors.items():
        found = re.fullmatch(r"(.*\.(?:experts|norms))\.(\d+)\.(.+)", name)
        if found:
            together.setdefault(f"{found[1]}.{found[3]}", []).append((int(found[2]), tensor))
        else:
            yield name, tensor
    for name, several in together.items():
        # The package's names for Mixtral's, and for the norms of StableLM's heads.
        name = re.sub(r"model\.layers\.(\d+)\.block_sparse_moe", r"layers.\1.feed_forward", name)
        name = name.replace("_layernorm.norms", "_layernorm")
        yield name, np.stack([tensor for _, tensor in sorted(several, key=lambda each: each[0])])


def renamed(config: Config, name: str, tensor: np.ndarray) -> Tensors:
    """Take apart what llama.cpp has apart."""
    kind = config["model_type"]
    layer = found[1] if (found := re.search(r"layers\.(\d+)\.", name)) else ""
    if name.endswith("block_sparse_moe.input_linear.weight"):
        gate, up = np.split(tensor, 2, axis=-2)
        yield f"blk.{layer}.ffn_gate_exps.weight", gate
        yield f"blk.{layer}.ffn_up_exps.weight", up
    elif name.endswith("shared_mlp.input_linear.weight"):
        ending = "_shexp" if config["num_local_experts"] else ""
        gate, up = np.split(tensor, 2, axis=-2)
        yield f"blk.{layer}.ffn_gate{ending}.weight", gate
        yield f"blk.{layer}.ffn_up{ending}.weight", up
    elif name.endswith("shared_mlp.output_linear.weight") and not config["num_local_experts"]:
        yield f"blk.{layer}.ffn_down.weight", tensor
    elif kind == "qwen3_vl_moe_text" and name.endswith("gate_up_proj"):
        gate, up = np.split(tensor, 2, axis=-2)
        yield f"blk.{layer}.ffn_gate_exps.weight", gate
        yield f"blk.{layer}.ffn_up_exps.weight", up
    elif kind == "qwen3_vl_moe_text" and name.endswith("experts.down_proj"):
        yield f"blk.{layer}.ffn_down_exps.weight", tensor
    elif kind == "gpt_oss" and name.endswith("gate_up_proj"):
        rows = tensor.swapaxes(-1, -2)
        yield f"blk.{layer}.ffn_gate_exps.weight", rows[:, ::2]
        yield f"blk.{layer}.ffn_up_exps.weight", rows[:, 1::2]
    elif kind == "gpt_oss" and name.endswith("gate_up_proj_bias"):
        yield f"blk.{layer}.ffn_gate_exps.bias", tensor[:, ::2]
        yield f"blk.{layer}.ffn_up_exps.bias", tensor[:, 1::2]
    elif kind == "gpt_oss" and name.endswith("experts.down_proj"):
        yield f"blk.{layer}.ffn_down_exps.weight", tensor.swapaxes(-1, -2)
    elif kind == "gpt_oss" and name.endswith("down_proj_bias"):
        yield f"blk.{layer}.ffn_down_exps.bias", tensor
    elif kind == "gpt_oss" and name.endswith("sinks"):
        yield f"blk.{layer}.attn_sinks.weight", tensor
    elif name.endswith("kv_b_proj.weight"):
        K = config["qk_nope_head_dim"]
        by_head = tensor.reshape(config["num_attention_heads"], K + config["v_head_dim"], -1)
        yield f"blk.{layer}.attn_k_b.weight", by_head[:, :K].swapaxes(1, 2)
        yield f"blk.{layer}.attn_v_b.weight", by_head[:, K:]
    elif name.endswith("e_score_correction_bias"):
        yield f"blk.{layer}.exp_probs_b.bias", tensor
    else:
        yield name, tensor


def multiplied(config: Config, name: str, tensor: np.ndarray) -> np.ndarray:
    """Multiply Falcon-H1's multipliers into its weights."""
    if "mamba.in_proj.weight" in name:
        inner, states = config["mamba_d_ssm"], config["mamba_n_groups"] * config["mamba_d_state"]
        parts = np.split(tensor, np.cumsum([inner, inner, states, states]))
        scaled = zip(parts, config["ssm_multipliers"], strict=True)
        return np.concatenate([part * number for part, number in scaled]) * config["ssm_in_multiplier"]
    gate, down = config["mlp_multipliers"]
    read = config["attention_in_multiplier"]
    for part, number in {
        "down_proj": down,
        "gate_proj": gate,
        "k_proj": config["key_multiplier"] * read,
        "q_proj": read,
        "v_proj": read,
        "o_proj": config["attention_out_multiplier"],
        "out_proj": config["ssm_out_multiplier"],
        "lm_head": config["lm_head_multiplier"],
        "embed_tokens": config["embedding_multiplier"],
    }.items():
        if part in name:
            return tensor * number
    return tensor
