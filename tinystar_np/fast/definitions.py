"""The definition of each name in ``fast``: the kernel whose results it computes."""

from collections.abc import Callable

from tinystar_np.kernels import (
    activations,
    attention,
    bfloat16,
    convolution,
    delta_rule,
    experts,
    int8,
    latent_attention,
    linear,
    norms,
    relative_positions,
    rope,
    selective_scan,
    softmax,
    ssm,
)

KERNELS: dict[str, Callable[..., object]] = {
    "activate": activations.activate,
    "attention": attention.attention,
    "attention_mean": attention.attention_mean,
    "attention_probabilities": attention.attention_probabilities,
    "attention_scores": attention.attention_scores,
    "causal_convolution": convolution.causal_convolution,
    "delta_rule": delta_rule.delta_rule,
    "embedding": linear.embedding,
    "gated_activation": activations.gated_activation,
    "gated_rms_norm": norms.gated_rms_norm,
    "latent_attention": latent_attention.latent_attention,
    "layer_norm": norms.layer_norm,
    "log_softmax": softmax.log_softmax,
    "matmul": linear.matmul,
    "matmul_each": linear.matmul_each,
    "mixture": experts.mixture,
    "quantise": int8.quantise,
    "relative_attention": relative_positions.relative_attention,
    "rms_norm": norms.rms_norm,
    "rotary_embedding": rope.rotary_embedding,
    "selective_scan": selective_scan.selective_scan,
    "softmax": softmax.softmax,
    "ssm_scan": ssm.ssm_scan,
    "to_bfloat16": bfloat16.to_bfloat16,
    "unit_vectors": delta_rule.unit_vectors,
}
