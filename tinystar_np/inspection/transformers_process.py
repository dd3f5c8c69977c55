"""A program that runs a model in transformers and answers on stdout, line by line of JSON.

    python -P transformers_process.py DIRECTORY

    {"dtype": "float32", "threads": 2}  loads the model; the answer is {"torch": …, "transformers": …}
    {"ids": [[5, 7]], "new": 32}        reads prompts, then calls the model 32 times: [seconds, seconds]
    {}                                  the most bytes that this process has had in memory

transformers runs as it is best used: scaled-dot-product attention, inference mode, a cache, and logits of the
last position only. With gradients on nothing is measured. Nothing of this package is imported.
"""

import json
import os
import resource
import sys
import time
from importlib import import_module
from typing import Any


def main() -> None:
    """Answer until nobody asks."""
    # What libraries print shall not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # By name: no import statement in this package is of a framework, but for comparing with it.
    torch, transformers = import_module("torch"), import_module("transformers")
    model: Any = None
    with torch.inference_mode():
        for line in sys.stdin:
            question = json.loads(line)
            answer: Any
            if "dtype" in question:
                torch.set_num_threads(question["threads"])
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    sys.argv[1], dtype=question["dtype"], local_files_only=True
                ).eval()
                answer = {"torch": torch.__version__, "transformers": transformers.__version__}
            elif "ids" in question:
                answer = turn(model, torch.tensor(question["ids"]), question["new"])
            else:
                unit = 1 if sys.platform == "darwin" else 1024
                answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
            print(json.dumps(answer), file=answers, flush=True)


def turn(model: Any, ids: Any, new: int) -> tuple[float, float]:
    """Read prompts, then go on with the likeliest token: seconds of both.

    Raises RuntimeError where gradients are recorded on the way.
    """
    start = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    tokens = out.logits[:, -1:].argmax(dim=-1)
    read = time.perf_counter()
    name = "cache_params" if "cache_params" in out else "past_key_values"  # recurrent models have their own
    cache = {name: out[name]}
    for _ in range(new):
        out = model(tokens, use_cache=True, logits_to_keep=1, **cache)
        tokens = out.logits[:, -1:].argmax(dim=-1)
    if out.logits.requires_grad:
        raise RuntimeError("gradients were on, with which transformers is slower and nobody generates")
    return read - start, time.perf_counter() - read


if __name__ == "__main__":
    main()
