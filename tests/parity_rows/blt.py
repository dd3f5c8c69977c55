from typing import Any

from parity_case import LLAMA3, VOCABULARY, YARN, Case, Keys, rope
from switch_values import Other


def stack(width: int, **keys: Any) -> Keys:
    """One of the four objects."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    sizes = {"hidden_size": width, "intermediate_size": 20, "num_hidden_layers": 2, "rope_parameters": rope()}
    return {**sizes, **heads, **keys}


ENCODER = stack(32, vocab_size=VOCABULARY, num_hidden_layers=1)
DECODER = stack(32, hidden_size_global=48)
LATENT = stack(48)
PATCHER = stack(24, vocab_size=VOCABULARY, sliding_window=9)
THRESHOLD = {"patching_threshold": 4.87}  # about half of the bytes end a patch


def of(name: str, **keys: Any) -> Keys:
    """The small model's object of this name, with other keys."""
    usual = {"encoder": ENCODER, "decoder": DECODER, "global": LATENT, "patcher": PATCHER}
    return {f"{name}_config": {**usual[name], **keys}}


def queries(k: int) -> Keys:
    """As many queries of a patch, in all three places."""
    return {"cross_attn_k": k, **of("encoder", cross_attn_k=k), **of("decoder", cross_attn_k=k)}


def as_wide(width: int) -> Keys:
    """Bytes of another width."""
    return {**of("encoder", hidden_size=width), **of("decoder", hidden_size=width)}


def patches_as_wide(width: int) -> Keys:
    """Patches of another width."""
    return {**of("global", hidden_size=width), **of("decoder", hidden_size_global=width)}


ROTATED = [rope(rope_theta=50.0), rope("yarn", factor=4.0), rope("linear", factor=4.0), LLAMA3]
ALL_MULTI_HEAD = {
    **of("encoder", num_key_value_heads=4),
    **of("decoder", num_key_value_heads=None),
    **of("global", num_key_value_heads=4),
    **of("patcher", num_key_value_heads=None),
}
ONE_OF_EACH = {
    **of("decoder", num_hidden_layers=1),
    **of("global", num_hidden_layers=1),
    **of("patcher", num_hidden_layers=1),
}

CASE = Case(
    "blt",
    small={
        **of("encoder"),
        **of("decoder"),
        **of("global"),
        **of("patcher"),
        **THRESHOLD,
        "local_attention_window_len": 7,
        "encoder_hash_byte_group_vocab": 50,
    },
    variants={
        "linear": None,  # the rotations of the stacks count
        "yarn": None,
        "byte": {"patching_mode": "byte"},
        "no_patcher": {"patch_in_forward": False},
        "one_patch": {"patching_threshold": 100.0},
        "all_patches": {"patching_threshold": 0.0},
        "few_patches": {"patching_threshold": 4.95},
        "no_window": {"local_attention_window_len": None, **of("patcher", sliding_window=None)},
        "window_1": {"local_attention_window_len": 1, **of("patcher", sliding_window=1)},
        "as_wide": patches_as_wide(64),
        "one_query": queries(1),
        "three_queries": queries(3),
        "patches_before_the_first": of("decoder", cross_attn_all_layers=False),
        "hashes": {"encoder_hash_byte_group_size": [2, 5], "encoder_hash_byte_group_nb_functions": 3},
        "own_bytes": {"encoder_hash_byte_group_size": [1]},
        "more_encoding": of("encoder", num_hidden_layers=3),
        "one_of_each": ONE_OF_EACH,
        "multi_head": ALL_MULTI_HEAD,
        "yarn_of_patches": of("global", rope_parameters=YARN),
    },
    long=(({}, 700),),
)

BYTES = VOCABULARY + 1
MORE_BYTES = {"vocab_size": BYTES, **of("encoder", vocab_size=BYTES), **of("patcher", vocab_size=BYTES)}
WIDER = {name: patches_as_wide(56)[name] for name in ("global_config", "decoder_config")}
STACKS = ("encoder", "decoder", "global", "patcher")

OTHERS: dict[str, list[Any]] = {
    "vocab_size": [Other(BYTES, also=MORE_BYTES)],
    "encoder_config.vocab_size": [Other(BYTES, also=MORE_BYTES)],
    "rope_parameters": [rope(rope_theta=50.0)],
    "patch_size": [Other(5, same=True)],
    "patching_mode": ["byte", "space"],
    "patching_threshold": [4.8, 0.0, None],
    "max_patch_length": [3],
    "local_attention_window_len": [3, None],
    "cross_attn_k": [Other(3, also=queries(3))],
    "encoder_config.cross_attn_k": [Other(3, also=queries(3)), Other(3)],
    "decoder_config.cross_attn_k": [Other(3, also=queries(3))],
    "encoder_config.cross_attn_all_layers": [
        Other(True, same=True),
        Other(True, given=of("encoder", num_hidden_layers=2)),
    ],
    "encoder_hash_byte_group_size": [[2, 4]],
    "encoder_hash_byte_group_vocab": [40],
    "encoder_hash_byte_group_nb_functions": [2],
    "encoder_config.hidden_size": [Other(48, also=as_wide(48))],
    "decoder_config.hidden_size": [Other(48, also=as_wide(48))],
    "global_config.hidden_size": [Other(56, also=WIDER), Other(64, also=patches_as_wide(64))],
    "decoder_config.hidden_size_global": [Other(56, also=WIDER)],
    "encoder_config.intermediate_size": [28, None],
    **{f"{name}_config.rope_parameters": ROTATED for name in STACKS},
    **{
        f"{name}_config.max_position_embeddings": [
            Other(1024, given=of(name, rope_parameters=rope("yarn", factor=4.0)))
        ]
        for name in STACKS
    },
}
INERT = """
    max_position_embeddings rope_parameters patching_batch_size
    encoder_config.dropout encoder_config.hidden_size_global encoder_config.sliding_window
    decoder_config.dropout decoder_config.vocab_size decoder_config.tie_word_embeddings
    global_config.dropout global_config.tie_word_embeddings
    patcher_config.dropout patcher_config.tie_word_embeddings
"""
