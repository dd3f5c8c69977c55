"""Strings ↔ tokens: the tokenizer and the streaming detokeniser."""

from tinystar_np.text.streaming import TextStream
from tinystar_np.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["TextStream", "Tokenizer", "load_tokenizer"]
