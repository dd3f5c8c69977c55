"""A prefix tree: what several texts begin with stands in one node, so that it is read once.

    The capital of France is ┬ Paris        one node of five tokens, with three texts that go on from it
                             ├ London
                             └ Rome

The choices of a question begin with the question, all questions with the same examples before them. The tree
depends on the texts alone, and so does the order in which its nodes are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tinystar_np.generation.read_text import common_length

SHORTEST = 16
"""The fewest tokens of a node: reading fewer by themselves takes as long as reading these."""
SAVED = 64
"""The fewest tokens that a node must save. It costs two calls of the model, one for itself and one for the
texts that go on from it, which would have been read together with others; each is as long as some 30 tokens.
"""


@dataclass
class Node:
    """Tokens that several texts share.

    start   how many tokens stand before them, in the nodes above
    end     where they end
    ids     the tokens from start to end
    reach   how many tokens the longest of the texts has
    texts   the numbers of those that go on alone from here
    nodes   further tokens that some of the texts share
    """

    start: int
    end: int
    ids: Sequence[int]
    reach: int
    texts: list[int] = field(default_factory=list)
    nodes: list["Node"] = field(default_factory=list)


def prefix_tree(
    texts: Sequence[Sequence[int]], limits: Sequence[int], shortest: int = SHORTEST, saved: int = SAVED
) -> Node:
    """Find what texts share, where it is worth a node.

    texts     token ids
    limits    for each, how many of its tokens may stand in nodes
    shortest  see ``SHORTEST``
    saved     see ``SAVED``

    Returns the root, which has no tokens; each text is in one node's ``texts``.
    """
    order = sorted(range(len(texts)), key=lambda i: (tuple(texts[i]), i))
    # Of neighbours in this order; what more texts share is what the neighbours among them all share.
    shared = [min(common_length(texts[a], texts[b]), limits[a], limits[b]) for a, b in pairwise(order)]
    root = Node(0, 0, (), max(map(len, texts), default=0))
    todo = [(0, len(order), root)]
    while todo:
        first, after, node = todo.pop()
        if after - first < 2:
            node.texts += order[first:after]
            continue
        end = min(shared[first : after - 1])
        if end - node.end >= shortest and (after - first - 1) * (end - node.end) >= saved:
            reach = max(len(texts[i]) for i in order[first:after])
            new = Node(node.end, end, texts[order[first]][node.end : end], reach)
            node.nodes.append(new)
            node = new
        borders = [i + 1 for i in range(first, after - 1) if shared[i] == end]
        todo += [(a, b, node) for a, b in pairwise([first, *borders, after])]
    return root
