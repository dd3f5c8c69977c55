"""What most recipes share: blocks of attention and feed-forward, in a row or side by side.

    x → norm → attention ──+ x → norm → feed-forward ──+ x         x → norm ─┬→ attention ────┬→ + x
                                                                             └→ feed-forward ─┘

A recipe says what its norms and feed-forward layers are, and what is special about its attention.
"""

from abc import abstractmethod
from typing import Any

from tinystar_np.configs.config import DecoderConfig
from tinystar_np.layers_old import Attention, ParallelBlock, SequentialBlock, Weights
from tinystar_np.layers_old.blocks import FeedForwardLayer
from tinystar_np.models.decoder import Decoder


class AttentionDecoder(Decoder):
    """A decoder of the kind. Its config has the letters H, G and K, ``rope`` and ``windows``."""

    def block(self, i: int, w: Weights) -> Any:
        """Build block i; side by side, one norm feeds both where the table has no second one's gain."""
        wired: Any = ParallelBlock if self.config.is_parallel else SequentialBlock
        second = not self.config.is_parallel or "feed_forward_norm.gain" in w
        return wired(
            attention_norm=self.norm(w.attention_norm),
            attention=Attention(w.attention, **self.attention(i, w.attention)),
            feed_forward_norm=self.norm(w.feed_forward_norm) if second else None,
            feed_forward=self.feed_forward(i, w.feed_forward),
        )

    def attention(self, i: int, w: Weights) -> dict[str, Any]:
        """Give the settings of layer i's attention; q and k have norms where there are gains."""
        c: DecoderConfig = self.config
        H, G, K = (c.sizes[letter] for letter in "HGK")
        norms = {name: self.norm(w.branch(name)) for name in ("q_norm", "k_norm") if f"{name}.gain" in w}
        return {
            "heads": H,
            "groups": G,
            "head_dim": K,
            "scale": K**-0.5,
            "rope": c.rope.rotary() if c.rope else None,
            "window": c.windows[i],
            **norms,
        }

    @abstractmethod
    def feed_forward(self, i: int, w: Weights) -> FeedForwardLayer:
        """Build layer i's feed-forward layer."""
