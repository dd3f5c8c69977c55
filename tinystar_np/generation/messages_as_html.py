"""The messages of a conversation as a notebook shows them: the user's on the right, answers on the left."""

from collections.abc import Iterable
from html import escape

from tinystar_np.generation.messages import Message, image_parts, text_of

BOX = "max-width: 40em; margin: 0.3em 0; padding: 0.4em 0.8em; border-radius: 0.6em; white-space: pre-wrap"
STYLES = {
    "user": "margin-left: auto; width: fit-content; background: #2f6fab; color: #ffffff",
    "assistant": "width: fit-content; background: #e8e8e8; color: #000000",
}
OTHERS = "border: 1px solid #999999; font-style: italic"


def messages_as_html(messages: Iterable[Message]) -> str:
    """Return the messages, {"role": …, "content": …}, as HTML; nothing in their text is obeyed."""
    boxes = []
    for message in messages:
        role, text = message["role"], "[image]\n" * len(image_parts([message])) + text_of(message)
        style = f"{BOX}; {STYLES.get(role, OTHERS)}"
        # The direction of a text, and what it says about directions, ends with its box.
        shown = f'<bdi dir="auto">{escape(text)}</bdi>'
        boxes.append(f'<div style="{style}" title="{escape(role)}">{shown}</div>')
    return f"<div>{''.join(boxes)}</div>"
