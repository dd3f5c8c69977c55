"""Self-attention whose heads' outputs are gated."""

from numpy.typing import NDArray

from tinystar_np.cache import KeyValueState, Step
from tinystar_np.kernels.activations import sigmoid
from tinystar_np.layers.attention import Attention
from tinystar_np.layers.basic import Linear
from tinystar_np.layers.weights import Weights
from tinystar_np.tap import tap


class GatedAttention(Attention):
    """Attention whose heads' outputs are multiplied by the sigmoid of a gate.

    ``q`` (D, 2·H·K) gives for each head its query, and then its gate. Qiu et al. 2025, arXiv:2505.06708.
    """

    def projected_and_gate(self, x: NDArray, step: Step) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Make queries, keys and values as ``projected`` does, and the gates (B, T, H, K)."""
        wanted = step.wanted(x)
        both = self.q(wanted).reshape(*wanted.shape[:2], self.heads, 2 * self.head_dim)
        q, gate = both[..., : self.head_dim], both[..., self.head_dim :]  # (B, T, H, K) each
        return *self.by_heads(q.reshape(*wanted.shape[:2], -1), self.k(x), self.v(x)), gate

    def __call__(self, x: NDArray, step: Step, state: KeyValueState | None) -> NDArray:
        """Let each token attend to itself and to what came before: (B, T, D) → (B, T, D)."""
        q, k, v, gate = self.projected_and_gate(x, step)
        q, k = self.rotated(q, k, step)
        keys, values, positions = step.remember(k, v, state)
        y = self.attend(q, keys, values, step.mask(positions, self.limits()), step)
        y = tap("attention.mixed", y).transpose(0, 2, 1, 3)  # (B, T, H, K)
        y = tap("attention.gated", y * sigmoid(tap("attention.gate", gate)))
        return tap("attention.out", self.out(y.reshape(*y.shape[:2], -1)))


class SeparatelyGatedAttention(GatedAttention):
    """Gated attention whose gate has a matrix of its own.

    w  as in ``Attention``, and ``gate`` (D, H·K), a linear layer, or (D, H): one number for each head
    """

    def build_projections(self, w: Weights) -> None:
        """Build what makes queries, keys, values and gates."""
        super().build_projections(w)
        self.gate = Linear(w / "gate")

    def projected_and_gate(self, x: NDArray, step: Step) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Make queries, keys and values, and the gates (B, T, H, K) or (B, T, H, 1)."""
        q, k, v = self.projected(x, step)
        gate = self.gate(step.wanted(x))
        return q, k, v, gate.reshape(*gate.shape[:2], self.heads, -1)
