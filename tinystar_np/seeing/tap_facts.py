"""What every tap holds: its shape in letters, and one line of words. The same tables as docs/taps.md.

A few names mean different things in different mixers (``mixer.in``); ``facts_of`` finds out by the other taps
of the block which mixer it is.
"""

from collections.abc import Collection

Facts = dict[str, tuple[str, str]]
"""{name without its block: (shape in letters, what it is)}"""

AROUND: Facts = {
    "embedding.tokens": ("(B, T, D)", "the tokens' rows of the embedding table (in Gemma times √D)"),
    "embedding.positions": (
        "(B, T, D)",
        "the vectors of their positions, where positions are added to tokens",
    ),
    "embedding.images": ("(B, T, D)", "the same, with the vectors of images in the places of image tokens"),
    "embedding": ("(B, T, D)", "the residual stream before the first block"),
    "embedding.per_layer": ("(B, T, L, J)", "what each layer reads of each token by itself (Gemma 3n, 4)"),
    "final_norm": ("(B, T, D)", "what the output layer reads"),
    "dense": ("(B, T, D)", "a dense layer after the last norm, before its activation (ModernBERT)"),
    "dense_norm": ("(B, T, D)", "what the output layer reads, where a dense layer stands before it"),
    "logits_before_cap": ("(B, T, V)", "scores of the next token before the soft cap, in models with one"),
    "logits": ("(B, T, V)", "scores of the next token"),
}
STREAM: Facts = {
    "attention_norm": ("(B, T, D)", "what attention reads"),
    "mixer_norm": ("(B, T, D)", "what a recurrence or a convolution reads"),
    "attention_post_norm": ("(B, T, D)", "a norm after attention"),
    "mixer_post_norm": ("(B, T, D)", "a norm after a convolution (LFM3)"),
    "attention_scaled": ("(B, T, D)", "attention's result times the model's factor (Granite, Falcon-H1)"),
    "mixer_scaled": ("(B, T, D)", "the mixer's, likewise"),
    "mixers": ("(B, T, D)", "what attention and a recurrence beside it add together"),
    "laurel_post_norm": ("(B, T, D)", "a norm after the product of low rank (LAuReL)"),
    "shared_out": ("(B, T, D)", "what a shared block adds to Mamba's input (Zamba, Zamba 2)"),
    "residual_normed": ("(B, T, D)", "what goes on beside the mixer, its norm times a factor (MiniMax-01)"),
    "residual_middle": (
        "(B, T, D)",
        "the stream between attention and feed-forward; none in parallel blocks",
    ),
    "residual_middle_normed": ("(B, T, D)", "the same beside the feed-forward layer"),
    "feed_forward_norm": ("(B, T, D)", "what the feed-forward layer reads"),
    "feed_forward_post_norm": ("(B, T, D)", "a norm after it"),
    "feed_forward_scaled": ("(B, T, D)", "its result times the model's factor (Granite, Falcon-H1)"),
    "post_norm": ("(B, T, D)", "the one norm after a parallel block"),
    "residual_encoded": ("(B, T, D)", "the stream after the layers that encode bytes (BLT)"),
    "residual_patches": ("(B, T, D)", "the stream, doubled, and what bytes take from patches (BLT)"),
    "residual_streams": ("(B, T, D)", "all streams after attention, side by side (DeepSeek-V4)"),
    "residual_late": ("(B, T, D)", "the stream between feed-forward and the layer's own input (Gemma 4)"),
    "per_layer_post_norm": ("(B, T, D)", "a norm after what the layer makes of its own input"),
    "residual_predicted": ("(B, T, D)", "all vectors of the stream, predicted (AltUp), side by side"),
    "residual_corrected": ("(B, T, D)", "all vectors of the stream, corrected (AltUp), side by side"),
    "residual": ("(B, T, D)", "the stream after the block"),
}
ATTENTION: Facts = {
    "attention.qkv": ("(B, T, HK+2GK)", "queries, keys and values, where one product makes them"),
    "attention.q": ("(B, H, T, K)", "queries by head"),
    "attention.k": ("(B, G, T, K)", "keys of the new tokens by head"),
    "attention.v": ("(B, G, T, K)", "values of the new tokens by head"),
    "attention.q_norm": ("(B, H, T, K)", "queries after their norm"),
    "attention.k_norm": ("(B, G, T, K)", "keys after their norm"),
    "attention.v_norm": ("(B, G, T, K)", "values after their norm, where they have one (Gemma 3n, 4)"),
    "attention.q_rotated": ("(B, H, T, K)", "queries, rotated by their positions"),
    "attention.k_rotated": ("(B, G, T, K)", "keys, rotated by their positions"),
    "attention.q_scaled": (
        "(B, H, T, K)",
        "queries, scaled by their positions (Llama 4, Ministral 3, the first Qwen)",
    ),
    "attention.scores": (
        "(B, H, T, S)",
        "scaled products of queries and keys, biases added, before the mask",
    ),
    "attention.probabilities": ("(B, H, T, S)", "softmax of the masked scores: the attention weights"),
    "attention.before_norm": (
        "(B, H, T, K)",
        "weighted means before a norm (BitNet; in DiffLlama the difference of two maps')",
    ),
    "attention.mixed": ("(B, H, T, K)", "weighted means of the values"),
    "attention.gate": ("(B, T, H, K)", "the gate of each head's output, before its sigmoid"),
    "attention.gated": ("(B, T, H, K)", "each head's output times its gate"),
    "attention.out": ("(B, T, D)", "what attention adds to the stream, before a norm or factor after it"),
    "attention.router": ("(B, T, E)", "the router's scores of pairs of queries and outputs (JetMoe)"),
    "attention.chosen": ("(B, T, k)", "the chosen pairs, integers, the best first"),
    "attention.weights": ("(B, T, k)", "their weights"),
}
LATENT_ATTENTION: Facts = {
    "attention.q": ("(B, H, T, K+J)", "queries by head, the part that is rotated after the other"),
    "attention.q_rotated": ("(B, H, T, J)", "that part, rotated"),
    "attention.kv_down": ("(B, T, R+J)", "the latent before its norm, and the key that all heads share"),
    "attention.kv_norm": ("(B, T, R)", "the latent as it is cached"),
    "attention.k_rotated": ("(B, 1, T, J)", "the shared key, rotated"),
    "attention.index_scores": (
        "(B, T, S)",
        "the indexer's scores of the keys, where some of them are left out (DeepSeek-V3.2)",
    ),
}
FEED_FORWARD: Facts = {
    "feed_forward.gate": ("(B, T, F)", "the gate before its activation"),
    "feed_forward.up": ("(B, T, F)", "what is gated; in a layer without gate, before the activation"),
    "feed_forward.before_norm": ("(B, T, F)", "the same before a norm (BitNet)"),
    "feed_forward.activation": ("(B, T, F)", "after the activation, and the gate"),
    "feed_forward.down": ("(B, T, D)", "the output of the feed-forward layer"),
    "feed_forward.router": ("(B, T, E)", "the router's scores of the experts"),
    "feed_forward.chosen": ("(B, T, k)", "the chosen experts, integers, the best first"),
    "feed_forward.weights": ("(B, T, k)", "their weights"),
    "feed_forward.experts": ("(B, T, D)", "the weighted sum of their outputs"),
    "feed_forward.shared_gate": ("(B, T, 1)", "the gate of the shared layer's output, before the sigmoid"),
    "feed_forward.dense_norm": ("(B, T, D)", "the dense layer's output after a norm (Gemma 4)"),
    "feed_forward.experts_norm": ("(B, T, D)", "the experts' sum after a norm (Gemma 4)"),
    "feed_forward.receptance": ("(B, T, D)", "the gate of the layer's output, before its sigmoid (RWKV)"),
    "feed_forward.out": (
        "(B, T, D)",
        "experts and shared layer together, where there are both; the gated output (RWKV)",
    ),
}
LAUREL: Facts = {
    "laurel.left": ("(B, T, R)", "the product of low rank beside attention, between its matrices"),
    "laurel.right": ("(B, T, D)", "that product"),
}
PER_LAYER: Facts = {
    "per_layer.gate": ("(B, T, J)", "the gate of the layer's own input, before its activation"),
    "per_layer.gated": ("(B, T, J)", "that input, gated"),
    "per_layer.out": ("(B, T, D)", "what the layer makes of it"),
}
PATCHES: Facts = {
    "patches.ends": ("(B, T)", "1 where a byte is the last of its patch, 0 elsewhere"),
    "cross_attention.out": ("(B, T, D)", "what bytes take from patches"),
}
MAMBA2: Facts = {
    "mixer.in": ("(B, T, 2HP+2GN+H)", "z, x, B, C and Δ in one product"),
    "mixer.convolution": ("(B, T, HP+2GN)", "x, B, C after the convolution, before the activation"),
    "mixer.x": ("(B, T, H, P)", "what is written into the state"),
    "mixer.B": ("(B, T, G, N)", "where in the state it is written"),
    "mixer.C": ("(B, T, G, N)", "what is read from the state"),
    "mixer.time_step": ("(B, T, H)", "Δ, after softplus and limits"),
    "mixer.scan": ("(B, T, HP)", "what the recurrence gives, D x included"),
    "mixer.gated_norm": ("(B, T, HP)", "gated and normed"),
    "mixer.gated": ("(B, T, HP)", "gated, where there is no norm"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
DELTA_NET: Facts = {
    "mixer.in": ("(B, T, 2GK+2HJ)", "queries, keys, values and gates in one product, group by group"),
    "mixer.convolution": (
        "(B, T, 2GK+HJ)",
        "queries, keys, values after the convolution, before the activation",
    ),
    "mixer.q": ("(B, T, G, K)", "queries, of length 1/√K"),
    "mixer.k": ("(B, T, G, K)", "keys, of length 1: where in the state is written"),
    "mixer.v": ("(B, T, H, J)", "values: what should stand there"),
    "mixer.beta": ("(B, T, H)", "how much of the difference is written"),
    "mixer.decay": ("(B, T, H)", "the logarithm of what is left of the state"),
    "mixer.channel_decay": ("(B, T, H, K)", "the same for each channel of keys (Kimi Linear)"),
    "mixer.scan": ("(B, T, H, J)", "what the recurrence gives"),
    "mixer.gated_norm": ("(B, T, HJ)", "normed and gated"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
SPLIT_DELTA_NET: Facts = {
    "mixer.in": (
        "(B, T, 2GK+HJ)",
        "all queries, all keys, all values, where gates have a matrix of their own",
    ),
    "mixer.z": ("(B, T, HJ)", "these gates"),
}
LIGHTNING: Facts = {
    "mixer.in": ("(B, T, 3HK)", "query, key and value of each head in one product, before the activation"),
    "mixer.q": ("(B, T, H, K)", "queries: what is read from the state"),
    "mixer.k": ("(B, T, H, K)", "keys: where in the state is written"),
    "mixer.v": ("(B, T, H, K)", "values: what is added there"),
    "mixer.z": ("(B, T, HK)", "the gate, before its sigmoid"),
    "mixer.scan": ("(B, T, H, K)", "what the recurrence gives"),
    "mixer.gated_norm": ("(B, T, HK)", "normed and gated"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
MAMBA1: Facts = {
    "mixer.in": ("(B, T, 2F)", "x and z in one product"),
    "mixer.convolution": ("(B, T, F)", "x after the convolution, before the activation"),
    "mixer.x": ("(B, T, F)", "what is written into the state"),
    "mixer.selection": ("(B, T, R+2N)", "Δ of low rank, B and C in one product"),
    "mixer.time_step": ("(B, T, F)", "Δ, after softplus"),
    "mixer.B": (
        "(B, T, N)",
        "where in the state it is written; after its norm, where there is one",
    ),
    "mixer.C": ("(B, T, N)", "what is read from the state, likewise"),
    "mixer.scan": ("(B, T, F)", "what the recurrence gives, D x included"),
    "mixer.gated": ("(B, T, F)", "gated"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
MAMBA1_HEADS: Facts = {
    "mixer.z": ("(B, T, F)", "the gate, before its activation"),
    "mixer.selection": ("(B, T, M, R+2N)", "Δ of low rank, B and C of each head"),
    "mixer.B": ("(B, T, M, N)", "where in the state it is written"),
    "mixer.C": ("(B, T, M, N)", "what is read from the state"),
}
MLSTM: Facts = {
    "mixer.q": ("(B, T, HK)", "queries"),
    "mixer.k": ("(B, T, HK)", "keys: where in the memory is written"),
    "mixer.v": ("(B, T, HJ)", "values: what is written"),
    "mixer.output_gate": ("(B, T, HJ)", "the gate of what is read, before its sigmoid"),
    "mixer.input_gate": ("(B, T, H)", "the logarithm of how much is written, before its cap"),
    "mixer.forget_gate": ("(B, T, H)", "the gate of what is left of the memory, before cap and sigmoid"),
    "mixer.scan": ("(B, T, H, J)", "what is read"),
    "mixer.norm": ("(B, T, HJ)", "normed, each head by itself"),
    "mixer.gated": ("(B, T, HJ)", "normed and gated"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
RG_LRU: Facts = {
    "mixer.in": ("(B, T, C)", "what is convolved"),
    "mixer.z": ("(B, T, C)", "the gate of the state, before its activation"),
    "mixer.convolution": ("(B, T, C)", "x after the convolution"),
    "mixer.input_gate": ("(B, T, C)", "how much of x is written, after the sigmoid"),
    "mixer.recurrence_gate": ("(B, T, C)", "how much the state forgets, after the sigmoid"),
    "mixer.decay": ("(B, T, C)", "the logarithm of what is left of the state, channel by channel"),
    "mixer.scan": ("(B, T, C)", "the state after each token"),
    "mixer.gated": ("(B, T, C)", "gated"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
SHORT_CONVOLUTION: Facts = {
    "mixer.in": ("(B, T, 3D)", "B, C and x in one product"),
    "mixer.B": ("(B, T, D)", "the gate before the convolution"),
    "mixer.C": ("(B, T, D)", "the gate after it"),
    "mixer.x": ("(B, T, D)", "what is convolved, before its gate"),
    "mixer.input": ("(B, T, D)", "B · x, what enters the convolution"),
    "mixer.convolution": ("(B, T, D)", "what comes out of it"),
    "mixer.gated": ("(B, T, D)", "C times that"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
TIME_MIXING: Facts = {
    "mixer.receptance": ("(B, T, K)", "the gate of what is read, before its sigmoid"),
    "mixer.k": ("(B, T, K)", "the logarithms of the values' weights"),
    "mixer.v": ("(B, T, K)", "values"),
    "mixer.scan": ("(B, T, K)", "their weighted means"),
    "mixer.gated": ("(B, T, K)", "gated"),
    "mixer.out": ("(B, T, D)", "what the mixer adds to the stream"),
}
IMAGES: Facts = {
    "embedding.patches": ("(B, h, w, D)", "a vector for each patch, before its position is added"),
    "norm": ("(B, T, D)", "what a merger reads, normed (Qwen-VL)"),
    "adapter": ("(B, T, D)", "the encoder's vectors after its adapter (Llama 4)"),
    "selected": ("(B, T, D)", "the vectors of patches that are used, of one block or several side by side"),
    "pooling": ("(B, T, D)", "means of neighbouring vectors (Gemma 3)"),
    "pixel_shuffle": ("(B, T, D)", "neighbouring vectors side by side, as one"),
    "projector_norm": ("(B, T, D)", "a norm before the projector"),
    "patch_merger": ("(B, T, D)", "neighbouring vectors, merged by a matrix (Mistral 3)"),
    "projector": ("(B, T, D)", "vectors of the decoder's width, where one matrix makes them"),
    "picture": ("(h, w, D)", "the vectors of all tiles, as they lie on the image (LLaVA-NeXT)"),
    "vectors": ("(T, D)", "the vectors that stand for the image in the text"),
    "vectors.deep": ("(M, T, D)", "further ones, for the first M blocks of the decoder (Qwen3-VL)"),
    "text.vectors": ("(B, D)", "a vector for each text (CLIP, SigLIP)"),
    "image.vectors": ("(B, D)", "a vector for each image (CLIP, SigLIP)"),
}
POOLED: Facts = {
    "final_norm": ("(B, D)", "the class vector after the last norm: what is said of the image (CLIP)"),
}
COMPRESSED_ATTENTION: Facts = {
    "attention.entry_values": (
        "(B, T, K)",
        "what a token gives for entries; twice as much where they overlap",
    ),
    "attention.entry_gates": ("(B, T, K)", "how much that counts, before its place and the softmax"),
    "attention.index_scores": ("(B, T, S)", "the indexer's scores of the entries, where some are left out"),
    "attention.out_down": ("(B, T, O, P)", "each group of the heads' results times its matrix"),
}
COMPRESSED_QUERIES: Facts = {
    "attention.q_down": ("(B, T, Q)", "queries compressed, before their norm"),
    "attention.q_norm": ("(B, T, Q)", "queries compressed, after their norm"),
}


def facts_of(names: Collection[str]) -> Facts:
    """Return the facts of the taps of one block, or of those around the blocks.

    names  of the taps, without their block: "attention.scores"
    """
    facts = AROUND | STREAM | ATTENTION | FEED_FORWARD | LAUREL | PER_LAYER | IMAGES
    if "attention.kv_down" in names:
        facts = facts | LATENT_ATTENTION
    if "mixer.beta" in names:
        facts = facts | DELTA_NET | (SPLIT_DELTA_NET if "mixer.z" in names else {})
    elif "mixer.recurrence_gate" in names:
        facts = facts | RG_LRU
    elif "mixer.input" in names:
        facts = facts | SHORT_CONVOLUTION
    elif "mixer.forget_gate" in names:
        facts = facts | MLSTM
    elif "mixer.receptance" in names:
        facts = facts | TIME_MIXING
    elif "mixer.selection" in names:
        facts = facts | MAMBA1 | (MAMBA1_HEADS if "mixer.z" in names else {})
    elif "mixer.q" in names:
        facts = facts | LIGHTNING
    elif "mixer.in" in names:
        facts = facts | MAMBA2
    if "attention.out_down" in names:
        facts = facts | COMPRESSED_ATTENTION
    if "attention.q_down" in names:
        facts = facts | COMPRESSED_QUERIES
    return {name: facts[name] for name in names if name in facts}
