"""What narrow types cost in quality: a model in several element types reads the same text.

    python benchmarks/quality.py MODEL TEXT --tokens 4096

The text is read in pieces of 1024 tokens. Perplexity is e to the mean of -log p(next token); the divergence
is Σ p log(p / q) of the first type's probabilities p and another's q, per token; "same" is the share of
places at which both find the same token the likeliest.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinystar_np as ts
from tinystar_np import fast

PIECE = 1024


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="what ts.load takes")
    parser.add_argument("text", type=Path, help="a file of text")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "auto", "bfloat16", "int8"])
    arguments = parser.parse_args()
    text = arguments.text.read_text(encoding="utf-8")[: arguments.tokens * 8]
    first: list[NDArray] = []
    print(f"{'type':10}{'perplexity':>12}{'divergence':>12}{'same':>8}")
    for dtype in arguments.dtypes:
        model, tokenizer = ts.load(arguments.model, dtype)
        if tokenizer is None:
            parser.error("the model has no tokenizer")
        ids = tokenizer.encode(text)[: arguments.tokens]
        surprise, divergence, same = [], [], []
        for n, start in enumerate(range(0, len(ids) - 1, PIECE)):
            piece = np.array(ids[start : start + PIECE])
            log_p = fast.log_softmax(model(piece)).astype(np.float32)
            surprise.append(-log_p[np.arange(len(piece) - 1), piece[1:]])
            if dtype == arguments.dtypes[0]:
                first.append(log_p)
            divergence.append(np.sum(np.exp(first[n]) * (first[n] - log_p), axis=-1))
            same.append(first[n].argmax(-1) == log_p.argmax(-1))
        perplexity = np.exp(np.concatenate(surprise).mean(dtype=np.float64))
        mean = np.concatenate(divergence).mean(dtype=np.float64)
        print(f"{dtype:10}{perplexity:12.4f}{mean:12.6f}{np.concatenate(same).mean():8.2%}", flush=True)


if __name__ == "__main__":
    main()
