"""The names of sampling settings: in the signatures of functions that take them, and in errors about others.

>>> help(ts.generate)
generate(model, tokenizer, prompt, *, cache=None, max_new_tokens=100, temperature=1.0, top_k=0, …)

>>> ts.generate(model, tokenizer, "Once", max_tokens=5)
InputError: generate has no setting max_tokens. It is called max_new_tokens here.
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from functools import wraps
from typing import ParamSpec, TypeVar, get_type_hints

from tinystar_np.checkpoints.json_file import shown
from tinystar_np.errors import InputError
from tinystar_np.generation.options import Sampling, SamplingOptions

P = ParamSpec("P")
R = TypeVar("R")

CALLED = {
    # What transformers, vLLM, OpenAI's interface, llama.cpp, ollama and mlx_lm call it: our name
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "max_gen_len": "max_new_tokens",
    "n_predict": "max_new_tokens",
    "num_predict": "max_new_tokens",
    "n_tokens": "max_new_tokens",
    "temp": "temperature",
    "k": "top_k",
    "p": "top_p",
    "typ_p": "typical_p",
    "typical": "typical_p",
    "repeat_penalty": "repetition_penalty",
    "rep_pen": "repetition_penalty",
    "ngram_size": "no_repeat_ngram_size",
    "num_draft_tokens": "prompt_lookup_num_tokens",
    "stop_strings": "stop",
    "stop_sequences": "stop",
    "stop_words": "stop",
    "stop_token": "stop",
    "until": "stop",
    "random_seed": "seed",
    "random_state": "seed",
    "generator": "seed",
    "rng": "seed",
}
"""The settings of others that mean what one of ours does."""

ADVICE = {
    "do_sample": "Nothing is drawn with temperature=0; otherwise tokens are.",
    "max_length": "max_new_tokens counts the new tokens alone, without the prompt's.",
    "min_new_tokens": "A text ends where the model ends it, or at a stop text.",
    "min_length": "A text ends where the model ends it, or at a stop text.",
    "eos_token_id": "The model's own end tokens end a text; stop= takes further texts, special tokens too.",
    "stop_token_ids": "stop= takes texts, those of special tokens too.",
    "num_return_sequences": "Give a list of prompts, the same several times: each gets a text of its own.",
    "n": "Give a list of prompts, the same several times: each gets a text of its own.",
    "num_beams": "There is no beam search here.",
    "sequence_bias": "logit_bias takes single tokens: {token id: number}.",
    "bad_words_ids": "logit_bias takes single tokens: {token id: -100} nearly forbids one.",
    "suppress_tokens": "logit_bias takes single tokens: {token id: -100} nearly forbids one.",
    "repeat_last_n": "repetition_penalty counts the whole text.",
    "repetition_context_size": "repetition_penalty counts the whole text.",
    "streamer": "stream() yields a text piece by piece.",
    "stream": "stream() yields a text piece by piece.",
    "logprobs": "stream() yields pieces that have a logprob.",
    "output_scores": "stream() yields pieces that have a logprob; model(ids) returns all logits.",
    "use_cache": "A cache is always used; cache= takes one that holds an earlier text.",
    "past_key_values": "cache= takes what model.new_cache() or model.load_cache() returned.",
    "num_ctx": "A cache grows as the text does, up to the model's own context.",
    "n_ctx": "A cache grows as the text does, up to the model's own context.",
    "device": "Everything runs on the processor.",
    "torch_dtype": "load() takes the dtype.",
    "dtype": "load() takes the dtype.",
    "system": "Conversation() takes the system message.",
}
"""Settings of others that none of ours is the same as: what there is instead."""

DEFAULTS = {field.name: field.default for field in fields(SamplingOptions)}


def takes_sampling(function: Callable[P, R], **defaults: object) -> Callable[P, R]:
    """Let a function with ``**sampling`` show each setting in its signature, and refuse any other name.

    defaults  of the function's own, where they are not those of SamplingOptions

    A call with an unknown name raises InputError, which says how it is called here.
    """
    own = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    kinds = get_type_hints(Sampling)
    settings = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kinds[name])
        for name, default in (DEFAULTS | defaults).items()
    ]
    known = [parameter.name for parameter in (*own, *settings)]

    @wraps(function)
    def checked(*given: P.args, **named: P.kwargs) -> R:
        for name in named:
            if name not in known:
                raise InputError(
                    f"{function.__name__} has no setting {shown(name)}. {called_here(name, known)}"
                )
        return function(*given, **named)

    signature = inspect.signature(function).replace(parameters=[*own, *settings])
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return checked


def called_here(name: str, known: Collection[str]) -> str:
    """Say what a setting is called here, or which there are."""
    if name in CALLED:
        return f"It is called {CALLED[name]} here."
    if name in ADVICE:
        return ADVICE[name]
    from difflib import get_close_matches  # late: names that are known do not wait for it

    near = get_close_matches(name.lower(), [*known, *CALLED], n=1)
    if near:
        return f"Did you mean {CALLED.get(near[0], near[0])}?"
    return f"There are: {', '.join(DEFAULTS)}."
