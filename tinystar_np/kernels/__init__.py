"""The mathematics: pure functions from arrays to arrays, importing NumPy and nothing else."""
