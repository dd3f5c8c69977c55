"""Log-likelihoods: how likely a model finds the ends of many texts, each after its beginning.

That is how language models are tested: of several ends of a sentence, which is the likeliest? What texts
begin with alike is read once (prefix_tree.py), and texts of about the same length are read together, the
shorter ones padded after their ends, where none of their own tokens attends. Both follow from the texts
alone: the same texts give the same numbers, to the last bit, in whatever order and portions they were asked
for.

Beside other texts a number may differ in its last bits, since products of matrices of another size sum in
another order.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinystar_np.cache import PREFILL, Cache
from tinystar_np.errors import InputError
from tinystar_np.generation.language_model import LanguageModel
from tinystar_np.generation.prefix_tree import SAVED, Node, prefix_tree

TOGETHER = 512
"""The most tokens that are read at once. Their logits are (512, V) numbers."""
HELD = 4096
"""The most tokens in all rows of a batch of texts that go on from a shared prefix, which each row copies."""


class End(NamedTuple):
    """A text whose end is to be scored.

    ids    all its tokens
    start  the index of the end's first token, at least 1
    """

    ids: Sequence[int]
    start: int


class Likelihood(NamedTuple):
    """How likely a model finds the end of a text.

    logprobs  (n,) log p(token | all tokens before it), for each token of the end
    greedy    whether each of them is the likeliest in its place
    """

    logprobs: NDArray[np.float64]
    greedy: bool


def likelihoods(
    model: LanguageModel, ends: Sequence[End], done: Callable[[int, Likelihood], None] | None = None
) -> list[Likelihood]:
    """Score the ends of many texts.

    model  what reads the texts
    ends   the texts, and where their ends begin
    done   called with the index of each end, and its likelihood, as soon as it is known

    Returns one likelihood for each.
    Raises InputError for an end without tokens, or with nothing before it; ContextFullError for a text that
    is longer than the model's context and one more token, since the last one need not be read.
    """
    for ids, start in ends:
        if not 1 <= start < len(ids):
            raise InputError(
                f"An end begins at token {start} of {len(ids)}: it needs a token, and one before it."
            )
    return _Reader(model, ends, done or (lambda index, likelihood: None)).read()


class _Reader:
    """Reads the texts of a tree, depth first.

    Several ends may belong to the same tokens that are read: answers of one token after a question. They are
    one text here, and each text has a list of them.
    """

    def __init__(
        self, model: LanguageModel, ends: Sequence[End], done: Callable[[int, Likelihood], None]
    ) -> None:
        self._model, self._ends, self._done = model, ends, done
        self._parts: list[list[tuple[NDArray[np.float64], bool]]] = [[] for _ in ends]
        self._found: list[Likelihood | None] = [None] * len(ends)
        by_text: dict[tuple[int, ...], list[int]] = {}
        for i, end in enumerate(ends):
            by_text.setdefault(tuple(end.ids[:-1]), []).append(i)
        self._texts, self._of_text = list(by_text), list(by_text.values())
        self._starts = [min(ends[i].start for i in of_text) for of_text in self._of_text]
        # Where rotations depend on the length of a text, nothing is shared, and nothing padded.
        self._apart = bool(ends) and model.new_cache(1).text is not None

    def read(self) -> list[Likelihood]:
        """Score everything."""
        if self._apart:
            root = Node(0, 0, (), 0, list(range(len(self._texts))))
        else:
            root = prefix_tree(self._texts, self._starts, saved=SAVED)
        todo: list[tuple[Node, Cache | None]] = [(root, None)]
        while todo:
            node, cache = todo.pop()
            last = None
            if node.ids:
                cache = self._cache_of(node, cache)
                last = self._continue(cache, node.ids)
            self._read_texts(node, cache, last)
            todo += [(child, cache) for child in node.nodes]
        return [likelihood for likelihood in self._found if likelihood is not None]

    def _cache_of(self, node: Node, cache: Cache | None) -> Cache:
        """Return a cache that holds what stands before a node, and may be extended."""
        if cache is None:
            return self._model.new_cache(1, capacity=node.reach)
        if cache.truncates_to(node.start):  # the nodes that were read since are done with
            cache.truncate(node.start)
            return cache
        return cache.copy()

    def _continue(self, cache: Cache, ids: Sequence[int]) -> NDArray[np.float32]:
        """Read tokens of which only the last one's logits are wanted; returns these, (1, V)."""
        for first in range(0, len(ids), PREFILL):
            logits = self._model(np.array([ids[first : first + PREFILL]]), cache=cache, last_only=True)
        return logits[0]

    def _read_texts(self, node: Node, cache: Cache | None, last: NDArray[np.float32] | None) -> None:
        """Read the rest of the texts that go on alone from a node.

        cache  holds the node's tokens, and is left as it is
        last   (1, V) the logits after them
        """
        for text in node.texts:
            if last is not None:
                self._score(text, last, node.end - 1)
        rest = {text: self._texts[text][node.end :] for text in node.texts}
        by_length = sorted(
            (text for text in rest if rest[text]), key=lambda text: (-len(rest[text]), self._texts[text])
        )
        while by_length:
            longest = len(rest[by_length[0]])
            count = max(1, min(TOGETHER // longest, HELD // (node.end + longest) if node.end else TOGETHER))
            batch = by_length[:count]
            if self._apart:
                batch = [text for text in batch if len(rest[text]) == longest]
            del by_length[: len(batch)]
            rows = None if cache is None else cache.select([0] * len(batch))
            if longest > TOGETHER:
                self._read_long(batch[0], node.end, rows)
                continue
            ids = np.array([[*rest[text], *rest[text][-1:] * (longest - len(rest[text]))] for text in batch])
            for text, logits in zip(batch, self._model(ids, cache=rows), strict=True):  # (T, V)
                self._score(text, logits[: len(rest[text])], node.end)

    def _read_long(self, text: int, start: int, cache: Cache | None) -> None:
        """Read a long text in pieces, from token ``start`` on."""
        ids, first_wanted = self._texts[text], self._starts[text] - 1
        if cache is None:
            cache = self._model.new_cache(1, capacity=len(ids))
        with cache.reading(len(ids) - start):
            for begin, end in pairwise([*range(start, len(ids), PREFILL), len(ids)]):
                unwanted = end <= first_wanted
                logits = self._model(np.array([ids[begin:end]]), cache=cache, last_only=unwanted)
                if not unwanted:
                    self._score(text, logits[0], begin)

    def _score(self, text: int, logits: NDArray[np.float32], first: int) -> None:
        """Score what follows after some of a text's tokens.

        logits  (T, V) after the tokens from number ``first`` on
        """
        for i in self._of_text[text]:
            ids, start = self._ends[i]
            begin, end = max(first + 1, start), min(first + 1 + len(logits), len(ids))
            if begin >= end:
                continue
            its, tokens = logits[begin - first - 1 : end - first - 1], np.array(ids[begin:end])
            logprobs = log_probabilities(its, tokens)
            self._parts[i].append((logprobs, bool((its.argmax(-1) == tokens).all())))
            if end == len(ids):
                parts, self._parts[i] = self._parts[i], []
                found = np.concatenate([part for part, _ in parts])
                likelihood = Likelihood(found, all(greedy for _, greedy in parts))
                self._found[i] = likelihood
                self._done(i, likelihood)


def log_probabilities(logits: NDArray[np.float32], ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return log softmax of the given tokens alone, with sums in float64.

    In float32 the sum over a large vocabulary is off by some 10⁻⁶, which adds up over a long text.

    logits  (T, V)
    ids     (T,) the token of each row
    """
    largest = logits.max(axis=-1, keepdims=True)
    total = np.exp(logits - largest).sum(axis=-1, dtype=np.float64)
    own = logits[np.arange(len(ids)), ids].astype(np.float64)
    return own - largest[:, 0] - np.log(total)
