"""Those who are measured, behind one face: load, read prompts, generate a token of each.

Each does the same work on the same ids: only the logits after the last token are computed, keys and values
are kept, and the likeliest token is taken. Libraries are imported when an engine is made, in the worker.

    prefill(rows, room)  read prompts (B, T) with a new cache that has room for so many tokens more
                         returns (what to go on with, the next token of each)
    step(state, tokens)  read one token more of each; returns the next
    generate(ids, new)   the library's own loop, greedy, on one prompt: the new ids

With gradients on, transformers keeps every activation and is slower. Nobody generates so: where it happens
all the same, the program ends instead of printing a figure (``refuse_gradients``).
"""

from pathlib import Path
from typing import Any

Rows = list[list[int]]
CONTEXT = 2048 + 128  # places that llama.cpp makes room for, being the one that must know before


def refuse_gradients(model: Any) -> None:
    """Let every call of a torch model, however it is made, end the program if gradients are on."""
    from torch import is_grad_enabled

    def check(*_: Any) -> None:
        if is_grad_enabled():
            raise SystemExit(
                "transformers was called with gradients on, as nobody generates text: not measured.\n"
                "Call the model within torch.inference_mode()."
            )

    model.register_forward_pre_hook(check)


class TinyStar:
    name, batches = "tinystar_np", True
    packages = ("numpy", "safetensors", "tokenizers")
    in_memory = False

    def __init__(self, directory: str, dtype: str, threads: int) -> None:
        # The threads are OpenBLAS's, and have been set in the environment.
        from tinystar_np.generation import generate_ids
        from tinystar_np.loading import load

        self.model, _ = load(directory, dtype=dtype, in_memory=self.in_memory)
        self._generate_ids = generate_ids

    def prefill(self, rows: Rows, room: int = 0) -> tuple[Any, list[int]]:
        cache = self.model.new_cache(len(rows), capacity=len(rows[0]) + room)
        return cache, self._next(rows, cache)

    def step(self, cache: Any, tokens: list[int]) -> list[int]:
        return self._next([[token] for token in tokens], cache)

    def read_per_token(self) -> float:
        """Count the bytes of weights that each token multiplies by."""
        from tinystar_np.inspection.speed import bytes_per_token

        return bytes_per_token(self.model)

    def generate(self, ids: list[int], new: int) -> list[int]:
        return self._generate_ids(self.model, ids, max_new_tokens=new, temperature=0.0)

    def _next(self, rows: Rows, cache: Any) -> list[int]:
        return self.model(rows, cache=cache, last_only=True)[:, -1].argmax(axis=-1).tolist()


class TinyStarInMemory(TinyStar):
    name = "tinystar_np_in_memory"
    in_memory = True


class Transformers:
    name, batches = "transformers", True
    packages = ("torch", "transformers", "tokenizers")

    def __init__(self, directory: str, dtype: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)  # for the rest of this process, whatever is called
        self._torch = torch
        self._new_cache = DynamicCache
        # Scaled-dot-product attention, except where transformers itself has none (soft caps).
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
        self.model.eval()
        refuse_gradients(self.model)

    def prefill(self, rows: Rows, room: int = 0) -> tuple[Any, list[int]]:
        cache = self._new_cache(config=self.model.config)
        return cache, self._next(rows, cache)

    def step(self, cache: Any, tokens: list[int]) -> list[int]:
        return self._next([[token] for token in tokens], cache)

    def generate(self, ids: list[int], new: int) -> list[int]:
        prompt = self._torch.tensor([ids])
        settings = {"do_sample": False, "min_new_tokens": new, "max_new_tokens": new}
        # Its own loop turns gradients off by itself.
        made = self.model.generate(prompt, attention_mask=self._torch.ones_like(prompt), **settings)
        return made[0, len(ids) :].tolist()

    def _next(self, rows: Rows, cache: Any) -> list[int]:
        with self._torch.inference_mode():
            ids = self._torch.tensor(rows)
            out = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return out.logits[:, -1].argmax(dim=-1).tolist()


class LlamaCpp:
    """llama.cpp through its Python binding, on the same weights in its own file format (gguf_file.py)."""

    name, batches = "llama.cpp", False  # its binding reads one prompt at a time
    packages = ("llama-cpp-python",)

    def __init__(self, directory: str, dtype: str, threads: int) -> None:
        from gguf_file import converted
        from llama_cpp import Llama

        path = converted(Path(directory), dtype)
        settings = {"n_threads": threads, "n_threads_batch": threads, "n_batch": 512, "n_ubatch": 512}
        self._llama = Llama(str(path), n_ctx=CONTEXT, verbose=False, logits_all=False, **settings)

    def prefill(self, rows: Rows, room: int = 0) -> tuple[Any, list[int]]:
        self._llama.reset()
        return None, self._next(rows[0])

    def step(self, state: None, tokens: list[int]) -> list[int]:
        return self._next(tokens)

    def generate(self, ids: list[int], new: int) -> list[int]:
        following = self._llama.generate(ids, temp=0.0, repeat_penalty=1.0)
        return [token for token, _ in zip(following, range(new), strict=False)]

    def _next(self, ids: list[int]) -> list[int]:
        self._llama.eval(ids)
        return [self._llama.sample(temp=0.0, repeat_penalty=1.0)]


ENGINES = {engine.name: engine for engine in (TinyStar, TinyStarInMemory, Transformers, LlamaCpp)}
