"""How the families of chat models write a call of a tool: one table.

A model writes a call as text, between marks that it was trained with. Which marks, its chat template shows:
it writes the calls of earlier turns with them.

    Hermes, Qwen2.5, Qwen3, SmolLM3, Granite 4     <tool_call>{"name": …, "arguments": {…}}</tool_call>
    Granite 3                                      <|tool_call|>[{"name": …, "arguments": {…}}, …]
    Phi-4-mini                                     <|tool_call|>{"name": …, "arguments": {…}}<|/tool_call|>
    Mistral to 2024                                [TOOL_CALLS][{"name": …, "arguments": {…}}, …]
    Mistral since then                             [TOOL_CALLS]name[ARGS]{…}
    Llama 3.1, 3.2, 3.3                            {"name": …, "parameters": {…}}, after <|python_tag|> or not
    DeepSeek-V3, R1     <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>name, arguments in a
                        block of ```json, <｜tool▁call▁end｜>…<｜tool▁calls▁end｜>
    DeepSeek-V3.1       <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}<｜tool▁call▁end｜>…

From the templates and cards of the models, and what vLLM's parsers know of their answers
(https://docs.vllm.ai/en/latest/features/tool_calling/).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tinystar_np.serving.tool_json import Found, headed_call, json_calls

MISTRAL_HEAD = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?(?=\{)")
DEEPSEEK_HEAD = re.compile(
    r"\s*(?:<｜tool▁call▁begin｜>\s*)?"
    r"(?:function<｜tool▁sep｜>([^\n<{]+)\n```json\s*|([^\n<{]+)<｜tool▁sep｜>\s*)(?=\{)"
)


@dataclass(frozen=True)
class ToolFamily:
    """How one family writes calls.

    name     in the documentation
    signs    what stands in its chat template: all of one of these groups
    opening  the marks before a call, or before the first of several; none begins another
    closing  what may follow a call and is not content
    read     reads the calls that follow an opening mark, see tool_json.py
    inner    further marks, within a call
    bare     whether an answer that begins with an object is a call, too
    id_size  characters of a call's id, letters and digits alone; None for OpenAI's form
    """

    name: str
    signs: tuple[tuple[str, ...], ...]
    opening: tuple[str, ...]
    closing: tuple[str, ...]
    read: Callable[[str], Found | None] = json_calls
    inner: tuple[str, ...] = ()
    bare: bool = False
    id_size: int | None = None

    @property
    def marks(self) -> set[str]:
        """All that may be a token of its own, without a text, in a model of this family."""
        return {*self.opening, *self.closing, *self.inner}


def mistral_calls(text: str) -> Found | None:
    """Read a list of calls, or one whose name stands before its arguments."""
    return json_calls(text) if text.lstrip()[:1] in ("", "[", "{") else headed_call(text, MISTRAL_HEAD)


def deepseek_calls(text: str) -> Found | None:
    """Read a call of DeepSeek-V3 or V3.1."""
    return headed_call(text, DEEPSEEK_HEAD)


# In the order in which they are looked for: some templates have the marks of a later row, too.
FAMILIES = (
    ToolFamily(
        "Mistral",
        signs=(("[TOOL_CALLS]",),),
        opening=("[TOOL_CALLS]",),
        closing=("[/TOOL_CALLS]",),
        read=mistral_calls,
        inner=("[ARGS]", "[CALL_ID]"),
        id_size=9,  # Mistral's templates refuse others
    ),
    ToolFamily(
        "DeepSeek",
        signs=(("<｜tool▁call▁begin｜>",),),
        opening=("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
        closing=("```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
        read=deepseek_calls,
        inner=("<｜tool▁sep｜>",),
    ),
    ToolFamily(
        "Granite 3 and Phi-4-mini",
        signs=(("<|tool_call|>",),),
        opening=("<|tool_call|>", "<tool_call>"),  # Granite 3.1 writes the second
        closing=("<|/tool_call|>", "</tool_call>"),
    ),
    ToolFamily(
        "Hermes and Qwen",
        signs=(("<tool_call>",),),
        opening=("<tool_call>",),
        closing=("</tool_call>",),
    ),
    ToolFamily(
        "Llama",
        signs=(("<|python_tag|>",), ("<|start_header_id|>", '"parameters": ')),
        opening=("<|python_tag|>",),
        closing=(";",),  # between several calls
        bare=True,
    ),
)

OTHER_FORMS = {
    "<|channel|>": "the channels of gpt-oss",
    "<function=": "the function elements of Qwen3-Coder",
    "<arg_key>": "the arg_key elements of GLM",
    "<|tool_call_start|>": "the Python calls of LFM2",
    "<|python_start|>": "the Python calls of Llama 4",
    "<|START_ACTION|>": "the actions of Command R7B",
    "<|tool_call>": "the calls of Gemma 4",
    "<TOOLCALL>": "the TOOLCALL lists of Nemotron",
    "functools[": "the functools lists of Phi-4-mini's other template",
}
"""{what stands in a template: the form of calls that it stands for}, of forms that are not read here."""


def family_of_source(source: str) -> ToolFamily | None:
    """Return the family of a chat template's text; None where the form of its calls is not read here."""
    if other_form(source) is not None:
        return None
    for family in FAMILIES:
        if any(all(sign in source for sign in group) for group in family.signs):
            return family
    return None


def other_form(source: str) -> str | None:
    """Return what form of calls a template has that is not read here; None where it has no such one."""
    return next((form for sign, form in OTHER_FORMS.items() if sign in source), None)
