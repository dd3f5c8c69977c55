"""Recording activations from taps, and comparing them with a reference implementation."""

from tinystar_np.tracing.recorder import Recording, record

__all__ = ["Recording", "record"]
