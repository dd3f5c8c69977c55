"""The blocks and layers as diagrams: one description each, drawn by diagram.py."""

from tinystar_np.inspection.diagram import Diagram

FEED_FORWARD = {f"feed_forward{i}": "feed-forward" for i in ("", 1, 2)}

DIAGRAMS = (
    Diagram(
        "sequential",
        "Sequential, a norm before each part (pre-norm)",
        "Attention lets tokens hear of each other, the feed-forward layer works on each by itself. Both read "
        "a normed copy of the stream and add to it; the stream itself passes untouched.",
        """
        x | fork1 |       |           | add1 | fork2 |       |              | add2 | y
          |       | norm1 | attention |      |       | norm2 | feed_forward |      |
        """,
        "x - add1 - add2 - y; fork1 / norm1 > attention ^ add1; fork2 / norm2 > feed_forward ^ add2",
        ("block", {"kind": "sequential", "placement": "pre"}),
        FEED_FORWARD,
    ),
    Diagram(
        "parallel",
        "Parallel",
        "Neither part waits for the other: both read the stream as it was before the block, behind one norm "
        "or one each.",
        """
        x | fork1 |      |       |              | add | y
          |       | norm | fork2 | attention    |     |
          |       |      |       | feed_forward |     |
        """,
        "x - add - y; fork1 / norm > fork2 > attention ^ add; fork2 / feed_forward ^ add",
        ("block", {"kind": "parallel"}),
        FEED_FORWARD,
    ),
    Diagram(
        "sandwich",
        "Sandwich, a norm before and behind each part",
        "The second norm bounds what a part can add to the stream.",
        """
        x | fork1 |       |           |       | add1 | fork2 |       |              |       | add2 | y
          |       | norm1 | attention | norm2 |      |       | norm3 | feed_forward | norm4 |      |
        """,
        "x - add1 - add2 - y; fork1 / norm1 > attention > norm2 ^ add1; "
        "fork2 / norm3 > feed_forward > norm4 ^ add2",
        ("block", {"placement": "sandwich"}),
        FEED_FORWARD,
    ),
    Diagram(
        "norm_behind",
        "A norm behind each part, on the branch",
        "The parts read the stream as it is; what they add is normed. The stream stays free.",
        """
        x | fork1 |           |       | add1 | fork2 |              |       | add2 | y
          |       | attention | norm1 |      |       | feed_forward | norm2 |      |
        """,
        "x - add1 - add2 - y; fork1 / attention > norm1 ^ add1; fork2 / feed_forward > norm2 ^ add2",
        ("block", {"placement": "branch"}),
        FEED_FORWARD,
    ),
    Diagram(
        "post_norm",
        "A norm behind each addition, on the stream (post-norm)",
        "The transformer as it was first, in 2017 and in the first GPT; here only TinyStar has it. Every "
        "norm rescales all that was written before.",
        """
        x | fork1 |           | add1 | norm1 | fork2 |              | add2 | norm2 | y
          |       | attention |      |       |       | feed_forward |      |       |
        """,
        "x - add1 - norm1 - add2 - norm2 - y; fork1 / attention ^ add1; fork2 / feed_forward ^ add2",
        ("block", {"placement": "post"}),
        FEED_FORWARD,
    ),
    Diagram(
        "hybrid",
        "Two mixers side by side, then feed-forward",
        "Attention looks single tokens up, the recurrence keeps what all of them amount to; one norm feeds "
        "both. Factors before and behind each mixer are left out here.",
        """
        x | fork1 |       |       |           | add1 | fork3 |       |              | add2 | y
          |       | norm1 | fork2 | attention |      |       | norm2 | feed_forward |      |
          |       |       |       | Mamba     |      |       |       |              |      |
        """,
        "x - add1 - add2 - y; fork1 / norm1 > fork2 > attention ^ add1; fork2 / Mamba ^ add1; "
        "fork3 / norm2 > feed_forward ^ add2",
        ("block", {"kind": "two mixers side by side"}),
        {**FEED_FORWARD, "Mamba": "Mamba 2"},
    ),
    Diagram(
        "mamba2",
        "Mamba 2's mixer",
        "One product makes all that the recurrence needs. x is written into the state where B says, C reads "
        "from it, Δ says how fast it fades; z decides how much of the result passes. Falcon-H1 has no norm "
        "there.",
        """
          |    | 'z'       |             | SiLU  |       |      |     |
          |    |           |             | state |       |      |     |
        x | in | 'x, B, C' | convolution | scan  | times | norm | out | y
          |    | 'Δ'       | softplus    |       |       |      |     |
        """,
        "x > in > 'x, B, C' > convolution > scan > times > norm > out > y; in / 'z' > SiLU ^ times; "
        "in / 'Δ' > softplus ^ scan; state = scan",
        ("mixer", {"kind": "Mamba2"}),
        {
            "in": "in\nlinear",
            "out": "out\nlinear",
            "state": "state h\nP × N per head",
            "convolution": "convolution\nover 4 tokens, SiLU",
        },
    ),
    Diagram(
        "delta_net",
        "Gated delta net",
        "The state maps keys to values. A token reads what stands at its key and writes β of the difference "
        "to its value; before that, everything fades by the decay. The norm stands before the gate.",
        """
          |       |          | 'z'       |             |         | SiLU  |      |       |     |
          |       |          |           |             |         | state |      |       |     |
        x | fork1 | in       | 'q, k, v' | convolution | unit    | delta | norm | times | out | y
          |       | in_gates | 'b, a'    |             | sigmoid |       |      |       |     |
        """,
        "x > in > 'q, k, v' > convolution > unit > delta > norm > times > out > y; "
        "in / 'z' > SiLU ^ times; fork1 / in_gates > 'b, a' > sigmoid ^ delta; state = delta",
        ("mixer", {"kind": "delta_net"}),
        {
            "in": "in\nlinear",
            "in_gates": "in\nlinear",
            "out": "out\nlinear",
            "state": "state S\nK × K_v per head",
            "convolution": "convolution\nover 4 tokens, SiLU",
            "unit": "unit length\nof q and k",
            "sigmoid": "sigmoid, decay\nβ and g",
            "delta": "delta rule",
        },
    ),
    Diagram(
        "experts",
        "A feed-forward layer of experts",
        "The router scores all experts for each token; the k best compute, and their results are added by "
        "weight. A shared expert, where there is one, serves every token.",
        """
          |       | router | best    |        |        |     |
        x | fork1 |        | expert1 | times1 |        | add | y
          |       |        | expert2 |        |        |     |
          |       |        | expert3 |        | times2 |     |
          |       |        | shared  |        |        |     |
        """,
        "x > expert1 > times1 > add > y; fork1 / router > best ^ times1; best ^ times2; "
        "fork1 / expert3 > times2 ^ add; fork1 / shared ^ add",
        ("feed_forward", {"kind": "experts"}),
        {
            "best": "best k of E\nand their weights",
            "router": "router\nlinear",
            "expert1": "expert 1",
            "expert2": "expert 2\nnot chosen",
            "expert3": "expert 3",
            "shared": "shared expert",
        },
        ("expert2",),
    ),
    Diagram(
        "latent_attention",
        "Latent attention",
        "The cache holds one short vector per token, from which every head's key and value can be made, and "
        "one key that is turned by its position and shared by all heads.",
        """
          |       | q_down  | norm1 | q_up   | turn1 | attention | out | y
        x | fork1 | kv_down | norm2 | latent | kv_up |           |     |
          |       | k       | turn2 | keys   |       |           |     |
        """,
        "fork1 / q_down > norm1 > q_up > turn1 > attention > out > y; "
        "x > kv_down > norm2 > latent > kv_up ^ attention; fork1 / k > turn2 > keys ^ attention",
        ("mixer", {"kind": "MLA"}),
        {
            "q_down": "down\nlinear",
            "q_up": "up\nqueries of H heads",
            "turn1": "turn\na part of each",
            "kv_down": "down\nlinear",
            "latent": "latent\nR numbers kept",
            "kv_up": "up\nkeys, values of H heads",
            "k": "key\nlinear",
            "turn2": "turn",
            "keys": "shared key\nJ numbers kept",
            "out": "out\nlinear",
        },
    ),
)
