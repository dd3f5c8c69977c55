"""The same small random model here and in ``transformer_lens``, the tool that the field reads models with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import reference_model, save
from parity_case import VOCABULARY
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tinystar_np as ts
from tinystar_np.models import Decoder

HOOKED: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "llama": {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    },
}
"""The configs of the models that are held against it."""


def both(model_type: str, directory: Path) -> tuple[Decoder, Any]:
    """Make one of ``HOOKED`` for us and for it: skips the test where the package is not installed.

    The final norm's gain becomes part of its output layer, as its attributions want it; nothing else of its
    rearrangements of weights, which would change what a head is.
    """
    pytest.importorskip("transformer_lens", reason="the reference: pip install 'tinystar_np[lens]'")
    from transformer_lens.model_bridge import TransformerBridge

    reference = reference_model(model_type, **HOOKED[model_type])
    path = save(reference, directory)
    words = Tokenizer(WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t0"))
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="t0", eos_token="t0").save_pretrained(path)
    theirs = TransformerBridge.boot_transformers(
        str(path), hf_model=reference, device="cpu", tokenizer=AutoTokenizer.from_pretrained(path)
    )
    theirs.enable_compatibility_mode(
        center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    return ts.load(path, dtype="float32")[0], theirs


def run_hooked(model: Any, ids: np.ndarray) -> tuple[np.ndarray, Any]:
    """Run it on ids (T,): logits (T, V), and what it remembers of the call."""
    with torch.no_grad():
        logits, cache = model.run_with_cache(torch.from_numpy(ids)[None], prepend_bos=False)
    return logits[0].numpy(), cache
