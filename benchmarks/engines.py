"""Those who are measured, behind one face: load, read a prompt, generate a token.

Each does the same work on the same ids: only the logits after the last token are computed, keys and values
are kept, and the likeliest token is taken. Libraries are imported when an engine is made, in the worker.

    prefill(ids, room)  read a prompt (T,) with a new cache that has room for so many tokens more
                        returns (what to go on with, the next token)
    step(state, token)  read one token more; returns the next
    generate(ids, new)  the library's own loop, greedy: the new ids
"""

from typing import Any


class TinyStar:
    name = "tinystar_np"
    packages = ("numpy", "safetensors", "tokenizers")

    def __init__(self, directory: str, dtype: str, threads: int) -> None:
        # The threads are OpenBLAS's, and have been set in the environment.
        from tinystar_np.generation import generate_ids
        from tinystar_np.loading import load

        self.model, _ = load(directory, dtype=dtype)
        self._generate_ids = generate_ids

    def prefill(self, ids: list[int], room: int = 0) -> tuple[Any, int]:
        cache = self.model.new_cache(1, capacity=len(ids) + room)
        return cache, self._next(ids, cache)

    def step(self, cache: Any, token: int) -> int:
        return self._next([token], cache)

    def generate(self, ids: list[int], new: int) -> list[int]:
        return self._generate_ids(self.model, ids, max_new_tokens=new, temperature=0.0)

    def _next(self, ids: list[int], cache: Any) -> int:
        return int(self.model(ids, cache=cache, last_only=True)[-1].argmax())


class Transformers:
    name = "transformers"
    packages = ("torch", "transformers", "tokenizers")

    def __init__(self, directory: str, dtype: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        torch.set_num_threads(threads)
        torch.inference_mode().__enter__()  # for the rest of this process
        self._torch = torch
        self._new_cache = DynamicCache
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa")
        self.model.eval()

    def prefill(self, ids: list[int], room: int = 0) -> tuple[Any, int]:
        cache = self._new_cache(config=self.model.config)
        return cache, self._next(ids, cache)

    def step(self, cache: Any, token: int) -> int:
        return self._next([token], cache)

    def generate(self, ids: list[int], new: int) -> list[int]:
        prompt = self._torch.tensor([ids])
        settings = {"do_sample": False, "min_new_tokens": new, "max_new_tokens": new}
        made = self.model.generate(prompt, attention_mask=self._torch.ones_like(prompt), **settings)
        return made[0, len(ids) :].tolist()

    def _next(self, ids: list[int], cache: Any) -> int:
        rows = self._torch.tensor([ids])
        out = self.model(rows, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())


ENGINES = {engine.name: engine for engine in (TinyStar, Transformers)}
