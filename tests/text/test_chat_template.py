"""Chat templates in the shapes that real models ship, beside transformers' apply_chat_template."""

import enum
import http
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
import tokenizers
from jinja2.defaults import DEFAULT_FILTERS, DEFAULT_TESTS
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, GPT2Config

from tinystar_np.errors import InputError, TinyStarError, TokenizerError
from tinystar_np.text import ChatTemplate, Tokenizer, load_tokenizer
from tinystar_np.text.chat_template import WORKER
from tinystar_np.text.template import TemplateFaultError, render_template

TEMPLATES = {
    "llama2": """
{% if messages[0]['role'] == 'system' %}
{% set loop_messages = messages[1:] %}
{% set system_message = messages[0]['content'] %}
{% else %}
{% set loop_messages = messages %}
{% set system_message = false %}
{% endif %}
{% for message in loop_messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate user/assistant/user/…') }}
{% endif %}
{% if loop.index0 == 0 and system_message != false %}
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}
{% set content = message['content'] %}
{% endif %}
{% if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' '  + content.strip() + ' ' + eos_token }}
{%- endif %}
{% endfor %}""".lstrip(),
    "llama3": """
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' + (tool_call.arguments | tojson) + "}" }}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    "granite": """
{%- set system = namespace(text='You are a helpful assistant. Write "<&>" as it is.', seen=false) %}
{%- if tools %}
    {%- set system.text = system.text + '\\n' + (tools | map('tojson') | join('\\n')) %}
{%- endif %}
{%- if documents %}
    {%- for document in documents %}
        {%- set system.text = system.text + '\\n' + document | tojson(indent=2) %}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}
    {%- elif message.content is iterable %}
        {%- set parts = namespace(text='') %}
        {%- for entry in message.content %}
            {%- if entry.type != 'text' %}{% continue %}{%- endif %}
            {%- set parts.text = parts.text + entry.text %}
        {%- endfor %}
        {%- set content = parts.text %}
    {%- endif %}
    {%- if loop.first and message.role != 'system' %}
        {{- '<|start_of_role|>system<|end_of_role|>' + system.text + '<|end_of_text|>\\n' }}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {% generation %}{% set system.seen = true %}
        {{- '<|start_of_role|>assistant<|end_of_role|>' + content + '<|end_of_text|>\\n' }}
        {%- endgeneration %}
    {%- else %}
        {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + content + '<|end_of_text|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if system.seen %}{{ '#' }}{% endif %}
{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}""",
    "chatml": """
{% for message in messages %}
    {% if loop.first and messages[0]['role'] != 'system' %}
<|im_start|>system
You are a helpful assistant<|im_end|>
    {% endif %}
<|im_start|>{{ message['role'] + '\\n' + message['content'] + '<|im_end|>' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""".lstrip(),
    "without-reasoning": """
{%- for message in messages -%}
    {%- set text = message.content -%}
    {%- if '</think>' in text and not loop.last -%}
        {%- set text = text.split('</think>')[-1].lstrip() -%}
    {%- endif -%}
    <|{{ message.role }}|>{{ text }}{{ unk_token if unk_token is defined else '' }}{{ eos_token }}
    {%- if loop.index > 20 %}{% break %}{% endif %}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|><think>{{ '\\n' }}{%- endif -%}""",
}
SETTINGS = {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True}}

USER = {"role": "user", "content": " Hello <b>\"you\"</b>,\n  日本 😀 & 'all' "}
ASSISTANT = {"role": "assistant", "content": "<think>Hm.</think> Hi!\n"}
SYSTEM = {"role": "system", "content": "Be brief.\n"}
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, ASSISTANT, USER], [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A byte-level tokenizer that begins every text with <s>, and no template yet."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<s>", normalized=False), AddedToken("</s>", normalized=False)])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    backend.save(str(tmp_path / "tokenizer.json"))
    GPT2Config().save_pretrained(tmp_path)
    settings(tmp_path)
    return tmp_path


def settings(directory: Path, **more: Any) -> None:
    text = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **SETTINGS, **more})
    (directory / "tokenizer_config.json").write_text(text)


def named(name: str, template: str) -> dict[str, str]:
    return {"name": name, "template": template}


def load(directory: Path) -> Tokenizer:
    tokenizer = load_tokenizer(directory)
    assert tokenizer is not None
    return tokenizer


def template_of(directory: Path) -> ChatTemplate:
    template = load(directory).chat_template
    assert template is not None
    return template


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_text_and_ids_are_those_of_transformers(
    name: str, add_generation_prompt: bool, directory: Path
) -> None:
    (directory / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
    reference, tokenizer = AutoTokenizer.from_pretrained(directory), load(directory)
    texts = set()
    for messages in CONVERSATIONS:
        wanted = reference.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        text = template_of(directory).render(messages, add_generation_prompt=add_generation_prompt)
        assert text == wanted
        ids = reference.apply_chat_template(
            messages, add_generation_prompt=add_generation_prompt, return_dict=False
        )
        assert tokenizer.encode(text, add_special_tokens=False) == ids
        texts.add(text)
    assert len(texts) == len(CONVERSATIONS)
    if "bos_token" in TEMPLATES[name]:  # <s> stands there once, not twice
        assert ids[0] == 256 != ids[1]
        assert tokenizer.encode(text)[:2] == [256, 256]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("content", ["Hi, I", " Hi \n", "a", "Hi. Hi", [{"type": "text", "text": "Hi "}]])
def test_a_message_to_be_continued_ends_as_in_transformers(name: str, content: Any, directory: Path) -> None:
    if isinstance(content, list) and name != "granite":
        pytest.skip("the template has no lists")
    (directory / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
    messages = [SYSTEM, USER, ASSISTANT, {"role": "user", "content": "Hi."}]
    messages.append({"role": "assistant", "content": content})
    wanted = AutoTokenizer.from_pretrained(directory).apply_chat_template(
        messages, tokenize=False, continue_final_message=True
    )
    template = template_of(directory)
    assert template.render(messages, continue_final_message=True) == wanted
    if content == " Hi \n":  # trimmed as the template trims it; Llama 2's puts a space after, which hides it
        assert wanted.endswith("Hi") == (name == "llama3")
    else:  # what is left out is the end of the message
        assert template.render(messages, add_generation_prompt=False).startswith(wanted)


def test_a_message_that_cannot_be_continued(directory: Path) -> None:
    for source in ("{{ messages[-1].content[:2] }}", "{{ messages[-1].role }}"):
        (directory / "chat_template.jinja").write_text(source)
        with pytest.raises(InputError, match="does not write its whole text"):
            template_of(directory).render([USER], continue_final_message=True)
    for content in (None, [], [{"type": "image"}], 3):
        with pytest.raises(InputError, match="no text that could be continued"):
            template_of(directory).render([{"role": "user", "content": content}], continue_final_message=True)


def test_tools_and_documents(directory: Path) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "description": "<é>", "n": 1.5}}]
    documents = [{"title": "A", "text": "ü"}]
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Zürich"}}}],
    }
    for name, messages, more in (
        ("granite", [USER], {"tools": tools, "documents": documents}),
        ("granite", [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}], {}),
        ("llama3", [USER, called, USER], {"tools": tools, "date_string": "1 May"}),
    ):
        (directory / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
        wanted = AutoTokenizer.from_pretrained(directory).apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **more
        )
        assert template_of(directory).render(messages, **more) == wanted


CALLS = """
{%- for m in messages -%}
[{{ m.role }}:{{ '' if m.content is none else m.content }}
{%- for call in m.tool_calls or [] -%}
{{ call.id }} {{ call.function.name }} {{ call.function.arguments | tojson }}
{%- for key, value in call.function.arguments | items %} {{ key }}={{ value }}{% endfor -%}
{%- endfor -%}
{{ m.tool_call_id }}]
{%- endfor -%}"""


def test_arguments_of_calls_are_objects(directory: Path) -> None:
    """OpenAI's interface has them as text; a template that writes JSON would put that in quotation marks."""
    (directory / "chat_template.jinja").write_text(CALLS)
    template, reference = template_of(directory), AutoTokenizer.from_pretrained(directory)
    for text in ('{"city": "Zürich", "days": [1, 2.5, null]}', "{}", ""):
        results = []
        for arguments in (text, json.loads(text or "{}")):
            call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
            turn = {"role": "assistant", "content": None, "tool_calls": [call]}
            messages = [USER, turn, {"role": "tool", "tool_call_id": "c1", "content": "Sun"}]
            results.append(template.render(messages))
            assert call["function"]["arguments"] is arguments  # the caller's message stays as it is
        assert results[0] == results[1] == reference.apply_chat_template(messages, tokenize=False)
        assert (
            f"[assistant:c1 weather {json.dumps(json.loads(text or '{}'), ensure_ascii=False)}" in results[0]
        )
        assert results[0].endswith("[tool:Sunc1]")


@pytest.mark.parametrize("arguments", ["no JSON", "[1]", '"x"', "3", '{"a": ' + "1" * 5000 + "}", 3, None])
def test_arguments_that_are_no_object_stay(arguments: Any, directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ messages[0].tool_calls[0].function.arguments }}")
    messages = [{"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}]
    assert template_of(directory).render(messages) == str(arguments)


@pytest.mark.parametrize("calls", [3, "x", [3], [None], [{}], [{"function": 3}], [{"function": {}}]])
def test_calls_of_any_form_are_given(calls: Any, directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ messages[0].tool_calls | tojson }}")
    found = template_of(directory).render([{"role": "assistant", "tool_calls": calls, "content": "a"}])
    assert json.loads(found) == calls


def test_arguments_that_are_nested_too_deeply(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ messages[0].tool_calls }}")
    deep = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    with pytest.raises(InputError, match="nested too deeply"):
        template_of(directory).render([{"role": "a", "tool_calls": [{"function": {"arguments": deep}}]}])


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].name }}|{{ 'name' in messages[0] }}|{{ tools }}|{{ documents is defined }}",
        "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
        "{% for m in messages %}{% generation %}{{ loop.index }}{{ m.role }}{% endgeneration %}{% endfor %}",
    ],
)
def test_small_things(source: str, directory: Path) -> None:
    (directory / "chat_template.jinja").write_text(source)
    messages = [{**USER, "name": None}, ASSISTANT]
    wanted = AutoTokenizer.from_pretrained(directory).apply_chat_template(messages, tokenize=False)
    assert template_of(directory).render(messages, add_generation_prompt=False) == wanted


def test_the_date(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ strftime_now('%Y') }}")
    assert template_of(directory).render([USER]) in (str(datetime.now().year), str(datetime.now().year - 1))


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, None),
        ({"tokenizer_config.json": "config"}, "config"),
        ({"chat_template.json": "old"}, "old"),
        ({"chat_template.json": "old", "tokenizer_config.json": "config"}, "config"),
        ({"chat_template.jinja": "jinja", "tokenizer_config.json": "config"}, "jinja"),
        (
            {
                "tokenizer_config.json": [
                    {"name": "tool_use", "template": "t"},
                    {"name": "default", "template": "d"},
                ]
            },
            "d",
        ),
        ({"tokenizer_config.json": [named("only", "o")]}, "o"),
        ({"tokenizer_config.json": []}, None),
    ],
)
def test_where_a_template_stands(files: dict[str, Any], text: str | None, directory: Path) -> None:
    for name, content in files.items():
        if name == "tokenizer_config.json":
            settings(directory, chat_template=content)
        elif name.endswith(".json"):
            (directory / name).write_text(json.dumps({"chat_template": content}))
        else:
            (directory / name).write_text(content)
    template = load(directory).chat_template
    assert (None if template is None else template.render([USER])) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (5, "tokenizer_config.json.*found 5"),
        ([named("a", 3)], "found 3"),
        ({"default": 3}, "found 3"),
    ],
)
def test_settings_that_hold_no_template(content: Any, message: str, directory: Path) -> None:
    settings(directory, chat_template=content)
    tokenizer = load(directory)  # text goes in and out all the same
    assert tokenizer.decode(tokenizer.encode("abc")) == "abc"
    with pytest.raises(TokenizerError, match=message):
        _ = tokenizer.chat_template


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in %}", "line 1"),
        ("\n{{ messages | nonsense }}", "line 2.*nonsense"),
        ("{{ messages[0].content.nothing.at.all }}", "has no attribute"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].content + 3 }}", "TypeError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "not allowed|unsafe|safely"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "__class__"),
        ("{{ namespace(__init__=1) }}", "__init__"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "OverflowError|[Rr]ange too big"),
        ("{% include 'other' %}", "wants another file.*one text"),
    ],
)
def test_faults_of_a_template_are_plain_sentences(source: str, message: str, directory: Path) -> None:
    (directory / "chat_template.jinja").write_text(source)
    with pytest.raises(TokenizerError, match=message) as caught:
        template_of(directory).render([USER])
    assert "chat_template.jinja" in str(caught.value)
    assert "tinystar ask" in str(caught.value)


def test_a_conversation_that_the_template_refuses(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text(TEMPLATES["llama2"], encoding="utf-8")
    with pytest.raises(InputError, match=r"refuses this conversation: Roles must alternate user/assistant"):
        template_of(directory).render([USER, USER])
    for nothing in ([], ["Hello"], "Hello"):
        with pytest.raises(InputError, match="list of messages"):
            template_of(directory).render(nothing)  # type: ignore[arg-type]


def test_templates_see_copies_of_plain_data(directory: Path) -> None:
    class Thing:
        def __str__(self) -> str:
            return "a thing"

        def method(self) -> str:
            raise AssertionError("a template may not call this")

    (directory / "chat_template.jinja").write_text("{{ thing }}{{ thing.method }}{{ messages[0].content }}")
    messages = [{"role": "user", "content": ("a", 1), "empty": None}]
    assert template_of(directory).render(messages, thing=Thing()) == "a thing('a', 1)"
    assert messages == [{"role": "user", "content": ("a", 1), "empty": None}]


VALUES = ["x", "some <b>words</b> &amp; more", 3, 2.5, [3, 1, 2], {"b": 1, "a": {"c": [None, 1]}}, None, ""]
EXPRESSIONS = {
    "filters": [f"v | {name}" for name in sorted(DEFAULT_FILTERS) if name not in ("random", "tojson")],
    "tests": [f"v is {name}" for name in sorted(DEFAULT_TESTS) if name.isidentifier()],
    "methods": [
        f"v.{name}{arguments}"
        for kind in (str, list, dict, int)
        for name in sorted(vars(kind))
        if not name.startswith("_")
        for arguments in ("()", "('x')", "(2)", "('x', 'y')")
    ],
    "more": [
        *("v | wordwrap(2)", "v | indent(4, true)", "v | join('|')", "v | replace('x', 'y')", "lipsum(n=0)"),
        *("v | tojson", "v | tojson(indent=2)", "v | batch(2) | list", "v | groupby('a')", "v | int(7, 16)"),
        *("'%s %r' % (v, v)", "'{:>5} {}'.format(v, 1)", "v ~ '\\N{SNOWMAN}\\x41\\u00e9'", "v | pprint"),
        *(
            "v.encode('utf-16')",
            "v.encode('latin-1')",
            "v.encode('idna')",
            "cycler(1, 2).next()",
            "joiner()()",
        ),
        *(
            "namespace(a=v).a",
            "range(3) | list",
            "dict(a=v)",
            "v[0]",
            "v[::-1]",
            "v.a.c[1]",
            "v.nothing.more",
        ),
        *("strftime_now('%Y %B %j')", "self", "loop", "(v, v)", "v in 'x'", "[v] + [v]", "v + 1", "-v"),
    ],
}


@pytest.mark.parametrize("kind", EXPRESSIONS)
def test_a_worker_writes_what_jinja_does(kind: str) -> None:
    """Although it can import nothing any more: with every filter, test and method there is."""
    for expression in EXPRESSIONS[kind]:
        source = "{{ " + expression + " }}"
        for value in VALUES:
            try:
                here = render_template(source, [USER], {"v": value})
            except TemplateFaultError as error:
                here = f"does not work: {error}."
            try:
                there = ChatTemplate(source, {}, Path("m")).render([USER], v=value)
            except TokenizerError as error:
                there = str(error)
            here, there = (re.sub("0x[0-9a-f]+", "", text) for text in (here, there))
            assert here == there or (here.startswith("does not work: ") and here in there), (source, value)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
NAMED = [named("default", "D"), named("tool_use", "T:{{ tools is none }}"), named("rag", "R")]


@pytest.mark.parametrize(
    "chat_template",
    [NAMED, NAMED[:2], NAMED[1:], NAMED[1:2], {entry["name"]: entry["template"] for entry in NAMED}, "plain"],
    ids=str,
)
@pytest.mark.parametrize("as_files", [False, True])
def test_named_templates_are_chosen_as_in_transformers(
    chat_template: Any, as_files: bool, directory: Path
) -> None:
    """As one list, as an object, or as files of their own, which are what transformers 5 writes."""
    if as_files:
        settings(directory, chat_template="left from before")
        sources = {"default": chat_template} if isinstance(chat_template, str) else chat_template
        if isinstance(sources, list):
            sources = {entry["name"]: entry["template"] for entry in sources}
        (directory / "additional_chat_templates").mkdir()
        for name, source in sources.items():
            more = directory / "additional_chat_templates" / f"{name}.jinja"
            (directory / "chat_template.jinja" if name == "default" else more).write_text(source)
    else:
        settings(directory, chat_template=chat_template)
    reference, template = AutoTokenizer.from_pretrained(directory), template_of(directory)
    for tools in (None, [], [TOOL, TOOL]):
        for name in (None, "rag", "tool_use"):
            given: dict[str, Any] = {"tools": tools}
            if name is not None:
                if name not in (reference.chat_template if isinstance(reference.chat_template, dict) else {}):
                    continue  # transformers takes it for the text of a template
                given["chat_template"] = name
            try:
                wanted = reference.apply_chat_template([USER], tokenize=False, **given)
            except ValueError:
                with pytest.raises(InputError, match=r"templates named (tool_use|rag).*\n?.*default"):
                    template.render([USER], **given)
            else:
                assert template.render([USER], **given) == wanted
    with pytest.raises(InputError, match=r"none is named 'other'.*\nName one of them"):
        template.render([USER], chat_template="other")


def test_a_template_that_leads_out(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "tool_use.jinja").write_text("secret")
    (directory / "additional_chat_templates").symlink_to(outside)
    with pytest.raises(TokenizerError, match="leads out"):
        _ = load(directory).chat_template


CALL = [{"type": "function", "function": {"name": "weather", "arguments": {"city": None}}}]
CALLED = {"role": "assistant", "content": None, "tool_calls": CALL}


@pytest.mark.parametrize(
    "source",
    [
        "{{ m.content is none }}{{ m['content'] is not none }}{{ m.get('content') is none }}",
        "{{ m.content is defined }}{{ m.content is undefined }}{{ m.nothing is defined }}",
        "{{ m.content == none }}{{ none == m.content }}{{ m.content != none }}{{ m.content in [none, ''] }}",
        "{% set c = m.content %}{% if c is none %}({{ m.tool_calls[0].function.name }}){% endif %}",
        "{{ 'content' in m }}{{ m.content is string }}{{ not m.content }}{{ m.content or 'nothing' }}",
        "{{ m.tool_calls | tojson }}{{ m | tojson }}{{ m.tool_calls[0].function.arguments.city is none }}",
        "{{ m.content is mapping }}{{ m.role is none }}{{ m.nothing is none }}",
    ],
)
def test_null_content_is_none_to_a_template_that_asks(source: str, directory: Path) -> None:
    """Beside jinja2, whose message holds None itself."""
    (directory / "chat_template.jinja").write_text("{% set m = messages[0] %}" + source)
    environment = jinja2.Environment()
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    wanted = environment.from_string(source).render(m=CALLED)
    # The order of keys is the message's, as a template may print them all.
    assert template_of(directory).render([CALLED]) == wanted


@pytest.mark.parametrize(
    "source",
    [
        "{{ m.content }}|{{ m.content | trim }}|{{ m['content'] ~ '!' }}",  # Llama 3
        "{% if '<|channel|>analysis' in m.content %}refused{% endif %}",  # gpt-oss
        "{% if m.content is string %}s{% else %}{% for x in m.content %}p{% endfor %}{% endif %}",  # Qwen-VL
        "{% macro visible(c) %}{% if c is string %}{{ c }}{% elif c is iterable and c is not mapping %}"
        "{% for i in c %}{{ i.text }}{% endfor %}{% else %}{{ c }}{% endif %}{% endmacro %}"
        "{{ visible(m.content).strip() }}",  # GLM 4.5
        "{{ 'name' in m }}{{ m.name }}{{ m.tool_calls is defined }}{{ m.reasoning_content is none }}",
    ],
)
def test_null_content_is_no_text_to_a_template_that_prints_it(source: str, directory: Path) -> None:
    """Beside transformers, which leaves out the keys of a message that are None."""
    (directory / "chat_template.jinja").write_text("{% set m = messages[0] %}" + source)
    message = {**CALLED, "name": None, "tool_calls": None, "reasoning_content": None}
    wanted = AutoTokenizer.from_pretrained(directory).apply_chat_template([message], tokenize=False)
    assert template_of(directory).render([message]) == wanted


class Role(str, enum.Enum):  # noqa: UP042 — people write it so
    USER = "user"


def test_values_are_those_of_transformers(directory: Path) -> None:
    source = (
        "{{ messages[0] | tojson }}{{ messages[0].role }}{{ messages[0].pair }}{{ flag is true }}{{ n + 1 }}"
    )
    (directory / "chat_template.jinja").write_text(source)
    message = {"role": Role.USER, "content": "é", "pair": (1, "a"), "n": np.float64(1.5), "i": np.int64(3)}
    more: dict[str, Any] = {"flag": np.bool_(True), "n": http.HTTPStatus.OK}
    wanted = AutoTokenizer.from_pretrained(directory).apply_chat_template([message], tokenize=False, **more)
    assert template_of(directory).render([message], add_generation_prompt=False, **more) == wanted


def test_tools_that_are_no_dicts(directory: Path) -> None:
    """A Python function, which transformers would describe: its address must not reach the model."""
    (directory / "chat_template.jinja").write_text("{{ tools }}{{ documents }}")
    for name, value in (("tools", [print]), ("tools", TOOL), ("documents", ["text"]), ("tools", "f")):
        with pytest.raises(InputError, match=f"{name} must be a list of dicts"):
            template_of(directory).render([USER], **{name: value})


@pytest.mark.parametrize("version", [None, "3.1.5", "2.11"])
def test_without_jinja(version: str | None, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if version is None:
        WORKER._kill()  # the next finds no jinja2 either
        for module in ("chat_template", "worker"):
            monkeypatch.setattr(f"tinystar_np.text.{module}.place_of", lambda name: None)
    else:
        monkeypatch.setattr("tinystar_np.text.chat_template.WORKER.start", lambda: version)
    settings(directory, chat_template="{{ messages }}")
    with pytest.raises(TinyStarError, match=r"pip install 'jinja2>=3\.1\.6'"):
        template_of(directory).render([USER])
