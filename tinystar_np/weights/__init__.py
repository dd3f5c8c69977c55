"""A checkpoint's tensors under a model's own names: gathered by its table, rounded, or copied into memory."""
