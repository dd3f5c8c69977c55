"""Values and keys of any length and depth in a config: an error says which in few words, or none matters.

Every key of every architecture gets each of them. No message may hold more of a file than a terminal shows,
nor a character that no terminal can.
"""

import json
from typing import Any

import pytest

from tinystar_np.checkpoints.json_file import one_line, shown
from tinystar_np.errors import TinyStarError
from tinystar_np.models import ARCHITECTURES, model_class
from tinystar_np.models.text_part import text_config

pytestmark = pytest.mark.usefixtures("one_blas_thread")

LONG = "x" * 20_000
DEEP: Any = ["y" * 80] * 6
for _ in range(3):
    DEEP = [DEEP] * 6
VALUES: tuple[Any, ...] = (
    *(LONG, [LONG], [[LONG, 1]], DEEP, ["x" * 100] * 1000, "\x1b[2J\n\ud800", 10**4000, [10**4000]),
    *({LONG: 10**30}, {LONG: {LONG: 1}}, {"\ud800": "\ud800"}, {"rope_type": LONG}, {"type": [LONG]}),
    *({f"{i}" + "z" * 50: {} for i in range(100)}, {"block_cls": LONG, "attn_type": LONG}),
    *({"mixer": {"mixer_cls": LONG, LONG: 1}}, {"rope_type": "default", "alpha": LONG}, {"factor": DEEP}),
)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_key(model_type: str) -> None:
    config_class = model_class(model_type).Config
    keys = {alias for name, held in config_class.keys().items() for alias in (name, *held.aliases)}
    refused = 0
    for key in sorted({*keys, *config_class.REFUSED, "quantization_config", LONG}):
        for value in VALUES:
            raw = json.loads(json.dumps({"model_type": model_type, key: value}))
            try:
                config_class.from_dict(text_config(raw))
            except TinyStarError as error:
                refused += 1
                words = str(error)
                assert len(words) < 1200, (key, words[:2000])
                assert words.replace("\n", "").isprintable(), (key, words)
    assert refused > 20


def test_words_for_any_value() -> None:
    assert shown("a") == "'a'"
    assert len(shown(DEEP)) <= 201
    assert shown(16**10_000) == "a value with an endless number"
    assert one_line(ValueError("a\nb\x1b")) == "a\\nb\\x1b"
    assert one_line("x" * 300) == "x" * 200 + "…"
