"""What published templates of models that see make of a conversation, against prompts written by hand."""

from pathlib import Path
from typing import Any

import pytest

from tinystar_np.generation.content_form import ContentForms
from tinystar_np.text.chat_template import ChatTemplate

# ibm-granite/granite-vision-3.2-2b: users and answers in parts, but the system's message as a text
GRANITE = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "A chat." %}
    {%- set loop_messages = messages %}
{%- endif %}
<|system|>
{{ system_message }}
{%- for message in loop_messages %}
{%- if message['role'] == 'user' %}
<|user|>
{%- for content in message['content'] | selectattr('type', 'equalto', 'image') %}<image>
{%- endfor %}
{%- for content in message['content'] | selectattr('type', 'equalto', 'text') %}
{{ content['text'] }}
{%- endfor %}
{%- else %}
<|assistant|>
{%- for content in message['content'] %}
{{ content['text'] }}<|end_of_text|>
{%- endfor %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
<|assistant|>
{%- endif %}"""
# mistral-community/pixtral-12b, first: the text of a part under "content"; answers are texts
PIXTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\n\n" }}
        {%- else %}
            {{- "[INST]" }}
        {%- endif %}
        {%- if message["content"] is not string %}
            {%- for chunk in message["content"] %}
                {%- if chunk["type"] == "text" %}
                    {{- chunk["content"] }}
                {%- else %}
                    {{- "[IMG]" }}
                {%- endif %}
            {%- endfor %}
        {%- else %}
            {{- message["content"] }}
        {%- endif %}
        {{- "[/INST]" }}
    {%- else %}
        {{- message["content"] + "</s>" }}
    {%- endif %}
{%- endfor %}"""
# llava-hf/llava-v1.6-mistral-7b-hf: everything in parts
LLAVA = """\
{% for message in messages %}{% if message['role'] == 'system' %}\
{{ '<<SYS>>' + message['content'][0]['text'] + '<</SYS>>' }}{% elif message['role'] == 'user' %}[INST] \
{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}\
{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] }}\
{% endfor %}{{ ' [/INST]' }}{% else %} {{ message['content'][0]['text'] }}</s> {% endif %}{% endfor %}"""
# Both are taken, and the model learned from texts.
EITHER = """\
{% for message in messages %}{{ message['role'] }}:{% if message['content'] is string %}\
{{ message['content'] }}{% else %}{% for item in message['content'] %}{% if item['type'] == 'image' %}<image>\
{% else %}({{ item['text'] }}){% endif %}{% endfor %}{% endif %};{% endfor %}"""
# A system's message is refused, and a list is printed as it is.
TEXTS_ALONE = """\
{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('No.') }}{% endif %}\
{{ message['content'] }};{% endfor %}"""

SYSTEM = {"role": "system", "content": "Be short."}
SHOWN = {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]}
TALK: list[dict[str, Any]] = [
    SHOWN,
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": "Yes?"},
]
GRANITE_END = "<|user|><image>What?<|assistant|>A cat.<|end_of_text|><|user|>Yes?<|assistant|>"
WRITTEN = {
    "granite": (
        GRANITE,
        "<|system|>\nA chat." + GRANITE_END,
        "<|system|>\nBe short." + GRANITE_END,
    ),
    "pixtral": (
        PIXTRAL,
        "[INST][IMG]What?[/INST]A cat.</s>[INST]Yes?[/INST]",
        "[INST][IMG]What?[/INST]A cat.</s>[INST]Be short.\n\nYes?[/INST]",
    ),
    "llava": (
        LLAVA,
        "[INST] <image>What? [/INST] A cat.</s> [INST] Yes? [/INST]",
        "<<SYS>>Be short.<</SYS>>[INST] <image>What? [/INST] A cat.</s> [INST] Yes? [/INST]",
    ),
    "either": (
        EITHER,
        "user:<image>(What?);assistant:A cat.;user:Yes?;",
        "system:Be short.;user:<image>(What?);assistant:A cat.;user:Yes?;",
    ),
}


def written(template: str, messages: list[dict[str, Any]]) -> str:
    made = ChatTemplate(template, {}, Path("m"))
    return made.render(ContentForms(made).given(messages))


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_role_in_its_form(kind: str) -> None:
    template, alone, with_system = WRITTEN[kind]
    assert written(template, TALK) == alone
    assert written(template, [SYSTEM, *TALK]) == with_system


def test_a_template_of_texts_gets_texts() -> None:
    assert written(TEXTS_ALONE, TALK[1:]) == "A cat.;Yes?;"
