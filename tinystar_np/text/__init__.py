"""Strings ↔ tokens: the tokenizer, the streaming detokeniser, chat templates."""

from tinystar_np.text.byte_tokenizer import tokenizer_of_bytes
from tinystar_np.text.chat_template import ChatTemplate
from tinystar_np.text.streaming import TextStream
from tinystar_np.text.tokenizer import Tokenizer
from tinystar_np.text.tokenizer_files import load_tokenizer

__all__ = ["ChatTemplate", "TextStream", "Tokenizer", "load_tokenizer", "tokenizer_of_bytes"]
