"""Many requests to an engine at once, whose texts must be those that each has alone."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tinystar_np as ts
from tinystar_np.models import Decoder
from tinystar_np.text import Tokenizer

LONG = 60  # seconds, which nothing here takes
PROMPTS = [
    "Once upon a time",
    "Once upon a time there was a big dog",
    "Once upon a time there was a big dog who liked to play in the park with Lily and her friends",
    "The sun",
    "Tom and Sue went to the",
]


def check_company(
    engine: ts.Engine, whole: Decoder, tokenizer: Tokenizer, requests: int, most_tokens: int
) -> None:
    """Send requests with seeds from eight threads at random times to an engine with too little cache for all.

    whole        the model in one process, which writes each text alone
    most_tokens  of a text
    """
    rng = random.Random(0)
    asked: list[tuple[str, dict[str, Any]]] = [
        (
            rng.choice(PROMPTS),
            {"max_new_tokens": rng.randint(1, most_tokens), "seed": seed, "temperature": 0.8},
        )
        for seed in range(requests)
    ]
    alone = [ts.generate(whole, tokenizer, prompt, **settings) for prompt, settings in asked]

    def ask(number: int) -> str:
        time.sleep(0.01 * (number % 5))
        prompt, settings = asked[number]
        return engine.submit(prompt, **settings).result(LONG)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(len(asked)))) == alone
    statistics = engine.statistics()
    assert statistics.preempted
    assert statistics.cached_tokens
    assert statistics.blocks_in_use == 0
    # Nothing was forgotten or counted twice.
    assert sum(statistics.finished.values()) == len(asked)
    assert statistics.generated_tokens >= sum(1 for text in alone if text)
    assert statistics.prompt_tokens == sum(len(tokenizer.encode(prompt)) for prompt, _ in asked)
