"""Models for tests of conversations: they count what they read, cannot be cut, or say what they are told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import conftest
import numpy as np
import pytest
from transformers import GraniteMoeHybridConfig

import tinystar_np as ts
from tinystar_np.generation import SamplingOptions, sample
from tinystar_np.text import Tokenizer

CHATML = """\
{% for message in messages %}
[{{ message['role'][0] }}]{{ message['content'] }}<|endoftext|>
{% endfor %}
{% if add_generation_prompt %}
[a]
{%- endif %}"""
# Old answers are written shorter than they came, as templates do that leave reasoning out.
REWRITING = """\
{%- for message in messages -%}
[{{ message.role[0] }}]{{ message.content if message.role == 'user' else message.content[3:] }}<|endoftext|>
{%- endfor -%}
{%- if add_generation_prompt %}[a]<{% endif %}"""
MESSAGES = ["Hi", "and then?", "日本?", "no"]
SETTINGS: dict[str, Any] = {"max_new_tokens": 14, "seed": 3}
RECURRENCE = GraniteMoeHybridConfig(
    vocab_size=257,
    hidden_size=32,
    num_hidden_layers=3,
    layer_types=["mamba", "attention", "mamba"],
    num_attention_heads=4,
    num_key_value_heads=2,
    num_local_experts=0,
    num_experts_per_tok=0,
    shared_intermediate_size=48,
    mamba_n_heads=4,
    mamba_d_head=16,
    mamba_d_state=8,
    eos_token_id=256,
)
"""Mamba 2 and attention in one small model."""


class Counted:
    """A model that notes how many tokens it reads in each call."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.end_ids: tuple[int, ...] = model.end_ids
        self.context_length = model.context_length
        self.read: list[int] = []
        self.interrupt_at: int | None = None

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Any:
        return self._model.new_cache(batch_size, capacity)

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> Any:
        if self.interrupt_at is not None and len(self.read) == self.interrupt_at:
            self.interrupt_at = None
            raise KeyboardInterrupt
        self.read.append(np.shape(ids)[1])
        return self._model(ids, cache=cache, last_only=last_only)


class Unbending(Counted):
    """Like a model with a recurrent state: its cache can be copied, but not cut."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.copies = 0

    def new_cache(self, batch_size: int = 1, capacity: int = 0) -> Any:
        return self.stiff(super().new_cache(batch_size, capacity))

    def stiff(self, cache: Any) -> Any:
        model, plain = self, type(cache)

        class Stiff(plain):  # type: ignore[misc, valid-type]
            rewindable = False

            def copy(self) -> Any:
                model.copies += 1
                return model.stiff(plain.copy(self))

        cache.__class__ = Stiff
        return cache


@pytest.fixture
def talking(_a_context_for_a_conversation: None, talking_model: Path) -> Callable[..., tuple[Any, Tokenizer]]:
    """Make a model that speaks in bytes, with a template, and perhaps a larger context."""

    def load(template: str = CHATML, kind: type[Counted] = Counted) -> tuple[Any, Tokenizer]:
        (talking_model / "chat_template.jinja").write_text(template, encoding="utf-8")
        model, tokenizer = ts.load(talking_model)
        assert tokenizer is not None
        return kind(model), tokenizer

    return load


@pytest.fixture
def _a_context_for_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conftest.SMALL_GPT2, "n_positions", 400)


def prompt_of(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> list[int]:
    template = tokenizer.chat_template
    assert template is not None
    return tokenizer.encode(template.render(messages), add_special_tokens=False)


def by_hand(model: Any, prompt: list[int], rng: np.random.Generator | None, count: int = 14) -> list[int]:
    """Draw an answer token by token from the model itself, without a cache, from a stream that goes on."""
    options, ids = SamplingOptions(temperature=0.0 if rng is None else 1.0), list(prompt)
    while len(ids) < len(prompt) + count:
        ids.append(sample(model(np.array(ids), last_only=True)[-1], ids, options, rng))
        if ids[-1] in model.end_ids:
            break
    return ids[len(prompt) :]


def stream() -> np.random.Generator:
    return np.random.default_rng(SETTINGS["seed"])


def turn(text: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]


def common(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class Scripted(Counted):
    """Says one token after the other, whatever it hears."""

    script: tuple[int, ...] = ()

    def __call__(self, ids: Any, cache: Any = None, last_only: bool = False) -> Any:
        logits = super().__call__(ids, cache, last_only)
        logits[:] = 0
        said = sum(read == 1 for read in self.read)
        logits[..., self.script[said % len(self.script)]] = 50
        return logits


class ScriptedUnbending(Scripted, Unbending):
    pass
