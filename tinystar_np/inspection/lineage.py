"""What each architecture grew from, what the step changed and why: the family tree of docs/architectures.md.

Each hangs below the one that it differs least from, which need not be the one that its authors began with.
"""

from typing import NamedTuple

KINDS = ("attention", "position", "experts", "block", "recurrence")
"""What a step is about, mostly; "block" is norms, biases and how parts are wired."""


class Step(NamedTuple):
    """A step from a design to the next.

    parent   the model_type before it; None for a beginning
    kind     one of ``KINDS``
    changed  what it changed, in a line
    why      what that is good for, in a line
    """

    parent: str | None
    kind: str
    changed: str
    why: str


LINEAGE = {
    "gpt2": Step(None, "block", "Norms before attention and feed-forward, and one at the end",
                 "deep stacks train; one task, the next token, for any text"),
    "gpt_neo": Step("gpt2", "attention", "Every second layer sees 256 tokens only; no division by √K",
                    "half of the layers cost the same however long the text is"),
    "bloom": Step("gpt2", "position", "ALiBi in place of learned positions; a norm behind the embedding",
                  "no table of positions ends the text; training stays stable"),
    "mpt": Step("bloom", "block", "No biases anywhere; queries, keys and values clipped",
                "a long training runs unattended; slopes reach beyond its length"),
    "gptj": Step("gpt2", "block", "Attention beside feed-forward behind one norm; rotary positions",
                 "both parts compute at once; scores see distances, not places"),
    "gpt_neox": Step("gptj", "position", "Rotations of halves, a norm for each branch, biases",
                     "open from data to checkpoints: Pythia shows how a model learns"),
    "phi": Step("gptj", "block", "The same build, small; pairs in halves",
                "textbooks teach a small model what the web teaches a large one"),
    "falcon": Step("gptj", "attention", "All queries share one key and value, later a few",
                   "the cache shrinks by the number of heads; web text alone will do"),
    "cohere": Step("gptj", "block", "Gated feed-forward, no biases, a tied output, scaled logits",
                   "PaLM's block in an open model"),
    "starcoder2": Step("gpt2", "attention", "Rotations, few keys and a window, GPT-2's norms and biases",
                       "a small cache; what else is new is the code that it read"),
    "llama": Step("gpt2", "block", "RMSNorm, rotations, gated feed-forward, no biases; later shared keys",
                  "each was known to help; together they became the standard"),
    "mistral": Step("llama", "attention", "Shared keys at 7B and a window of 4096",
                    "the cache stops growing; news travels one window per layer"),
    "mixtral": Step("mistral", "experts", "Eight feed-forward layers, each token uses two",
                    "47 billion weights know, 13 billion compute"),
    "dbrx": Step("mixtral", "experts", "Four of sixteen smaller experts; LayerNorm, clipped q, k, v",
                 "65 times as many combinations of experts"),
    "gpt_oss": Step("mixtral", "attention", "A sink in each head, windows of 128 in turn, clamped SwiGLU",
                    "a head may look at nothing; experts fit into 4 bits a weight"),
    "phi3": Step("llama", "position", "Fused projections; each pair of a head slowed by its own factor",
                 "LongRoPE: a model of 4096 tokens reads 131072"),
    "stablelm": Step("llama", "block", "LayerNorm and rotations of a quarter of each head, from NeoX",
                     "some work saved at little cost in quality"),
    "olmo": Step("llama", "block", "A LayerNorm without parameters; clipped q, k, v",
                 "the safest norm of those tried; everything open"),
    "olmo2": Step("olmo", "block", "Norms behind the branches; queries and keys normed over all heads",
                  "a training without spikes"),
    "olmoe": Step("olmo", "experts", "64 small experts, 8 for a token, none shared",
                  "the experiments behind each choice, open too"),
    "qwen2": Step("llama", "block", "Biases on queries, keys and values alone",
                  "rotated heads read on beyond the trained length"),
    "qwen2_moe": Step("qwen2", "experts", "Many narrow experts, and a shared one behind a gate",
                      "what all tokens need is learned once"),
    "qwen3": Step("qwen2", "attention", "Each head's query and key normed; the biases are gone",
                  "scores stay bounded however large activations grow"),
    "qwen3_moe": Step("qwen3", "experts", "128 narrow experts, 8 for a token, none shared",
                      "more weights at the same work"),
    "qwen3_next": Step("qwen3_moe", "recurrence", "Gated delta nets in three layers of four, gated attention",
                       "a state of fixed size that is corrected, not only added to"),
    "smollm3": Step("llama", "position", "No positions in every fourth layer",
                    "those layers read long texts as they read short ones"),
    "llama4_text": Step("llama", "experts", "Chunks of 8192 and rotations, in a fourth neither; experts",
                        "near and far told apart by layer, for millions of tokens"),
    "gemma": Step("llama", "block", "Heads of 256, GeGLU, gains stored less 1, embeddings times √D",
                  "a table of 256000 tokens is both ends of the model"),
    "gemma2": Step("gemma", "block", "Norms behind the branches too; capped scores; windows in turn",
                   "three bounds against runaway training; half the cache"),
    "gemma3_text": Step("gemma2", "attention", "Five windowed layers for one that sees all; two RoPE bases",
                        "a sixth of the cache; norms of q and k replace the caps"),
    "granite": Step("llama", "block", "Four multipliers: embeddings, scores, branches, logits",
                    "the learning rate of a small model serves a large one"),
    "granitemoe": Step("granite", "experts", "32 or 40 small experts, 8 for a token",
                       "1 to 3 billion weights at the work of a few hundred million"),
    "granitemoehybrid": Step("granitemoe", "recurrence", "Mamba 2 in nine layers of ten; no positions",
                             "four layers look back, the rest cost no memory per token"),
    "deepseek_v2": Step("llama", "attention", "One latent per token for all heads; narrow and shared experts",
                        "576 numbers of a token per layer instead of 32768"),
    "deepseek_v3": Step("deepseek_v2", "experts", "Sigmoid scores, and a correction that chooses only",
                        "256 experts kept busy without a penalty in the loss"),
    "mamba": Step(None, "recurrence", "No attention: a recurrence whose decay, input and output are chosen",
                  "a token costs the same time and no memory at any length"),
    "mamba2": Step("mamba", "recurrence", "Heads with one rate of decay; B and C shared by groups",
                   "a prompt becomes matrix products, a state eight times as large"),
    "falcon_h1": Step("mamba2", "attention", "Attention beside Mamba 2 in every layer, then feed-forward",
                      "how much of a layer attends is a number to be tuned"),
}  # fmt: skip
