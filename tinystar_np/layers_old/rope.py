"""Moved to layers/rope.py."""

from tinystar_np.layers.rope import Frequencies, FrequenciesByLength, Rotary, rules_by_length

__all__ = ["Frequencies", "FrequenciesByLength", "Rotary", "rules_by_length"]
