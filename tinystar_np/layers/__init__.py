"""Layers: kernels with weights. They know shapes and taps, not model names."""
