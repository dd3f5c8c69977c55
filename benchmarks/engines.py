"""The engines that are measured, but for transformers, which is tinystar_np/inspection/engine_process.py's.

Each runs in a process of its own, which answers what run.py asks: the methods here are called by name.
"""

import time

import floor

from tinystar_np.generation import generate_ids
from tinystar_np.inspection.engines import TinyStarEngine
from tinystar_np.inspection.speed import bandwidth, bare_matrices, bytes_per_token
from tinystar_np.loading import load

Prompts = list[list[int]]
ENGINES = {  # name: what the process makes an engine of
    "tinystar_np": "engines:TinyStar",
    "tinystar_np_in_memory": "engines:TinyStarInMemory",
    "transformers": "transformers",
}


class TinyStar(TinyStarEngine):
    in_memory = False

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def load(self, dtype: str, threads: int) -> None:
        # The threads are OpenBLAS's, and have been set in the environment.
        self.model, _ = load(self.directory, dtype, in_memory=self.in_memory)

    def generate(self, ids: list[int], new: int) -> float:
        start = time.perf_counter()
        made = generate_ids(self.model, ids, max_new_tokens=new, temperature=0.0)
        seconds = time.perf_counter() - start
        if len(made) != new:
            raise SystemExit(f"{len(made)} tokens were generated instead of {new}.")
        return seconds

    def read_per_token(self) -> float:
        return bytes_per_token(self.model)

    def bandwidth(self) -> float:
        matrices = bare_matrices()
        bandwidth(matrices)  # warms up
        return bandwidth(matrices)

    def floor_of_tokens(self, ids: Prompts, new: int) -> list[list[float]]:
        return floor.of_tokens(self.model, ids, new)

    def floor_of_prompt(self, ids: Prompts, rounds: int) -> list[list[float]]:
        return floor.of_prompt(self.model, ids, rounds)


class TinyStarInMemory(TinyStar):
    in_memory = True
