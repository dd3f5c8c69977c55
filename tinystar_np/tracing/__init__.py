"""What the taps caught: the recorder, and the comparison with a reference implementation."""

from tinystar_np.tracing.recorder import Recording, record

__all__ = ["Recording", "record"]
