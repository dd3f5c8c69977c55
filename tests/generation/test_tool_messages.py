"""Messages that call tools: they may have no content."""

from pathlib import Path
from typing import Any

import conversations
import pytest
from conversations import CHATML, SETTINGS, by_hand, prompt_of, stream

from tinystar_np.errors import InputError
from tinystar_np.generation import Conversation
from tinystar_np.generation.content_form import ContentForms
from tinystar_np.generation.messages import check_message, image_parts, text_of, to_save
from tinystar_np.text import ChatTemplate

talking = conversations.talking
_a_context_for_a_conversation = conversations._a_context_for_a_conversation

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
CALLING: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
BARE: dict[str, Any] = {"role": "assistant", "tool_calls": [CALL]}
HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Rain?"},
    CALLING,
    {"role": "tool", "tool_call_id": "c1", "content": "Sun."},
]


@pytest.mark.parametrize("message", [CALLING, BARE])
def test_a_call_needs_no_content(message: dict[str, Any]) -> None:
    check_message(message)
    assert text_of(message) == ""
    assert image_parts([message]) == []
    assert to_save(message) is message


@pytest.mark.parametrize("calls", [None, []])
def test_any_other_message_has_content(calls: Any) -> None:
    with pytest.raises(InputError, match="content is a text or a list of parts"):
        check_message({"role": "assistant", "content": None, "tool_calls": calls})


def test_a_conversation_goes_on_after_calls(talking: Any) -> None:
    model, tokenizer = talking(CHATML + "{% for m in messages %}{{ m.tool_calls | length }}{% endfor %}")
    conversation = Conversation(model, tokenizer)
    conversation.messages = list(HISTORY)
    asked: list[Any] = [*HISTORY, {"role": "user", "content": "Sure?"}]
    wanted = by_hand(model._model, prompt_of(tokenizer, asked), stream())
    assert [piece.token_id for piece in conversation.say("Sure?", **SETTINGS)] == wanted
    assert conversation.messages[:-1] == asked
    assert conversation.tokens > 0
    assert "Sun." in conversation._repr_html_()


def test_a_template_of_parts_gets_no_part_of_a_call() -> None:
    source = (
        "{%- for m in messages %}{{ m.role }}:{{ 'none' if m.content is none }}"
        "{%- for part in m.content or [] %}{{ part.text }}{% endfor %}{% for c in m.tool_calls %}"
        "{{ c.function.arguments.city }}{% endfor %};{% endfor %}"
    )
    template = ChatTemplate(source, {}, Path("chat_template.jinja"))
    given = ContentForms(template).given(HISTORY)
    assert template.render(given) == "user:Rain?;assistant:noneBern;tool:Sun.;"
