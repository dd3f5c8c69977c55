"""tinystar_np: Hugging Face language models in pure NumPy, to be read, used and believed.

import tinystar_np as ts

model, tokenizer = ts.load("stories")
print(ts.generate(model, tokenizer, "Once upon a time", max_new_tokens=50, temperature=0.0))
"""

import os

# Before NumPy is imported: see threads.py.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

from tinystar_np.errors import TinyStarError
from tinystar_np.generation import Piece, generate, generate_ids, stream
from tinystar_np.loading import load
from tinystar_np.tracing import record

__version__ = "0.1.0"
__all__ = ["Piece", "TinyStarError", "generate", "generate_ids", "load", "record", "stream"]
