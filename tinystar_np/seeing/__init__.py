"""Seeing inside a model: activations by their names, and compared with a reference implementation."""

from tinystar_np.seeing.recorder import Recording, record

__all__ = ["Recording", "record"]
