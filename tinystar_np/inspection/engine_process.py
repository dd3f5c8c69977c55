"""A program that runs a model and answers on stdout, line by line of JSON; and transformers as an engine.

    python -P engine_process.py transformers DIRECTORY
    python -P engine_process.py MODULE:CLASS DIRECTORY

    ["load", {"dtype": "float32", "threads": 2}]  loads the model; {"torch": …, "transformers": …}
    ["turn", {"ids": [[5, 7]], "new": 32}]        reads prompts, then generates: [seconds, seconds]
    ["peak", {}]                                  this process's peak memory in bytes

Each line names a method of the engine and its arguments, and the answer is what the method returns.

transformers runs at its fastest: scaled-dot-product attention (where it has it), inference mode, its own
cache, and logits of the last position only. With gradients on nothing is measured. Nothing of this package is
imported for it.
"""

import json
import os
import resource
import sys
import time
from importlib import import_module
from typing import Any


class Transformers:
    """A model in transformers.

    directory  config.json and weights
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def load(self, dtype: str, threads: int) -> dict[str, str]:
        """Load the model for so many threads; returns the packages' versions."""
        # By name, so that no import statement of this package is of a framework, except to compare with it.
        torch, transformers = import_module("torch"), import_module("transformers")
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)  # for the rest of this process, whatever is called
        self._torch = torch
        config = transformers.AutoConfig.from_pretrained(self._directory, local_files_only=True)
        sees = "vision_config" in config.to_dict()
        kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        self.model = kind.from_pretrained(self._directory, dtype=dtype, local_files_only=True).eval()
        self.model.register_forward_pre_hook(self._refuse_gradients)
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    def turn(self, ids: list[list[int]], new: int) -> tuple[float, float]:
        """Read prompts (B, T), then go on with the likeliest token of each: seconds of both."""
        with self._torch.inference_mode():
            given = self._torch.tensor(ids)
            start = time.perf_counter()
            out = self.model(given, use_cache=True, logits_to_keep=1)
            tokens = out.logits[:, -1:].argmax(dim=-1)
            read = time.perf_counter()
            name = "cache_params" if "cache_params" in out else "past_key_values"  # recurrent models' own
            cache = {name: out[name]}
            for _ in range(new):
                out = self.model(tokens, use_cache=True, logits_to_keep=1, **cache)
                tokens = out.logits[:, -1:].argmax(dim=-1)
            return read - start, time.perf_counter() - read

    def generate(self, ids: list[int], new: int) -> float:
        """Continue a prompt by transformers' ``generate``, which turns gradients off itself: seconds.

        Raises RuntimeError where it ends early.
        """
        prompt = self._torch.tensor([ids])
        settings = {"do_sample": False, "min_new_tokens": new, "max_new_tokens": new}
        start = time.perf_counter()
        made = self.model.generate(prompt, attention_mask=self._torch.ones_like(prompt), **settings)
        seconds = time.perf_counter() - start
        if made.shape[1] != len(ids) + new:
            raise RuntimeError(f"{made.shape[1] - len(ids)} tokens were generated instead of {new}")
        return seconds

    def peak(self) -> int:
        """Return this process's peak memory in bytes."""
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def _refuse_gradients(self, *_: object) -> None:
        if self._torch.is_grad_enabled():
            raise RuntimeError("gradients were on, with which transformers is slower than in use")


def main() -> None:
    """Answer each line of stdin until its end."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, directory = sys.argv[1:]
    module, _, made_by = name.partition(":")
    if made_by:
        import_module("tinystar_np")  # before NumPy, whichever the engine imports first: see fast/threads.py
    engine: Any = getattr(import_module(module), made_by)(directory) if made_by else Transformers(directory)
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(getattr(engine, method)(**arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
