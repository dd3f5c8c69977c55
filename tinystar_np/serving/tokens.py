"""/tokenize, /detokenize and /tokenizer_info, in the form of vLLM's, as lm-evaluation-harness asks."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tinystar_np.errors import TinyStarError
from tinystar_np.serving.api_errors import api_error_of
from tinystar_np.serving.bodies import read
from tinystar_np.serving.chat_prompt import chat_prompt
from tinystar_np.serving.requests import DetokenizeRequest, TokenizeRequest
from tinystar_np.serving.served import Served
from tinystar_np.serving.server_state import ServerState
from tinystar_np.serving.tool_calls import tool_variables
from tinystar_np.serving.tool_schema import read_tools


async def tokenize(request: Request) -> Response:
    """Cut a text, or a conversation, into tokens."""
    state: ServerState = request.app.state.server
    asked = await read(request, TokenizeRequest)
    served = state.models.find(asked.model)
    ids = await run_in_threadpool(_ids, served, asked)
    tokens = [served.tokenizer.token(id) for id in ids] if asked.return_token_strs else None
    return JSONResponse(
        {
            "count": len(ids),
            "max_model_len": served.context,
            "tokens": ids,
            "token_strs": tokens,
        }
    )


def _ids(served: Served, asked: TokenizeRequest) -> list[int]:
    if asked.messages is not None:
        tools = read_tools({"tools": asked.tools})
        given = {} if tools is None else tool_variables(tools.given)
        return chat_prompt(
            served,
            asked.messages,
            asked.add_generation_prompt,
            asked.continue_final_message,
            bool(asked.add_special_tokens),
            asked.chat_template_kwargs | given,
        ).ids
    try:
        return served.tokenizer.encode(asked.prompt or "", asked.add_special_tokens is not False)
    except TinyStarError as error:
        raise api_error_of(error) from error


async def detokenize(request: Request) -> Response:
    """Join tokens to a text, special ones included."""
    state: ServerState = request.app.state.server
    asked = await read(request, DetokenizeRequest)
    served = state.models.find(asked.model)
    served.check_ids(asked.tokens, "tokens")
    text = await run_in_threadpool(served.tokenizer.decode, asked.tokens, skip_special_tokens=False)
    return JSONResponse({"prompt": text})


async def tokenizer_info(request: Request) -> Response:
    """Return what clients need to write a model's prompts themselves."""
    state: ServerState = request.app.state.server
    return JSONResponse(information(state.models.find(request.query_params.get("model"))))


def information(served: Served) -> dict[str, Any]:
    """Return a tokenizer's special tokens, and its chat template; null for what it has not."""
    tokenizer = served.tokenizer
    template = tokenizer.chat_template
    special = {
        name: tokenizer.settings.special_tokens.get(name) for name in ("bos_token", "eos_token", "pad_token")
    }
    if special["eos_token"] is None and served.model.end_ids:
        special["eos_token"] = tokenizer.token(served.model.end_ids[0]) or None
    return {
        "tokenizer_class": tokenizer.settings.class_name,
        **special,
        "add_bos_token": tokenizer.settings.add_bos,
        "add_eos_token": tokenizer.settings.add_eos,
        "model_max_length": served.context,
        "vocab_size": tokenizer.vocab_size,
        "chat_template": None if template is None else next(iter(template.sources.values())),
    }
