"""Chat templates that write tools and calls in the forms of the families, and answers in these forms."""

from typing import Any, NamedTuple

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name"},
                "days": {"type": "integer"},
            },
            "required": ["city"],
        },
    },
}

HERMES = """\
{%- if tools %}
{{- '<|im_start|>system\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
{{- '\\n</tools>\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>' }}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
{{- '<|im_start|>' + message.role }}
{%- if message.content %}{{ '\\n' + message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

SMOLLM3 = HERMES.replace("{%- if tools %}", "{%- if xml_tools %}").replace("in tools %}", "in xml_tools %}")

GRANITE3 = """\
{%- if tools %}
{{- '<|start_of_role|>system<|end_of_role|><|tool_call|> followed by a JSON list of tools' }}
{{- '<|end_of_text|>\\n<|start_of_role|>available_tools<|end_of_role|>' + (tools | tojson(indent=4)) }}
{{- '<|end_of_text|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|start_of_role|>' + message.role + '<|end_of_role|>' }}
    {%- if message.tool_calls %}
{{- '<|tool_call|>' + (message.tool_calls | map(attribute='function') | list | tojson) }}
{{- '<|end_of_text|>\\n' }}
    {%- else %}
{{- message.content + '<|end_of_text|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"""

PHI4_MINI = """\
{%- if tools %}
{{- '<|system|>' }}
{%- for tool in tools %}{{ '<|tool|>' + (tool.function | tojson) + '<|/tool|>' }}{% endfor %}
{{- '<|end|>' }}
{%- endif %}
{%- for message in messages %}
{{- '<|' + message.role + '|>' }}{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- '<|tool_call|>' + (call.function | tojson) + '<|/tool_call|>' }}
{%- endfor %}
{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""

MISTRAL_OLD = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
{%- if tools and loop.first %}{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}
{{- '[INST] ' + message.content + '[/INST]' }}
    {%- elif message.tool_calls %}
{{- '[TOOL_CALLS] [' }}
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('Tool call IDs should have length 9!') }}{% endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + (']' if loop.last else ', ') }}
{%- endfor %}
{{- eos_token }}
    {%- elif message.role == 'tool' %}
{{- '[TOOL_RESULTS] {"content": ' + message.content + ', "call_id": "' + message.tool_call_id + '"}' }}
{{- '[/TOOL_RESULTS]' }}
    {%- else %}
{{- ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}"""

MISTRAL_NEW = """\
{{- bos_token }}
{%- if tools %}{{ '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{ '[INST]' + message.content + '[/INST]' }}
    {%- elif message.role == 'tool' %}{{ '[TOOL_RESULTS]' + message.content + '[/TOOL_RESULTS]' }}
    {%- else %}
{%- if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- '[TOOL_CALLS]' + call.function.name + '[ARGS]' + (call.function.arguments | tojson) }}
{%- endfor %}
{{- eos_token }}
    {%- endif %}
{%- endfor %}"""

LLAMA = """\
{{- bos_token }}
{%- if tools %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nRespond in the format {"name": function name, ' }}
{{- '"parameters": dictionary of argument name and its value}.\\n\\n' }}
{%- for tool in tools %}{{ (tool | tojson(indent=4)) + '\\n\\n' }}{% endfor %}{{ '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
{%- if message.tool_calls | length != 1 %}
{{ raise_exception('This model only supports single tool-calls at once!') }}
{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
{{- (call.arguments | tojson) + '}<|eot_id|>' }}
    {%- elif message.role == 'tool' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
{{- ({'output': message.content} | tojson) + '<|eot_id|>' }}
    {%- else %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

DEEPSEEK3 = """\
{{- bos_token }}
{%- for tool in tools or [] %}{{ '\\n' + (tool | tojson) }}{% endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{ '<｜User｜>' + message.content + '<｜Assistant｜>' }}
    {%- elif message.role == 'tool' %}
{{- '<｜tool▁output▁begin｜>' + message.content + '<｜tool▁output▁end｜>' }}
    {%- elif message.tool_calls %}
{{- '<｜tool▁calls▁begin｜>' if message.content is none else message.content + '<｜tool▁calls▁begin｜>' }}
{%- for call in message.tool_calls %}
{{- ('' if loop.first else '\\n') + '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' + call.function.name }}
{{- '\\n```json\\n' + (call.function.arguments | tojson) + '\\n```<｜tool▁call▁end｜>' }}
{%- endfor %}
{{- '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
    {%- else %}{{ message.content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}"""

DEEPSEEK31 = (
    DEEPSEEK3.replace("function<｜tool▁sep｜>' + call", "' + call")
    .replace("'\\n```json\\n' + (call", "'<｜tool▁sep｜>' + (call")
    .replace("'\\n```<", "'<")
)


class Example(NamedTuple):
    """A template, its family, and what it writes after an answer."""

    template: str
    family: str
    end: str
    several: bool = True
    with_content: bool = True


EXAMPLES = {
    "Qwen3": Example(HERMES, "Hermes and Qwen", "<|im_end|>\n"),
    "SmolLM3": Example(SMOLLM3, "Hermes and Qwen", "<|im_end|>\n"),
    "Granite 3": Example(GRANITE3, "Granite 3 and Phi-4-mini", "<|end_of_text|>\n", with_content=False),
    "Phi-4-mini": Example(PHI4_MINI, "Granite 3 and Phi-4-mini", "<|end|>"),
    "Mistral 7B": Example(MISTRAL_OLD, "Mistral", "</s>", with_content=False),
    "Ministral 3": Example(MISTRAL_NEW, "Mistral", "</s>"),
    "Llama 3.1": Example(LLAMA, "Llama", "<|eot_id|>", several=False, with_content=False),
    "DeepSeek-V3": Example(DEEPSEEK3, "DeepSeek", "<｜end▁of▁sentence｜>"),
    "DeepSeek-V3.1": Example(DEEPSEEK31, "DeepSeek", "<｜end▁of▁sentence｜>"),
}

BERN, ZURICH = '{"city": "Bern"}', '{"city": "Zürich", "days": 3}'
ONE = f'{{"name": "weather", "arguments": {BERN}}}'
OTHER = f'{{"name": "weather", "arguments": {ZURICH}}}'
CALLS, CALL, SEP = "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"
CALL_END, CALLS_END = "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"

Answer = tuple[str, str, str, list[str]]
"""An example's name, an answer's text, the content that is found in it, and the arguments of its calls."""


def called(arguments: str) -> str:
    return f'<tool_call>{{"name": "weather", "arguments": {arguments}}}</tool_call>'


GOOD: list[Answer] = [
    ("Qwen3", f"<tool_call>\n{ONE}\n</tool_call>", "", [BERN]),
    ("Qwen3", f"I look.\n\n{called(BERN)}\n{called(ZURICH)}\n", "I look.", [BERN, ZURICH]),
    ("Qwen3", f"<tool_call>{ONE}", "", [BERN]),  # the closing mark was not written
    ("Qwen3", f"{called(BERN)} Done. ", " Done. ", [BERN]),
    ("Qwen3", f"<tool_call>[{ONE}, {OTHER}]</tool_call>", "", [BERN, ZURICH]),
    ("Qwen3", called('{"a": " </tool_call> b"}'), "", ['{"a": " </tool_call> b"}']),
    ("Qwen3", called('{"a": "b\nc"}'), "", ['{"a": "b\\nc"}']),
    ("Qwen3", called('"{\\"city\\": \\"Bern\\"}"'), "", [BERN]),
    ("Qwen3", '<tool_call>{"name": "weather"}</tool_call>', "", ["{}"]),
    ("Qwen3", called("null"), "", ["{}"]),
    (
        "Qwen3",
        f"<think>\nPerhaps {called(BERN)}?\n</think>\n\n{called(ZURICH)}",
        f"<think>\nPerhaps {called(BERN)}?\n</think>",
        [ZURICH],
    ),
    # A damaged one is content, and one that follows it is read.
    ("Qwen3", f"\n<tool_call>{{}}</tool_call>\n{called(BERN)}\n", "\n<tool_call>{}</tool_call>", [BERN]),
    ("Qwen3", f'<tool_call>{{"name": "we {called(BERN)}', '<tool_call>{"name": "we', [BERN]),
    ("Granite 3", f"<|tool_call|>[{ONE}, {OTHER}]", "", [BERN, ZURICH]),
    ("Granite 3", f"<tool_call>[{ONE}]", "", [BERN]),
    (
        "Phi-4-mini",
        f"<|tool_call|>{ONE}<|/tool_call|><|tool_call|>{OTHER}<|/tool_call|>",
        "",
        [BERN, ZURICH],
    ),
    ("Phi-4-mini", f"<|tool_call|>[{ONE}]<|/tool_call|>", "", [BERN]),
    ("Mistral 7B", f"[TOOL_CALLS] [{ONE}, {OTHER}]", "", [BERN, ZURICH]),
    ("Mistral 7B", f"[TOOL_CALLS]{ONE}", "", [BERN]),
    (
        "Ministral 3",
        f"Yes.[TOOL_CALLS]weather[ARGS]{BERN}[TOOL_CALLS]weather[ARGS]{ZURICH}",
        "Yes.",
        [BERN, ZURICH],
    ),
    ("Ministral 3", f"[TOOL_CALLS]weather{BERN}", "", [BERN]),
    ("Ministral 3", f"[TOOL_CALLS]weather[CALL_ID]a1B2c3D4e[ARGS]{BERN}", "", [BERN]),
    ("Llama 3.1", ONE.replace("arguments", "parameters"), "", [BERN]),
    ("Llama 3.1", f"<|python_tag|>{ONE}", "", [BERN]),
    ("Llama 3.1", f"\n{ONE}; {OTHER};\n", "", [BERN, ZURICH]),
    ("Llama 3.1", f"<think>Hm.</think>\n\n{ONE}", "<think>Hm.</think>", [BERN]),
    ("Llama 3.1", f"{ONE}\nThat is all.", "\nThat is all.", [BERN]),
    ("Llama 3.1", f"{ONE} {{x}}", " {x}", [BERN]),
    (
        "DeepSeek-V3",
        f"A.{CALLS}{CALL}function{SEP}weather\n```json\n{BERN}\n```{CALL_END}\n"
        f"{CALL}function{SEP}weather\n```json\n{ZURICH}\n```{CALL_END}{CALLS_END}",
        "A.",
        [BERN, ZURICH],
    ),
    (
        "DeepSeek-V3.1",
        f"{CALLS}{CALL}weather{SEP}{BERN}{CALL_END}{CALL}weather{SEP}{ZURICH}{CALL_END}{CALLS_END}",
        "",
        [BERN, ZURICH],
    ),
]

CONTENT = [
    ("Qwen3", ""),
    ("Qwen3", " \n"),
    ("Qwen3", "Hello."),
    ("Qwen3", f"<think>\n{called(BERN)}"),
    ("Qwen3", "a <tool_call> b"),
    ("Qwen3", "a <tool_call>"),
    ("Qwen3", "a < b <tool_"),
    ("Qwen3", '<tool_call>{"name": "weather", "arg'),
    ("Qwen3", '<tool_call>{"name": 3}</tool_call>'),
    ("Qwen3", "<tool_call>{name: weather}</tool_call>"),
    ("Qwen3", "<tool_call>[]</tool_call>"),
    ("Qwen3", called('{"a": NaN}')),
    ("Qwen3", called('{"a": 1e999}')),
    ("Qwen3", called("[1]")),
    ("Qwen3", called('"no JSON"')),
    ("Ministral 3", "[TOOL_CALLS]no call at all"),
    ("Ministral 3", "[TOOL_CALLS]the call {"),
    ("Ministral 3", f"[TOOL_CALLS]{400 * 'x'}{BERN}"),
    ("Llama 3.1", f"Like {ONE}"),
    ("Llama 3.1", '{"name": "Bob", "age": 3}'),  # no name of a tool
    ("Llama 3.1", '{"answer": 42}\n'),
    ("Llama 3.1", "{x | x > 0} is a set"),
    ("Llama 3.1", '<|python_tag|>brave_search.call(query="x")'),
    ("DeepSeek-V3", f"{CALL}function {{}}"),
]
"""Answers without a call that could be read: an example's name, and the text."""

ANSWERS: list[Answer] = [*GOOD, *((name, text, text, []) for name, text in CONTENT)]
