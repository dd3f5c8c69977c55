"""Schemas of requests: OpenAI's fields, and further ones.

Unknown fields are ignored, as clients of other servers send theirs. Known ones that would change the answer,
and are not supported here, are refused by their names: an answer without them would be a wrong one.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tinystar_np.generation.options import Sampling
from tinystar_np.serving.api_errors import wrong

MOST_TOP = 20  # likeliest tokens that can be named in each place
MOST_STOPS = 16  # stop strings
MOST_TEXTS = 128  # n and best_of
SEEDS = 1 << 64

Whole = Annotated[int, Field(ge=0, lt=1 << 63)]
Number = Annotated[float, Field(allow_inf_nan=False)]

UNSUPPORTED = {
    "audio": "sound is neither read nor written here",
    "bad_words": "use logit_bias",
    "chat_template": "the model's own template is used",
    "function_call": "use tool_choice",
    "functions": "use tools",
    "grammar": "the form of a text cannot be forced",
    "guided_choice": "the form of a text cannot be forced",
    "guided_grammar": "the form of a text cannot be forced",
    "guided_json": "the form of a text cannot be forced",
    "guided_regex": "the form of a text cannot be forced",
    "ignore_eos": "give the end token a logit_bias of -100",
    "json_schema": "the form of a text cannot be forced",
    "min_tokens": "give the end token a logit_bias of -100",
    "reasoning_effort": "give it in chat_template_kwargs, if the model's template has it",
    "stop_token_ids": "use stop, with the text of a special token",
    "structured_outputs": "the form of a text cannot be forced",
    "suffix": "a text is only continued at its end",
    "use_beam_search": "n and best_of draw several texts",
    "verbosity": "say it in a message",
    "web_search_options": "nothing is fetched from the network",
}
"""{field: what to do}; a field that is there, and neither null, false, 0 nor empty, is refused."""

SETTINGS = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size"),
    *("frequency_penalty", "presence_penalty", "logit_bias"),
)
"""Fields that are settings of generation under the same name."""


class StreamOptions(BaseModel):
    """What a stream has besides its text."""

    include_usage: bool = False


class CommonFields(BaseModel):
    """The fields that both kinds of completions have."""

    model_config = ConfigDict(strict=True)

    model: str | None = None
    max_tokens: Whole | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 63)] | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    repetition_penalty: Number | None = None
    no_repeat_ngram_size: Whole | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[Number, Field(ge=-100, le=100)]] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=SEEDS)] | None = None
    stop: Any = None
    n: Annotated[int, Field(ge=1, le=MOST_TEXTS)] = 1
    return_token_ids: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name, instead in UNSUPPORTED.items():
            if given.get(name):
                raise wrong(name, f"{name} is not supported here: {instead}.", "unsupported_parameter")
        return given

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, given: Any) -> list[str]:
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise ValueError("it must be a text or a list of texts, none of them empty")
        if len(texts) > MOST_STOPS:
            raise ValueError(f"there may be {MOST_STOPS} at most")
        return texts

    @field_validator("logit_bias")
    @classmethod
    def _check_bias(cls, given: dict[str, float] | None) -> dict[str, float] | None:
        if given and not all(id.isascii() and id.isdecimal() and len(id) < 10 for id in given):
            raise ValueError("its names must be ids of tokens")
        return given

    @model_validator(mode="after")
    def _check_stream_options(self) -> "CommonFields":
        if self.stream_options is not None and not self.stream:
            raise wrong("stream_options", "stream_options is only for streams: stream must be true.")
        return self

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with the number of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, otherwise: Sampling, index: int = 0) -> dict[str, Any]:
        """Return the settings of one text, as the engine takes them.

        otherwise  those of the server, where a request says nothing
        index      of the text among several of the same prompt, each of which has a seed of its own
        """
        settings: dict[str, Any] = dict(otherwise)
        settings |= {name: value for name in SETTINGS if (value := getattr(self, name)) is not None}
        if self.top_k == -1:  # vLLM's word for off
            settings["top_k"] = 0
        if self.logit_bias:
            settings["logit_bias"] = {int(id): bias for id, bias in self.logit_bias.items()}
        if self.stop:
            settings["stop"] = self.stop
        if self.seed is not None:
            settings["seed"] = (self.seed + index) % SEEDS
        return settings


class CompletionRequest(CommonFields):
    """The body of /v1/completions."""

    prompt: Any
    best_of: Annotated[int, Field(ge=1, le=MOST_TEXTS)] | None = None
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    add_special_tokens: bool = True

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, given: Any) -> list[str | list[int]]:
        """Return a list of prompts, each of them a text or ids."""
        prompts: list[str | list[int]] = [given] if isinstance(given, str) or _are_ids(given) else given
        if not isinstance(prompts, list) or not prompts:
            raise ValueError("it must be a text, a list of texts, ids of tokens, or a list of such lists")
        for prompt in prompts:
            if not isinstance(prompt, str) and not _are_ids(prompt):
                raise ValueError("each prompt must be a text or a list of ids, at least one")
        return prompts

    @model_validator(mode="after")
    def _check_best_of(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of < self.n:
            raise wrong("best_of", f"best_of is {self.best_of}; it must be n, which is {self.n}, or more.")
        if self.best_of is not None and self.best_of > self.n and self.stream:
            raise wrong("best_of", "A stream cannot wait for the best: best_of must be n, or not be given.")
        return self


class ChatRequest(CommonFields):
    """The body of /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: Whole | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    @property
    def about_tools(self) -> dict[str, Any]:
        """What is said of tools, for ``read_tools``."""
        names = ("tools", "tool_choice", "parallel_tool_calls")
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _check_together(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise wrong("top_logprobs", "top_logprobs is only for logprobs: logprobs must be true.")
        kind = (self.response_format or {}).get("type", "text")
        if kind != "text":
            words = f"response_format {kind!r:.40} is not supported: the form of a text cannot be forced."
            raise wrong("response_format", words, "unsupported_parameter")
        if self.modalities is not None and self.modalities != ["text"]:
            raise wrong("modalities", "Only text is written here.", "unsupported_parameter")
        return self


class TokenizeRequest(BaseModel):
    """The body of /tokenize: a text, or a conversation."""

    model_config = ConfigDict(strict=True)

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: Any = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _check_one(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise wrong("prompt", "Either prompt or messages must be given.")
        return self


class DetokenizeRequest(BaseModel):
    """The body of /detokenize."""

    model_config = ConfigDict(strict=True)

    model: str | None = None
    tokens: Any

    @field_validator("tokens")
    @classmethod
    def _check_ids(cls, given: Any) -> list[int]:
        if given != [] and not _are_ids(given):
            raise ValueError("it must be a list of ids")
        return given


def _are_ids(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(id) is int for id in given)
